"""Signed distance functions: closed forms against sampled surfaces, laws, meshes against float64 oracles."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from densebook.core.errors import InputError
from densebook.data import toy
from densebook.geometry import bvh, sdf
from densebook.geometry.mesh import Mesh, is_watertight, sample_surface
from densebook.geometry.sdf import (
    Box,
    Capsule,
    Colored,
    Cone,
    Cylinder,
    Difference,
    Intersection,
    MeshSDF,
    NeuralSDF,
    Plane,
    Repeat,
    RoundBox,
    Scale,
    SmoothDifference,
    SmoothIntersection,
    SmoothUnion,
    Sphere,
    Torus,
    Transform,
    Union,
)

PRIMITIVES = {
    "sphere": Sphere(0.6, (0.1, -0.2, 0.05)),
    "box": Box((0.6, 0.5, 0.4), (0.1, 0.0, -0.1)),
    "round_box": RoundBox((0.6, 0.5, 0.4), 0.15, (0.0, 0.1, 0.0)),
    "torus": Torus(0.55, 0.25, (0.0, 0.1, 0.0)),
    "capsule": Capsule((-0.4, 0.1, -0.3), (0.4, 0.0, 0.3), 0.25),
    "cylinder": Cylinder(0.5, 0.4, (0.1, 0.0, 0.0)),
    "cone": Cone(0.6, 1.0, (0.0, 0.0, -0.5)),
    "plane": Plane((1.0, -2.0, 0.5), 0.3),
}
COMBINED = {
    "union": Union(PRIMITIVES["box"], PRIMITIVES["torus"], PRIMITIVES["cone"]),
    "intersection": Intersection(PRIMITIVES["box"], PRIMITIVES["cylinder"], PRIMITIVES["plane"]),
    "difference": Difference(PRIMITIVES["box"], PRIMITIVES["capsule"], PRIMITIVES["torus"]),
    "smooth_union": SmoothUnion(PRIMITIVES["box"], PRIMITIVES["torus"], PRIMITIVES["cone"], k=0.3),
    "smooth_intersection": SmoothIntersection(PRIMITIVES["box"], PRIMITIVES["cylinder"], k=0.2),
    "smooth_difference": SmoothDifference(PRIMITIVES["box"], PRIMITIVES["capsule"], PRIMITIVES["sphere"], k=0.2),
    "repeat": Repeat(Box((0.1, 0.15, 0.1), (0.05, 0.0, -0.08)), 0.5, (3, None, 1)),
    "scale": Scale(PRIMITIVES["cone"], 1.7),
}
EVERY = PRIMITIVES | COMBINED
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
coordinate = st.floats(-2, 2, allow_nan=False, width=32)
place = st.tuples(coordinate, coordinate, coordinate)


def cloud(count: int, extent: float = 1.5, dtype=torch.float64, seed: int = 0) -> torch.Tensor:
    return ((torch.rand(count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1) * extent).to(dtype)


def rotation(seed: int = 0) -> torch.Tensor:
    T = torch.eye(4, dtype=torch.float64)
    q, r = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))
    q = q * r.diagonal().sign()
    T[:3, :3] = q * torch.linalg.det(q)
    T[:3, 3] = torch.tensor([0.3, -0.2, 0.5])
    return T


def surface_samples(name: str, count: int = 60_000) -> torch.Tensor:
    """Points on the surface of a primitive, made without its distance function."""
    g = torch.Generator().manual_seed(1)
    u, v, w = torch.rand(3, count, generator=g, dtype=torch.float64)
    direction = torch.nn.functional.normalize(torch.randn(count, 3, generator=g, dtype=torch.float64), dim=1)
    angle = 2 * math.pi * u
    shape = PRIMITIVES[name]
    center = torch.tensor(getattr(shape, "center", (0.0, 0.0, 0.0)), dtype=torch.float64)
    if name == "sphere":
        return shape.radius * direction + center
    if name in ("box", "round_box"):
        radius = getattr(shape, "radius", 0.0)
        core = torch.tensor(shape.half, dtype=torch.float64) - radius
        if radius:  # from points outside of the core, the radius towards them from the core
            outer = 1.2 * torch.nn.functional.normalize(direction, dim=1, p=math.inf) * (0.5 + 0.5 * v)[:, None]
            outer = outer[(outer.abs() > core).any(dim=1)]
            foot = outer.clamp(-core, core)
            return foot + radius * torch.nn.functional.normalize(outer - foot, dim=1) + center
        points = (torch.stack([u, v, w], dim=1) * 2 - 1) * core
        axis = torch.arange(count) % 3
        points[torch.arange(count), axis] = torch.where(points[torch.arange(count), axis] > 0, core[axis], -core[axis])
        return points + center
    if name == "torus":
        rho = shape.major + shape.minor * (2 * math.pi * v).cos()
        return torch.stack([rho * angle.cos(), rho * angle.sin(), shape.minor * (2 * math.pi * v).sin()], dim=1) + center
    if name == "capsule":
        a, b = (torch.tensor(p, dtype=torch.float64) for p in (shape.a, shape.b))
        axis = torch.nn.functional.normalize(b - a, dim=0)
        across = torch.nn.functional.normalize(direction - (direction @ axis)[:, None] * axis, dim=1)
        caps = torch.where((direction @ axis > 0)[:, None], b, a) + shape.radius * direction
        return torch.cat([caps, a + v[:, None] * (b - a) + shape.radius * across])
    ring = torch.stack([angle.cos(), angle.sin()], dim=1)
    if name == "cylinder":
        side = torch.cat([shape.radius * ring, (v * 2 - 1)[:, None] * shape.half_height], dim=1)
        lid = torch.cat(
            [shape.radius * v.sqrt()[:, None] * ring, torch.where(w > 0.5, 1.0, -1.0).double()[:, None] * shape.half_height], dim=1
        )
        return torch.cat([side, lid]) + center
    if name == "cone":
        side = torch.cat([shape.radius * (1 - v)[:, None] * ring, shape.height * v[:, None]], dim=1)
        base = torch.cat([shape.radius * v.sqrt()[:, None] * ring, torch.zeros(count, 1, dtype=torch.float64)], dim=1)
        return torch.cat([side, base]) + center
    raise AssertionError(name)


# ---- primitives ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in PRIMITIVES if n != "plane"])
def test_distance_is_that_to_the_sampled_surface(name):
    samples = surface_samples(name)
    shape = PRIMITIVES[name]
    assert shape(samples).abs().max() < 1e-12
    points = cloud(300)
    sampled = torch.cdist(points, samples).amin(dim=1)
    found = shape(points).abs()
    assert bool((found <= sampled + 1e-12).all())
    assert (sampled - found).max() < 0.03


def test_plane():
    points = cloud(100)
    n = torch.tensor([1.0, -2.0, 0.5]).double()
    assert torch.allclose(PRIMITIVES["plane"](points), points @ n / n.norm() - 0.3)


@pytest.mark.parametrize(
    "name, inside, outside",
    [("sphere", (0.1, -0.2, 0.05), (0.9, 0, 0)), ("box", (0, 0, 0), (0.8, 0, 0)), ("torus", (0.55, 0.1, 0), (0, 0, 0)), ("cone", (0, 0, 0.3), (0.5, 0, 0.3)),
     ("capsule", (0, 0.05, 0), (0, 0.6, 0)), ("cylinder", (0, 0, 0.3), (0, 0, 0.5)), ("round_box", (0, 0, 0), (0.6, 0.6, 0.4)), ("plane", (-1, 1, 0), (2, 0, 0))],
)  # fmt: skip
def test_sign(name, inside, outside):
    assert PRIMITIVES[name](torch.tensor(inside, dtype=torch.float32)) < 0
    assert PRIMITIVES[name](torch.tensor(outside, dtype=torch.float32)) > 0


@pytest.mark.parametrize("name", PRIMITIVES)
@dtypes
def test_eikonal_and_landing(name, dtype):
    points, shape = cloud(2000, dtype=dtype), PRIMITIVES[name]
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    slope = sdf.gradient(shape, points)
    assert (slope.norm(dim=1) - 1).abs().max() < tolerance
    assert shape(points - shape(points)[:, None] * sdf.normals(shape, points)).abs().max() < tolerance
    assert shape(points).dtype == dtype and shape(points.reshape(20, 100, 3)).shape == (20, 100)


@pytest.mark.parametrize("name", EVERY)
@settings(deadline=None, max_examples=25)
@given(place, place)
def test_lipschitz_one(name, p, q):
    p, q = torch.tensor(p, dtype=torch.float64), torch.tensor(q, dtype=torch.float64)
    assert abs(float(EVERY[name](p) - EVERY[name](q))) <= float((p - q).norm()) + 1e-9


@pytest.mark.parametrize("name", EVERY)
def test_sampled_slope_is_at_most_one_and_finite(name):
    points = torch.cat([cloud(3000), torch.zeros(1, 3, dtype=torch.float64)])
    assert float(sdf.lipschitz(EVERY[name], points)) < 1 + 1e-9
    assert bool(torch.isfinite(sdf.gradient(EVERY[name], points)).all())


@pytest.mark.parametrize("name", EVERY)
def test_gradient_by_finite_differences(name):
    points = cloud(100, seed=3)
    step = 1e-6
    numeric = torch.stack(
        [(EVERY[name](points + step * e) - EVERY[name](points - step * e)) / (2 * step) for e in torch.eye(3).double()], dim=1
    )
    good = (numeric - sdf.gradient(EVERY[name], points)).abs().amax(dim=1) < 1e-5
    assert good.double().mean() > 0.97  # the rest lies across a kink


def test_gradient_reaches_parameters():
    points = cloud(50)
    radius = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    center = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    Sphere(radius, center)(points).sum().backward()
    assert float(radius.grad) == -50
    assert torch.allclose(center.grad, -torch.nn.functional.normalize(points, dim=1).sum(dim=0))
    T = rotation().requires_grad_(True)
    k = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    SmoothUnion(Transform(Box((0.3, 0.3, 0.3)), T), Scale(Torus(), k), k=k)(points).sum().backward()
    assert bool(torch.isfinite(T.grad).all()) and float(k.grad) != 0


def test_gradgradcheck_of_a_smooth_scene():
    points = cloud(5, seed=5).requires_grad_(True)
    scene = SmoothUnion(Sphere(0.5), Torus(0.7, 0.2), k=0.4)
    assert torch.autograd.gradcheck(scene, points) and torch.autograd.gradgradcheck(scene, points)


# ---- combinations ----------------------------------------------------------------------------------------------------


def test_csg_laws():
    a, b, c = PRIMITIVES["box"], PRIMITIVES["torus"], PRIMITIVES["cone"]
    points = cloud(1000)
    assert torch.equal(Union(a, b, c)(points), Union(c, Union(b, a))(points))
    assert torch.equal(Union(a, a)(points), a(points)) and torch.equal(Intersection(a, a)(points), a(points))
    assert torch.equal(Difference(a, b, c)(points), Difference(Difference(a, b), c)(points))
    assert torch.equal((Union(a, b)(points) < 0), (a(points) < 0) | (b(points) < 0))
    assert torch.equal((Intersection(a, b)(points) < 0), (a(points) < 0) & (b(points) < 0))
    assert torch.equal((Difference(a, b)(points) < 0), (a(points) < 0) & ~(b(points) <= 0))
    assert bool((Difference(a, a)(points) >= 0).all())


@pytest.mark.parametrize("sharp, smooth", [(Union, SmoothUnion), (Intersection, SmoothIntersection), (Difference, SmoothDifference)])
def test_smooth_is_near_sharp(sharp, smooth):
    a, b, points = PRIMITIVES["box"], PRIMITIVES["torus"], cloud(3000)
    gap = smooth(a, b, k=0.2)(points) - sharp(a, b)(points)
    gap = gap if sharp is not Union else -gap
    assert float(gap.min()) >= -1e-12 and float(gap.max()) <= 0.05 + 1e-12 and float(gap.max()) > 0.04
    other = -b(points) if sharp is Difference else b(points)
    assert float(gap[(a(points) - other).abs() >= 0.2].abs().max()) < 1e-12


def test_union_is_exact_outside_and_a_bound_inside():
    a, b = Sphere(0.5, (-0.3, 0, 0)), Sphere(0.5, (0.3, 0, 0))
    samples = torch.cat(
        [
            0.5 * torch.nn.functional.normalize(cloud(60_000, seed=s), dim=1) + torch.tensor([x, 0, 0], dtype=torch.float64)
            for s, x in ((1, -0.3), (2, 0.3))
        ]
    )
    samples = samples[Union(a, b)(samples) > -1e-12]
    points = torch.cat([cloud(1000, 1.0), torch.zeros(1, 3, dtype=torch.float64)])
    value, truth = Union(a, b)(points), torch.cdist(points, samples).amin(dim=1)
    assert float((value - truth)[value > 0].abs().max()) < 0.02
    assert bool((value.abs() <= truth + 1e-9).all()) and float((truth - value.abs())[value < 0].max()) > 0.1


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), place)
def test_rigid_motion_equivariance(seed, p):
    T = rotation(seed)
    p = torch.tensor(p, dtype=torch.float64)
    for shape in (PRIMITIVES["cone"], COMBINED["smooth_difference"]):
        assert abs(float(Transform(shape, T)(T[:3, :3] @ p + T[:3, 3]) - shape(p))) < 1e-9


def test_scale():
    points = cloud(100)
    assert torch.allclose(Scale(Sphere(0.5), 3.0)(points), Sphere(1.5)(points))


@pytest.mark.parametrize("counts", [(3, 2, 1), (1, 1, 1), (4, 1, 3)])
def test_repeat_equals_the_union_of_copies(counts):
    tile = Box((0.1, 0.12, 0.05), (0.12, -0.1, 0.18))
    copies = [Transform(tile, torch.eye(4).double()) for _ in range(math.prod(counts))]
    at = torch.cartesian_prod(*((torch.arange(n) - (n - 1) / 2) * 0.5 for n in counts)).reshape(-1, 3).double()
    for shape, where in zip(copies, at):
        shape.T[:3, 3] = where
    points = cloud(2000, 2.0)
    assert torch.allclose(Repeat(tile, 0.5, counts)(points), Union(*copies)(points), atol=1e-12)


def test_repeat_without_end_is_periodic():
    shape, points = Repeat(Torus(0.15, 0.05), (0.5, 0.6, 0.7)), cloud(500)
    assert torch.allclose(shape(points), shape(points + torch.tensor([1.0, -0.6, 1.4], dtype=torch.float64)), atol=1e-12)


def test_colours():
    red, blue = Colored(Sphere(0.4, (-0.3, 0, 0)), (1.0, 0, 0)), Colored(Sphere(0.4, (0.3, 0, 0)), (0, 0, 1.0))
    points = torch.tensor([[-0.5, 0, 0], [0.5, 0, 0], [0.0, 0.2, 0]])
    assert torch.equal(Union(red, blue).color(points)[:2], torch.tensor([[1.0, 0, 0], [0, 0, 1.0]]))
    smooth = SmoothUnion(red, blue, k=0.2).color(points)
    assert torch.allclose(smooth[2], torch.tensor([0.5, 0, 0.5])) and torch.equal(smooth[:2], Union(red, blue).color(points)[:2])
    assert torch.equal(Difference(red, blue).color(points), torch.tensor([[1.0, 0, 0]] * 3))
    assert torch.equal(Intersection(red, blue).color(points)[0], torch.tensor([0, 0, 1.0]))
    painted = Colored(Sphere(), lambda p: p.abs().clamp(0, 1))
    T = rotation().float()
    moved = (points @ T[:3, :3].T + T[:3, 3]) * 2
    assert torch.allclose(Scale(Transform(painted, T), 2.0).color(moved), points.abs(), atol=1e-6)
    assert torch.allclose(Repeat(painted, 3.0).color(points + 3), points.abs(), atol=1e-6)
    assert torch.equal(Sphere().color(points), torch.full((3, 3), sdf.GREY)) and torch.equal(
        sdf.color(lambda p: p[..., 0], points), torch.full((3, 3), sdf.GREY)
    )
    assert torch.equal(sdf.color(SmoothDifference(red, blue, k=0.1), points), red.color(points))
    assert SmoothIntersection(red, blue, k=0.1).color(points).shape == (3, 3)


def test_dense_grid():
    bounds = ((-1.0, -2.0, 0.0), (1.0, 2.0, 1.0))
    values = sdf.dense_grid(PRIMITIVES["torus"], bounds, (4, 5, 6), chunk=17)
    axes = sdf.grid_axes(bounds, (4, 5, 6))
    assert values.shape == (5, 6, 7) and float(axes[1][0]) == -2 and float(axes[1][-1]) == 2
    assert torch.allclose(values, PRIMITIVES["torus"](torch.cartesian_prod(*axes)).reshape(5, 6, 7))
    low, high = torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    assert sdf.dense_grid(Sphere(), (low, high), 3).dtype == torch.float64


@pytest.mark.parametrize(
    "make",
    [
        lambda: Sphere(0.0), lambda: Sphere(math.nan), lambda: Sphere("big"), lambda: Sphere(1.0, (0, 0)), lambda: Sphere(1.0, (0, 0, math.inf)),
        lambda: Box((1, -1, 1)), lambda: RoundBox((1, 1, 1), 2.0), lambda: Torus(0.2, 0.3), lambda: Capsule((0, 0, 0), (0, 0, 0), 1.0),
        lambda: Plane((0, 0, 0)), lambda: Plane(offset=math.nan), lambda: Cylinder(1.0, 0.0), lambda: Cone(1.0, -1.0), lambda: Union(), lambda: Union(1.0),
        lambda: SmoothUnion(Sphere(), k=0.0), lambda: Scale(Sphere(), 0.0), lambda: Transform(Sphere(), torch.zeros(4, 4)),
        lambda: Transform(Sphere(), torch.diag(torch.tensor([-1.0, 1, 1, 1]))), lambda: Transform(Sphere(), torch.eye(3)), lambda: Repeat(Sphere(), 0.0),
        lambda: Repeat(Sphere(), 1.0, (0, 1, 1)), lambda: Colored(Sphere(), (2.0, 0, 0)), lambda: Sphere()(torch.zeros(3, dtype=torch.int64)),
        lambda: Sphere()(torch.zeros(2)), lambda: Sphere()([0.0, 0.0, 0.0]), lambda: sdf.dense_grid(Sphere(), ((0, 0, 0), (1, 1, 0)), 4),
        lambda: sdf.dense_grid(Sphere(), ((0, 0, 0), (1, 1, 1)), 0), lambda: sdf.lipschitz(Sphere(), torch.zeros(0, 3)),
        lambda: sdf.positional_encoding(torch.zeros(1, 3), -1), lambda: NeuralSDF(width=0), lambda: sdf.fit(NeuralSDF(), torch.zeros(0, 3), torch.zeros(0)),
        lambda: MeshSDF("cow.obj"), lambda: MeshSDF(Mesh(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64))),
        lambda: MeshSDF(toy.cube_mesh(), backend="cuda"), lambda: MeshSDF(toy.cube_mesh(), sign="parity"),
        lambda: MeshSDF(toy.cube_mesh())(torch.tensor([[0, 0, math.nan]])),
        lambda: MeshSDF(Mesh(torch.full((3, 3), math.nan), torch.tensor([[0, 1, 2]]))),
        lambda: MeshSDF(Mesh(torch.eye(3), torch.tensor([[0, 1, 2]])), sign="pseudonormal"),
    ],
)  # fmt: skip
def test_wrong_input_is_one_sentence(make):
    with pytest.raises(InputError) as caught:
        make()
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 250


# ---- meshes ----------------------------------------------------------------------------------------------------------


def mixed_queries(mesh: Mesh, count: int, dtype=torch.float64, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    near, _, _ = sample_surface(mesh, count // 2, g)
    near = near.double() + 0.02 * torch.randn(near.shape, generator=g, dtype=torch.float64)
    return torch.cat([near, cloud(count - count // 2, 1.2, seed=seed + 1)]).to(dtype)


@dtypes
@pytest.mark.parametrize("sign", ["pseudonormal", "winding"])
def test_cube_mesh_equals_box(dtype, sign):
    mesh = toy.cube_mesh(1.0).to(dtype)
    points = cloud(4000, dtype=dtype)
    truth = Box((0.5, 0.5, 0.5))(points)
    found = MeshSDF(mesh, backend="torch", sign=sign)(points)
    tolerance = 1e-6 if dtype == torch.float32 else 1e-14
    assert (found - truth).abs().max() < tolerance
    assert torch.equal((found < 0)[truth.abs() > tolerance], (truth < 0)[truth.abs() > tolerance])


@dtypes
@pytest.mark.parametrize("backend", ["torch", "igl"])
@pytest.mark.parametrize("name", ["blob", "torus"])
def test_against_libigl(name, backend, dtype):
    igl = pytest.importorskip("igl")
    mesh = (toy.blob_mesh(4) if name == "blob" else toy.torus_mesh()).to(torch.float64)
    points = mixed_queries(mesh, 3000)
    truth = igl.signed_distance(
        points.numpy(), mesh.vertices.numpy(), mesh.faces.numpy(), sign_type=igl.SIGNED_DISTANCE_TYPE_WINDING_NUMBER
    )[0]
    found = MeshSDF(mesh.to(dtype), backend=backend)(points.to(dtype)).double().numpy()
    tolerance = 1e-6 if dtype == torch.float32 else 1e-13
    assert np.abs(found - truth).max() < tolerance
    assert not ((found < 0) != (truth < 0))[np.abs(truth) > tolerance].any()


def test_icosphere_is_near_the_sphere():
    mesh = toy.icosphere(5).to(torch.float64)
    points = cloud(2000)
    assert (MeshSDF(mesh)(points) - Sphere(1.0)(points)).abs().max() < 2e-3  # the chords' sagitta


def test_many_scales_and_offsets():
    mesh = toy.blob_mesh(3)
    points = mixed_queries(mesh, 500, torch.float32)
    plain = MeshSDF(mesh, backend="torch")(points)
    for scale in (1e-6, 1e6):
        assert torch.allclose(MeshSDF(Mesh(mesh.vertices * scale, mesh.faces), backend="torch")(points * scale) / scale, plain, atol=2e-6)


def test_points_on_the_surface_have_distance_zero_and_a_normal():
    mesh = toy.blob_mesh(4).to(torch.float64)
    points, face, _ = sample_surface(mesh, 500, torch.Generator().manual_seed(0))
    points = torch.cat([points, mesh.vertices])
    field = MeshSDF(mesh, backend="torch")
    assert field(points).abs().max() < 1e-14
    slope = sdf.gradient(field, points)
    assert (slope.norm(dim=1) - 1).abs().max() < 1e-9
    assert bool(((slope * points).sum(dim=1) > 0).all())  # star-shaped about the origin


@dtypes
def test_open_mesh_sign_is_the_winding_number(dtype):
    igl = pytest.importorskip("igl")
    mesh = toy.blob_mesh(4).to(dtype)
    kept = torch.rand(len(mesh.faces), generator=torch.Generator().manual_seed(0)) > 0.1
    kept[: len(kept) // 10] = False
    mesh = Mesh(mesh.vertices, mesh.faces[kept])
    assert not is_watertight(mesh)
    points = mixed_queries(mesh, 2000, dtype)
    number = igl.winding_number(mesh.vertices.double().numpy(), mesh.faces.numpy(), points.double().numpy())
    field = MeshSDF(mesh)
    clear = np.abs(number - 0.5) > (1e-5 if dtype == torch.float32 else 1e-12)
    assert not ((field(points) < 0).numpy() != (number > 0.5))[clear].any()
    assert np.abs(field.winding(points).double().numpy() - number).max() < 0.04
    assert np.abs(field.winding(points, exact=True).double().numpy() - number).max() < 1e-5


def test_winding_error_stays_below_its_bound():
    mesh = toy.blob_mesh(4).to(torch.float64)
    tree = bvh.build(mesh.triangles)
    points = cloud(500, 1.2)
    exact = bvh.winding_exact(tree, points)
    for opening in (1.5, 2.5, 5.0):
        number, error = bvh.winding(tree, points, opening)
        assert bool(((number - exact).abs() <= error + 1e-12).all())


def test_far_field_is_right_to_first_order():
    g = torch.Generator().manual_seed(0)
    triangles = torch.randn(8, 3, 3, generator=g, dtype=torch.float64)
    tree = bvh.build(triangles)
    directions = torch.nn.functional.normalize(cloud(50), dim=1)
    errors = []
    for radius in (50.0, 100.0):
        points = radius * directions
        moments = bvh._moments(triangles, 8)[0][:, None].expand(-1, 50)
        errors.append((bvh._far_field(moments, points.T)[0] / (4 * math.pi) - bvh.winding_exact(tree, points)).abs().mean())
    assert 12 < float(errors[0] / errors[1]) < 20  # the first neglected term falls with the fourth power of the distance


def test_self_intersecting_mesh_needs_the_winding_number():
    ball = toy.icosphere(3, 0.5)
    shift = torch.tensor([0.3, 0, 0])
    twins = Mesh(torch.cat([ball.vertices - shift, ball.vertices + shift]), torch.cat([ball.faces, ball.faces + len(ball.vertices)]))
    points = cloud(1000, 0.8, torch.float32)
    truth = Union(Sphere(0.5, -shift), Sphere(0.5, shift))(points)
    clear = truth.abs() > 0.01
    assert torch.equal((MeshSDF(twins, sign="winding")(points) < 0)[clear], (truth < 0)[clear])
    assert MeshSDF(twins).sign == "winding" and MeshSDF(ball).sign == "pseudonormal"
    assert not torch.equal((MeshSDF(twins, sign="pseudonormal")(points) < 0)[clear], (truth < 0)[clear])


@pytest.mark.parametrize("shift", [0.3, 0.9, 1.01, 1.3])
@pytest.mark.parametrize("turned", [False, True])
def test_meshes_that_run_through_themselves_are_found(shift, turned):
    cube = toy.cube_mesh(1.0).to(torch.float64)
    R = rotation(4)[:3, :3] if turned else torch.eye(3).double()
    move = shift * torch.tensor([1.0, 0.37, 0.21]).double() * (2 if turned else 1)
    twins = Mesh(torch.cat([cube.vertices, cube.vertices @ R.T + move]), torch.cat([cube.faces, cube.faces + 8]))
    p = cloud(4000, 0.5)
    overlap = bool((Box((0.5, 0.5, 0.5))((p @ R.T + move)) < -1e-3).any())
    assert (MeshSDF(twins).sign == "winding") == overlap


@dtypes
def test_degenerate_faces_change_nothing(dtype):
    mesh = toy.cube_mesh(1.0).to(dtype)
    middle = (mesh.vertices[0] + mesh.vertices[1]) / 2
    vertices = torch.cat([mesh.vertices, middle[None]])
    extra = torch.tensor([[0, 1, 8], [2, 2, 2], [3, 3, 5]])
    points = cloud(1000, dtype=dtype)
    found = MeshSDF(Mesh(vertices, torch.cat([mesh.faces, extra])), backend="torch")(points)
    assert (found - Box((0.5, 0.5, 0.5))(points)).abs().max() < 1e-6


@pytest.mark.parametrize("faces", [1, 7, 8, 9, 65, 513])
def test_every_tree_size_finds_the_nearest(faces):
    g = torch.Generator().manual_seed(faces)
    triangles = (
        torch.rand(faces, 1, 3, generator=g, dtype=torch.float64) * 2 - 1 + 0.3 * torch.randn(faces, 3, 3, generator=g, dtype=torch.float64)
    )
    mesh = Mesh(triangles.reshape(-1, 3), torch.arange(3 * faces).reshape(-1, 3))
    points = cloud(200)
    point, face, distance = MeshSDF(mesh, backend="torch").closest(points)
    weights = torch.rand(20_000, 3, generator=g, dtype=torch.float64).log()
    weights = weights / weights.sum(dim=1, keepdim=True)
    each = torch.stack([_segment_and_plane(points, t) for t in triangles], dim=1)
    assert (distance - each.amin(dim=1)).abs().max() < 1e-12
    assert (each.gather(1, face[:, None])[:, 0] - distance).abs().max() < 1e-12
    assert ((points - point).norm(dim=1) - distance).abs().max() < 1e-12


def _segment_and_plane(points, triangle):
    """Distance to one triangle by another route: least squares for the foot, three segments for the border."""
    a, b, c = triangle
    edges = torch.stack([b - a, c - a], dim=1)
    uv = torch.linalg.lstsq(edges, (points - a).T).solution
    inside = (uv >= 0).all(dim=0) & (uv.sum(dim=0) <= 1)
    plane = (points - a - (edges @ uv).T).norm(dim=1)
    border = []
    for p, q in ((a, b), (b, c), (c, a)):
        t = ((points - p) @ (q - p) / (q - p).square().sum()).clamp(0, 1)
        border.append((points - p - t[:, None] * (q - p)).norm(dim=1))
    return torch.where(inside, plane, torch.stack(border).amin(dim=0))


def test_mesh_gradients():
    mesh = toy.blob_mesh(2).to(torch.float64)
    field, points = MeshSDF(mesh, backend="torch"), mixed_queries(mesh, 100)
    step = 1e-6
    numeric = torch.stack([(field(points + step * e) - field(points - step * e)) / (2 * step) for e in torch.eye(3).double()], dim=1)
    slope = sdf.gradient(field, points)
    assert ((numeric - slope).abs().amax(dim=1) < 1e-5).double().mean() > 0.95
    assert (slope.norm(dim=1) - 1).abs().max() < 1e-12
    vertices = mesh.vertices.clone().requires_grad_(True)
    weights = torch.randn(100, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (MeshSDF(Mesh(vertices, mesh.faces), backend="torch")(points) * weights).sum().backward()
    push = torch.randn(mesh.vertices.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    values = [(MeshSDF(Mesh(mesh.vertices + s * step * push, mesh.faces), backend="torch")(points) * weights).sum() for s in (1, -1)]
    assert abs(float((vertices.grad * push).sum()) - float(values[0] - values[1]) / (2 * step)) < 1e-4


def test_mesh_shapes_and_colours():
    mesh = toy.blob_mesh(3)
    field = MeshSDF(mesh)
    points = cloud(12, dtype=torch.float32).reshape(3, 4, 3)
    assert field(points).shape == (3, 4) and field.color(points).shape == (3, 4, 3) and field.winding(points).shape == (3, 4)
    assert [t.shape for t in field.closest(points)] == [(3, 4, 3), (3, 4), (3, 4)]
    assert field(points[:0]).shape == (0, 4) and field(points.double()).dtype == torch.float64
    assert torch.allclose(field.color(mesh.vertices * 1.0001), mesh.colors, atol=2e-2)
    assert torch.equal(MeshSDF(Mesh(mesh.vertices, mesh.faces)).color(points), torch.full((3, 4, 3), sdf.GREY))


def test_mesh_in_a_scene_is_moved_and_cut():
    T, points = rotation(2), cloud(300)
    mesh = toy.blob_mesh(3).to(torch.float64)
    moved = Mesh(mesh.vertices @ T[:3, :3].T + T[:3, 3], mesh.faces)
    assert torch.allclose(Transform(MeshSDF(mesh), T)(points), MeshSDF(moved)(points), atol=1e-12)
    assert float(sdf.lipschitz(Difference(MeshSDF(mesh), Sphere(0.5)), points)) < 1 + 1e-9


def test_missing_libigl_is_told(monkeypatch):
    from densebook.core.errors import MissingPackageError

    monkeypatch.setitem(__import__("sys").modules, "igl", None)
    with pytest.raises(MissingPackageError, match="pip install"):
        MeshSDF(toy.cube_mesh(), backend="igl")


# ---- the neural field ------------------------------------------------------------------------------------------------


def test_positional_encoding():
    points = cloud(10)
    assert torch.equal(sdf.positional_encoding(points, 0), points)
    encoded = sdf.positional_encoding(points, 2)
    assert encoded.shape == (10, 15)
    wanted = torch.cat(
        [points, *(((math.pi * 2**i) * points).sin() for i in (0, 1)), *(((math.pi * 2**i) * points).cos() for i in (0, 1))], dim=1
    )
    assert torch.allclose(encoded, wanted)


def test_eikonal_loss():
    assert float(sdf.eikonal_loss(torch.eye(3))) == 0
    assert float(sdf.eikonal_loss(2 * torch.eye(3))) == 1


@pytest.mark.parametrize("frequencies", [0, 3])
def test_network_starts_as_a_ball(frequencies):
    network = NeuralSDF(256, 4, frequencies, radius=0.6, generator=torch.Generator().manual_seed(0))
    points = cloud(500, 1.0, torch.float32)
    assert (network(points) - (points.norm(dim=1) - 0.6)).abs().mean() < 0.25


def test_fit_learns_a_torus_and_is_repeatable():
    torus, points = Torus(0.6, 0.25), cloud(3000, 1.0, torch.float32)
    errors, weights, said = [], [], []
    for _ in range(2):
        network = NeuralSDF(32, 3, 2, generator=torch.Generator().manual_seed(0))
        errors.append(
            sdf.fit(network, points, torus(points), steps=150, batch=256, generator=torch.Generator().manual_seed(0), say=said.append)
        )
        weights.append(network.out.weight.detach())
    assert torch.equal(errors[0], errors[1]) and torch.equal(*weights)
    assert float(errors[0][-20:].mean()) < 0.25 * float(errors[0][:5].mean())
    assert len(said) == 10
    assert 0.5 < float(sdf.gradient(network, points).norm(dim=1).mean()) < 1.3
