"""Training of SSZ: scores against loops, back-projection of known solids, both players' steps, exact resume, files, two processes."""

import math
import os
import subprocess
import sys
import textwrap

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from densebook.core import checkpoints
from densebook.core.errors import InputError
from densebook.data.streets import GROUND, Instances
from densebook.ssz import training
from densebook.ssz.dataset import Examples, make_examples
from densebook.ssz.fruxels import Frustum
from densebook.ssz.generator import SSZGenerator
from densebook.ssz.pose_discriminator import PoseDiscriminator, straight_through
from densebook.testing import assert_close

quick = settings(deadline=None, max_examples=12, derandomize=True)
FRUSTUM = Frustum(2.0, 12.0, 8, math.radians(40), (8, 8))


def draw(*shape, seed=0, high=10):
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def streets():
    return make_examples(4, FRUSTUM, torch.Generator().manual_seed(0))


def nets(seed=0, dtype=torch.float32):
    torch.manual_seed(seed)
    return SSZGenerator(10, 8, (8,)).to(dtype), PoseDiscriminator(10, 8, (4, 4)).to(dtype)


# Scores -----------------------------------------------------------------------------------------------------------------


@quick
@given(st.integers(0, 99), st.integers(1, 10))
def test_scores_are_their_definitions(seed, high):
    a, b = draw(2, 8, 8, 8, seed=seed, high=high), draw(2, 8, 8, 8, seed=seed + 1, high=high)
    found = training.score(a, b, FRUSTUM)
    volumes = FRUSTUM.volumes(torch.float64)[:, None, None].expand(2, 8, 8, 8)
    plain, heavy = [], []
    for n in range(1, 10):
        both, either = (a == n) & (b == n), (a == n) | (b == n)
        if either.any():
            plain.append(float(both.sum() / either.sum()))
            heavy.append(float(volumes[both].sum() / volumes[either].sum()))
            assert float(found.classes[n]) == pytest.approx(plain[-1], abs=1e-6)
        else:
            assert found.classes[n].isnan()
    if plain:
        assert found.mean == pytest.approx(sum(plain) / len(plain), abs=1e-6)
        assert found.weighted == pytest.approx(sum(heavy) / len(heavy), abs=1e-5)
        solid = ((a > 0) & (b > 0)).sum() / ((a > 0) | (b > 0)).sum()
        assert found.solid == pytest.approx(float(solid), abs=1e-6)


def test_perfect_predictions_score_one(streets):
    found = training.score(streets.labels, streets.labels, FRUSTUM)
    assert found.mean == found.weighted == found.solid == 1


class Copy(nn.Module):
    """A network that answers with the first channel of the picture: 0 to 9 tenths, the same in every slice."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(10.0))

    def forward(self, images):
        flat = F.one_hot((images[:, 0] * self.scale).round().long(), 10).movedim(-1, 1).float()
        return flat[:, :, None].expand(-1, -1, 8, -1, -1)


def test_predict_goes_in_batches_and_leaves_the_network_as_it_was():
    classes, net = draw(5, 8, 8), Copy()
    images = (classes / 10.0)[:, None].expand(-1, 3, -1, -1)
    for batch in (1, 2, 5, 8):
        found = training.predict(net, images, batch)
        assert found.dtype == torch.uint8 and torch.equal(found.long(), classes[:, None].expand(-1, 8, -1, -1))
    assert net.training
    assert not training.predict(net.eval(), images).requires_grad and not net.training
    examples = Examples(images, found, [], torch.zeros(5, 8, 8))
    assert training.evaluate(net, examples, FRUSTUM).mean == 1


class Sides(nn.Module):
    """Class 1 in the left half, class 2 in the right, whatever the picture: two looks cannot agree but in doubt."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, images):
        logits = torch.zeros(len(images), 10, 8, 8, 8)
        logits[:, 1, :, :, :4], logits[:, 2, :, :, 4:] = 2.0, 1.0
        return logits


def test_two_looks_are_the_mean_with_the_mirror_image():
    images = torch.rand(3, 3, 8, 8)
    once, twice = (training.predict(Sides(), images, twice=x) for x in (False, True))
    assert (once[..., :4] == 1).all() and (once[..., 4:] == 2).all()
    assert (twice == 1).all(), "2 and 0 on one look, 0 and 1 on the other: class 1 wins everywhere"
    offset = torch.zeros(10).index_fill(0, torch.tensor([1]), -1.5)
    assert (training.predict(Sides(), images, offset=offset)[..., :4] == 1).all()
    assert (training.predict(Sides(), images, twice=True, offset=offset) == 2).all()


