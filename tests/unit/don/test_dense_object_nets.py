"""Dense Object Nets: exact identities, losses against loops, matching, training that resumes exactly, files, two processes."""

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

from densebook.core import checkpoints
from densebook.core.errors import InputError
from densebook.data.caps import Views, render_views, toy_caps
from densebook.don import dense_object_nets as don
from densebook.don.correspondences import pairs
from densebook.don.metrics import pixel_errors
from densebook.testing import assert_close, assert_grad

quick = settings(deadline=None, max_examples=15, derandomize=True)


@pytest.fixture(params=[torch.float32, torch.float64])
def dtype(request):
    return request.param


@pytest.fixture(scope="module")
def scene():
    caps = toy_caps(3)
    return caps, render_views(caps, 6, size=(32, 48), generator=1, azimuth=(-0.5, 0.5))


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def net_of(dim=5, dtype=torch.float32, **more):
    torch.manual_seed(0)
    return don.DenseObjectNet(dim, width=8, **more).to(dtype).eval()


# The network and its points ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", [True, False])
def test_described_points_are_those_of_the_full_map(dtype, unit):
    net, images = net_of(dtype=dtype, unit=unit), torch.rand(2, 3, 32, 48, dtype=dtype)
    full = net(images)
    assert full.shape == (2, 5, 32, 48)
    v, u = torch.meshgrid(torch.arange(32), torch.arange(48), indexing="ij")
    uv = (torch.stack([u, v], -1).view(1, -1, 2) + 0.5).expand(2, -1, -1).to(dtype)
    every = full.permute(0, 2, 3, 1).flatten(1, 2)
    assert_close(net.describe(images, uv), every, rtol=0, atol=1e-6 if dtype == torch.float32 else 1e-12)
    if unit:
        assert_close(full.norm(dim=1), torch.ones(2, 32, 48, dtype=dtype), atol=1e-5)


@quick
@given(st.integers(1, 7), st.integers(1, 7), st.integers(1, 9), st.integers(1, 9), st.integers(0, 9))
def test_sample_is_upsampling(h, w, up, across, seed):
    maps = draw(1, 3, h, w, seed=seed)
    H, W = h * up, w * across
    full = F.interpolate(maps, (H, W), mode="bilinear", align_corners=False)
    v, u = torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij")
    uv = torch.stack([u, v], -1).view(1, -1, 2).double() + 0.5
    assert_close(don.sample(maps, uv, (H, W)), full.flatten(2).mT, atol=1e-12)


