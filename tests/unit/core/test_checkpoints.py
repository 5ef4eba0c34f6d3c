"""Checkpoints: any nest comes back, what is damaged is refused, an old file survives a failed save, a trainer goes on exactly."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from densebook.core import checkpoints
from densebook.core.errors import InputError


def same(x, y):
    """Equal in kind and value, tensors bit by bit."""
    if isinstance(x, torch.Tensor):
        return isinstance(y, torch.Tensor) and x.dtype == y.dtype and torch.equal(x, y)
    if isinstance(x, dict):
        return isinstance(y, dict) and list(x) == list(y) and all(same(x[k], y[k]) for k in x)
    if isinstance(x, list | tuple):
        return type(x) is type(y) and len(x) == len(y) and all(map(same, x, y))
    return type(x) is type(y) and x == y


kinds = st.sampled_from([torch.float32, torch.float64, torch.int64, torch.bool, torch.bfloat16])
tensors = st.builds(lambda n, kind: torch.arange(n).to(kind), st.integers(0, 4), kinds)
plain = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False) | st.text(max_size=5)
keys = st.text(max_size=3) | st.integers(-5, 5)
nests = st.recursive(plain | tensors, lambda x: st.lists(x, max_size=3) | st.lists(x, max_size=3).map(tuple) | st.dictionaries(keys, x, max_size=3))


@settings(max_examples=60, deadline=None)
@given(state=st.dictionaries(keys, nests, max_size=4))
def test_any_nest_comes_back(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("nest") / "s.safetensors"
    checkpoints.save_state(state, path)
    assert same(state, checkpoints.load_state(path))


def test_views_of_one_tensor_are_kept_apart(tmp_path):
    whole = torch.arange(6.0).view(2, 3)
    checkpoints.save_state({"a": whole, "b": whole.T, "c": whole[1]}, tmp_path / "s.safetensors")
    back = checkpoints.load_state(tmp_path / "s.safetensors")
    assert torch.equal(back["b"], whole.T) and torch.equal(back["c"], whole[1])


def test_what_is_damaged_is_refused_and_nothing_is_lost(tmp_path):
    path = tmp_path / "s.safetensors"
    checkpoints.save_state({"x": torch.ones(3)}, path)
    good = path.read_bytes()
    with pytest.raises(InputError, match="neither a tensor nor plain data"):
        checkpoints.save_state({"x": object()}, path)
    assert path.read_bytes() == good and [p.name for p in tmp_path.iterdir()] == ["s.safetensors"]
    for cut in (0, 5, len(good) // 2, len(good) - 1):
        path.write_bytes(good[:cut])
        with pytest.raises(InputError, match="s.safetensors is damaged"):
            checkpoints.load_state(path)
    with pytest.raises(InputError, match="not there"):
        checkpoints.load_state(tmp_path / "other.safetensors")


def test_a_file_of_something_else_is_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"x": torch.ones(3)}, tmp_path / "weights.safetensors")
    with pytest.raises(InputError, match="not one of this book's"):
        checkpoints.load_state(tmp_path / "weights.safetensors")


@pytest.mark.filterwarnings("ignore")
def test_a_trainer_goes_on_exactly(tmp_path):
    from pytorch_lightning import LightningModule

    class Line(LightningModule):
        def __init__(self):
            super().__init__()
            self.layer, self.losses = torch.nn.Linear(2, 1), []

        def training_step(self, batch, index):
            loss = (self.layer(batch) - batch.sum(-1, keepdim=True)).square().mean()
            self.losses.append(loss.item())
            return loss

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=0.1)

    data = torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(0))
    batches = torch.utils.data.DataLoader(data, batch_size=None)

    def trained(folder, epochs, go_on=None):
        torch.manual_seed(0)
        line = Line()
        checkpoints.make_trainer(folder, epochs).fit(line, batches, ckpt_path=go_on)
        return line

    whole, before = trained(tmp_path / "a", 2), trained(tmp_path / "b", 1)
    after = trained(tmp_path / "b", 2, str(tmp_path / "b" / "last.safetensors"))
    assert whole.losses == before.losses + after.losses and len(after.losses) == 3
    assert torch.equal(whole.layer.weight, after.layer.weight)
    assert [p.name for p in (tmp_path / "b").iterdir()] == ["last.safetensors"]
