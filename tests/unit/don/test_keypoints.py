"""Keypoints: expectations against full-size sums, losses against closed forms, laws and finite differences, the network and its training."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from densebook.core.errors import InputError
from densebook.don import keypoints as kp
from densebook.geometry import poses
from densebook.testing import assert_close, assert_grad

DTYPES = [torch.float32, torch.float64]
dtypes = pytest.mark.parametrize("dtype", DTYPES)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def rand(*shape, seed=0, dtype=torch.float64):
    return torch.rand(*shape, generator=seeded(seed), dtype=dtype)


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=seeded(seed), dtype=dtype)


def motion(seed=0, angle=1.0, dtype=torch.float64):
    xi = randn(6, seed=seed)
    return poses.exp(torch.cat((0.3 * xi[:3], angle * F.normalize(xi[3:], dim=0)))).to(dtype)


# Expectations


def slow_lowres(logits, depth, size, mask):
    """The low-resolution order the long way: every map at full size."""
    B, N, h, w = logits.shape
    P, D = (F.interpolate(x, size, mode="bilinear") for x in (logits.flatten(2).softmax(2).view(B, N, h, w), depth))
    return slow_sums(P / P.sum((2, 3), keepdim=True), D, size, mask)


def slow_sums(P, D, size, mask):
    v, u = torch.meshgrid(*(torch.arange(n, dtype=P.dtype) + 0.5 for n in size), indexing="ij")
    x, y = (P * u).sum((2, 3)), (P * v).sum((2, 3))
    spread = (P * ((u - x[..., None, None]) ** 2 + (v - y[..., None, None]) ** 2)).sum((2, 3))
    return torch.stack((x, y), -1), (P * D).sum((2, 3)), spread, (P * mask[:, None]).sum((2, 3))


@dtypes
@settings(deadline=None, max_examples=12)
@given(st.integers(1, 7), st.integers(1, 7), st.integers(1, 40), st.integers(1, 40), st.integers(0, 9))
def test_lowres_equals_the_sums_over_pixels(dtype, h, w, H, W, seed):
    logits, depth = 2 * randn(2, 3, h, w, seed=seed, dtype=dtype), rand(2, 3, h, w, seed=seed, dtype=dtype)
    mask = rand(2, H, W, seed=seed) > 0.4
    mask[:, 0, 0] = True
    loose = {"rtol": 1e-4, "atol": 2e-3} if dtype == torch.float32 else {"atol": 1e-9}
    assert_close(tuple(kp.expectation(logits, depth, (H, W), mask)), slow_lowres(logits, depth, (H, W), mask.to(dtype)), **loose)


@dtypes
def test_pixel_order_equals_the_papers(dtype):
    logits, depth, mask, size = randn(2, 3, 5, 6, dtype=dtype), rand(2, 3, 5, 6, dtype=dtype), rand(2, 20, 27) > 0.5, (20, 27)
    L, D = (F.interpolate(x, size, mode="bilinear") for x in (logits, depth))
    P = L.flatten(2).softmax(2).unflatten(2, size)
    loose = {"rtol": 1e-4, "atol": 1e-3} if dtype == torch.float32 else {}
    assert_close(tuple(kp.expectation(logits, depth, size, mask, moments="pixels")), slow_sums(P, D, size, mask.to(dtype)), **loose)


def test_both_orders_agree_on_smooth_maps():
    v, u = torch.meshgrid(torch.arange(30.0), torch.arange(40.0), indexing="ij")
    logits = -((u - 17) ** 2 + (v - 11) ** 2)[None, None] / (2 * 5.0**2)
    a, b = (kp.expectation(logits, torch.ones_like(logits), (120, 160), moments=m) for m in ("lowres", "pixels"))
    assert (a.uv - b.uv).norm(dim=-1).max() < 0.1
    assert_close(a.uv, torch.tensor([[[17.5 * 4, 11.5 * 4]]]), atol=1.0)
    assert_close(a.depth, torch.ones(1, 1))


@pytest.mark.parametrize("moments", ["lowres", "pixels"])
def test_expectation_gradient(moments):
    mask = rand(1, 9, 11) > 0.5
    assert_grad(lambda a, b: tuple(kp.expectation(a, b, (9, 11), mask, moments=moments)), randn(1, 2, 3, 4), rand(1, 2, 3, 4))


def test_expectation_of_one_hot_and_flat_maps():
    flat = kp.expectation(torch.zeros(1, 1, 4, 5), torch.full((1, 1, 4, 5), 0.7), (16, 20))
    assert_close(flat.uv, torch.tensor([[[10.0, 8.0]]]))
    assert_close(flat.variance, torch.tensor([[(16**2 - 1) / 12 + (20**2 - 1) / 12]]), rtol=1e-4)
    assert_close(flat.depth, torch.full((1, 1), 0.7))
    assert_close(flat.inside, torch.ones(1, 1))
    peak = torch.full((1, 1, 4, 5), -50.0)
    peak[0, 0, 1, 2] = 50
    assert_close(kp.expectation(peak, torch.ones_like(peak), (16, 20)).uv, torch.tensor([[[10.0, 6.0]]]), atol=1e-4)


def test_upsampling_is_bilinear():
    for big, small in ((1, 1), (7, 3), (3, 7), (40, 5)):
        U, x = kp.upsampling(big, small, rand(1)), rand(small)
        assert_close(U @ x, F.interpolate(x[None, None], size=big, mode="linear")[0, 0])
        assert_close(U.sum(1), torch.ones(big, dtype=torch.float64))


def test_expectation_refuses():
    x = torch.zeros(2, 3, 4, 5)
    with pytest.raises(InputError, match="logits"):
        kp.expectation(x[0], x[0], (8, 10))
    with pytest.raises(InputError, match="logits"):
        kp.expectation(x[:, :0], x[:, :0], (8, 10))
    with pytest.raises(InputError, match="depth"):
        kp.expectation(x, x[:1], (8, 10))
    with pytest.raises(InputError, match="mask"):
        kp.expectation(x, x, (8, 10), torch.ones(2, 8, 9, dtype=torch.bool))
    with pytest.raises(InputError, match="mask 1 is empty"):
        kp.expectation(x, x, (8, 10), torch.arange(2)[:, None, None].expand(2, 8, 10) == 0)
    with pytest.raises(InputError, match="moments"):
        kp.expectation(x, x, (8, 10), moments="both")
    with pytest.raises(InputError, match="upsampling"):
        kp.upsampling(4, 0)


# Losses of pairs


def pair(n=8, seed=0, dtype=torch.float64, angle=1.0):
    a = 0.1 * randn(2, n, 3, seed=seed, dtype=dtype) + torch.tensor([0, 0, 0.7], dtype=dtype)
    T = torch.stack([motion(seed, angle, dtype), motion(seed + 1, angle, dtype)])
    return a, poses.transform(T, a), T


@dtypes
@pytest.mark.parametrize("loss", [kp.multi_view_consistency, kp.relative_pose])
def test_pair_losses_vanish_at_the_truth_and_do_not_care_for_order(loss, dtype):
    a, b, T = pair(dtype=dtype)
    assert loss(a, b, T) < (1e-4 if dtype == torch.float32 else 1e-10)
    rough = b + 0.03 * randn(*b.shape, seed=3, dtype=dtype)
    assert loss(a, rough, T) > 1e-3
    assert_close(loss(a, rough, T), loss(rough, a, poses.inverse(T)), rtol=1e-3 if dtype == torch.float32 else 1e-9)
    order = torch.randperm(8, generator=seeded())
    assert_close(loss(a[:, order], rough[:, order], T), loss(a, rough, T), rtol=1e-3 if dtype == torch.float32 else 1e-9)
    assert_grad(lambda a, b: loss(a, b, T.double()), a, rough)


def test_consistency_is_huber_of_distances():
    a, b, T = pair()
    r = torch.tensor([0.0, 0.01, 0.05, 0.1, 0.11, 0.5, 1.0, 3.0], dtype=torch.float64)
    away = F.normalize(randn(2, 8, 3, seed=4), dim=-1) * r[:, None]
    expected = F.huber_loss(r, torch.zeros_like(r), delta=0.1) / 0.1**2
    assert_close(kp.multi_view_consistency(a, b + away, T, delta=0.1), expected)
    turned = motion(9)
    T_turned = turned @ T
    assert_close(kp.multi_view_consistency(a, poses.transform(turned, b + away), T_turned), expected)


def test_consistency_gradient_is_bounded():
    a, b, T = pair()
    far = (b + 5.0).requires_grad_()
    (g,) = torch.autograd.grad(kp.multi_view_consistency(a, far, T, delta=0.1), far)
    assert_close(g.norm(dim=-1), torch.full((2, 8), 1 / 0.1 / 16, dtype=torch.float64))
    (g,) = torch.autograd.grad(kp.multi_view_consistency(a, far - 5.0, T), far)
    assert g.isfinite().all() and g.abs().max() < 1e-9


@settings(deadline=None, max_examples=12)
@given(st.floats(0.0, math.pi), st.floats(0.0, 0.3), st.integers(0, 99))
def test_pose_loss_is_angle_and_translation(angle, shift, seed):
    """A rigid mistake about the middle of the keypoints has a known screw."""
    a, b, T = pair(seed=seed)
    axis = F.normalize(randn(3, seed=seed + 1), dim=0)
    middle = b.mean(1)
    turn = poses.exp(torch.cat((axis * 0, angle * axis)))
    wrong = (b - middle[:, None]) @ turn[:3, :3].T + middle[:, None] + shift * (T[:, :3, :3] @ axis)[:, None]
    along = poses.exp(torch.cat((axis * 0, angle * axis)))
    value = kp.relative_pose(a, wrong, T, length_scale=0.1, softness=1e-6)
    screws = [poses.log(poses.pose(t[:3, :3].T @ along[:3, :3] @ t[:3, :3], shift * axis)) for t in T]
    expected = sum((s[3:].square().sum() + s[:3].square().sum() / 0.01).sqrt() for s in screws) / 2
    assert_close(value, expected, rtol=1e-6, atol=3e-6)


def corners():
    return torch.cartesian_prod(*(torch.tensor([-0.1, 0.1], dtype=torch.float64),) * 3) + torch.tensor([0, 0, 0.7], dtype=torch.float64)


@pytest.mark.parametrize(
    "points",
    [corners(), corners()[:4], torch.tensor([[0.0, 0, 1], [0.1, 0, 1], [0, 0.1, 1]], dtype=torch.float64)],
    ids=["cube: s1 = s2 = s3", "square", "triangle"],
)
@pytest.mark.parametrize("angle", [1e-3, 1.0, 3.0])
def test_pose_gradient_where_the_svd_has_none(points, angle):
    turn = poses.exp(torch.tensor([0.0, 0, 0, 0, angle, 0], dtype=torch.float64))
    T = motion(2)
    assert_grad(lambda a, b: kp.relative_pose(a, b, T), points, poses.transform(T @ turn, points), rtol=1e-4)


@dtypes
@pytest.mark.parametrize("angle", [0.0, 1e-6, math.pi - 1e-6, math.pi])
@pytest.mark.parametrize("points", [corners(), corners()[:1] + torch.arange(4)[:, None] * torch.tensor([0.0, 0, 0.1]), corners()[:1].expand(5, 3)], ids=["cube", "line", "point"])
def test_pose_gradient_is_finite_everywhere(points, angle, dtype):
    turn = poses.exp(torch.tensor([0.0, 0, 0, 0, angle, 0], dtype=dtype))
    a, b = points.to(dtype).clone().requires_grad_(), poses.transform(turn, points.to(dtype)).requires_grad_()
    value = kp.relative_pose(a, b, torch.eye(4, dtype=dtype))
    grads = torch.autograd.grad(value, (a, b))
    assert value.isfinite() and all(g.isfinite().all() for g in grads)


def test_pose_loss_does_not_see_an_exchange():
    """R (S - d d^T) has the polar part R while S - d d^T is positive: two keypoints that trade places keep the pose."""
    a, b, T = (x[0] for x in pair(n=16))
    i, j = divmod(int((torch.cdist(a, a) + torch.eye(16)).argmin()), 16)
    order = torch.arange(16)
    order[[i, j]] = order[[j, i]]
    assert kp.relative_pose(a, b[order], T) < 1e-9
    assert kp.multi_view_consistency(a, b[order], T) > 1e-3


def test_pair_losses_refuse():
    a, b, T = pair()
    for loss in (kp.multi_view_consistency, kp.relative_pose):
        with pytest.raises(InputError, match="points_b"):
            loss(a, b[:, :4], T)
        with pytest.raises(InputError, match="b_from_a"):
            loss(a, b, T[0])
        with pytest.raises(InputError, match="rigid|rotation"):
            loss(a, b, 2 * T)
    with pytest.raises(InputError, match="delta"):
        kp.multi_view_consistency(a, b, T, delta=0.0)
    with pytest.raises(InputError, match="length_scale"):
        kp.relative_pose(a, b, T, length_scale=0.0)
    with pytest.raises(InputError, match="at least 3"):
        kp.relative_pose(a[:, :2], b[:, :2], T)


# Losses of one picture


@dtypes
def test_separation_is_the_mean_over_pairs(dtype):
    uv = 20 * rand(2, 6, 2, dtype=dtype)
    pairs = [max(0.0, 10 - float((x[i] - x[j]).norm())) for x in uv for i in range(6) for j in range(i)]
    assert_close(kp.separation(uv, 10.0), torch.tensor(sum(pairs) / len(pairs), dtype=dtype), rtol=1e-5)
    assert_grad(lambda x: kp.separation(x, 10.0), uv)
    assert kp.separation(100 * torch.arange(8, dtype=dtype)[:, None].expand(8, 2), 10.0) == 0


def test_separation_of_points_that_coincide():
    uv = torch.zeros(4, 2, requires_grad=True)
    value = kp.separation(uv, 10.0)
    (g,) = torch.autograd.grad(value, uv)
    assert value == 10 and (g == 0).all()


def test_silhouette_and_variance():
    inside = torch.tensor([1.0, 0.5, 0.25], dtype=torch.float64)
    assert_close(kp.silhouette(inside), torch.tensor(math.log(2), dtype=torch.float64))
    assert kp.silhouette(torch.zeros(3)).isfinite() and kp.silhouette(torch.ones(3)).abs() < 1e-6
    assert_close(kp.variance(torch.tensor([1.0, 3.0])), torch.tensor(2.0))
    assert_grad(kp.silhouette, 0.1 + 0.8 * rand(5))


@pytest.mark.parametrize("arguments", [(torch.zeros(1, 2), 1.0), (torch.zeros(3, 2), -1.0), (torch.zeros(3, 2), math.nan)])
def test_separation_refuses(arguments):
    with pytest.raises(InputError, match="keypoints"):
        kp.separation(*arguments)


# The network


def small(keypoints=5, dim=6, **more):
    torch.manual_seed(0)
    return kp.KeypointNet(keypoints, dim, width=8, **more).eval()


@pytest.fixture(scope="module")
def views():
    from densebook.data.caps import render_views, toy_caps

    return render_views(toy_caps(2), 6, size=(64, 96), generator=0, azimuth=(-0.6, 0.6))


def test_network_starts_at_the_distance_and_knows_its_mask():
    net, images = small(distance=2.0), rand(2, 3, 64, 96, dtype=torch.float32)
    logits, depth = net.maps(images)
    assert logits.shape == depth.shape == (2, 5, 16, 24)
    assert (depth / 2.0).log().abs().max() <= 0.3001
    seen = net(images)
    assert seen.uv.shape == (2, 5, 2) and ((seen.depth - 2).abs() < 0.7).all()
    assert_close(seen.inside, torch.ones(2, 5))
    half = torch.zeros(2, 64, 96, dtype=torch.bool)
    half[:, :, 48:] = True
    assert_close(net(images, half).inside + net(images, ~half).inside, torch.ones(2, 5), rtol=1e-5)
    assert_close(tuple(net(images)), tuple(kp.expectation(logits, depth, (64, 96))))


def test_twins_share_everything():
    net, images = small(), rand(2, 3, 64, 96, dtype=torch.float32)
    assert_close(net(images).uv[1:], net(images[1:]).uv, rtol=1e-4, atol=1e-3)


def test_mined_descriptors_are_those_of_the_identity_layer():
    net, images, uv = small(), rand(1, 3, 64, 96, dtype=torch.float32), 64 * rand(1, 9, 2, dtype=torch.float32)
    assert_close(net.describe(images, uv), net.identity.describe(images, uv))
    assert_close(net.describe(images, uv).norm(dim=-1), torch.ones(1, 9))


def test_heads_keep_no_map_of_the_picture():
    """What is kept grows by a few maps of cells a keypoint, 16 times less than one map of pixels."""

    def kept(count, size):
        total, logits = {}, rand(1, count, 8, 10, dtype=torch.float32).requires_grad_()

        def pack(x):
            total[x.untyped_storage().data_ptr()] = x
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            kp.expectation(logits, torch.ones_like(logits), size)
        return sum(x.untyped_storage().nbytes() for x in total.values())

    assert kept(64, (128, 160)) - kept(1, (128, 160)) < 63 * 8 * 10 * 4 * 5 < 63 * 128 * 160 * 4 / 16
    assert kept(64, (256, 320)) - kept(1, (256, 320)) == kept(64, (128, 160)) - kept(1, (128, 160))


@pytest.mark.parametrize("arguments", [{"keypoints": 2}, {"keypoints": 4.0}, {"dim": 0}, {"distance": 0.0}, {"backbone": "vgg"}])
def test_network_refuses(arguments):
    with pytest.raises(InputError, match=next(iter(arguments))):
        kp.KeypointNet(**arguments)


def drawn(views):
    """The pairs (0, 2) and (1, 3) as twins: two views of caps 0 and 1."""
    from densebook.don.correspondences import Pairs

    empty = torch.zeros(2, 0)
    return views[[0, 1, 2, 3]], Pairs(torch.tensor([0, 1]), torch.tensor([2, 3]), empty[..., None].expand(2, 0, 2), empty[..., None].expand(2, 0, 2), empty.bool())


def test_framework_is_the_sum_of_its_losses(views):
    net, (twins, found) = small(), drawn(views)
    terms = kp.framework(net, twins, found, twins.rgb, margin=7.0, delta=0.05)
    seen = net(twins.rgb, twins.mask)
    points = torch.stack([torch.linalg.solve(K, F.pad(uv, (0, 1), value=1.0).T).T * d[:, None] for K, uv, d in zip(twins.K, seen.uv, seen.depth)])
    T = twins.cam_from_world[2:] @ torch.linalg.inv(twins.cam_from_world[:2])
    T[:, 3] = torch.tensor([0.0, 0, 0, 1])
    expected = {
        "consistency": kp.multi_view_consistency(points[:2], points[2:], T, 0.05),
        "pose": kp.relative_pose(points[:2], points[2:], T),
        "silhouette": kp.silhouette(seen.inside),
        "variance": kp.variance(seen.variance) / 1000,
        "separation": kp.separation(seen.uv, 7.0),
    }
    assert terms.keys() == expected.keys()
    for name in expected:
        assert_close(terms[name], expected[name], rtol=2e-3)


def test_true_points_of_rendered_views_have_no_loss(views):
    """Poses, intrinsics and depth of the views fit together: surface points of A, carried to B, are surface points of B."""
    from densebook.don.correspondences import lift, pairs

    found = pairs(views, 3, 32, generator=seeded())
    z = views.depth[found.a][torch.arange(3)[:, None], found.uv_a[..., 1].long(), found.uv_a[..., 0].long()]
    a = lift(found.uv_a, z, views.K[found.a, None])
    T = views.cam_from_world[found.b] @ poses.inverse(views.cam_from_world[found.a])
    b = poses.transform(T, a)
    image = b @ views.K[found.b].mT
    assert_close((image[..., :2] / image[..., 2:])[found.valid], found.uv_b[found.valid], atol=1e-2)
    assert kp.multi_view_consistency(a, b, T) < 1e-6 and kp.relative_pose(a, b, T) < 1e-3


def test_training_is_deterministic_and_lowers_the_loss(views):
    histories = []
    for _ in range(2):
        net = small()
        histories.append(kp.train(net, views, steps=25, batch=2, matches=16, lr=1e-2, generator=seeded(3)))
        assert not net.training
    assert histories[0] == histories[1]
    total = [sum(h.values()) for h in histories[0]]
    assert sum(total[-5:]) < 0.7 * sum(total[:5])
    assert set(histories[0][0]) == {"consistency", "pose", "silhouette", "variance", "separation"}


def test_training_takes_other_objectives(views):
    seen = []

    def objective(net, twins, found, images):
        seen.append((len(twins), found.a.tolist(), found.b.tolist(), float(images.min()), float(images.max())))
        return {"only": net(images).uv.square().mean()}

    history = kp.train(small(), views, objective, steps=2, batch=3, matches=8, generator=seeded())
    assert [set(h) for h in history] == [{"only"}] * 2
    assert all(n == 6 and a == [0, 1, 2] and b == [3, 4, 5] and low >= 0 and high <= 1 for n, a, b, low, high in seen)


def test_training_refuses_views_of_different_objects(views):
    with pytest.raises(InputError, match="one instance twice"):
        kp.train(small(), views[[0, 1]], steps=1)


# CUDA


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@dtypes
def test_cuda_agrees(dtype):
    logits, depth, mask = randn(2, 5, 6, 8, dtype=dtype), rand(2, 5, 6, 8, dtype=dtype), rand(2, 24, 32) > 0.3
    for moments in kp.MOMENTS:
        ours = kp.expectation(logits.cuda(), depth.cuda(), (24, 32), mask.cuda(), moments)
        assert_close(tuple(x.cpu() for x in ours), tuple(kp.expectation(logits, depth, (24, 32), mask, moments)), rtol=1e-4, atol=1e-3)
    a, b, T = pair(dtype=dtype)
    rough = b + 0.02 * randn(*b.shape, seed=3, dtype=dtype)
    for loss in (kp.multi_view_consistency, kp.relative_pose):
        assert_close(loss(a.cuda(), rough.cuda(), T.cuda()).cpu(), loss(a, rough, T), rtol=1e-3)
    assert_close(kp.separation(ours.uv).cpu(), kp.separation(ours.uv.cpu()), rtol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_cuda_trains(views):
    history = kp.train(small().cuda(), views.to("cuda"), steps=2, batch=2, matches=8, generator=torch.Generator("cuda").manual_seed(0))
    assert all(math.isfinite(v) for h in history for v in h.values())
