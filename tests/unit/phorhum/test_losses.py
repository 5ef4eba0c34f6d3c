"""PHORHUM's losses: known errors give known values, hits move as finite differences say, gradients reach all networks."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from densebook.core.errors import InputError
from densebook.data import heads
from densebook.geometry.sphere_tracing import GRAZING, trace
from densebook.phorhum import losses
from densebook.phorhum.networks import Encoding, PhorhumNet
from densebook.render.cameras import Camera
from densebook.render.shading import Ambient, Directional, shade
from densebook.testing import assert_close, assert_grad

quick = settings(deadline=None, max_examples=15, derandomize=True)
LAMPS = [Ambient((0.35, 0.35, 0.4)), Directional((0.6, 0.5, 0.8), (0.7, 0.65, 0.6))]
PARTS = {"g", "e", "l", "a", "r", "c", "s", "m"}


@pytest.fixture(params=[torch.float32, torch.float64])
def dtype(request):
    return request.param


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=gen(seed), dtype=dtype)


def unit(*shape, seed=0, dtype=torch.float64):
    return F.normalize(draw(*shape, 3, seed=seed, dtype=dtype), dim=-1)


class Known(torch.nn.Module):
    """A head that is known in a net's place, wrong by a known amount."""

    def __init__(self, head, grow=0.0, tint=0.0, glare=1.0):
        super().__init__()
        self.shape, self.tint, self.glare = head, tint, glare
        self.grow, self.log_k = torch.nn.Parameter(torch.tensor(grow)), torch.nn.Parameter(torch.tensor(40.0).log())

    def encode(self, images):
        return Encoding(images.new_zeros(len(images), 1, 1, 1), images.new_zeros(len(images), 16))

    def field(self, encoding, K, cam_from_world, points):
        return self.shape.sdf(points) - self.grow, self.shape.albedo(points) + self.tint

    def head(self, encoding, K, cam_from_world, index=0):
        return lambda points: self.shape.sdf(points) - self.grow

    def shading_net(self, normals, code):
        return self.glare * shade(torch.ones_like(normals), normals, 0 * normals, torch.zeros(3).to(normals), LAMPS)


class Ball:
    """A ball with stripes, for `Known`."""

    def __init__(self, radius=0.5):
        self.radius = radius

    def sdf(self, points):
        return points.norm(dim=-1) - self.radius

    def albedo(self, points):
        return (0.5 + 0.4 * (5 * points).sin()).clamp(0, 1)


@pytest.fixture(scope="module")
def one():
    return heads.make_heads(1, 32, gen(), samples=(256, 256), lights=[LAMPS])


@pytest.fixture(scope="module")
def pair():
    return heads.make_heads(2, 16, gen(5), samples=(64, 96))


@pytest.fixture(scope="module")
def truth():
    return heads.toy_head(gen())


def small_net(dtype=torch.float32):
    return PhorhumNet(width=1 / 16, levels=2, generator=gen(3)).to(dtype)


# Values -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("step", "value"), [(0, 1.0), (50, 8.0), (100, 15.0), (1000, 15.0)])
def test_g1_ramp(step, value):
    assert losses.g1_weight(step, 100) == pytest.approx(value)


def test_weights_are_those_of_the_thesis():
    given_there = {"g1": 15.0, "g2": 1.0, "e": 0.1, "l": 0.2, "a1": 0.5, "a2": 0.3, "r": 1.0, "s": 50.0, "vgg": 1.0}
    assert {n: losses.WEIGHTS[n] for n in given_there} == given_there
    assert set(losses.WEIGHTS) - set(given_there) == {"a", "c", "m"}


