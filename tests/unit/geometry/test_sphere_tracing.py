"""Sphere tracing against closed forms, its slow twin, finite differences and its own laws."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from densebook.core.errors import InputError
from densebook.geometry import sdf as shapes
from densebook.geometry.sphere_tracing import GridSDF, Hits, Status, march, occlusion, pinhole_rays, shade, to_srgb, trace, visibility

DTYPES = [torch.float32, torch.float64]
TORUS = shapes.Torus(0.6, 0.25)
few = settings(deadline=None, max_examples=15)


def view(size=32, eye=(0.3, -1.8, 1.4), dtype=torch.float32, fov=1.0):
    return pinhole_rays((size, size), fov, torch.tensor(eye, dtype=dtype), up=(0.0, 0.0, 1.0))


def sphere_depths(o, d, radius, center):
    """First and last depth of rays through a sphere, NaN beside it."""
    b, c = ((o - center) * d).sum(-1), (o - center).square().sum(-1) - radius**2
    root = (b * b - c).sqrt()
    return -b - root, -b + root


def torus_depths(o, d, major=0.6, minor=0.25):
    """First and last real root of the quartic along each ray, NaN without one."""
    found = []
    for p, v in zip(o.double().numpy(), d.double().numpy()):
        a, b, c = v @ v, 2 * p @ v, p @ p + major**2 - minor**2
        square = np.poly1d([a, b, c]) ** 2
        flat = 4 * major**2 * np.poly1d([v[:2] @ v[:2], 2 * p[:2] @ v[:2], p[:2] @ p[:2]])
        roots = (square - flat).roots
        real = np.sort(roots[abs(roots.imag) < 1e-9].real)
        found.append((real[0], real[-1]) if len(real) else (np.nan, np.nan))
    return torch.tensor(found).unbind(-1)


# ---- depths ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("surface", ["front", "back"])
def test_sphere(dtype, surface):
    center = torch.tensor([0.1, -0.2, 0.3], dtype=dtype)
    o, d = view(dtype=dtype)
    hits = trace(shapes.Sphere(0.7, center), o, d, far=10.0, surface=surface)
    expected = sphere_depths(o, d, 0.7, center)[surface == "back"]
    steep = ((hits.normals * d).sum(-1).abs() > 0.1) & hits.mask
    assert steep.sum() > 50
    assert torch.equal(hits.mask, expected.isfinite() | hits.mask), "no hit is lost"
    assert (hits.mask & ~expected.isfinite()).float().mean() < 0.01, "only rays within the tolerance are hits beside the sphere"
    torch.testing.assert_close(hits.depth[steep], expected[steep], rtol=0, atol=5e-6)
    normals = (hits.points - center) / 0.7
    torch.testing.assert_close(hits.normals[steep], normals[steep], rtol=0, atol=1.5e-3)
    assert hits.depth.dtype == dtype and hits.depth[~hits.mask].isinf().all() and hits.points[~hits.mask].isnan().all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_plane(dtype):
    o, d = view(dtype=dtype)
    hits = trace(shapes.Plane((0.0, 0.0, 1.0), -0.5), o, d, far=50.0, max_steps=1000)
    expected = (-0.5 - o[..., 2]) / d[..., 2]
    assert torch.equal(hits.mask, (expected > 0) & (expected < 50))
    torch.testing.assert_close(hits.depth[hits.mask], expected[hits.mask], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("surface", ["front", "back"])
def test_torus_is_the_roots_of_its_quartic(surface):
    o, d = (v.reshape(-1, 3) for v in view(24, dtype=torch.float64))
    hits = trace(TORUS, o, d, far=10.0, surface=surface, tolerance=1e-8, max_steps=1000)
    expected = torus_depths(o, d)[surface == "back"]
    assert torch.equal(hits.mask, expected.isfinite())
    torch.testing.assert_close(hits.depth[hits.mask], expected[hits.mask], rtol=0, atol=1e-6)


@few
@given(st.floats(0, 6.28), st.floats(-1.2, 1.2), st.floats(1.2, 4.0), st.floats(0.3, 1.5))
def test_any_camera_finds_the_sphere(azimuth, elevation, distance, fov):
    eye = distance * np.array([math.cos(azimuth) * math.cos(elevation), math.sin(azimuth) * math.cos(elevation), math.sin(elevation)])
    o, d = pinhole_rays((17, 23), fov, torch.tensor(eye), up=(0.0, 0.0, 1.0))
    front, back = (trace(shapes.Sphere(1.0), o, d, far=10.0, surface=s) for s in ("front", "back"))
    first, last = sphere_depths(o, d, 1.0, torch.zeros(3).double())
    sure = front.mask & (front.normals * d).sum(-1).abs().gt(0.1)
    assert torch.equal(front.mask, first.isfinite() | front.mask) and torch.equal(front.mask, back.mask)
    torch.testing.assert_close(front.depth[sure], first[sure], rtol=0, atol=1e-5)
    torch.testing.assert_close(back.depth[sure], last[sure], rtol=0, atol=1e-5)


# ---- laws ------------------------------------------------------------------------------------------------------------


def same(a: Hits, b: Hits, atol=1e-5):
    assert torch.equal(a.status, b.status)
    torch.testing.assert_close(a.depth, b.depth, rtol=0, atol=atol)


def test_batches_are_single_rays():
    o, d = view(6)
    together = trace(TORUS, o, d, far=10.0, cone=0)
    for i in range(6):
        for j in range(6):
            alone = trace(TORUS, o[i, j], d[i, j], far=10.0)
            assert alone.depth.shape == () and alone.status == together.status[i, j] and alone.steps == together.steps[i, j]
            torch.testing.assert_close(alone.depth, together.depth[i, j])
    same(together, trace(TORUS, o[0, 0], d, far=10.0, cone=0))


def test_direction_length_does_not_matter():
    o, d = view(16)
    for factor in (1e-30, 0.01, 7.0, 1e30):
        same(trace(TORUS, o, d, far=10.0), trace(TORUS, o, d * factor, far=10.0))


def test_chunks_do_not_matter():
    o, d = view(20)
    same(trace(TORUS, o, d, far=10.0), trace(TORUS, o, d, far=10.0, chunk=37))


@pytest.mark.parametrize("surface", ["front", "back"])
@pytest.mark.parametrize("size", [(16, 16), (37, 50), (64, 64)])
def test_cone_prepass_and_bound_change_nothing(size, surface):
    o, d = pinhole_rays(size, 1.0, (0.3, -1.8, 1.4), up=(0.0, 0.0, 1.0))
    plain = trace(TORUS, o, d, far=10.0, cone=0, surface=surface)
    for options in ({"cone": 8}, {"cone": 5}, {"bound": ((0.0, 0.0, 0.0), 0.86)}, {"cone": 8, "bound": ((0.0, 0.0, 0.0), 0.86)}):
        other = trace(TORUS, o, d, far=10.0, surface=surface, **options)
        assert (other.mask != plain.mask).sum() <= 2
        sure = plain.mask & other.mask & ((plain.normals * d).sum(-1).abs() > 0.1)
        torch.testing.assert_close(other.depth[sure], plain.depth[sure], rtol=0, atol=2e-5)
        assert other.evaluations < plain.evaluations


def test_cones_are_safe_for_rays_that_do_not_fit_together():
    generator = torch.Generator().manual_seed(0)
    o = 2 * torch.nn.functional.normalize(torch.randn(3, 24, 40, 3, generator=generator), dim=-1)
    d = torch.randn(3, 24, 40, 3, generator=generator) * 0.4 - o
    plain, coned = trace(TORUS, o, d, far=10.0, cone=0), trace(TORUS, o, d, far=10.0, cone=8)
    assert (plain.mask != coned.mask).sum() <= 2 and coned.mask.sum() > 500
    flat = trace(TORUS, o.reshape(-1, 3), d.reshape(-1, 3), far=10.0, cone=4)
    assert (plain.mask.reshape(-1) != flat.mask).sum() <= 2


def test_far_may_differ_by_ray():
    o, d = torch.tensor([[0.0, 0.0, -3.0]]).expand(3, 3), torch.tensor([0.0, 0.0, 1.0])
    hits = trace(shapes.Sphere(1.0), o, d, far=torch.tensor([1.5, 2.5, 9.0]))
    assert hits.mask.tolist() == [False, True, True]
    assert trace(shapes.Sphere(1.0), o, d, near=3.5, far=9.0).status.tolist() == [Status.INSIDE] * 3


def test_empty_batches():
    hits = trace(TORUS, torch.zeros(0, 3), torch.zeros(0, 3))
    assert hits.depth.shape == (0,) and hits.evaluations == 0
    assert trace(TORUS, torch.zeros(0, 20, 20, 3), torch.ones(0, 20, 20, 3)).mask.shape == (0, 20, 20)
    nothing = trace(shapes.Sphere(0.1), *view(16, eye=(5.0, 5.0, 5.0)), far=1.0)
    assert not nothing.mask.any() and nothing.normals.isnan().all()


# ---- counts ----------------------------------------------------------------------------------------------------------


def test_fifteen_times_fewer_evaluations_than_fixed_steps_at_512():
    o, d = view(512, eye=(0.0, -1.8, 1.4))
    asked = 0

    def counting(points):
        nonlocal asked
        asked += points.shape[0]
        return TORUS(points)

    fast = trace(counting, o, d, far=10.0)
    assert fast.evaluations == asked, "the count is what was asked"
    asked = 0
    slow = march(counting, o, d, far=4.0, steps=128, normals=False)
    assert slow.evaluations >= 128 * 512 * 512
    assert slow.evaluations / fast.evaluations >= 15
    bounded = trace(TORUS, o, d, far=10.0, bound=((0.0, 0.0, 0.0), 0.86))
    assert slow.evaluations / bounded.evaluations >= 15
    flat = trace(TORUS, o.reshape(-1, 3), d.reshape(-1, 3), far=10.0, bound=((0.0, 0.0, 0.0), 0.86))
    assert slow.evaluations / flat.evaluations >= 15
    assert (fast.mask != slow.mask).float().mean() < 2e-3
    sure = fast.mask & slow.mask & ((fast.normals * d).sum(-1) < -0.2)
    torch.testing.assert_close(fast.depth[sure], slow.depth[sure], rtol=0, atol=1e-3)


def test_march_loses_what_is_thin_and_trace_does_not():
    sheet = shapes.Box((1.0, 1.0, 0.002))
    o, d = view(32, eye=(0.0, -0.3, 2.0), fov=0.5)
    assert trace(sheet, o, d, far=4.0).mask.all() and not march(sheet, o, d, far=4.0, steps=50).mask.all()


# ---- statuses --------------------------------------------------------------------------------------------------------


def test_every_status():
    ball, z = shapes.Sphere(1.0), torch.tensor([0.0, 0.0, 1.0])
    o = torch.tensor([[0.0, 0.0, -3.0], [0.0, 3.0, -3.0], [0.0, 0.0, 0.0], [0.999, 0.0, -3.0]])
    hits = trace(ball, o, z, far=10.0, max_steps=5)
    assert hits.status.tolist() == [Status.HIT, Status.MISSED, Status.INSIDE, Status.OUT_OF_STEPS]
    assert torch.equal(hits.mask, hits.status == Status.HIT)
    assert trace(ball, o[1], z, bound=((0.0, 0.0, 0.0), 1.0)).evaluations == 0, "beside the bounding sphere nothing is asked"
    assert march(ball, o[:3], z, far=10.0).status.tolist() == [Status.HIT, Status.MISSED, Status.INSIDE]
    assert trace(ball, o[2], z, far=0.5, surface="back").status == Status.INSIDE
    torch.testing.assert_close(hits.closest[1], torch.tensor(3.0), rtol=0, atol=0.8)


def test_a_field_too_steep_makes_holes_and_lipschitz_mends_them():
    steep = lambda p: 3 * TORUS(p)  # noqa: E731
    o, d = view(64)
    good, bad, mended = trace(TORUS, o, d, far=10.0), trace(steep, o, d, far=10.0), trace(steep, o, d, far=10.0, lipschitz=3.0)
    wrong = lambda h: int(((h.mask != good.mask) | ((h.depth - good.depth).abs() > 1e-2)).sum())  # noqa: E731
    assert wrong(bad) > 100 and wrong(mended) <= 4


# ---- gradients -------------------------------------------------------------------------------------------------------


def depth_of(parameters, o, d, surface="front"):
    major, minor, center = parameters[0], parameters[1], parameters[2:5]
    return trace(shapes.Torus(major, minor, center), o, d, far=10.0, tolerance=1e-10, max_steps=500, surface=surface)


def numeric(function, x, h=1e-6):
    rows = [(function(x + h * e) - function(x - h * e)) / (2 * h) for e in torch.eye(x.numel(), dtype=x.dtype).reshape(-1, *x.shape)]
    return torch.stack(rows).reshape(x.shape)


@pytest.mark.parametrize("surface", ["front", "back"])
def test_gradients_match_finite_differences(surface):
    o, d = (v.reshape(-1, 3) for v in view(7, dtype=torch.float64, fov=0.6))
    theta = torch.tensor([0.6, 0.25, 0.02, -0.01, 0.03], dtype=torch.float64)
    hits = depth_of(theta, o, d, surface)
    sure = hits.mask & ((hits.normals * d).sum(-1).abs() > 0.3)
    o, d, weights = o[sure], d[sure] * 1.7, torch.linspace(0.5, 1.5, int(sure.sum())).double()
    assert len(o) > 10

    def total(theta, o, d):
        hits = depth_of(theta, o, d, surface)
        return (weights * hits.depth).sum() + (hits.points * weights[:, None]).square().sum() + (weights * hits.normals[:, 0]).sum()

    inputs = [v.clone().requires_grad_(True) for v in (theta, o, d)]
    gradients = torch.autograd.grad(total(*inputs), inputs)
    torch.testing.assert_close(gradients[0], numeric(lambda v: total(v, o, d), theta), rtol=1e-5, atol=1e-5)
    pick = slice(0, 4)
    for k in (1, 2):

        def moved(part, k=k):
            changed = [theta, o.clone(), d.clone()]
            changed[k][pick] = part
            return total(*changed)

        torch.testing.assert_close(gradients[k][pick], numeric(moved, inputs[k].detach()[pick]), rtol=1e-5, atol=1e-5)


def test_camera_gradient_through_pinhole_rays():
    def mean(eye, fov):
        return trace(
            TORUS, *pinhole_rays((5, 5), fov, eye, target=(0.6, 0.0, 0.0), up=(0.0, 0.0, 1.0)), far=10.0, tolerance=1e-10, normals=False
        ).depth.mean()

    eye, fov = torch.tensor([0.3, -1.8, 1.4]).double().requires_grad_(True), torch.tensor(0.1).double().requires_grad_(True)
    by_eye, by_fov = torch.autograd.grad(mean(eye, fov), (eye, fov))
    torch.testing.assert_close(by_eye, numeric(lambda e: mean(e, fov.detach()), eye.detach()), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(by_fov, numeric(lambda f: mean(eye.detach(), f), fov.detach()), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_stay_finite_at_the_rim_and_are_only_kept_when_asked(dtype):
    o, d = view(48, dtype=dtype)
    plain = trace(TORUS, o, d, far=10.0)
    assert not any(v.requires_grad for v in (plain.depth, plain.points, plain.normals))
    radius = torch.tensor(0.5, dtype=dtype, requires_grad=True)
    hits = trace(shapes.Sphere(radius), o.clone().requires_grad_(True), d, far=10.0)
    (gradient,) = torch.autograd.grad(hits.depth[hits.mask].sum(), radius)
    assert gradient.isfinite()
    with torch.no_grad():
        assert not trace(shapes.Sphere(radius), o, d, far=10.0).depth.requires_grad


def test_network_weights_get_gradients():
    torch.manual_seed(0)
    net = torch.nn.Linear(3, 1)
    hits = trace(lambda p: p.norm(dim=-1) - 0.5 + 0.01 * net(p)[:, 0], *view(16), far=10.0)
    hits.depth[hits.mask].mean().backward()
    assert net.weight.grad.abs().sum() > 0


def test_a_field_without_autograd_gets_differences():
    hits = trace(lambda p: TORUS(p.detach()), *view(24, dtype=torch.float64), far=10.0)
    exact = trace(TORUS, *view(24, dtype=torch.float64), far=10.0)
    torch.testing.assert_close(hits.normals[hits.mask], exact.normals[hits.mask], rtol=0, atol=1e-4)
    same(hits, exact, atol=1e-4)


# ---- rays, light, grid -----------------------------------------------------------------------------------------------


def test_pinhole_conventions():
    o, d = pinhole_rays((2, 4), math.pi / 2, (0.0, 0.0, 5.0))
    torch.testing.assert_close(d.norm(dim=-1), torch.ones(2, 4))
    assert (d[:, 2:, 0] > 0).all() and (d[:, :2, 0] < 0).all(), "image x runs to the right"
    assert (d[0, :, 1] > 0).all() and (d[1, :, 1] < 0).all(), "row 0 is at the top"
    torch.testing.assert_close(d[0, 2] / -d[0, 2, 2], torch.tensor([0.5, 0.5, -1.0])), "pixel centres lie at +0.5"
    assert torch.equal(o, torch.tensor([0.0, 0.0, 5.0]).expand(2, 4, 3))


def test_lambert_and_shadow():
    floor = shapes.Plane((0.0, 1.0, 0.0))
    scene = shapes.Union(shapes.Colored(floor, (0.5, 0.25, 1.0)), shapes.Sphere(0.5, (0.0, 2.0, 0.0)))
    o = torch.tensor([[0.0, 1.0, 0.0], [3.0, 1.0, 0.0], [0.45, 1.0, 0.0], [0.55, 1.0, 0.0], [0.0, 9.0, 5.0]])
    d = torch.tensor([[0.0, -1.0, 0.0]] * 4 + [[0.0, 1.0, 0.0]])
    hits = trace(scene, o, d, far=20.0)
    color = shade(scene, hits, (0.0, 2.0, 0.0), ambient=0.0)
    expected = torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0])[:, None] * torch.tensor([0.5, 0.25, 1.0])
    torch.testing.assert_close(color, expected, rtol=0, atol=1e-3)
    soft = visibility(scene, hits.points[:4], hits.normals[:4], (0.0, 1.0, 0.0), softness=0.1)
    assert soft[0] == 0 and soft[1] == 1 and 0 < soft[3] < 1
    tilted = shade(scene, hits, (0.0, 1.0, math.sqrt(3.0)), ambient=0.0)
    torch.testing.assert_close(tilted[1], 0.5 * expected[1], rtol=0, atol=1e-3)
    torch.testing.assert_close(occlusion(floor, hits.points[1:2], hits.normals[1:2]), torch.ones(1), rtol=0, atol=1e-3)
    with pytest.raises(InputError, match="normals"):
        shade(scene, trace(scene, o, d, normals=False), (0.0, 1.0, 0.0))


def test_srgb_fixed_points():
    torch.testing.assert_close(
        to_srgb(torch.tensor([-1.0, 0.0, 0.0031308, 0.2140, 1.0, 5.0])), torch.tensor([0, 0, 0.04045, 0.5, 1, 1]), rtol=0, atol=1e-4
    )


def test_grid_sdf_is_close_inside_and_a_bound_outside():
    grid = GridSDF.sample(TORUS, ((-1.0, -1.0, -0.5), (1.0, 1.0, 0.5)), 48)
    points = torch.rand(4000, 3, generator=torch.Generator().manual_seed(1)) * 4 - 2
    inside = (points.abs() <= torch.tensor([1.0, 1.0, 0.5])).all(-1)
    error = grid(points) - TORUS(points)
    assert error[inside].abs().max() < 0.05 and error[~inside].max() < 0.01
    near = inside & (TORUS(points).abs() < 0.1)
    assert error[near].abs().max() < 5e-3
    a, b = trace(TORUS, *view(48), far=10.0), trace(grid, *view(48), far=10.0)
    assert (a.mask != b.mask).float().mean() < 0.01
    both = a.mask & b.mask & ((a.normals * view(48)[1]).sum(-1) < -0.3)
    assert (a.depth - b.depth)[both].abs().max() < 0.01 and (a.normals * b.normals).sum(-1)[both].min() > 0.98
    with pytest.raises(InputError, match="values"):
        GridSDF(torch.full((4, 4, 4), math.nan), torch.zeros(3), torch.ones(3))


def test_color_comes_along():
    hits = trace(shapes.Colored(shapes.Sphere(0.5), (0.1, 0.2, 0.3)), *view(16), far=10.0)
    torch.testing.assert_close(hits.colors[hits.mask], torch.tensor([0.1, 0.2, 0.3]).expand(int(hits.mask.sum()), 3))
    assert trace(lambda p: p.norm(dim=-1) - 0.5, *view(16), far=10.0).colors is None


# ---- errors ----------------------------------------------------------------------------------------------------------

O, D = torch.zeros(4, 3), torch.ones(4, 3)


@pytest.mark.parametrize(
    "arguments, options, word",
    [
        ((O, torch.zeros(4, 3)), {}, "zero vector"),
        ((O, D.index_fill(0, torch.tensor([2]), math.nan)), {}, "directions holds NaN"),
        ((O / 0, D), {}, "origins holds NaN"),
        ((O[:, :2], D), {}, "origins"),
        ((O, D.long()), {}, "directions"),
        ((O, [1, 2, 3]), {}, "directions"),
        ((O, D.double()), {}, "float64"),
        ((O[:3], D), {}, "broadcast"),
        ((O, D), {"near": 2.0, "far": 1.0}, "near"),
        ((O, D), {"near": -1.0}, "near"),
        ((O, D), {"far": math.inf}, "far"),
        ((O, D), {"far": torch.ones(7)}, "shape"),
        ((O, D), {"bound": ((0.0, 0.0, 0.0), 0.0)}, "bound"),
        ((O, D), {"bound": ((0.0, 0.0), 1.0)}, "bound"),
        ((O, D), {"surface": "side"}, "surface"),
        ((O, D), {"tolerance": 0.0}, "tolerance"),
        ((O, D), {"lipschitz": math.nan}, "lipschitz"),
        ((O, D), {"max_steps": 0}, "max_steps"),
        ((O, D), {"cone": -1}, "cone"),
        ((O, D), {"chunk": 0}, "chunk"),
    ],
)
def test_bad_input_is_named(arguments, options, word):
    with pytest.raises(InputError, match=word):
        trace(TORUS, *arguments, **options)


def test_bad_fields_and_cameras_are_named():
    with pytest.raises(InputError, match="shape"):
        trace(lambda p: p, O, D)
    with pytest.raises(InputError, match="NaN"):
        trace(lambda p: p[:, 0] * math.nan, O, D)
    for bad, word in (
        ({"size": (0, 4)}, "size"),
        ({"fov": 4.0}, "fov"),
        ({"eye": (0.0, 1.0, 0.0)}, "up"),
        ({"eye": (0.0, 0.0, 0.0)}, "eye"),
    ):
        with pytest.raises(InputError, match=word):
            pinhole_rays(**{"size": (4, 4), "fov": 1.0, "eye": (0.0, 0.0, 2.0), **bad})
