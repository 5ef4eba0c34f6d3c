"""Octree extraction: the dense grid's mesh to the last bit, from few evaluations; failures of the bound are seen."""

import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from densebook.core.errors import InputError
from densebook.geometry import mesh as meshes
from densebook.geometry import sdf
from densebook.geometry.marching_cubes import CORNERS, marching_cubes, sparse_marching_cubes
from densebook.geometry.mesh import Mesh
from densebook.geometry.octree import (
    _Meter,
    estimate_lipschitz,
    extract,
    extract_dense,
    merge_moved,
    same_triangles,
    second_radius,
)

BOX = ((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))
TORUS = sdf.Torus(major=0.6, minor=0.25)
CUT = sdf.Difference(
    sdf.Union(sdf.Box(half=(0.5, 0.4, 0.6)), sdf.Sphere(center=(0.35, 0.3, 0.0), radius=0.41)),
    sdf.Capsule(a=(-0.9, 0.0, 0.1), b=(0.9, 0.1, 0.0), radius=0.22),
)


def bumpy(p):
    return p.norm(dim=-1) - 0.6 - 0.12 * (9 * p).sin().prod(dim=-1)


FIELDS = {"sphere": (sdf.Sphere(radius=0.7), 1.0), "torus": (TORUS, 1.0), "cut": (CUT, 1.0), "bumpy": (bumpy, 2.1)}
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def bounds(dtype=torch.float32):
    return torch.tensor(BOX, dtype=dtype)


def all_cells(f, n, dtype):
    """An oracle that shares no code with the octree: every corner and every cell of the unit box, through marching cubes."""
    at = torch.stack(torch.meshgrid(*[torch.arange(n + 1)] * 3, indexing="ij"), dim=-1).reshape(-1, 3)
    positions = at.to(dtype) * (2 / n) + torch.tensor(BOX[0], dtype=dtype)
    cells = torch.cartesian_prod(*[torch.arange(n)] * 3)
    key = torch.tensor([(n + 1) ** 2, n + 1, 1])
    return sparse_marching_cubes(f(positions), positions, torch.stack([(cells + torch.tensor(c)) @ key for c in CORNERS], dim=1))


@dtypes
@pytest.mark.parametrize("name", FIELDS)
def test_same_mesh_as_every_cell_to_the_last_bit(name, dtype):
    f, slope = FIELDS[name]
    mesh, stats = extract(f, bounds(dtype), 64, slope)
    truth = all_cells(f, 64, dtype)
    assert mesh.vertices.dtype == dtype and len(mesh.faces) > 1000
    assert torch.equal(mesh.vertices, truth.vertices) and torch.equal(mesh.faces, truth.faces)  # the order too
    assert same_triangles(mesh, truth)
    assert not len(stats.leaks) and not stats.touches_border and not stats.note and stats.slope <= slope
    assert meshes.is_watertight(mesh)


@dtypes
@pytest.mark.parametrize("name", FIELDS)
def test_same_mesh_as_the_dense_twin(name, dtype):
    f, slope = FIELDS[name]
    mesh, stats = extract(f, bounds(dtype), 128, slope)
    dense, dense_stats = extract_dense(f, bounds(dtype), 128)
    assert same_triangles(mesh, dense)
    assert stats.active == dense_stats.active
    assert stats.dense_evaluations == dense_stats.evaluations == 129**3


def test_agrees_with_marching_cubes_on_the_grid():
    f = sdf.Torus(major=0.601, minor=0.2503)
    values = sdf.dense_grid(f, BOX, 64)
    dense = marching_cubes(values, spacing=2 / 64, origin=-1.0)
    mesh, _ = extract(f, BOX, 64)
    assert dense.faces.shape == mesh.faces.shape and dense.vertices.shape == mesh.vertices.shape
    distance, twin = cKDTree(dense.vertices.numpy()).query(mesh.vertices.numpy())
    assert distance.max() < 1e-6 and len(set(twin.tolist())) == len(twin)
    faces = torch.from_numpy(twin)[mesh.faces]
    order = [f.gather(1, (f.argmin(1, keepdim=True) + torch.arange(3)) % 3) for f in (faces, dense.faces)]
    assert {tuple(t) for t in order[0].tolist()} == {tuple(t) for t in order[1].tolist()}