def test_the_offset_with_the_best_score_is_chosen():
    """Weights that make class 1 too loud by log(20): taking half of them back is too little, all is right."""
    labels = torch.full((2, 8, 8, 8), 2, dtype=torch.uint8)
    labels[..., :4] = 3
    examples = Examples(torch.rand(2, 3, 8, 8), labels, [], torch.zeros(2, 8, 8))

    class Loud(Sides):
        def forward(self, images):
            logits = torch.full((len(images), 10, 8, 8, 8), -9.0)
            logits[:, 2], logits[:, 3, :, :, :4], logits[:, 1] = 0.0, 0.5, 2.0
            return logits

    weights = torch.ones(10).index_fill(0, torch.tensor([1]), 20.0)
    weights[9] = 0.0
    offset, power = training.choose_offset(Loud(), examples, weights, FRUSTUM, twice=False, powers=(0.0, 0.5, 1.0))
    assert power == 1.0 and offset[9] == -math.inf
    assert training.evaluate(Loud(), examples, FRUSTUM, offset=offset).mean == 1


# Back-projection --------------------------------------------------------------------------------------------------------


def test_back_projection_keeps_one_cell_a_column(streets):
    made = training.back_project(streets.depth, streets.labels, FRUSTUM)
    assert int((made > 0).sum(1).max()) == 1
    k = ((streets.depth - FRUSTUM.near) / FRUSTUM.step).floor()
    seen = (streets.labels > 0).any(1) & (k >= 0) & (k < 8)
    assert torch.equal((made > 0).any(1), seen)
    for b, j, i in seen.nonzero()[::7].tolist():
        column = streets.labels[b, :, j, i]
        assert made[b, int(k[b, j, i]), j, i] == column[int(column.nonzero()[0])]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@quick
@given(st.floats(-0.2, 0.2), st.floats(-0.2, 0.1), st.floats(0.7, 1.6))
def test_the_ground_below_a_tilted_plane_is_filled(dtype, a, b, c):
    frustum = Frustum(2.0, 12.0, 32, math.radians(40), (32, 32))
    points = frustum.points(dtype)
    truth = torch.where(points[..., 1] > a * points[..., 0] + b * points[..., 2] + c, GROUND, 0)[None]
    x, y = points[0, :, :, 0] / points[0, :, :, 2], points[0, :, :, 1] / points[0, :, :, 2]
    hit = c / (y - a * x - b)  # where the ray (x, y, 1) z meets the plane
    depth = torch.where(hit > frustum.near, hit, torch.inf).to(dtype)[None]
    reached = int((depth < frustum.far).sum())
    if reached > 60:
        surface, made = (training.back_project(depth, truth, frustum, g) for g in (False, True))
        assert training.score(made, truth, frustum).mean > 0.85 > training.score(surface, truth, frustum).mean


def test_the_plane_is_that_of_least_squares():
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(2, 6, 7, 3, generator=generator, dtype=torch.float64)
    mask = torch.rand(2, 6, 7, generator=generator) < 0.6
    found = training._plane(points, mask)
    for p, m, plane in zip(points, mask, found):
        rows = torch.cat([p[m][:, [0, 2]], torch.ones(int(m.sum()), 1, dtype=torch.float64)], 1)
        assert_close(plane, torch.linalg.lstsq(rows, p[m][:, 1:2]).solution[:, 0], atol=1e-5)
    assert training._plane(points, mask & False).isnan().all()


def test_without_ground_nothing_is_filled(streets):
    labels = torch.where(streets.labels == GROUND, 0, streets.labels)
    one, two = (training.back_project(streets.depth, labels, FRUSTUM, g) for g in (False, True))
    assert torch.equal(one, two)


# Data -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_relight_keeps_range_and_order(dtype):
    images = torch.linspace(0.05, 0.95, 8, dtype=dtype).expand(6, 3, 8, 8)
    lit = training.relight(images, torch.Generator().manual_seed(0))
    assert lit.dtype == dtype and 0 <= lit.min() and lit.max() <= 1
    assert torch.equal(lit, training.relight(images, torch.Generator().manual_seed(0)))
    assert (lit[..., -1] > lit[..., 0]).all() and (lit[0] - lit[1]).abs().mean() > 1e-3


