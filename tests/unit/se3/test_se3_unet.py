"""SE3-Unet: each step against its slow twin, and the whole network against everything that must not matter."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from densebook.core.errors import InputError
from densebook.se3 import se3_unet
from densebook.se3.representations import random_rotation, rotate
from densebook.se3.se3_transformer import center, knn_graph
from densebook.se3.se3_unet import (
    InvariantHead,
    SE3UNet,
    Trunk,
    build_levels,
    canonical_order,
    farthest_points,
    input_features,
    interpolate_up,
    invariants,
    pool,
)
from densebook.testing import assert_close, assert_grad

dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
MIRROR = torch.tensor([-1.0, 1.0, 1.0])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def blob(n=120, seed=0, dtype=torch.float32):
    """Points on a bumpy, lopsided surface: no symmetry, no ties."""
    x = torch.randn(n, 3, generator=seeded(seed), dtype=torch.float64)
    x = x / x.norm(dim=1, keepdim=True)
    return (x * torch.tensor([0.7, 1.0, 0.5], dtype=torch.float64) * (1 + 0.2 * torch.sin(3 * x[:, :1] + 1) + 0.1 * x[:, 1:2])).to(dtype)


def mirrored(n=60, seed=0, dtype=torch.float32):
    """A cloud with a mirror plane, twins far apart in the list."""
    half = blob(2 * n, seed, dtype)
    half = half[half[:, 0] > 0.02][:n]
    return torch.cat([half, half * MIRROR.to(dtype)])


def lattice(n=4, dtype=torch.float32):
    axis = torch.arange(n, dtype=dtype)
    return torch.cartesian_prod(axis, axis, axis)


def numbers(*sizes):
    return torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))


def features_of(n, channels=3, degrees=3, seed=0, dtype=torch.float32):
    return {l: torch.randn(n, channels, 2 * l + 1, generator=seeded(seed + l), dtype=dtype) for l in range(degrees)}


def change(a, b):
    return float((a - b).detach().norm() / b.detach().norm())


def unet(dtype=torch.float32, seed=0, **more):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return SE3UNet(**({"landmarks": 5, "k": 8, "channels": 3, "hidden": 8} | more)).to(dtype).eval()


# order


@dtypes
@pytest.mark.parametrize("make", [blob, mirrored])
def test_canonical_order_is_the_clouds_own(make, dtype):
    points = make(dtype=dtype)
    order = canonical_order(points)
    assert sorted(order.tolist()) == list(range(len(points)))
    for seed in range(5):
        shuffle = torch.randperm(len(points), generator=seeded(seed))
        moved = points[shuffle] @ random_rotation(seeded(seed), dtype=dtype).T + 3.0
        assert torch.equal(shuffle[canonical_order(moved)], order)


def test_canonical_order_tells_a_cloud_from_its_mirror_image():
    points = blob()
    assert not torch.equal(canonical_order(points * MIRROR), canonical_order(points))


def test_canonical_order_by_cloud():
    a, b = blob(50), blob(70, seed=1) + 5
    both = canonical_order(torch.cat([a, b]), numbers(50, 70))
    assert torch.equal(both, torch.cat([canonical_order(a), 50 + canonical_order(b)]))


def test_canonical_order_without_a_direction():
    points = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]])  # every odd moment is zero
    assert sorted(canonical_order(points).tolist()) == [0, 1, 2, 3]
    line = torch.linspace(-1, 2, 7)[:, None] * torch.tensor([[0.0, 1, 0]])  # v and w parallel
    assert canonical_order(line).tolist() in (list(range(7)), list(range(6, -1, -1)))


# farthest points


def slow_farthest(points, count):
    """The rule, in numpy loops over everything; squares summed in the same order, so that roundings are the same."""
    order = canonical_order(points).numpy()
    x = center(points).numpy()[order]
    within = 4 * torch.finfo(points.dtype).eps * math.sqrt(max(a * a + b * b + c * c for a, b, c in x))
    d = np.array([(a * a + b * b) + c * c for a, b, c in x])
    taken = []
    for number in range(count):
        best = float(d.max())
        band = min(max(math.sqrt(best) - within, 0.0) ** 2, best)
        i = next(j for j in range(len(d)) if d[j] >= np.asarray(band, dtype=d.dtype))
        a, b, c = ((x[:, axis] - x[i, axis]) ** 2 for axis in range(3))
        new = (a + b) + c
        d = np.minimum(d, new) if number else new
        d[i] = -1
        taken.append(i)
    return torch.from_numpy(order[taken])


@settings(deadline=None, max_examples=25)
@given(n=st.integers(1, 90), share=st.floats(0.01, 1), seed=st.integers(0, 99), wide=st.booleans(), kind=st.sampled_from(["blob", "grid", "line"]))
def test_farthest_points_equal_the_slow_twin(n, share, seed, wide, kind):
    points = blob(n, seed, torch.float64 if wide else torch.float32)
    if kind == "grid":  # many ties, and coincident points
        points = (2 * points).round() / 2
    if kind == "line":
        points = points * torch.tensor([1.0, 0, 0], dtype=points.dtype)
    count = max(round(share * n), 1)
    assert torch.equal(farthest_points(points, count), slow_farthest(points, count))


@dtypes
@pytest.mark.parametrize("kind", ["blob", "grid"])
def test_rounds_and_slabs_change_nothing(kind, dtype, monkeypatch):
    points = blob(9000, dtype=dtype)
    if kind == "grid":
        points = (16 * points).round() / 16
    found = farthest_points(points, 700)
    assert len(set(found.tolist())) == 700
    monkeypatch.setattr(se3_unet, "SMALL", 10_000)  # all of them candidates all the time
    assert torch.equal(found, farthest_points(points, 700))
    assert torch.equal(found[:40], slow_farthest(points, 40))


@dtypes
def test_farthest_points_cover_and_keep_apart(dtype):
    points = blob(400, dtype=dtype)
    kept = farthest_points(points, 50)
    assert kept[0] == (points - points.mean(0)).norm(dim=1).argmax()
    cover = torch.cdist(points, points[kept]).amin(1).max()
    apart = torch.cdist(points[kept], points[kept]).fill_diagonal_(torch.inf).min()
    assert cover <= apart * (1 + 1e-5)  # the law of farthest points: nobody is farther from the kept than these from each other
    assert torch.equal(farthest_points(points, 20), kept[:20])


@dtypes
@pytest.mark.parametrize("make", [blob, mirrored])
def test_farthest_points_depend_on_the_cloud_only(make, dtype):
    points = make(dtype=dtype)
    kept = farthest_points(points, 0.65)
    shuffle = torch.randperm(len(points), generator=seeded(7))
    assert torch.equal(shuffle[farthest_points(points[shuffle], 0.65)], kept)
    for seed in range(4):
        assert set(farthest_points(points @ random_rotation(seeded(seed), dtype=dtype).T, 0.65).tolist()) == set(kept.tolist())
    mate = blob(75, 5, dtype) + 40
    beside = farthest_points(torch.cat([mate, points, mate[:9]]), 0.65, numbers(75, len(points), 9))
    middle = beside[round(0.65 * 75) : round(0.65 * 75) + len(kept)]
    assert torch.equal(middle - 75, kept)


def test_plain_argmax_would_flip_on_a_symmetric_cloud():
    points, sets = mirrored(200), set()
    for seed in range(6):
        x = points @ random_rotation(seeded(seed)).T
        d, taken = (x - x.mean(0)).square().sum(1), []
        for number in range(260):
            taken.append(int(d.argmax()))
            new = (x - x[taken[-1]]).square().sum(1)
            d = torch.minimum(d, new) if number else new
        sets.add(frozenset(taken))
    assert len(sets) > 1  # so the tie rule is worth its lines
    assert len({frozenset(farthest_points(points @ random_rotation(seeded(s)).T, 260).tolist()) for s in range(6)}) == 1


def test_shares_and_counts():
    points = blob(1024)
    assert len(farthest_points(points, 0.65)) == 666
    assert len(farthest_points(points, 1.0)) == 1024 and len(farthest_points(points, 1)) == 1
    assert len(farthest_points(points[:3], 0.01)) == 1
    assert farthest_points(torch.zeros(5, 3), 3).tolist() == [0, 1, 2]  # all coincide: still three different points


def test_same_as_pytorch3d():
    ops = pytest.importorskip("pytorch3d.ops")
    points = blob(3000, dtype=torch.float64)
    kept = farthest_points(points, 200)
    first = points.clone()
    first[[0, int(kept[0])]] = first[[int(kept[0]), 0]]  # it starts at number 0
    theirs, _ = ops.sample_farthest_points(first[None], K=200)
    assert_close(theirs[0], points[kept])


def test_same_as_open3d():
    o3d = pytest.importorskip("open3d")
    points = blob(2000, dtype=torch.float64)
    kept = farthest_points(points, 150)
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(points.numpy()))
    theirs = np.asarray(cloud.farthest_point_down_sample(150, int(kept[0])).points)
    ours = points[kept].numpy()
    assert np.allclose(theirs[np.lexsort(theirs.T)], ours[np.lexsort(ours.T)])


@pytest.mark.parametrize(
    "wrong,word",
    [
        ({"keep": 0}, "keep"),
        ({"keep": -3}, "keep"),
        ({"keep": 0.0}, "keep"),
        ({"keep": 1.5}, "keep"),
        ({"keep": math.nan}, "keep"),
        ({"keep": True}, "keep"),
        ({"keep": "3"}, "keep"),
        ({"keep": 11}, "cloud 0 has 10 points"),
        ({"points": torch.zeros(0, 3)}, "empty"),
        ({"points": torch.zeros(3, 2)}, "points"),
        ({"points": torch.zeros(3, 3, dtype=torch.int64)}, "int64"),
        ({"points": torch.full((3, 3), math.nan)}, "NaN"),
        ({"points": [[0.0, 0, 0]]}, "points"),
        ({"batch": torch.zeros(10)}, "batch"),
        ({"batch": torch.arange(10).flip(0)}, "sorted"),
    ],
)
def test_farthest_points_wrong_input(wrong, word):
    with pytest.raises(InputError, match=word):
        farthest_points(**({"points": blob(10), "keep": 3} | wrong))


# pooling


def slow_pool(features, edge_index, kept, how):
    found = {}
    for l, f in features.items():
        rows = []
        for p in kept.tolist():
            near = f[[p, *edge_index[0][edge_index[1] == p].tolist()]]
            if how == "max":
                size = near.norm(dim=-1) if l else near[..., 0]
                rows.append(torch.stack([near[size[:, c].argmax(), c] for c in range(f.shape[1])]))
            else:
                rows.append(near.mean(0) if how == "mean" else near.sum(0))
        found[l] = torch.stack(rows)
    return found


@dtypes
@pytest.mark.parametrize("how", ["mean", "sum", "max"])
def test_pool_equals_the_slow_twin_and_turns(how, dtype):
    points, features = blob(80, dtype=dtype), features_of(80, dtype=dtype)
    edges, kept = knn_graph(points, 7), farthest_points(points, 0.6)
    found = pool(features, edges, kept, how)
    for l, expected in slow_pool(features, edges, kept, how).items():
        assert_close(found[l], expected)
    R = random_rotation(seeded(3), dtype=dtype)
    for l, f in rotate(found, R).items():
        assert_close(pool(rotate(features, R), edges, kept, how)[l], f, atol=1e-5 if dtype == torch.float32 else 1e-12)


def test_max_of_components_would_not_turn():
    points, features = blob(80), features_of(80)
    edges, kept = knn_graph(points, 7), farthest_points(points, 0.6)
    R = random_rotation(seeded(3))

    def wrong(f):
        return f[1][edges[0].view(80, 7)[kept]].amax(1)

    assert change(wrong(rotate(features, R)), wrong(features) @ R.T) > 0.1


def test_pool_gradients():
    points = blob(20, dtype=torch.float64)
    edges, kept = knn_graph(points, 4), farthest_points(points, 0.5)
    values = features_of(20, 2, 2, dtype=torch.float64)
    for how in ("mean", "sum", "max"):
        assert_grad(lambda a, b, how=how: tuple(pool({0: a, 1: b}, edges, kept, how).values()), values[0], values[1])


@pytest.mark.parametrize(
    "wrong,word",
    [
        ({"how": "min"}, "how"),
        ({"edge_index": torch.zeros(2, 5)}, "edge_index"),
        ({"edge_index": torch.zeros(2, 80, dtype=torch.int64)}, "edge_index"),
        ({"edge_index": torch.zeros(2, 0, dtype=torch.int64)}, "edge_index"),
        ({"edge_index": None}, "edge_index"),
    ],
)
def test_pool_wrong_input(wrong, word):
    points = blob(40)
    good = {"features": features_of(40), "edge_index": knn_graph(points, 3), "kept": farthest_points(points, 9)}
    with pytest.raises(InputError, match=word):
        pool(**(good | wrong))


# back up


def slow_up(features, points, edge_index, kept):
    seat = {p: i for i, p in enumerate(kept.tolist())}
    found = {l: f.new_zeros(len(points), *f.shape[1:]) for l, f in features.items()}
    for i in range(len(points)):
        near = [j for j in edge_index[0][edge_index[1] == i].tolist() if j in seat]
        if i in seat:
            weights = {seat[i]: 1.0}
        elif near:
            weights = {seat[j]: 1 / float((points[j] - points[i]).double().norm()) for j in near}
        else:
            weights = {int((points[kept] - points[i]).norm(dim=1).argmin()): 1.0}
        total = sum(weights.values())
        for l, f in features.items():
            found[l][i] = sum(w / total * f[s] for s, w in weights.items())
    return found


@dtypes
@pytest.mark.parametrize("share,k", [(0.65, 8), (0.1, 3), (1.0, 4)])
def test_interpolate_up_equals_the_slow_twin(share, k, dtype):
    points = blob(90, dtype=dtype)
    edges, kept = knn_graph(points, k), farthest_points(points, share)
    features = features_of(len(kept), dtype=dtype)
    found = interpolate_up(features, points, edges, kept)
    for l, expected in slow_up(features, points, edges, kept).items():
        assert_close(found[l], expected, rtol=1e-5, atol=1e-5 if dtype == torch.float32 else 1e-10)
        assert torch.equal(found[l][kept], features[l])


@dtypes
def test_interpolation_keeps_constants_and_turns(dtype):
    points = blob(90, dtype=dtype)
    edges, kept = knn_graph(points, 8), farthest_points(points, 0.5)
    same = interpolate_up({0: torch.full((len(kept), 2, 1), 3.0, dtype=dtype)}, points, edges, kept)[0]
    assert_close(same, torch.full_like(same, 3.0))
    R, features = random_rotation(seeded(1), dtype=dtype), features_of(len(kept), dtype=dtype)
    for l, f in interpolate_up(rotate(features, R), points @ R.T, edges, kept).items():
        assert_close(f, rotate(interpolate_up(features, points, edges, kept), R)[l], atol=1e-5 if dtype == torch.float32 else 1e-12)


def test_a_lonely_point_looks_in_its_own_cloud_only():
    a, b = blob(30), blob(30, seed=1)  # one on top of the other
    both, batch = torch.cat([a, b]), numbers(30, 30)
    edges, kept = knn_graph(both, 2, batch), farthest_points(both, 2, batch)
    found = interpolate_up({0: batch[kept][:, None, None].float()}, both, edges, kept, batch)[0]
    assert torch.equal(found[:, 0, 0], batch.float())


@dtypes
def test_coincident_points_are_no_trouble(dtype):
    points = blob(40, dtype=dtype)
    points[5] = points[7]
    points[6] = points[7]
    edges = knn_graph(points, 6)
    kept = torch.tensor([i for i in range(40) if i not in (5, 20)])
    features = features_of(39 - 1, dtype=dtype)
    found = interpolate_up(features, points.requires_grad_(), edges, kept)
    assert all(f.isfinite().all() for f in found.values())
    twins = (kept == 6).nonzero()[0, 0], (kept == 7).nonzero()[0, 0]
    assert_close(found[1][5].detach(), (features[1][twins[0]] + features[1][twins[1]]) / 2, rtol=1e-4)
    found[1].sum().backward()
    assert points.grad.isfinite().all()


def test_interpolation_gradients():
    points = blob(16, dtype=torch.float64)
    edges, kept = knn_graph(points, 4), farthest_points(points, 0.5)
    f = features_of(len(kept), 2, 2, dtype=torch.float64)
    assert_grad(lambda a, b, p: tuple(interpolate_up({0: a, 1: b}, p, edges, kept).values()), f[0], f[1], points)


# levels, input, invariants


@dtypes
def test_levels(dtype):
    points = blob(100, dtype=dtype) + 3
    levels = build_levels(points, levels=2, k=9)
    assert [len(level.points) for level in levels] == [100, 65, 42] and levels[-1].kept is None
    for fine, coarse in zip(levels, levels[1:]):
        assert torch.equal(fine.points[fine.kept], coarse.points)
        assert torch.equal(coarse.edge_index, knn_graph(coarse.points, 9))
    assert float(levels[0].points.mean(0).abs().max()) < 1e-6
    assert torch.equal(levels[0].kept, farthest_points(points, 0.65))


def test_levels_of_a_cloud_do_not_depend_on_its_mates():
    a, b = blob(80), blob(50, seed=2) + 9
    alone, both = build_levels(b, k=8), build_levels(torch.cat([a, b]), numbers(80, 50), k=8)
    assert torch.equal(both[0].kept[52:] - 80, alone[0].kept)
    for level in (0, 1):
        at = both[level].batch == 1
        shift = int((~at).sum())
        assert_close(both[level].points[at], alone[level].points)
        mine = at[both[level].edge_index[1]]
        assert torch.equal(both[level].edge_index[:, mine] - shift, alone[level].edge_index)


@pytest.mark.parametrize(
    "wrong,word",
    [
        ({"k": 40}, "cloud 0 has 40 points at level 0, too few for k = 40"),
        ({"k": 26}, "26 points at level 1"),
        ({"k": 0}, "k is"),
        ({"k": 4.0}, "k is"),
        ({"levels": -1}, "levels"),
        ({"levels": True}, "levels"),
        ({"levels": 9}, "level 6"),
        ({"pooling_ratio": 1.0}, "pooling_ratio"),
        ({"pooling_ratio": -0.1}, "pooling_ratio"),
        ({"pooling_ratio": None}, "pooling_ratio"),
        ({"points": torch.zeros(0, 3)}, "empty"),
    ],
)
def test_levels_wrong_input(wrong, word):
    with pytest.raises(InputError, match=word):
        build_levels(**({"points": blob(40), "k": 3} | wrong))


@dtypes
def test_input_features_turn_and_stay(dtype):
    points, R = blob(50, dtype=dtype), random_rotation(seeded(2), dtype=dtype)
    level = build_levels(points, levels=0, k=6)[0]
    features = input_features(level, dtype)
    assert {l: tuple(f.shape) for l, f in features.items()} == {0: (50, 1, 1), 1: (50, 2, 3)}
    assert_close(features[1][:, 1], points.mean(0) - points, atol=1e-6)
    near = level.points[level.edge_index[0].view(50, 6)]
    assert_close(features[1][:, 0], near.mean(1) - level.points, atol=1e-6)
    moved = input_features(build_levels(points @ R.T + 2, levels=0, k=6)[0], dtype)
    assert_close(moved[1], rotate(features, R)[1], atol=2e-6 if dtype == torch.float32 else 1e-12)


@dtypes
def test_invariants(dtype):
    features = features_of(30, channels=4, degrees=4, dtype=dtype)
    found = invariants(features)
    assert found.shape == (30, 4 + 3 * 10)
    for seed in range(3):
        assert_close(invariants(rotate(features, random_rotation(seeded(seed), dtype=dtype))), found, atol=1e-4 if dtype == torch.float32 else 1e-10)
    a, b = features[2][0, 1], features[2][0, 3]
    assert_close(found[:1, 4 + 10 : 4 + 14], features[2][:1].norm(dim=-1))
    assert ((found[0] - (a * b).sum()).abs() < 1e-5).any()
    turned_apart = {**features, 1: features[1] @ random_rotation(seeded(9), (30, 1), dtype=dtype)[:, 0].mT}
    assert_close(invariants(turned_apart), found, atol=1e-4 if dtype == torch.float32 else 1e-10)  # each point by itself


def test_invariants_of_zero_have_a_gradient():
    zero = {0: torch.zeros(2, 1, 1), 1: torch.zeros(2, 3, 3, requires_grad=True)}
    invariants(zero).sum().backward()
    assert zero[1].grad.isfinite().all()
    features = features_of(3, 2, 2, dtype=torch.float64)
    assert_grad(lambda a, b: invariants({0: a, 1: b}), features[0], features[1])


def test_head_shape_and_invariance():
    head, features = InvariantHead({0: 3, 1: 3, 2: 3}, 7), features_of(10)
    assert head(features).shape == (10, 7)
    assert change(head(rotate(features, random_rotation(seeded(1)))), head(features)) < 1e-5


# the network


@dtypes
@pytest.mark.parametrize("make", [blob, mirrored])
def test_nothing_that_must_not_matter_matters(make, dtype):
    model, points = unet(dtype), make(dtype=dtype)
    rough = 1e-4 if dtype == torch.float32 else 1e-10
    with torch.no_grad():
        reference = model(points)
        assert reference.shape == (len(points), 5) and reference.std() > 1e-2
        for seed in range(4):
            R = random_rotation(seeded(seed), dtype=dtype)
            assert change(model(points @ R.T), reference) < rough
        grid = (points * 8192).round() / 8192  # may be moved without rounding
        assert change(model(grid + torch.tensor([1000.0, -500, 3], dtype=dtype)), model(grid)) < rough
        assert change(model(points @ R.T + 1), reference) < rough
        shuffle = torch.randperm(len(points), generator=seeded(1))
        assert torch.equal(model(points[shuffle]), reference[shuffle])
        mates = [blob(70, 3, dtype) + 50, points, 2 * blob(40, 4, dtype)]
        beside = model(torch.cat(mates), numbers(70, len(points), 40))
        assert change(beside[70 : 70 + len(points)], reference) < rough
        assert change(beside[-40:], model(mates[2])) < rough


def test_a_reflection_matters():
    model, points = unet(), blob()
    with torch.no_grad():
        assert change(model(points * MIRROR), model(points)) > 0.01


@pytest.mark.parametrize("more", [{"levels": 0}, {"levels": 2}, {"pooling": "sum"}, {"pooling": "max"}, {"degrees": 1}, {"degrees": 2, "layers": 2}])
def test_variants_are_invariant(more):
    model, points = unet(torch.float64, **more), blob(dtype=torch.float64)
    with torch.no_grad():
        out = model(points)
        moved = model(points @ random_rotation(seeded(5), dtype=torch.float64).T - 20)
    assert change(moved, out) < 1e-9 and out.std() > 1e-3


def test_invariant_after_training_too():
    model, points = unet().train(), blob(60)
    target = torch.exp(-8 * (points[:, None] - points[[3, 14, 15, 9, 26]]).square().sum(-1))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(15):
        loss = torch.nn.functional.mse_loss(model(points).sigmoid(), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]
    R = random_rotation(seeded(5))
    assert change(model(points @ R.T + 1), model(points)) < 1e-4


def test_every_parameter_takes_part():
    model = unet().train()
    model(blob(60)).square().sum().backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not idle
    silent = [name for name, p in model.named_parameters() if not p.grad.abs().sum() > 0]
    assert len(silent) < 0.1 * len(list(model.parameters())), silent


def test_types_of_points_and_weights_may_differ():
    model, points = unet(), blob(60, dtype=torch.float64)
    out = model(points)
    assert out.dtype == torch.float32
    assert change(model(points.float()), out) < 1e-4
    assert change(copy.deepcopy(model).double()(points).float(), out) < 1e-4


def test_trunk_is_equivariant():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        trunk = Trunk({0: 2, 1: 2, 2: 2}, hidden=8).double()
    points, R = blob(60, dtype=torch.float64), random_rotation(seeded(1), dtype=torch.float64)
    still, turned = (trunk(build_levels(p, k=8)) for p in (points, points @ R.T + 2))
    for l, f in rotate(still, R).items():
        assert change(turned[l], f) < 1e-10


def test_trunk_step_by_step():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        trunk = Trunk({0: 2, 1: 2}, hidden=8)
    fine, coarse = build_levels(blob(60), k=8)
    skip = trunk.down[0](fine.points, input_features(fine), fine.edge_index)
    low = trunk.bottom(coarse.points, pool(skip, fine.edge_index, fine.kept), coarse.edge_index)
    up = trunk.up[0](fine.points, interpolate_up(low, fine.points, fine.edge_index, fine.kept), fine.edge_index)
    for l, f in trunk([fine, coarse]).items():
        assert_close(f, up[l] + skip[l], atol=1e-5)
    assert min(float(f.detach().norm()) for f in (*skip.values(), *low.values(), *up.values())) > 0


def test_blocks_start_awake():
    biases = [p for name, p in SE3UNet(k=8).named_parameters() if ".bias." in name]
    assert biases and all((p == 0).all() for p in biases)


def test_size_is_near_the_authors():
    assert sum(p.numel() for p in SE3UNet().parameters()) == pytest.approx(224_075, rel=0.05)


def test_coincident_points_get_one_answer():
    points = blob(50)
    doubled = torch.cat([points, points[:4]])
    out = unet()(doubled)
    assert out.isfinite().all() and change(out[-4:], out[:4]) < 1e-5
    out.sum().backward()


@pytest.mark.parametrize(
    "points,word",
    [
        (torch.zeros(0, 3), "empty"),
        (torch.zeros(30, 2), "points"),
        (torch.zeros(30, 3, dtype=torch.int64), "int64"),
        (torch.full((30, 3), math.inf), "infinity"),
        (blob(8), "8 points at level 0"),
        (blob(12), "8 points at level 1"),
    ],
)
def test_network_wrong_clouds(points, word):
    with pytest.raises(InputError, match=word):
        unet()(points)


def test_network_names_the_small_cloud_of_a_batch():
    with pytest.raises(InputError, match="cloud 1 has 9 points"):
        unet(k=10)(torch.cat([blob(40), blob(9)]), numbers(40, 9))


@pytest.mark.parametrize(
    "wrong,word",
    [
        ({"landmarks": 0}, "landmarks"),
        ({"channels": 2.0}, "channels"),
        ({"degrees": 0}, "degrees"),
        ({"layers": True}, "layers"),
        ({"k": 0}, "k is"),
        ({"levels": -1}, "levels"),
        ({"pooling": "median"}, "pooling"),
        ({"pooling_ratio": 1.0}, "pooling_ratio"),
        ({"backend": "jax"}, "backend"),
    ],
)
def test_network_wrong_settings(wrong, word):
    with pytest.raises(InputError, match=word):
        SE3UNet(**wrong)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@dtypes
def test_cuda_agrees(dtype):
    model, points = unet(dtype), blob(dtype=dtype)
    assert torch.equal(farthest_points(points.cuda(), 0.65).cpu(), farthest_points(points, 0.65))
    theirs = copy.deepcopy(model).cuda()(points.cuda())
    assert change(theirs.cpu(), model(points)) < (1e-3 if dtype == torch.float32 else 1e-9)
    theirs.sum().backward()