@pytest.mark.parametrize("name,least", [("sphere", 35), ("torus", 35), ("cut", 30), ("bumpy", 25)])
def test_evaluations_at_256(name, least):
    f, slope = FIELDS[name]
    asked = 0

    def counting(p):
        nonlocal asked
        asked += len(p)
        return f(p)

    _, stats = extract(counting, BOX, 256, slope)
    assert stats.evaluations == asked
    assert stats.fewer >= least
    assert sum(level[2] for level in stats.levels) == asked
    assert stats.peak_bytes < 2e8


def test_no_point_is_asked_twice_and_none_outside():
    seen = []
    extract(lambda p: (seen.append(p), TORUS(p))[1], bounds(torch.float64), 64)
    seen = torch.cat(seen)
    assert len(torch.unique(seen, dim=0)) == len(seen)
    assert seen.abs().max() <= 1


def test_512_is_three_per_cent_and_below_a_gigabyte():
    _, stats = extract(CUT, BOX, 512)
    assert stats.evaluations <= 0.03 * stats.dense_evaluations and stats.fewer >= 35
    assert stats.peak_bytes < 1e9


def test_two_sheets_in_one_cell_are_found():
    def wall(p):
        return TORUS(p).abs() - 0.02

    mesh, stats = extract(wall, BOX, 128, coarse=4)
    assert same_triangles(mesh, extract_dense(wall, BOX, 128)[0])
    parts = Mesh(mesh.vertices, mesh.faces)
    assert meshes.is_watertight(parts)
    exact = 2 * math.pi**2 * 0.6 * (0.27**2 - 0.23**2)  # between the two sheets
    assert abs(float(meshes.volume(mesh)) / exact - 1) < 0.02


@pytest.mark.parametrize("steep", [1.5, 3.0])
def test_a_bound_too_small_is_flagged(steep):
    f = lambda p: steep * TORUS(p)  # noqa: E731
    with pytest.warns(UserWarning, match="lipschitz"):
        mesh, stats = extract(f, BOX, 64, 0.75)
    assert stats.slope > 0.99 * steep and stats.note
    with pytest.raises(InputError, match="lipschitz"):
        extract(f, BOX, 64, 0.75, strict=True)
    assert same_triangles(extract(f, BOX, 64, steep, strict=True)[0], extract_dense(f, BOX, 64)[0])


def test_leaks_are_where_the_mesh_is_open():
    def uneven(p):  # slope 1 where x is negative, 4 where it is positive
        return TORUS(p) * (1 + 3 * torch.sigmoid(40 * p[:, 0]))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mesh, stats = extract(uneven, BOX, 64, 1.0)
        dense, _ = extract_dense(uneven, BOX, 64)
    assert len(dense.faces) > len(mesh.faces) > 0 and len(stats.leaks)
    start, end = mesh.faces.reshape(-1), mesh.faces.roll(-1, dims=1).reshape(-1)
    ahead, back = start * len(mesh.vertices) + end, end * len(mesh.vertices) + start
    lone = ~torch.isin(ahead, back)
    middle = (mesh.vertices[start[lone]] + mesh.vertices[end[lone]]) / 2
    inner = middle[(middle.abs() < 1 - 1e-5).all(dim=1)]
    assert len(inner) and torch.cdist(inner, stats.leaks).amin(dim=1).max() < stats.spacing
    assert torch.cdist(stats.leaks, inner).amin(dim=1).max() < stats.spacing


def test_leaks_of_a_network():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = torch.nn.Sequential(torch.nn.Linear(3, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1), torch.nn.Flatten(0))
        with torch.no_grad():
            net[0].weight.mul_(6)
    full = extract_dense(net, BOX, 64)[0]
    guess = estimate_lipschitz(net, BOX, generator=torch.Generator().manual_seed(0))
    mesh, stats = extract(net, BOX, 64, guess, strict=True)
    assert len(mesh.faces) == len(full.faces) and not len(stats.leaks) and stats.slope <= guess
    with pytest.warns(UserWarning, match="too small"):
        torn, stats = extract(net, BOX, 64, guess / 8)
    assert len(torn.faces) < len(full.faces) and len(stats.leaks)
    assert not meshes.is_watertight(torn)