def test_batches_follow_from_their_number(streets):
    data = training.StreetBatches(streets, 3, 8, seed=5)
    first, other = data[0], training.StreetBatches(streets, 3, 8, seed=5)
    assert torch.equal(first[0], other[0][0]) and len(data) == 3
    other.epoch = 1
    assert not torch.equal(first[0], other[0][0]) and not torch.equal(first[0], data[1][0])
    with pytest.raises(IndexError):
        data[3]
    assert len(list(training.loader(data))) == 3


def test_mirrored_streets_keep_picture_labels_and_poses_together(streets):
    """The column of an object's middle, read from its pose, follows its labels whether or not the street was turned."""
    marks = torch.arange(8.0).expand(4, 3, 8, 8) / 10 + 0.1
    labels = (torch.arange(8)[None, None, None] < 2).long().expand(4, 8, 8, 8)  # solid at the left
    centers = torch.tensor([[-1.0, 0.0, 5.0]])
    objects = [Instances(centers, torch.eye(3)[None], torch.ones(1, 3), torch.tensor([2])) for _ in range(4)]
    images, turned, moved = training.StreetBatches(Examples(marks, labels, objects, torch.zeros(4, 8, 8)), 1, 16)[0]
    left = turned[:, 0, 0, 0] > 0
    assert left.any() and not left.all()
    for image, is_left, x in zip(images, left.tolist(), moved):
        assert (float(x.centers[0, 0]) < 0) == is_left
        assert (image[..., 0].mean() < image[..., -1].mean()) == is_left