def test_sample_outside_is_the_border_and_gradients_agree():
    maps = draw(1, 2, 3, 4)
    far = torch.tensor([[[-50.0, -50.0], [500.0, 500.0]]], dtype=torch.float64)
    assert_close(don.sample(maps, far, (12, 16))[0], torch.stack([maps[0, :, 0, 0], maps[0, :, -1, -1]]))
    uv = 12 * torch.rand(1, 7, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert_grad(lambda m: don.sample(m, uv, (12, 16)), maps)


@pytest.mark.parametrize(("stride", "cells"), [(8, (8, 12)), (16, (4, 6)), (32, (2, 3))])
def test_resnet_has_the_released_stride(stride, cells):
    net = don.DenseObjectNet(3, "resnet34", stride).eval()
    with torch.no_grad():
        assert net.features(torch.rand(1, 3, 64, 96)).shape == (1, 3, *cells)
    assert 21.2e6 < sum(p.numel() for p in net.backbone.parameters()) < 21.4e6


# Losses -----------------------------------------------------------------------------------------------------------------


def loops(a, b, cells, uv, size, temperature, radius, valid):
    """NT-Xent by its definition, one pair."""
    h, w = cells.shape[1:]
    places = [(uv[j], b[j]) for j in range(len(b)) if valid[j]]
    places += [(torch.tensor([(x + 0.5) * size[1] / w, (y + 0.5) * size[0] / h]), cells[:, y, x]) for y in range(h) for x in range(w)]
    losses = []
    for n in range(len(a)):
        if valid[n]:
            negative = sum(math.exp(float(a[n] @ d) / temperature) for at, d in places if (at - uv[n]).norm() >= radius)
            positive = math.exp(float(a[n] @ b[n]) / temperature)
            losses.append(-math.log(positive / (positive + negative)))
    return sum(losses) / len(losses)


def example(seed=0, P=2, N=9, D=6, h=4, w=5):
    a, b, cells = (F.normalize(draw(*s, seed=seed + i), dim=-1) for i, s in enumerate(((P, N, D), (P, N, D), (P, h, w, D))))
    uv = torch.rand(P, N, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * torch.tensor([20.0, 16.0])
    valid = torch.rand(P, N, generator=torch.Generator().manual_seed(seed + 7)) > 0.3
    return a, b, cells.permute(0, 3, 1, 2), uv, (16, 20), valid


@quick
@given(st.integers(0, 50), st.floats(0.05, 1.0), st.sampled_from([0.0, 0.5, 3.3, 30.0]))
def test_nt_xent_is_its_definition(seed, temperature, radius):
    a, b, cells, uv, size, valid = example(seed, P=1)
    if valid.any():
        slow = loops(a[0], b[0], cells[0], uv[0], size, temperature, radius, valid[0])
        assert_close(don.nt_xent(a, b, cells, uv, size, temperature, radius, valid), slow, rtol=1e-8, atol=1e-9)


def test_chunks_change_nothing():
    a, b, cells, uv, size, valid = example()
    leaves = [x.clone().requires_grad_() for x in (a, b, cells)]
    whole = don.nt_xent(*leaves, uv, size, valid=valid)
    parts = don.nt_xent(*leaves, uv, size, valid=valid, chunk=2)
    assert_close(parts, whole)
    for x, y in zip(torch.autograd.grad(whole, leaves), torch.autograd.grad(parts, leaves)):
        assert_close(x, y)


def test_losses_have_the_right_gradient_and_minimum():
    a, b, cells, uv, size, valid = example(N=4, D=3, h=3, w=3)
    for loss in (
        lambda a, b, c: don.nt_xent(a, b, c, uv, size, valid=valid),
        lambda a, b, c: don.contrastive(a, b, c, uv, size, 1.5, 3.0, valid),
        lambda a, b, c: don.distributional(a, c, uv, size, 0.5, valid=valid),
    ):
        assert_grad(loss, a, b, cells)
    assert don.nt_xent(a, a, 0 * cells, uv, size, radius=1e9, valid=valid) == 0, "nothing to be confused with"
    away = cells + 10
    assert don.contrastive(a, a, away, uv, size, 0.5, 0.0, valid) == 0, "matches together, all else beyond the margin"
    assert don.contrastive(a, a + 0.1, away, uv, size, 0.5, 0.0, valid) == pytest.approx(3 * 0.01)


def test_distributional_is_lowest_at_the_truth():
    cells = 3 * F.one_hot(torch.arange(20), 20).double().T.view(1, 20, 4, 5)  # each cell its own direction
    query = cells.flatten(2)[:, :, 7][:, None]
    values = [float(don.distributional(query, cells, torch.tensor([[[4.0 * (k % 5) + 2, 4.0 * (k // 5) + 2]]]).double(), (16, 20), sigma=1.0)) for k in range(20)]
    assert min(range(20), key=values.__getitem__) == 7


# Matching ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", [True, False])
@pytest.mark.parametrize("block", [1 << 22, 700])
def test_match_is_the_dense_search(unit, block):
    maps, query = draw(6, 5, 7), draw(40, 6, seed=1)
    full = F.interpolate(maps[None], (20, 28), mode="bilinear", align_corners=False)[0].flatten(1)
    score = query @ F.normalize(full, dim=0) if unit else -(query[:, :, None] - full).norm(dim=1)
    u, v = don.match(query, maps, (20, 28), unit, block=block).long().unbind(1)
    best = score.max(1).values
    assert_close(score.gather(1, (v * 28 + u)[:, None])[:, 0], best)  # pixels of the border may tie
    assert (u.unique().numel() > 5) and (v.unique().numel() > 5)


def test_match_finds_every_pixel_of_itself():
    maps = draw(8, 4, 6)
    v, u = torch.meshgrid(torch.arange(16), torch.arange(24), indexing="ij")
    uv = torch.stack([u, v], -1).view(1, -1, 2).double() + 0.5
    own = don.sample(maps[None], uv, (16, 24))[0]
    assert pixel_errors(don.match(own, maps, (16, 24)), uv[0]).max() < 2.5, "clamped border pixels share a descriptor"
    inner = (uv[0] > 2).all(-1) & (uv[0, :, 0] < 22) & (uv[0, :, 1] < 14)
    assert (don.match(own[inner], maps, (16, 24)) == uv[0][inner]).all()
    assert don.match(own[:0], maps, (16, 24)).shape == (0, 2)


def test_subpixel_finds_the_top_of_a_hill():
    v, u = torch.meshgrid(torch.arange(20) + 0.5, torch.arange(30) + 0.5, indexing="ij")
    at = torch.tensor([17.3, 8.85], dtype=torch.float64)
    hill = 1 - 0.01 * ((u - at[0]) ** 2 + (v - at[1]) ** 2)
    query, maps = torch.tensor([[1.0]], dtype=torch.float64), hill[None].double()
    coarse, fine = (don.match(query, maps, unit=False, subpixel=s) for s in (False, True))
    assert_close(coarse[0], torch.tensor([17.5, 8.5], dtype=torch.float64))
    assert pixel_errors(fine, at[None]) < 0.5 * pixel_errors(coarse, at[None])


# Training ---------------------------------------------------------------------------------------------------------------


def test_fit_is_deterministic_and_learns(scene):
    caps, views = scene
    found = pairs(views, 6, 16, None, torch.Generator().manual_seed(3))
    runs = []
    for _ in range(2):
        net = net_of(8)
        with torch.no_grad():
            before = don.train_loss(net, views.rgb, found)
        history = don.fit(net, views, caps, steps=30, batch=4, matches=16, generator=torch.Generator().manual_seed(0))
        runs.append((history, don.predict(net, views, found)))
    assert runs[0][0] == runs[1][0] and torch.equal(runs[0][1], runs[1][1])
    with torch.no_grad():
        assert don.train_loss(net, views.rgb, found) < before - 0.5
    assert runs[0][1].shape == found.uv_b.shape


def test_one_pass_of_a_view_is_enough(scene):
    """The loss of shared maps is the mean of the losses of the pairs alone."""
    caps, views = scene
    net, found = net_of(6).double(), pairs(views.to(torch.float64), 3, 12, caps.to(torch.float64), torch.Generator().manual_seed(1))
    keep = found.valid.all(0)
    images = views.rgb.double()
    alone = []
    for k in range(3):
        one = don.Pairs(torch.tensor([0]), torch.tensor([1]), found.uv_a[k : k + 1, keep], found.uv_b[k : k + 1, keep], found.valid[k : k + 1, keep])
        alone.append(don.train_loss(net, images[[int(found.a[k]), int(found.b[k])]], one))
    shared = don.Pairs(found.a, found.b, found.uv_a[:, keep], found.uv_b[:, keep], found.valid[:, keep])
    assert_close(don.train_loss(net, images, shared), torch.stack(alone).mean())


def test_batches_show_two_views_of_each_cap(scene):
    caps, views = scene
    chosen, found = don.draw_batch(views, caps, 4, 8, 16, torch.Generator().manual_seed(0))
    instance = views.instance[chosen]
    assert len(chosen) == 4 and (instance.bincount()[instance] == 2).all()
    same = instance[found.a] == instance[found.b]
    assert same.sum() == 4 and (~same).sum() == 4
    assert (found.a != found.b).all()


def test_jitter_keeps_the_range(scene):
    light = don.jitter(scene[1].rgb, torch.Generator().manual_seed(0))
    assert 0 <= light.min() and light.max() <= 1 and (light - scene[1].rgb).abs().mean() > 0.01


def lightning(scene, folder, epochs, go_on=None):
    torch.manual_seed(0)
    module = don.don_module(don.DenseObjectNet(4, width=8), lr=1e-2, step_size=2)
    data = don.loader(don.PairData(scene[1], scene[0], 3, 4, 4, 16))
    checkpoints.make_trainer(folder, epochs).fit(module, data, ckpt_path=go_on)
    return module


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_resume_is_exact(scene, tmp_path):
    whole = lightning(scene, tmp_path / "once", 3)
    before = lightning(scene, tmp_path / "twice", 1)
    after = lightning(scene, tmp_path / "twice", 3, str(tmp_path / "twice" / "last.safetensors"))
    assert whole.history == before.history + after.history and len(whole.history) == 9
    for x, y in zip(whole.state_dict().values(), after.state_dict().values()):
        assert torch.equal(x, y)
    assert [p.name for p in (tmp_path / "twice").iterdir()] == ["last.safetensors"]


TWO = """
    import os, sys, warnings
    warnings.filterwarnings("ignore")
    import torch
    from densebook.core import checkpoints
    from densebook.data.caps import render_views, toy_caps
    from densebook.don import dense_object_nets as don
    caps = toy_caps(2)
    views = render_views(caps, 4, size=(16, 32), generator=1, azimuth=(-0.5, 0.5))
    torch.manual_seed(0)
    module = don.don_module(don.DenseObjectNet(4, width=8), lr=1e-2)
    trainer = checkpoints.make_trainer(sys.argv[1], 1, processes=2)
    trainer.fit(module, don.loader(don.PairData(views, None, 4, 4, 4, 8)))
    weights = torch.cat([p.detach().flatten() for p in module.net.parameters()])
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
    assert (tmp_path / "last.safetensors").is_file()


# Files ------------------------------------------------------------------------------------------------------------------


def test_save_and_load(tmp_path):
    net, images = net_of(7), torch.rand(1, 3, 16, 32)
    don.save(net, tmp_path / "net.safetensors")
    again = don.load(tmp_path / "net.safetensors")
    assert again.settings == net.settings
    with torch.no_grad():
        assert torch.equal(again(images), net(images))


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "net.safetensors"
    don.save(net_of(), path)
    good = path.read_bytes()
    for cut in (0, 5, len(good) // 2, len(good) - 1):
        path.write_bytes(good[:cut])
        with pytest.raises(InputError, match="net.safetensors"):
            don.load(path)
    checkpoints.save_state({"settings": {"dim": 5, "width": 16}, "weights": {}}, path)
    with pytest.raises(InputError, match="no Dense Object Net"):
        don.load(path)
    with pytest.raises(InputError, match="not there"):
        don.load(tmp_path / "other.safetensors")


# Bad input --------------------------------------------------------------------------------------------------------------


def test_bad_input(scene):
    caps, views = scene
    a, b, cells, uv, size, valid = example()
    empty = Views(**{n: getattr(views, n) for n in views.__dataclass_fields__} | {"mask": torch.zeros_like(views.mask)})
    for call, word in (
        (lambda: don.DenseObjectNet(0), "dim is 0"),
        (lambda: don.DenseObjectNet(2.5), "dim is 2.5"),
        (lambda: don.DenseObjectNet(3, "vgg"), "backbone"),
        (lambda: don.DenseObjectNet(3, stride=5), "stride 5"),
        (lambda: net_of().features(torch.rand(1, 3, 30, 48)), "multiples of 16"),
        (lambda: net_of().features(torch.rand(3, 32, 48)), "(B, 3, H, W)"),
        (lambda: don.nt_xent(a, b, cells, uv, size, valid=valid & False), "no valid match"),
        (lambda: don.contrastive(a, b, cells, uv, size, valid=valid & False), "no valid match"),
        (lambda: don.distributional(a, cells, uv, size, valid=valid & False), "no valid match"),
        (lambda: don.match(a[0, :, :3], cells[0]), "same D"),
        (lambda: don.pair_loss(cells, None, size, kind="triplet"), "triplet"),
        (lambda: don.fit(net_of(), empty, steps=1), "masks are empty"),
        (lambda: don.draw_batch(views[:3], None, 4, 4, 8, torch.Generator()), "no instance twice"),
    ):
        with pytest.raises(InputError) as caught:
            call()
        assert word in str(caught.value) and "\n" not in str(caught.value)


# CUDA -------------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_cuda(scene):
    caps, views = scene
    found = pairs(views, 4, 16, None, torch.Generator().manual_seed(3))
    net = net_of(6).double()
    here = don.train_loss(net, views.rgb.double(), found)
    there = don.train_loss(net.cuda(), views.rgb.double().cuda(), found.to("cuda"))
    assert_close(there.cpu(), here)
    maps, query = draw(6, 5, 7), draw(20, 6, seed=1)
    assert_close(don.match(query.cuda(), maps.cuda(), (20, 28)).cpu(), don.match(query, maps, (20, 28)))
    don.fit(net.float(), views.to("cuda"), caps.to("cuda"), steps=2, batch=4, matches=16)