@quick
@given(st.floats(-0.2, 0.2), st.floats(0.5, 1.5), st.floats(0, 20), st.integers(0, 99))
def test_geometry_and_eikonal_of_a_known_error(off, steep, g1, seed):
    normals = unit(3, 7, seed=seed)
    distance = torch.full((3, 7), off, dtype=torch.float64)
    assert float(losses.geometry_loss(distance, steep * normals, normals, g1)) == pytest.approx(g1 * abs(off) + abs(steep - 1), abs=1e-9)
    assert float(losses.eikonal_loss(steep * normals)) == pytest.approx((steep - 1) ** 2, abs=1e-9)


def test_turned_normals_cost_the_chord(dtype):
    normals = torch.tensor([[0.0, 0.0, 1.0]], dtype=dtype)
    turned = torch.tensor([[math.sin(0.3), 0.0, math.cos(0.3)]], dtype=dtype)
    assert_close(losses.geometry_loss(torch.zeros(1, dtype=dtype), turned, normals, 1.0, 2.0), torch.tensor(4 * math.sin(0.15), dtype=dtype))


def test_sign_label_one_is_outside():
    d = torch.tensor([0.3, -0.3], dtype=torch.float64)
    right, wrong = losses.sign_loss(d, d > 0, 10.0), losses.sign_loss(d, d < 0, 10.0)
    assert float(right) == pytest.approx(math.log1p(math.exp(-3)))
    assert float(wrong) == pytest.approx(3 + math.log1p(math.exp(-3)))


@quick
@given(st.floats(0.1, 12), st.integers(0, 99))
def test_sign_is_cross_entropy_of_the_sigmoid(k, seed):
    d, outside = draw(20, seed=seed).clamp(-1, 1), draw(20, seed=seed + 1) > 0
    p = torch.sigmoid(k * d)
    slow = -sum(math.log(q) if o else math.log1p(-q) for q, o in zip(p.tolist(), outside.tolist())) / 20
    assert float(losses.sign_loss(d, outside, k)) == pytest.approx(slow, rel=1e-6)


def test_sign_stays_finite_where_the_sigmoid_is_full(dtype):
    d = torch.tensor([5.0, -5.0], dtype=dtype, requires_grad=True)
    loss = losses.sign_loss(d, torch.tensor([False, True]), torch.tensor(1000.0, dtype=dtype))
    loss.backward()
    assert_close(loss.detach(), torch.tensor(5000.0, dtype=dtype))
    assert_close(d.grad, torch.tensor([500.0, -500.0], dtype=dtype))


def test_sharpness_settles_at_the_error():
    d, noise = 0.05 * draw(4000), 0.02 * draw(4000, seed=1)
    ks = torch.logspace(0, 3, 200, dtype=torch.float64)
    best = float(ks[torch.stack([losses.sign_loss(d + noise, d > 0, k) for k in ks]).argmin()])
    log_k = torch.tensor(math.log(best), dtype=torch.float64, requires_grad=True)
    losses.sign_loss(d + noise, d > 0, log_k.exp()).backward()
    assert abs(float(log_k.grad)) < 0.005, "the learning k rests where the grid has its best"
    assert 0.5 < best * 0.02 < 4, "of the order of one over the error"


def test_albedo_of_a_known_error(dtype):
    a, b = torch.rand(2, 5, 3, generator=gen(), dtype=dtype), torch.rand(2, 9, 3, generator=gen(1), dtype=dtype)
    assert_close(losses.albedo_loss(a + 0.1, a, b - 0.2, b), torch.tensor(0.5 * 0.1 + 0.3 * 0.2, dtype=dtype), rtol=1e-5)
    assert float(losses.albedo_loss(a, a, b, b)) == 0