@settings(deadline=None, max_examples=25)
@given(
    n=st.integers(2, 40),
    coarse=st.integers(1, 20),
    centre=st.tuples(*[st.floats(-0.5, 0.5)] * 3),
    size=st.floats(0.05, 0.9),
    ball=st.booleans(),
    extent=st.tuples(*[st.floats(0.3, 1.5)] * 3),
    wide=st.booleans(),
)
def test_random_shapes_boxes_and_resolutions(n, coarse, centre, size, ball, extent, wide):
    dtype = torch.float64 if wide else torch.float32
    f = sdf.Sphere(center=centre, radius=size) if ball else sdf.Box(center=centre, half=(size, size / 2, size / 3))
    high = torch.tensor(extent, dtype=dtype)
    mesh, stats = extract(f, (-high, high), n, coarse=coarse, chunk=1000)
    dense, dense_stats = extract_dense(f, (-high, high), n)
    assert same_triangles(mesh, dense)
    assert not len(stats.leaks) and stats.touches_border == dense_stats.touches_border
    assert stats.slope <= 1.001


@pytest.mark.parametrize("name", ["sphere", "cut"])
def test_chunks_change_nothing(name):
    f, slope = FIELDS[name]
    meshes_ = [extract(f, BOX, 64, slope, chunk=c)[0] for c in (777, 4096, 1 << 20)]
    for other in meshes_[1:]:
        assert torch.equal(other.vertices, meshes_[0].vertices) and torch.equal(other.faces, meshes_[0].faces)


def test_chunk_bounds_what_is_asked_at_once():
    most = []
    extract(lambda p: (most.append(len(p)), TORUS(p))[1], BOX, 64, chunk=500)
    assert max(most) <= 500


def test_values_exactly_at_the_level():
    f = sdf.Box(half=(0.5, 0.25, 0.5))  # faces on lattice planes
    mesh, _ = extract(f, BOX, 64)
    assert same_triangles(mesh, extract_dense(f, BOX, 64)[0])
    assert meshes.is_watertight(mesh)


def test_box_cuts_the_surface():
    mesh, stats = extract(sdf.Sphere(radius=1.2), BOX, 32)
    assert stats.touches_border and not len(stats.leaks) and not meshes.is_watertight(mesh)
    assert same_triangles(mesh, extract_dense(sdf.Sphere(radius=1.2), BOX, 32)[0])


@pytest.mark.parametrize("sign", [1, -1])
def test_nothing_found(sign):
    mesh, stats = extract(lambda p: sign * (TORUS(p) + 5), BOX, 64)
    assert len(mesh.vertices) == len(mesh.faces) == 0 and "no surface" in stats.note
    assert stats.evaluations < 10_000


def test_resolution_1024_has_room():
    mesh, stats = extract(sdf.Sphere(radius=0.05, center=(0.7, 0.7, 0.7)), BOX, 1024)
    assert stats.dense_evaluations == 1025**3 and stats.fewer > 4000 and meshes.is_watertight(mesh)


def test_normals_and_colours_come_from_the_field():
    red = sdf.Colored(sdf.Sphere(radius=0.7), rgb=(1.0, 0.0, 0.0))
    mesh, _ = extract(red, bounds(torch.float64), 32, normals=True, colors=True)
    assert (mesh.normals - mesh.vertices / mesh.vertices.norm(dim=1, keepdim=True)).abs().max() < 1e-9
    assert (mesh.colors == torch.tensor([1.0, 0.0, 0.0])).all()
    assert extract(red, BOX, 32)[0].normals is None


def test_vertices_carry_gradients():
    radius = torch.tensor(0.6, dtype=torch.float64, requires_grad=True)
    mesh, stats = extract(lambda p: p.norm(dim=1) - radius, bounds(torch.float64), 48, differentiable=True)
    (slope,) = torch.autograd.grad(meshes.volume(mesh), radius)
    assert abs(float(slope) / (4 * math.pi * 0.36) - 1) < 5e-3
    plain, plain_stats = extract(lambda p: p.norm(dim=1) - radius, bounds(torch.float64), 48)
    assert not plain.vertices.requires_grad and same_triangles(mesh, plain)
    assert stats.evaluations > plain_stats.evaluations

    def volume(r):
        return float(meshes.volume(extract(lambda p: p.norm(dim=1) - r, bounds(torch.float64), 48)[0]))

    assert abs((volume(0.6 + 1e-6) - volume(0.6 - 1e-6)) / 2e-6 - float(slope)) < 1e-4


