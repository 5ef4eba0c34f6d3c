"""Heatmaps, Adaptive Wing loss, IoU, positions and ICP: closed forms, limits, continuity, slow twins, Open3D."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from densebook.core.errors import InputError
from densebook.geometry import poses
from densebook.se3 import landmarks as lm
from densebook.testing import assert_close, assert_equivariant, assert_grad

DTYPES = [torch.float32, torch.float64]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def cloud(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, 3, generator=seeded(seed), dtype=dtype)


def turn(seed=0, angle=2.0, dtype=torch.float64):
    xi = torch.randn(6, generator=seeded(seed), dtype=torch.float64)
    return poses.exp(xi / xi.norm() * angle).to(dtype)


def move(T, x):
    return x @ T[:3, :3].mT + T[:3, 3]


# Heatmaps


@pytest.mark.parametrize("dtype", DTYPES)
def test_heatmaps_are_gaussians(dtype):
    points, landmarks = cloud(2, 50, dtype=dtype), cloud(2, 7, seed=1, dtype=dtype)
    maps = lm.heatmaps(points, landmarks, sigma=0.5)
    slow = torch.stack([torch.stack([(-((p - m).square().sum()) / (2 * 0.25)).exp() for p in a for m in b]).view(50, 7) for a, b in zip(points, landmarks)])
    assert maps.dtype == dtype and maps.shape == (2, 50, 7)
    assert_close(maps, slow)


def test_heatmap_heights():
    sigma = 0.095
    points = torch.tensor([[0.0, 0, 0], [sigma, 0, 0], [0, sigma * math.sqrt(2 * math.log(5)), 0], [0, 0, 100.0]], dtype=torch.float64)
    assert_close(lm.heatmaps(points, points[:1])[:, 0], torch.tensor([1, math.exp(-0.5), 0.2, 0.0], dtype=torch.float64))


def test_heatmaps_follow_every_motion_and_mirror():
    T, mirror = turn(), torch.diag(torch.tensor([-1.0, 1, 1], dtype=torch.float64))
    actions = {"motion": (lambda p, m: (move(T, p), move(T, m)), None), "mirror": (lambda p, m: (p @ mirror, m @ mirror), None)}
    assert_equivariant(lm.heatmaps, actions, cloud(30), cloud(4, seed=1))


def test_heatmaps_gradient_and_broadcast():
    assert_grad(lambda p, m: lm.heatmaps(p, m, 0.7), cloud(4), cloud(2, seed=1))
    assert lm.heatmaps(cloud(5, 10), cloud(3)).shape == (5, 10, 3)


# Adaptive Wing


def wing(d, y, omega=14.0, theta=0.5, epsilon=1.0, alpha=2.1):
    """The paper's loss for one number, with its A and C."""
    power = alpha - y
    A = omega / (1 + (theta / epsilon) ** power) * power * (theta / epsilon) ** (power - 1) / epsilon
    C = theta * A - omega * math.log(1 + (theta / epsilon) ** power)
    return omega * math.log(1 + abs(d / epsilon) ** power) if abs(d) < theta else A * abs(d) - C