def test_losses_along_rays_of_known_errors(dtype):
    a, b, s = (torch.rand(2, 6, 3, generator=gen(i), dtype=dtype) for i in range(3))
    mask = torch.arange(6) % 2 == 0
    mask = mask.expand(2, 6)
    wild = torch.where(mask[..., None], 0.0, 1e6).to(dtype)  # rays that do not count may be anything
    assert_close(losses.rendering_loss(a + 0.1 + wild, a, b - 0.3, b, mask), torch.tensor(0.4, dtype=dtype), rtol=1e-5)
    assert_close(losses.predicted_shading_loss(a + wild, s, a * s + 0.2, mask), torch.tensor(0.2, dtype=dtype), rtol=1e-5)
    assert_close(losses.true_shading_loss(a + wild, s, a * s - 0.3, mask), torch.tensor(0.3, dtype=dtype), rtol=1e-5)
    assert_close(losses.rendering_loss(a + 0.1, a, b + 0.1, b), torch.tensor(0.2, dtype=dtype), rtol=1e-5)


def test_no_ray_costs_nothing_and_poisons_nothing():
    a = torch.full((1, 4, 3), torch.nan, requires_grad=True)
    loss = losses.true_shading_loss(a, torch.ones(1, 4, 3), torch.ones(1, 4, 3), torch.zeros(1, 4, dtype=torch.bool))
    loss.backward()
    assert float(loss.detach()) == 0 and bool((a.grad == 0).all())


def test_linear_and_back():
    srgb = torch.linspace(0, 1, 101, dtype=torch.float64)
    assert_close(heads.to_srgb(losses.to_linear(srgb)), srgb, atol=1e-6)
    assert_close(losses._soft_srgb(losses.to_linear(srgb)), srgb, atol=1e-6)
    assert float(losses._soft_srgb(torch.tensor(2.0))) > 1


# Rays -------------------------------------------------------------------------------------------------------------------


def test_rays_are_those_of_the_camera(dtype):
    from densebook.render.cameras import orbit

    cameras = [orbit(0.3, 0.2, 3.0, size=(12, 12)).to(dtype), orbit(-0.8, 0.1, 2.0, size=(12, 12)).to(dtype)]
    K, T = (torch.stack([getattr(c, n) for c in cameras]) for n in ("K", "cam_from_world"))
    pixels = (torch.stack(torch.meshgrid(*[torch.arange(12.0)] * 2, indexing="xy"), -1).view(1, -1, 2) + 0.5).to(dtype).expand(2, -1, -1)
    origins, directions = losses.pixel_rays(K, T, pixels)
    for i, camera in enumerate(cameras):
        o, d = camera.rays()
        assert_close(origins[i], o.reshape(-1, 3), atol=1e-5)
        assert_close(directions[i], d.reshape(-1, 3), atol=1e-5)
    assert isinstance(cameras[0], Camera)