def test_two_balls_cover_the_cube():
    points = torch.rand(200_000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    points = torch.cat([points, (3 * points - 1).clamp(0, 1)])
    first, second = points.norm(dim=1), (1 - points).norm(dim=1)
    for a in torch.linspace(0, 1.72, 40, dtype=torch.float64):
        farthest = second[first >= a].amax()
        assert farthest - 1e-9 <= second_radius(a) <= farthest + 0.05
    assert second_radius(torch.tensor([0.0, 2.0])).tolist() == pytest.approx([3**0.5, 0.0])


@settings(deadline=None, max_examples=50)
@given(keys=st.sets(st.integers(0, 60)), step=st.integers(1, 20))
def test_merge_moved(keys, step):
    keys = torch.tensor(sorted(keys), dtype=torch.int64)
    union, (stay, go) = merge_moved(keys, step)
    assert torch.equal(union, torch.unique(torch.cat([keys, keys + step])))
    assert torch.equal(union[stay], keys) and torch.equal(union[go], keys + step)


def test_same_triangles_sees_what_differs():
    mesh = extract(TORUS, BOX, 16)[0]
    turned = Mesh(mesh.vertices.flip(0), (len(mesh.vertices) - 1 - mesh.faces).roll(1, dims=1).flip(0))
    assert same_triangles(mesh, turned)
    assert not same_triangles(mesh, Mesh(mesh.vertices, mesh.faces.flip(1)))  # inside out
    assert not same_triangles(mesh, Mesh(mesh.vertices, mesh.faces[1:]))
    assert not same_triangles(mesh, Mesh(mesh.vertices + 1e-6, mesh.faces))


def test_estimate_lipschitz():
    generator = torch.Generator().manual_seed(0)
    assert estimate_lipschitz(TORUS, BOX, 500, generator) == pytest.approx(1.3, abs=1e-4)
    assert estimate_lipschitz(lambda p: 3 * TORUS(p), BOX, 500, generator, safety=1.0) == pytest.approx(3, abs=1e-3)
    again = [estimate_lipschitz(bumpy, BOX, 100, torch.Generator().manual_seed(1)) for _ in range(2)]
    assert again[0] == again[1]
    with pytest.raises(InputError, match="no gradient"):
        estimate_lipschitz(lambda p: TORUS(p.detach()), BOX, 10)
    for wrong in ({"samples": 0}, {"safety": 0.0}, {"safety": math.nan}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            estimate_lipschitz(TORUS, BOX, **wrong)


def test_meter_counts_storage_once():
    with _Meter() as meter:
        a = torch.zeros(1000)
        b = a.view(10, 100)[2]
        assert meter.now == 4000
        del a
        assert meter.now == 4000  # the view holds it
        del b
        assert meter.now == 0 and meter.peak == 4000


@pytest.mark.parametrize(
    "wrong,word",
    [
        ({"bounds": BOX[::-1]}, "bounds"),
        ({"bounds": ((0, 0), (1, 1))}, "bounds"),
        ({"bounds": (BOX[0],)}, "bounds"),
        ({"bounds": ((0.0, 0.0, 0.0), (1.0, 1.0, math.inf))}, "bounds"),
        ({"bounds": torch.zeros(3)}, "bounds"),
        ({"bounds": 1.0}, "bounds"),
        ({"bounds": ("a", "b")}, "bounds"),
        ({"resolution": 1}, "resolution"),
        ({"resolution": 64.0}, "resolution"),
        ({"resolution": True}, "resolution"),
        ({"lipschitz": 0.0}, "lipschitz"),
        ({"lipschitz": math.nan}, "lipschitz"),
        ({"lipschitz": "1"}, "lipschitz"),
        ({"coarse": 0}, "coarse"),
        ({"chunk": 0}, "chunk"),
        ({"sdf": None}, "sdf"),
        ({"sdf": lambda p: p}, "shape"),
        ({"sdf": lambda p: 1.0}, "sdf returned a float"),
        ({"sdf": lambda p: p[:, :1]}, "shape"),
        ({"sdf": lambda p: p[:, 0] / 0}, "sdf returned"),
        ({"sdf": lambda p: TORUS(p).sqrt()}, "nan"),
    ],
)
def test_wrong_input_is_named(wrong, word):
    good = {"sdf": TORUS, "bounds": BOX, "resolution": 32}
    with pytest.raises(InputError, match=word):
        extract(**(good | wrong))


def test_a_change_of_sign_keeps_a_cell_whatever_the_bound_says():
    with pytest.warns(UserWarning, match="lipschitz"):
        mesh, _ = extract(lambda p: 100 * TORUS(p), BOX, 64)
    assert len(mesh.faces)