# Networks and steps -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [training.Pix2VoxSmall, training.R2N2Small])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [8, 16])
def test_rivals_have_the_generators_form(make, dtype, size):
    net, images = make(10, size, 4).to(dtype), torch.rand(2, 3, size, size, dtype=dtype)
    logits = net(images)
    assert logits.shape == (2, 10, size, size, size) and logits.dtype == dtype
    logits.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_rate_rises_and_falls():
    values = [training.rate(x / 100) for x in range(101)]
    top = max(range(101), key=values.__getitem__)
    assert 0 < values[0] < 0.1 and 3 <= top <= 6 and values[top] > 0.99 and values[100] < 1e-12
    assert values[: top + 1] == sorted(values[: top + 1]) and values[top:] == sorted(values[top:], reverse=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_players_terms(streets, dtype):
    net, judge = nets(dtype=dtype)
    images, objects = streets.images.to(dtype), streets.instances
    logits = net(images)
    made = straight_through(logits)
    fooled, posed = training.adversarial_terms(judge, images, made, objects, FRUSTUM)
    (fooled + posed).backward()
    assert all(p.grad is not None for p in net.parameters()) and fooled > 0 and posed > 0
    true = F.one_hot(streets.labels.long(), 10).movedim(-1, 1).to(dtype)
    told, _ = training.judge_terms(judge.eval(), images, true, true, objects, FRUSTUM)
    assert told >= math.log(2) * 0.999, "equal volumes cannot be told apart better than by guessing"


def lightning(streets, folder, epochs, go_on=None, judge=True, steps=6, **more):
    net, other = nets()
    module = training.ssz_module(net, FRUSTUM, torch.ones(10), other if judge else None, steps, 1e-2, join=0.0, **more)
    training.make_trainer(folder, epochs).fit(module, training.loader(training.StreetBatches(streets, 2, 2)), ckpt_path=go_on)
    return module


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_overlap_of_sharp_volumes_is_dice_of_their_iou(dtype):
    draw = torch.Generator().manual_seed(0)
    labels, guess = (torch.randint(4, (2, 8, 8, 8), generator=draw) for _ in range(2))
    sharp = 1000 * torch.nn.functional.one_hot(guess, 4).movedim(-1, 1).to(dtype)
    both, counts = torch.bincount(labels[labels == guess], minlength=4), torch.bincount(labels.flatten(), minlength=4)
    dice = (2 * both + 1) / (counts + torch.bincount(guess.flatten(), minlength=4) + 1)
    assert training.overlap_loss(sharp, labels).item() == pytest.approx(float((1 - dice)[1:].mean()), rel=1e-5)
    assert training.overlap_loss(1000 * torch.nn.functional.one_hot(labels, 4).movedim(-1, 1).to(dtype), labels).item() == pytest.approx(0, abs=1e-6)
    assert training.overlap_loss(sharp, torch.zeros_like(labels)).item() == 0, "air alone asks for nothing"
    logits = torch.randn(1, 3, 2, 2, 2, generator=draw, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: training.overlap_loss(x, labels[:1, :2, :2, :2] % 3), logits)


@pytest.mark.filterwarnings("ignore")
def test_each_player_moves_its_own_weights_only(streets, tmp_path):
    start = [{k: v.clone() for k, v in n.state_dict().items()} for n in nets()]
    alone = lightning(streets, tmp_path / "a", 1, judge=False)
    both = lightning(streets, tmp_path / "b", 1, every=2)
    assert set(alone.history[0]) == {"nll", "overlap"} and [len(x) for x in both.history] == [2, 6]
    assert alone.history[0] == both.history[0], "they meet at the second step first"
    assert any(not torch.equal(v, start[1][k]) for k, v in both.judge.state_dict().items())
    assert alone.history[1]["nll"] == both.history[1]["nll"], "before its step the discriminator has no say"
    assert any(not torch.equal(a, b) for a, b in zip(alone.net.parameters(), both.net.parameters()))
    silent = lightning(streets, tmp_path / "c", 1, adversarial=0.0, pose=0.0)
    for a, b in zip(alone.net.parameters(), silent.net.parameters()):
        assert torch.equal(a, b), "a discriminator without a say changes nothing"
    assert all(p.requires_grad for p in both.parameters())


@pytest.mark.filterwarnings("ignore")
def test_training_learns_one_street(streets, tmp_path):
    one = Examples(streets.images[:1], streets.labels[:1], streets.instances[:1], streets.depth[:1])
    torch.manual_seed(0)
    net = SSZGenerator(10, 8, (16,))
    module = training.ssz_module(net, FRUSTUM, torch.ones(10), None, 60, 1e-2)
    training.make_trainer(tmp_path, 1).fit(module, training.loader(training.StreetBatches(one, 60, 4)))
    assert module.history[-1]["nll"] < 0.3 * module.history[0]["nll"]
    assert training.evaluate(net, one, FRUSTUM).mean > 0.6


@pytest.mark.filterwarnings("ignore")
def test_the_discriminator_is_given_both_volumes_and_no_way_back(streets, tmp_path, monkeypatch):
    given, known = [], training.judge_terms
    monkeypatch.setattr(training, "judge_terms", lambda *a: given.append(a) or known(*a))
    lightning(streets, tmp_path, 1)
    _, _, true, made, _, _ = given[0]
    for volumes in (true, made):
        assert not volumes.requires_grad and torch.equal(volumes.sum(1), torch.ones_like(volumes[:, 0]))
    assert not torch.equal(true, made)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_resume_is_exact(streets, tmp_path):
    whole = lightning(streets, tmp_path / "once", 3)
    before = lightning(streets, tmp_path / "twice", 1)
    after = lightning(streets, tmp_path / "twice", 3, str(tmp_path / "twice" / "last.safetensors"))
    assert whole.history == before.history + after.history and len(whole.history) == 6
    for x, y in zip(whole.state_dict().values(), after.state_dict().values()):
        assert torch.equal(x, y)
    assert [p.name for p in (tmp_path / "twice").iterdir()] == ["last.safetensors"]


TWO = """
    import math, os, sys, warnings
    warnings.filterwarnings("ignore")
    import torch
    from densebook.ssz import training
    from densebook.ssz.dataset import make_examples
    from densebook.ssz.fruxels import Frustum
    from densebook.ssz.generator import SSZGenerator
    from densebook.ssz.pose_discriminator import PoseDiscriminator
    frustum = Frustum(2.0, 12.0, 8, math.radians(40), (8, 8))
    streets = make_examples(4, frustum, torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    nets = SSZGenerator(10, 8, (8,)), PoseDiscriminator(10, 8, (4, 4))
    module = training.ssz_module(nets[0], frustum, torch.ones(10), nets[1], 4, 1e-2, join=0.0)
    trainer = training.make_trainer(sys.argv[1], 1, processes=2)
    trainer.fit(module, training.loader(training.StreetBatches(streets, 4, 2)))
    weights = torch.cat([p.detach().flatten() for p in module.parameters()])
    torch.save((module.history, weights), os.path.join(sys.argv[1], f"rank{trainer.global_rank}.pt"))
"""


@pytest.mark.slow
def test_two_processes_share_the_gradient(tmp_path):
    script = tmp_path / "two.py"
    script.write_text(textwrap.dedent(TWO))
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, str(script), str(tmp_path)], check=True, env=env, timeout=250, capture_output=True)
    (first, w0), (second, w1) = (torch.load(tmp_path / f"rank{r}.pt", weights_only=True) for r in (0, 1))
    assert torch.equal(w0, w1), "the processes end with the same weights"
    assert len(first) == len(second) == 2 and first != second, "each saw its own half of the four batches"
    assert "told apart" in first[1] and (tmp_path / "last.safetensors").is_file()