@quick
@given(st.integers(1, 9), st.integers(9, 14), st.integers(9, 14), st.integers(0, 99))
def test_patch_lies_in_the_picture_around_the_mask(side, height, width, seed):
    masks = torch.zeros(2, height, width)
    masks[0, -1, -1] = masks[1, 0, width // 2] = 1
    pixels = losses.patch_pixels(masks, side, gen(seed))
    assert pixels.shape == (2, side * side, 2)
    assert bool((pixels > 0).all()) and bool((pixels[..., 0] < width).all()) and bool((pixels[..., 1] < height).all())
    assert_close(losses.at_pixels(masks[:, None], pixels).sum(1)[:, 0], torch.ones(2))
    assert len(pixels[0].unique(dim=0)) == side * side


def test_patches_follow_the_generator(one):
    a, b, c = (losses.patch_pixels(one.masks, 8, gen(s)) for s in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_hits_of_a_ball(one, dtype):
    batch, net = one.to(dtype), Known(Ball()).to(dtype)
    pixels = losses.patch_pixels(batch.masks, 24, gen())
    hits = losses.trace_patch(net, net.encode(batch.images), batch.K, batch.cam_from_world, pixels, tolerance=1e-5, max_steps=200)
    o, d = losses.pixel_rays(batch.K, batch.cam_from_world, pixels)
    along = -(o * d).sum(-1)
    off = (o + along[..., None] * d).norm(dim=-1)
    assert bool((hits.mask == (off < 0.5))[(off - 0.5).abs() > 1e-4].all())
    half = (0.25 - off.square()).clamp_min(0).sqrt()
    sure = hits.mask & (off < 0.49)
    for points, depth in ((hits.front, along - half), (hits.back, along + half), (hits.lowest, along)):
        assert_close(points[sure], (o + depth[..., None] * d)[sure], atol=2e-4)
    assert_close(hits.front[~hits.mask], hits.lowest[~hits.mask])
    missed = ~hits.mask & (off < 0.7)
    assert float((hits.lowest.norm(dim=-1) - off)[missed].max()) < 0.05, "near the lowest point of rays that miss"
    assert hits.evaluations > 0


def test_rays_are_chosen_as_sigmoid_at_most_half_for_every_k(one):
    net = Known(Ball())
    pixels = losses.patch_pixels(one.masks, 24, gen())
    hits = losses.trace_patch(net, net.encode(one.images), one.K, one.cam_from_world, pixels)
    lowest = net.field(None, None, None, hits.lowest)[0]
    for k in (1.0, 40.0, 500.0):
        assert torch.equal(torch.sigmoid(k * lowest) <= 0.5, hits.mask)


def test_rays_beside_the_box_do_not_hit(one):
    net = Known(Ball(0.5))
    pixels = torch.tensor([[[16.0, 16.0], [-500.0, 16.0]]])
    hits = losses.trace_patch(net, net.encode(one.images), one.K, one.cam_from_world, pixels)
    assert hits.mask.tolist() == [[True, False]] and bool(hits.front.isfinite().all())


def test_hit_moves_as_finite_differences_say():
    o = torch.tensor([[0.1, 0.2, 2.0], [0.3, -0.1, 2.0], [-0.35, 0.2, 2.0]], dtype=torch.float64)
    d = torch.tensor([[0.0, 0.0, -1.0]], dtype=torch.float64).expand(3, 3)

    def front(radii):
        """Hits of balls with three radii, by tracing each and `hit_points`."""
        r = radii.detach()
        x = trace(lambda p: (p / r).norm(dim=-1) * r.min() - r.min(), o, d, far=4.0, tolerance=1e-9, max_steps=4000, normals=False).points
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            distance = (x / radii).norm(dim=-1) * radii.min() - radii.min()
            (gradient,) = torch.autograd.grad(distance.sum(), x, retain_graph=True)
            return losses.hit_points(x, d, distance, gradient)

    assert_grad(front, torch.tensor([0.6, 0.5, 0.7], dtype=torch.float64), eps=1e-5, rtol=1e-5)


def test_nothing_but_the_distance_moves_a_hit():
    x, d, gradient = (unit(4, seed=s).requires_grad_() for s in range(3))
    distance = draw(4, seed=3).requires_grad_()
    points = losses.hit_points(x, d, distance, gradient)
    found = torch.autograd.grad(points.sum(), [x, d, gradient, distance], allow_unused=True)
    assert found[:3] == (None, None, None) and found[3] is not None


def test_back_hit_moves_outwards():
    radius = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    x = torch.tensor([[0.3, 0.0, -0.4]], dtype=torch.float64)
    d = torch.tensor([[0.0, 0.0, -1.0]], dtype=torch.float64)
    point = losses.hit_points(x, d, x.norm(dim=-1) - radius, F.normalize(x, dim=-1))
    (rate,) = torch.autograd.grad(point[0, 2], radius)
    assert float(rate) == pytest.approx(-0.5 / 0.4)


@pytest.mark.parametrize("slope", [0.0, 1e-9, -1e-9, 1e-7])
def test_grazing_rays_learn_at_a_bounded_rate(slope, dtype):
    d = torch.tensor([[1.0, 0.0, 0.0]], dtype=dtype)
    gradient = torch.tensor([[slope, 1.0, 0.0]], dtype=dtype)
    distance = torch.full((1,), 1e-3, dtype=dtype, requires_grad=True)
    point = losses.hit_points(torch.zeros(1, 3, dtype=dtype), d, distance, gradient)
    point[0, 0].backward()
    assert float(distance.grad.abs()) == pytest.approx(1 / GRAZING, rel=1e-5)
    assert (float(distance.grad) > 0) == (slope < 0)


def test_a_flat_field_meets_the_plain_guard():
    distance = torch.full((1,), 1e-6, requires_grad=True)
    point = losses.hit_points(torch.zeros(1, 3), torch.tensor([[1.0, 0.0, 0.0]]), distance, torch.zeros(1, 3))
    point.sum().backward()
    assert point.isfinite().all() and float(distance.grad) == pytest.approx(-1e6, rel=1e-4)


# What is told ---------------------------------------------------------------------------------------------------------


def test_patch_truth_is_the_head(one, truth):
    pixels = losses.patch_pixels(one.masks, 28, gen())
    told = losses.patch_truth(one, pixels)
    o, d = losses.pixel_rays(one.K, one.cam_from_world, pixels)
    front, back = (trace(truth.sdf, o, d, far=6.0, surface=s, normals=False) for s in ("front", "back"))
    assert float((told.mask == front.mask).float().mean()) > 0.98
    both = told.mask & front.mask & back.mask
    assert float((told.front_albedo - truth.albedo(front.points))[both].abs().mean()) < 0.01
    assert float((told.back_albedo - truth.albedo(back.points))[both].abs().mean()) < 0.02
    assert_close(told.pixels[both], losses.to_linear(losses.at_pixels(one.images, pixels))[both])


def test_the_back_has_the_colour_of_the_outermost_sample_on_the_ray(one):
    pixels = torch.tensor([[[16.0, 16.0]]])
    o, d = losses.pixel_rays(one.K, one.cam_from_world, pixels)
    side = F.normalize(torch.linalg.cross(d, torch.tensor([[[0.0, 1.0, 0.0]]])), dim=-1)
    places = torch.tensor([[0.0, 3.5], [0.1, 3.5], [0.2, 3.5], [0.0, 3.0], [0.0, 3.7]])  # beside the ray, along it
    surface = o + places[:, :1] * side + places[:, 1:] * d
    albedo = torch.eye(5)[None, :, :3] + 0.0
    turned = torch.cat([d.expand(-1, 4, -1), -d], dim=1)  # the farthest faces the camera: no back
    batch = one._replace(surface=surface, normals=turned, albedo=albedo)
    told = losses.patch_truth(batch, pixels).back_albedo[0, 0]
    assert float(told.argmax()) == 0 and float(told[0]) > 0.6


def test_seen_samples_face_the_camera_and_show_their_colour(one):
    pixels, seen = losses.seen_samples(one)
    eye = losses.pixel_rays(one.K, one.cam_from_world, pixels)[0]
    away = F.normalize(one.surface - eye, dim=-1)
    cosine = -(away * one.normals).sum(-1)
    assert bool((cosine[seen] > 0.2).all()) and 0.15 < float(seen.float().mean()) < 0.5
    assert_close(losses.pixel_rays(one.K, one.cam_from_world, pixels)[1][seen], away[seen], atol=1e-4)
    shown = losses.at_pixels(one.albedo_images, pixels)
    assert float((shown - one.albedo)[seen].abs().median()) < 0.02


# Together ---------------------------------------------------------------------------------------------------------------


def charged(net, one, **more):
    code, k = net.encode(one.images), net.log_k.exp()
    pixels = losses.patch_pixels(one.masks, 16, gen())
    parts = losses.point_losses(net, code, one, k) | losses.patch_losses(net, code, one, pixels, k, **more)
    return {n: float(v.detach()) for n, v in parts.items()}


def test_the_truth_is_charged_little_and_known_mistakes_what_they_are_worth(one, truth):
    base, grown, tinted, glaring = (
        charged(Known(truth, **wrong), one) for wrong in ({}, {"grow": 0.02}, {"tint": 0.1}, {"glare": 1.3})
    )
    assert base["m"] < 0.6, "the rays of a true head lie on the right side"
    assert base["r"] < 0.01 and base["c"] < 0.02 and base["s"] < 0.02 and base["a"] < 0.01
    assert grown["g"] - base["g"] == pytest.approx(0.02, abs=1e-4)
    assert grown["l"] > base["l"] and grown["m"] > base["m"] and grown["e"] == pytest.approx(base["e"], abs=1e-6)
    assert tinted["a"] - base["a"] == pytest.approx(0.08, abs=3e-3) and tinted["r"] - base["r"] == pytest.approx(0.2, abs=0.01)
    assert glaring["s"] > base["s"] + 0.01 and glaring["c"] > base["c"] + 0.01 and glaring["r"] == pytest.approx(base["r"], abs=1e-6)


def test_gradient_is_that_of_the_field_pixel_motion_included():
    net, batch = small_net(torch.float64), heads.make_heads(1, 16, gen(), samples=(8, 8)).to(torch.float64)
    view = net.encode(batch.images), batch.K, batch.cam_from_world
    x = batch.surface + 0.01
    distance, albedo, gradient = losses.field_gradient(net, *view, x)
    steps = 1e-6 * torch.eye(3, dtype=torch.float64)
    numeric = torch.stack([(net.field(*view, x + s)[0] - net.field(*view, x - s)[0]) / 2e-6 for s in steps], -1)
    assert_close(gradient.detach(), numeric.detach(), rtol=1e-5, atol=1e-6)
    assert_close(gradient, net.field_and_gradient(*view, x)[2])
    assert distance.shape == (1, 8) and albedo.shape == (1, 8, 3) and gradient.requires_grad
    assert_close(losses.field_gradient(net, *view, x, again=False)[2], gradient.detach())


@pytest.fixture(scope="module")
def heard(pair):
    """For each loss, the length of its gradient by the weights of each network, of a net that has a surface to look at."""
    net = small_net()
    optimiser = torch.optim.Adam(net.geometry_net.parameters(), 5e-3)
    for step in range(60):
        loss, _ = losses.total_loss(net, pair, step, 60, gen(step), {"s": 1.0}, patch=0, count=(32, 48))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    code, k = net.encode(pair.images), net.log_k.exp()
    vgg = losses.VGG(generator=gen())
    parts = losses.point_losses(net, code, pair, k)
    parts |= losses.patch_losses(net, code, pair, losses.patch_pixels(pair.masks, 12, gen()), k, features=vgg)
    nets = {"features": net.feature_net, "geometry": net.geometry_net, "shading": net.shading_net}
    found = {"hits": float(parts.pop("hits"))}
    for name, value in parts.items():
        for where, part in nets.items():
            gradients = torch.autograd.grad(value, list(part.parameters()), retain_graph=True, allow_unused=True)
            found[name, where] = sum(float(g.norm()) for g in gradients if g is not None)
        found[name, "k"] = torch.autograd.grad(value, net.log_k, retain_graph=True, allow_unused=True)[0] is not None
    return found


@pytest.mark.parametrize(
    ("name", "nets"),
    [("g", "fg"), ("e", "fg"), ("l", "fg"), ("a", "fg"), ("r", "fg"), ("m", "fg"), ("s", "fs"), ("c", "fgs"), ("vgg", "fgs")],
)
def test_gradients_reach_their_networks(heard, name, nets):
    assert heard["hits"] > 0.05, "the net has no surface to look at"
    for where in ("features", "geometry", "shading"):
        reached = heard[name, where]
        assert math.isfinite(reached) and (reached > 0) == (where[0] in nets), f"{name} and {where}: {reached}"
    assert heard[name, "k"] == (name in "lm")


def test_total_is_the_weighted_sum(pair):
    net, weights = small_net(), {"g1": 15.0, "s": 2.0, "c": 3.0}
    total, parts = losses.total_loss(net, pair, 5, 10, gen(), weights, patch=8)
    assert set(parts) == PARTS | {"hits"} and not any(v.requires_grad for v in parts.values())
    factor = {**losses.WEIGHTS, **weights, "g": 1.0, "hits": 0.0}
    assert float(total.detach()) == pytest.approx(sum(factor[n] * float(v) for n, v in parts.items()), rel=1e-5)
    again, _ = losses.total_loss(net, pair, 5, 10, gen(), weights, patch=8)
    assert torch.equal(total, again)
    _, later = losses.total_loss(net, pair, 10, 10, gen(), weights, patch=0)
    assert float(later["g"]) > float(parts["g"]), "the weight of |d| grows"


def test_weight_zero_leaves_out_and_asks_nothing(pair):
    net = small_net()

    def refuse(*_):
        raise AssertionError("asked for shading")

    net.shading_net.forward = refuse
    total, parts = losses.total_loss(net, pair, 0, 10, gen(), {"s": 0.0, "c": 0.0, "r": 0.0}, patch=8)
    assert set(parts) == {"g", "e", "l", "a", "m", "hits"} and total.requires_grad
    _, parts = losses.total_loss(net, pair, 0, 10, gen(), dict.fromkeys(("s", "c", "r", "m", "a"), 0.0), patch=8)
    assert set(parts) == {"g", "e", "l"}


def test_double_precision_agrees(pair):
    net = small_net()
    single, _ = losses.total_loss(net, pair, 3, 10, gen(), patch=0)
    double, _ = losses.total_loss(net.double(), pair.to(torch.float64), 3, 10, gen(), patch=0)
    assert_close(single.detach().double(), double.detach(), rtol=1e-4)
    patch, _ = losses.total_loss(net, pair.to(torch.float64), 3, 10, gen(), patch=6)
    assert patch.dtype == torch.float64 and bool(patch.isfinite())


def test_subsample_keeps_rows_together(pair):
    few = losses.subsample(pair, (10, 500), gen())
    assert few.surface.shape == (2, 10, 3) and few.points.shape == pair.points.shape
    place = (few.surface[:, :, None] - pair.surface[:, None]).abs().sum(-1).argmin(-1)
    for name in ("normals", "albedo"):
        assert torch.equal(getattr(few, name)[1], getattr(pair, name)[1][place[1]])
    order = (few.points[:, :, None] - pair.points[:, None]).abs().sum(-1).argmin(-1)
    assert torch.equal(few.distances[0], pair.distances[0][order[0]]) and torch.equal(few.images, pair.images)


def test_a_few_steps_lower_the_losses(pair):
    net = small_net()
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    seen = []
    for step in range(25):
        loss, parts = losses.total_loss(net, pair, 0, 10, gen(step), {"s": 1.0}, patch=8 if step % 8 == 7 else 0, count=(48, 64))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        seen.append(sum(float(parts[n]) for n in ("g", "l", "a")))
    assert sum(seen[-4:]) < 0.8 * sum(seen[:4])


# Perceptual -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vgg():
    return losses.VGG(generator=gen())


def test_vgg_is_torchvisions(vgg, tmp_path):
    torchvision = pytest.importorskip("torchvision")
    peer = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["D"])[:23].eval()
    state = {f"features.{n}": v.clone() for n, v in peer.state_dict().items()} | {"classifier.0.bias": torch.zeros(3)}
    torch.save(state, tmp_path / "vgg.pth")
    ours, image = losses.VGG(tmp_path / "vgg.pth"), torch.rand(1, 3, 16, 16, generator=gen())
    x = (image - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    assert_close(ours(image)[-1], peer(x), rtol=1e-5, atol=1e-5)
    assert [m.shape[1] for m in ours(image)] == [64, 128, 256, 512]
    from safetensors.torch import save_file

    save_file({n.removeprefix("features."): v.contiguous() for n, v in state.items()}, tmp_path / "vgg.safetensors")
    assert_close(losses.VGG(tmp_path / "vgg.safetensors")(image)[0], ours(image)[0])
    assert not any(p.requires_grad for p in vgg.parameters())


def test_vgg_refuses_what_is_no_vgg(tmp_path, vgg):
    (tmp_path / "noise.pth").write_bytes(b"no weights at all")
    torch.save({"features.0.weight": torch.zeros(64, 3, 5, 5)}, tmp_path / "other.pth")
    torch.save({"model": torch.nn.Linear(2, 2)}, tmp_path / "code.pth")
    for name in ("missing.pth", "missing.safetensors", "noise.pth", "other.pth", "code.pth"):
        with pytest.raises(InputError, match=f"{name}: .*VGG-16 state file"):
            losses.VGG(tmp_path / name)
    with pytest.raises(InputError, match="8 x 8"):
        vgg(torch.rand(1, 3, 4, 4))


def test_perceptual_is_zero_for_the_same_and_free_of_scale(vgg):
    a, b = (torch.rand(2, 3, 16, 16, generator=gen(i)) for i in range(2))
    assert float(losses.perceptual_loss(a, a, vgg)) == 0
    loss = losses.perceptual_loss(a, b, vgg)
    assert_close(losses.perceptual_loss(a, b, lambda x: [7 * m for m in vgg(x)]), loss, rtol=1e-4)
    assert float(losses.perceptual_loss(a, b, lambda x: [x])) == pytest.approx(float((a - b).abs().mean() / b.mean()), rel=1e-5)


def test_perceptual_of_a_perfect_patch_is_small(one, truth):
    vgg = losses.VGG(generator=gen())
    right, wrong = (charged(Known(truth, tint=t), one, features=vgg)["vgg"] for t in (0.0, 0.2))
    assert right < 0.1 < wrong


# Bad input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda b, n: losses.g1_weight(-1, 10), "step is -1"),
        (lambda b, n: losses.g1_weight(0, 0), "at least one step"),
        (lambda b, n: losses.patch_pixels(b.masks, 17), "between 1 and 16"),
        (lambda b, n: losses.patch_pixels(b.masks, 0), "side is 0"),
        (lambda b, n: losses.patch_pixels(b.masks * torch.tensor([1.0, 0.0])[:, None, None], 4), "picture 1 is empty"),
        (lambda b, n: losses.total_loss(n, b, 0, 10, weights={"vg": 1.0}), "did you mean 'vgg'"),
        (lambda b, n: losses.total_loss(n, b, 0, 10, weights={"c": math.nan}), "finite number"),
        (lambda b, n: losses.total_loss(n, b, 0, 10, gen(), patch=64), "side is 64"),
        (lambda b, n: losses._patch_vgg(torch.zeros(1, 10, 3), torch.zeros(1, 10, 3), torch.ones(1, 10, dtype=torch.bool), None), "no square"),
    ],
)
def test_one_clear_error(pair, call, message):
    with pytest.raises(InputError, match=message):
        call(pair, small_net())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_cuda_agrees(pair):
    net = small_net()
    here, parts = losses.total_loss(net, pair, 3, 10, gen(), {"s": 1.0}, patch=8)
    there, on_gpu = losses.total_loss(net.cuda(), pair.to("cuda"), 3, 10, gen(), {"s": 1.0}, patch=8)
    assert there.is_cuda
    for name in ("g", "e", "l", "a", "s"):
        assert_close(on_gpu[name].cpu(), parts[name], rtol=1e-3, atol=1e-4)
    assert abs(float(there.detach()) - float(here.detach())) < 0.1 * abs(float(here.detach()))