@settings(deadline=None, max_examples=60)
@given(
    p=st.floats(0, 1),
    y=st.floats(0, 1),
    omega=st.floats(1, 20),
    theta=st.floats(0.1, 0.9),
    epsilon=st.floats(0.3, 3),
    alpha=st.floats(2.01, 4),
)
def test_adaptive_wing_is_the_papers_formula(p, y, omega, theta, epsilon, alpha):
    one = lambda v: torch.tensor([[v]], dtype=torch.float64)  # noqa: E731
    ours = float(lm.adaptive_wing(one(p), one(y), omega, theta, epsilon, alpha, weight=0.0))
    assert ours == pytest.approx(wing(p - y, y, omega, theta, epsilon, alpha), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("y", [0.0, 0.1, 0.2, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("theta,epsilon,alpha", [(0.5, 1.0, 2.1), (0.3, 0.5, 2.5), (0.5, 2.0, 3.0)])
def test_value_and_slope_meet_at_theta(y, theta, epsilon, alpha):
    sides = []
    for away in (theta * (1 - 1e-9), theta * (1 + 1e-9)):
        x = torch.tensor([[y + away]], dtype=torch.float64, requires_grad=True)
        value = lm.adaptive_wing(x, torch.full_like(x, y).detach(), theta=theta, epsilon=epsilon, alpha=alpha, weight=0.0)
        (slope,) = torch.autograd.grad(value, x)
        sides.append((value.item(), slope.item()))
    assert sides[0][0] == pytest.approx(sides[1][0], rel=1e-7)
    assert sides[0][1] == pytest.approx(sides[1][1], rel=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_loss_is_zero_and_flat_where_it_is_right(dtype):
    target = torch.linspace(0, 1, 11, dtype=dtype)[:, None]
    prediction = target.clone().requires_grad_()
    loss = lm.adaptive_wing(prediction, target)
    (slope,) = torch.autograd.grad(loss, prediction)
    assert loss == 0 and loss.dtype == dtype and torch.equal(slope, torch.zeros_like(slope))
    near = (target + torch.finfo(dtype).tiny).requires_grad_()
    (slope,) = torch.autograd.grad(lm.adaptive_wing(near, target), near)
    assert slope.isfinite().all()


def test_loss_grows_with_the_error_and_is_steeper_on_the_peak():
    away = torch.linspace(0, 1, 101, dtype=torch.float64)
    for y in (0.0, 0.5, 1.0):
        p = (y + away)[:, None]
        values = torch.stack([lm.adaptive_wing(row[None], torch.full((1, 1), y, dtype=torch.float64)) for row in p])
        assert (values.diff() > 0).all()
    small = [float(lm.adaptive_wing(torch.tensor([[y + 0.05]]), torch.tensor([[y]]), weight=0.0)) for y in (0.0, 0.5, 0.9)]
    assert small[0] < small[1] < small[2]


def test_weight_map():
    target = torch.tensor([[0.0, 0.199], [0.2, 1.0]], dtype=torch.float64)
    prediction = (target - 0.1).abs()
    plain = torch.tensor([wing(float(p - y), float(y)) for p, y in zip(prediction.flatten(), target.flatten())], dtype=torch.float64)
    expected = (plain * torch.tensor([1.0, 1, 11, 11], dtype=torch.float64)).mean()
    assert_close(lm.adaptive_wing(prediction, target), expected)
    assert_close(lm.adaptive_wing(prediction, target, weight=0.0), plain.mean())


def test_loss_gradient():
    target = torch.rand(5, 3, generator=seeded(), dtype=torch.float64)
    prediction = torch.rand(5, 3, generator=seeded(1), dtype=torch.float64)
    assert_grad(lambda p: lm.adaptive_wing(p, target), prediction)
    assert_grad(lambda x: lm.adaptive_wing(x.sigmoid(), target), 3 * prediction)


# IoU


def test_iou_by_hand():
    prediction = torch.tensor([[0.9, 0.0], [0.3, 0.1], [0.1, 0.0], [0.0, 0.0]])
    target = torch.tensor([[1.0, 0.0], [0.1, 0.0], [0.5, 0.0], [0.0, 0.0]])
    assert lm.iou(prediction, target, 0.2).tolist() == pytest.approx([1 / 3, 0.0])
    assert lm.iou(prediction, target, 0.1).tolist() == pytest.approx([1.0, 0.0])  # "on" includes the threshold
    assert lm.iou(prediction, target, 0.95).tolist() == [0.0, 0.0]
    assert lm.iou(target, target, 0.95).tolist() == [1.0, 0.0]  # a single point


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), threshold=st.floats(0.05, 0.95))
def test_iou_against_sets(seed, threshold):
    a, b = torch.rand(2, 3, 20, 4, generator=seeded(seed), dtype=torch.float64)
    ours = lm.iou(a, b, threshold)
    for s in range(3):
        for k in range(4):
            on = [{i for i, v in enumerate(m[s, :, k].tolist()) if v >= threshold} for m in (a, b)]
            assert float(ours[s, k]) == pytest.approx(len(on[0] & on[1]) / max(len(on[0] | on[1]), 1))
    assert_close(ours, lm.iou(b, a, threshold))
    shuffle = torch.randperm(20, generator=seeded(1))
    assert torch.equal(ours, lm.iou(a[:, shuffle], b[:, shuffle], threshold))


def test_iou_of_a_map_with_itself_is_one_where_it_is_on():
    maps = lm.heatmaps(cloud(100), cloud(5, seed=1)[:, :] * 0.5, sigma=0.8)
    assert torch.equal(lm.iou(maps, maps), (maps >= 0.2).any(0).to(maps))


# Positions


@pytest.mark.parametrize("dtype", DTYPES)
def test_expected_positions_of_sharp_and_even_maps(dtype):
    points = cloud(9, dtype=dtype)
    sharp = torch.eye(9, dtype=dtype)
    assert_close(lm.expected_positions(points, sharp), points)
    assert_close(lm.expected_positions(points, torch.full((9, 2), 0.3, dtype=dtype)), points.mean(0).expand(2, 3))
    assert_close(lm.expected_positions(points, torch.zeros(9, 1, dtype=dtype)), points.mean(0)[None])


def test_expected_positions_move_along():
    T, maps = turn(), torch.rand(12, 3, generator=seeded(), dtype=torch.float64)
    assert_equivariant(lambda p: lm.expected_positions(p, maps), {"motion": (lambda p: move(T, p), lambda m: move(T, m))}, cloud(12))
    assert_close(lm.expected_positions(cloud(12), 0.01 * maps), lm.expected_positions(cloud(12), maps))  # only ratios count


def test_expected_positions_find_landmarks_on_a_plane():
    grid = torch.linspace(-1, 1, 41, dtype=torch.float64)
    points = torch.cat([torch.cartesian_prod(grid, grid), torch.zeros(41 * 41, 1, dtype=torch.float64)], 1)
    landmarks = 0.5 * cloud(6).clamp(-1, 1) * torch.tensor([1.0, 1, 0])
    found = lm.expected_positions(points, lm.heatmaps(points, landmarks, 0.2), floor=0.0)
    assert (found - landmarks).norm(dim=1).max() < 0.01
    assert_grad(lambda m: lm.expected_positions(points[::80], m), lm.heatmaps(points[::80], landmarks[:2], 0.5) + 0.1)


# ICP


def test_nearest_against_all_pairs():
    a, b = cloud(2, 30), cloud(2, 20, seed=1)
    distance, partner = lm.nearest(a, b)
    pairs = (a[:, :, None] - b[:, None]).norm(dim=-1)
    assert_close(distance, pairs.amin(2))
    assert_close(partner, torch.stack([y[i] for y, i in zip(b, pairs.argmin(2))]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_icp_finds_a_small_motion(dtype):
    target = cloud(3, 200, dtype=dtype)
    T = torch.stack([turn(s, 0.05, dtype) for s in range(3)])
    source = poses.transform(poses.inverse(T), target)
    found, share = lm.icp(source, target, torch.eye(4, dtype=dtype).expand(3, 4, 4), reach=1.0)
    assert (found - T).abs().max() < (1e-5 if dtype == torch.float32 else 1e-10)
    assert torch.equal(share, torch.ones(3, dtype=dtype))


def test_icp_ignores_what_is_out_of_reach():
    target = cloud(300)
    T = turn(1, 0.01)
    source = poses.transform(poses.inverse(T), target)
    far = torch.cat([source, source[:50] + 30.0])
    found, share = lm.icp(far, target, torch.eye(4, dtype=torch.float64), reach=0.5)
    assert_close(found, T, atol=1e-9)
    assert float(share) == pytest.approx(300 / 350)


@pytest.mark.parametrize("gap,share", [(0.09, 1.0), (0.11, 0.0)])
def test_icp_reach_is_a_distance(gap, share):
    target = torch.cat([cloud(5), cloud(5) + 50.0])
    source = target + torch.tensor([gap, 0, 0], dtype=torch.float64)
    found, paired = lm.icp(source, target, torch.eye(4, dtype=torch.float64), reach=0.1)
    moved = (found - torch.eye(4, dtype=torch.float64)).abs().max()
    assert float(paired) == share and (abs(float(moved) - gap) < 1e-6 if share else moved == 0)


def test_icp_without_pairs_stays():
    found, share = lm.icp(cloud(1, 20) + 100, cloud(1, 20), torch.eye(4, dtype=torch.float64)[None], reach=0.1)
    assert torch.equal(found, torch.eye(4, dtype=torch.float64)[None]) and share == 0


def test_icp_of_a_batch_is_icp_of_each():
    target, source = cloud(2, 60), cloud(2, 60) + 0.05 * cloud(2, 60, seed=4)
    start = torch.eye(4, dtype=torch.float64).expand(2, 4, 4)
    both = lm.icp(source, target, start, reach=0.5, steps=5)[0]
    assert_close(both, torch.stack([lm.icp(s, t, start[0], reach=0.5, steps=5)[0] for s, t in zip(source, target)]))


def test_icp_agrees_with_open3d():
    o3d = pytest.importorskip("open3d")
    target = cloud(150)
    source = poses.transform(poses.inverse(turn(2, 0.1)), target) + 0.01 * cloud(150, seed=5)
    clouds = []
    for x in (source, target):
        clouds.append(o3d.geometry.PointCloud(o3d.utility.Vector3dVector(x.numpy())))
    criteria = o3d.pipelines.registration.ICPConvergenceCriteria(1e-12, 1e-12, 200)
    theirs = o3d.pipelines.registration.registration_icp(*clouds, 0.4, torch.eye(4).double().numpy(), criteria=criteria)
    ours, share = lm.icp(source, target, torch.eye(4, dtype=torch.float64), reach=0.4, steps=200)
    assert_close(ours, torch.from_numpy(theirs.transformation.copy()), atol=1e-4)
    assert float(share) == pytest.approx(theirs.fitness, abs=0.01)


MAPS = torch.full((4, 2), 0.5)


@pytest.mark.parametrize(
    "call,words",
    [
        (lambda: lm.heatmaps(torch.zeros(5, 2), torch.zeros(3, 3)), "points"),
        (lambda: lm.heatmaps(torch.zeros(5, 3), torch.zeros(0, 3)), "landmarks is empty"),
        (lambda: lm.heatmaps(torch.zeros(5, 3).int(), torch.zeros(3, 3)), "int32"),
        (lambda: lm.heatmaps(torch.full((5, 3), torch.nan), torch.zeros(3, 3)), "NaN"),
        (lambda: lm.heatmaps(torch.zeros(5, 3), torch.zeros(3, 3), sigma=0.0), "sigma"),
        (lambda: lm.heatmaps([[0.0, 0, 0]], torch.zeros(3, 3)), "list"),
        (lambda: lm.adaptive_wing(MAPS, MAPS[:3]), r"\(3, 2\)"),
        (lambda: lm.adaptive_wing(MAPS, MAPS + 1), "target"),
        (lambda: lm.adaptive_wing(MAPS, MAPS * torch.nan), "target"),
        (lambda: lm.adaptive_wing(MAPS, MAPS.int()), "int32"),
        (lambda: lm.adaptive_wing(MAPS, MAPS, alpha=2.0), "alpha"),
        (lambda: lm.adaptive_wing(MAPS, MAPS, theta=0.0), "theta"),
        (lambda: lm.iou(MAPS, MAPS, 0.0), "threshold"),
        (lambda: lm.iou(MAPS, MAPS, 1.5), "threshold"),
        (lambda: lm.iou(MAPS[:0], MAPS[:0]), "empty"),
        (lambda: lm.expected_positions(torch.zeros(5, 3), MAPS), r"\(4, 2\)"),
        (lambda: lm.expected_positions(torch.zeros(4, 3), -MAPS), "negative"),
        (lambda: lm.expected_positions(torch.zeros(4, 3), MAPS * torch.nan), "NaN"),
        (lambda: lm.expected_positions(torch.zeros(4, 3), MAPS, floor=1.0), "floor"),
        (lambda: lm.icp(torch.zeros(4, 2), torch.zeros(4, 3), torch.eye(4)), "source"),
    ],
)
def test_wrong_input_is_named(call, words):
    with pytest.raises(InputError, match=words):
        call()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("dtype", DTYPES)
def test_cuda(dtype):
    points, landmarks = cloud(2, 50, dtype=dtype), cloud(2, 5, seed=1, dtype=dtype)
    maps = lm.heatmaps(points, landmarks, 0.5)
    gpu = lm.heatmaps(points.cuda(), landmarks.cuda(), 0.5)
    assert_close(gpu.cpu(), maps)
    assert_close(lm.expected_positions(points.cuda(), gpu).cpu(), lm.expected_positions(points, maps), atol=1e-5)
    assert_close(lm.adaptive_wing(gpu * 0.9, gpu).cpu(), lm.adaptive_wing(maps * 0.9, maps), rtol=1e-4)
    assert_close(lm.iou(gpu * 0.9, gpu).cpu(), lm.iou(maps * 0.9, maps))