# Files ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda: nets()[0], lambda: nets()[1], lambda: training.Pix2VoxSmall(10, 8, 4), lambda: training.R2N2Small(10, 8, 4)])
def test_save_and_load(make, tmp_path):
    net = make().eval()
    training.save(net, tmp_path / "net.safetensors")
    again = training.load(tmp_path / "net.safetensors")
    assert type(again) is type(net) and not again.training
    for x, y in zip(net.state_dict().values(), again.state_dict().values()):
        assert torch.equal(x, y)


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "net.safetensors"
    training.save(nets()[0], path)
    good = path.read_bytes()
    for cut in (0, 5, len(good) // 2, len(good) - 1):
        path.write_bytes(good[:cut])
        with pytest.raises(InputError, match="net.safetensors"):
            training.load(path)
    for state in ({"net": "ResNet", "settings": {}, "weights": {}}, {"net": "R2N2Small", "settings": {"size": 8}, "weights": {}}):
        checkpoints.save_state(state, path)
        with pytest.raises(InputError, match="no network of this chapter"):
            training.load(path)


# Bad input --------------------------------------------------------------------------------------------------------------


def test_bad_input(streets, tmp_path):
    net, _ = nets()
    none = Examples(*(x[:0] for x in streets))
    for call, word in (
        (lambda: training.predict(net, torch.rand(1, 3, 8, 16)), "(B, 3, 8, 8)"),
        (lambda: training.predict(training.Pix2VoxSmall(10, 8, 4), torch.rand(1, 3, 16, 16)), "(B, 3, 8, 8)"),
        (lambda: training.R2N2Small(size=12), "size is 12"),
        (lambda: training.Pix2VoxSmall(size=4), "size is 4"),
        (lambda: training.score(streets.labels.long() + 9, streets.labels, FRUSTUM), "10 classes"),
        (lambda: training.back_project(streets.depth[:, 1:], streets.labels, FRUSTUM), "do not fit the frustum"),
        (lambda: training.back_project(streets.depth[:1], streets.labels, FRUSTUM), "do not fit the frustum"),
        (lambda: training.StreetBatches(none, 3), "0 examples"),
        (lambda: training.StreetBatches(streets, 0), "0 batches"),
        (lambda: training.save(nn.Linear(1, 1), tmp_path / "x.safetensors"), "Linear"),
        (lambda: training.load(tmp_path / "nothing.safetensors"), "not there"),
    ):
        with pytest.raises(InputError) as caught:
            call()
        assert word in str(caught.value) and "\n" not in str(caught.value)


# CUDA -------------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_cuda(streets, tmp_path):
    net, judge = nets()
    found = training.score(training.predict(net, streets.images), streets.labels, FRUSTUM)
    there = training.evaluate(net.cuda(), streets, FRUSTUM)
    assert there.mean == pytest.approx(found.mean, abs=0.02)
    made = training.back_project(streets.depth.cuda(), streets.labels.cuda(), FRUSTUM, True)
    assert_close(made.cpu(), training.back_project(streets.depth, streets.labels, FRUSTUM, True))
    module = training.ssz_module(net, FRUSTUM, torch.ones(10), judge, 4, 1e-2, join=0.0)
    training.make_trainer(tmp_path, 1, "cuda").fit(module, training.loader(training.StreetBatches(streets, 4, 2)))
    assert len(module.history) == 4
