"""Marching cubes: every case, watertight on anything, equal to its twin and to scikit-image, differentiable."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from densebook.core.errors import InputError
from densebook.geometry import mesh as meshes
from densebook.geometry.marching_cubes import (
    CORNERS,
    EDGES,
    FACES,
    case_loops,
    case_table,
    cut_segments,
    edge_counts,
    marching_cubes,
    marching_cubes_slow,
    marching_squares,
    sparse_marching_cubes,
)

DTYPES = (torch.float32, torch.float64)


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def grid(n, half=1.2, dtype=torch.float64):
    axis = torch.linspace(-half, half, n, dtype=dtype)
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1), 2 * half / (n - 1)


def closed(inner: torch.Tensor, border: float = 1.0) -> torch.Tensor:
    return torch.nn.functional.pad(inner, (1,) * 6, value=border)


def assert_closed(mesh, empty_is_fine: bool = True):
    """Every edge once each way, no face twice, none that names a vertex twice, no vertex without a face."""
    faces = mesh.faces
    if not len(faces):
        assert empty_is_fine and not len(mesh.vertices)
        return
    _, forward, backward = edge_counts(faces)
    assert bool((forward == 1).all()) and bool((backward == 1).all())
    assert len(torch.unique(faces.sort(dim=1).values, dim=0)) == len(faces)
    assert bool((faces != faces.roll(1, 1)).all())
    assert torch.equal(torch.unique(faces), torch.arange(len(mesh.vertices)))


def dense_cells(shape):
    index = torch.arange(int(np.prod(shape))).reshape(shape)
    X, Y, Z = (n - 1 for n in shape)
    return torch.stack([index[x : x + X, y : y + Y, z : z + Z].flatten() for x, y, z in CORNERS], dim=1)


# --- the table


def test_table_counts():
    table = case_table()
    assert len(table) == 256 and sum(map(len, table)) == 820 and max(map(len, table)) == 5
    assert not table[0] and not table[255] and all(table[1:255])


@pytest.mark.parametrize("case", range(256))
def test_every_case(case):
    inside = [case >> c & 1 for c in range(8)]
    crossed = {e for e, (a, b) in enumerate(EDGES) if inside[a] != inside[b]}
    triangles = case_table()[case]
    assert {e for t in triangles for e in t} == crossed
    sides = [s for ring in FACES for s in cut_segments(ring, case)]
    directed = [(a, b) for t in triangles for a, b in zip(t, t[1:] + t[:1])]
    assert len(set(directed)) == len(directed)
    open_sides = {d for d in directed if d[::-1] not in directed}
    assert open_sides == set(sides) and len(sides) == len(crossed)  # the border is the marching-squares segments, and only they
    face_of = [{f for f, ring in enumerate(FACES) if set(pair) <= set(ring)} for pair in EDGES]
    assert not any(face_of[a] & face_of[b] for a, b in set(directed) - open_sides)  # no diagonal in a face
    assert sum(map(len, case_loops(case))) == len(crossed)


@pytest.mark.parametrize("case", range(256))
def test_neighbours_agree_on_every_face(case):
    """The segments on a face are those that the mirrored neighbour draws, the other way round."""
    for axis in range(3):
        low, high = FACES[2 * axis], FACES[2 * axis + 1]
        beyond = sum(1 << c for c in range(8) if not c >> axis & 1 and case >> (c | 1 << axis) & 1)
        ours = {(EDGES[a], EDGES[b]) for a, b in cut_segments(high, case)}
        theirs = {(EDGES[b], EDGES[a]) for a, b in cut_segments(low, beyond)}
        shift = lambda pair: tuple(c | 1 << axis for c in pair)  # noqa: B023, E731
        assert ours == {(shift(a), shift(b)) for a, b in theirs}


@pytest.mark.parametrize("case", range(256))
def test_case_in_a_box_is_closed_and_separates(case):
    signs = torch.tensor([-1.0 if case >> c & 1 else 1.0 for c in range(8)])
    field = closed(signs.reshape(2, 2, 2).permute(2, 1, 0))  # corner i is at (bit 0, bit 1, bit 2)
    mesh = marching_cubes(field)
    assert_closed(mesh)
    if case:
        assert float(meshes.volume(mesh)) > 0


# --- watertight on anything


def test_thousand_smooth_fields_are_watertight():
    generator = drawn(1)
    for i in range(1000):
        coarse = torch.randn(1, 1, 4, 4, 4, generator=generator)
        smooth = torch.nn.functional.interpolate(coarse, size=(7, 8, 9), mode="trilinear", align_corners=True)[0, 0]
        if i % 4 == 1:
            smooth = (3 * smooth).round()  # whole numbers, many of them exactly at the level
        if i % 4 == 2:
            smooth = torch.where(smooth.abs() < 0.3, torch.zeros(()), smooth)
        assert_closed(marching_cubes(closed(smooth)))


def test_two_hundred_noise_fields_are_watertight():
    generator = drawn(2)
    for i in range(200):
        size = (9, 8, 10)
        if i % 2:
            noise = torch.randint(-3, 4, size, generator=generator)
            assert_closed(marching_cubes(closed(noise)), empty_is_fine=False)
        else:
            noise = torch.randn(size, generator=generator)
            level = float(noise.flatten().sort().values[100 + i]) if i % 4 else 0.0  # a value of the field
            assert_closed(marching_cubes(closed(noise, border=10.0), level), empty_is_fine=False)


@settings(deadline=None, max_examples=60)
@given(st.tuples(*[st.integers(1, 5)] * 3), st.integers(0, 2**31), st.sampled_from((-1.0, 0.0, 1.0, 0.25)))
def test_few_values_any_shape(shape, seed, level):
    field = closed(torch.randint(-1, 2, shape, generator=drawn(seed)).double(), border=2.0)
    mesh = marching_cubes(field, level)
    assert_closed(mesh)
    assert bool((mesh.vertices >= 0).all()) and bool((mesh.vertices <= torch.tensor(field.shape) - 1.0).all())


def test_slabs_do_not_show(monkeypatch):
    """One plane at a time or all at once: the same mesh."""
    from densebook.geometry import marching_cubes as module

    field = closed(torch.randn(9, 5, 6, generator=drawn(3)))
    whole = marching_cubes(field)
    for planes in (1, 2, 3, 11):
        monkeypatch.setattr(module, "_slab_planes", lambda shape, device, planes=planes: planes)
        cut = marching_cubes(field)
        assert torch.equal(whole.faces, cut.faces) and torch.equal(whole.vertices, cut.vertices)


def test_open_border_ends_there():
    """A surface that leaves the grid is cut at the border, and nowhere else."""
    field = torch.randn(7, 6, 5, generator=drawn(4))
    mesh = marching_cubes(field)
    edges, forward, backward = edge_counts(mesh.faces)
    assert int(forward.max()) == 1 and int(backward.max()) == 1
    ends = mesh.vertices[edges[forward + backward == 1]]
    last = torch.tensor(field.shape) - 1.0
    assert bool((((ends == 0) | (ends == last)).all(dim=1)).any(dim=1).all())  # both ends on one border face


# --- the same as others


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(2, 2, 2), (5, 6, 7), (2, 9, 3), (8, 3, 2)])
def test_equals_twin(dtype, shape):
    for seed in range(6):
        field = torch.randn(shape, generator=drawn(seed), dtype=dtype) if seed % 2 else torch.randint(-2, 3, shape, generator=drawn(seed)).to(dtype)
        fast, slow = marching_cubes(field, 0.2), marching_cubes_slow(field, 0.2)
        assert fast.vertices.dtype == dtype and torch.equal(fast.faces, slow.faces)
        assert torch.allclose(fast.vertices, slow.vertices, atol=1e-5 if dtype == torch.float32 else 1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_equals_scikit_image_on_smooth_fields(dtype):
    measure = pytest.importorskip("skimage.measure")
    from scipy.spatial import KDTree

    points, _ = grid(40, dtype=dtype)
    for level in (0.0, 0.13):
        field = points.norm(dim=-1) - 0.7 + 0.1 * (6 * points).sin().prod(dim=-1)
        ours = marching_cubes(field, level, spacing=(0.5, 1.0, 2.0))
        theirs, faces, *_ = measure.marching_cubes(field.numpy(), level, spacing=(0.5, 1.0, 2.0))
        assert len(theirs) == len(ours.vertices) and len(faces) == len(ours.faces)
        assert KDTree(theirs).query(ours.vertices.numpy())[0].max() < 1e-5
        assert KDTree(ours.vertices.numpy()).query(theirs)[0].max() < 1e-5


@pytest.mark.parametrize("dtype", DTYPES)
def test_sparse_equals_dense(dtype):
    for field in (torch.randn(6, 7, 5, generator=drawn(5), dtype=dtype), torch.randint(-2, 3, (5, 6, 8), generator=drawn(6)).to(dtype)):
        cells = dense_cells(field.shape)
        positions = torch.cartesian_prod(*(torch.arange(n, dtype=dtype) for n in field.shape))
        dense = marching_cubes(field, 0.1)
        sparse = sparse_marching_cubes(field.flatten(), positions, cells, 0.1)
        assert torch.equal(sparse.faces, dense.faces) and torch.allclose(sparse.vertices, dense.vertices, atol=1e-5)
        some = torch.randperm(len(cells), generator=drawn(7))  # cells in any order: the same surface
        shuffled = sparse_marching_cubes(field.flatten(), positions, cells[some], 0.1)
        assert torch.equal(shuffled.vertices, sparse.vertices)
        assert {tuple(f) for f in shuffled.faces.tolist()} == {tuple(f) for f in sparse.faces.tolist()}


# --- where and which way


@pytest.mark.parametrize("dtype", DTYPES)
def test_sphere_volume_area_normals(dtype):
    points, spacing = grid(41, dtype=dtype)
    mesh = marching_cubes(points.norm(dim=-1) - 1, spacing=spacing, origin=-1.2, normals=True)
    assert float(meshes.volume(mesh)) == pytest.approx(4 / 3 * np.pi, rel=4e-3)
    assert float(meshes.area(mesh)) == pytest.approx(4 * np.pi, rel=4e-3)
    outward = mesh.vertices / mesh.vertices.norm(dim=1, keepdim=True)
    assert float((mesh.normals - outward).norm(dim=1).max()) < 5e-3
    assert torch.allclose(mesh.normals.norm(dim=1), torch.ones((), dtype=dtype), atol=1e-5)
    assert float((meshes.face_normals(mesh) * outward[mesh.faces[:, 0]]).sum(1).min()) > 0.8


def test_plane_with_anisotropic_spacing():
    """A linear field is met exactly, and its normal is its gradient, also at the border of the grid."""
    spacing, origin = torch.tensor([0.5, 2.0, 0.25], dtype=torch.float64), torch.tensor([1.0, -3.0, 7.0], dtype=torch.float64)
    index = torch.cartesian_prod(*(torch.arange(n, dtype=torch.float64) for n in (9, 6, 8)))
    direction = torch.tensor([0.6, 0.2, -0.7], dtype=torch.float64)
    field = ((index * spacing + origin - torch.tensor([3.0, 2.0, 8.0])) @ direction).reshape(9, 6, 8)
    for given_spacing in (spacing, spacing.tolist(), spacing.numpy()):
        mesh = marching_cubes(field, 0.0537, given_spacing, origin.tolist(), normals=True)
        assert len(mesh.faces)
        assert float((((mesh.vertices - torch.tensor([3.0, 2.0, 8.0])) @ direction) - 0.0537).abs().max()) < 1e-12
        assert torch.allclose(mesh.normals, (direction / direction.norm()).expand_as(mesh.normals), atol=1e-9)
        assert float((meshes.face_normals(mesh) @ direction).min()) > 0


def test_colors_are_carried_along():
    points, spacing = grid(15)
    mesh = marching_cubes(points.norm(dim=-1) - 0.8, spacing=spacing, origin=-1.2, colors=points)
    assert torch.allclose(mesh.colors, mesh.vertices, atol=1e-9)  # a linear colour is met exactly


def test_level_shifts_like_the_field():
    field = torch.randn(6, 6, 6, generator=drawn(8), dtype=torch.float64)
    a, b = marching_cubes(field, 0.5), marching_cubes(field - 0.5, 0.0)
    assert torch.equal(a.faces, b.faces) and torch.allclose(a.vertices, b.vertices, atol=1e-9)


def test_not_contiguous_and_other_types():
    field = torch.randn(5, 6, 7, generator=drawn(9))
    assert torch.equal(marching_cubes(field.permute(2, 0, 1)).vertices, marching_cubes(field.permute(2, 0, 1).contiguous()).vertices)
    whole = torch.randint(-3, 4, (5, 5, 5), generator=drawn(9))
    expected = marching_cubes(whole.float(), 1)
    for given_field in (whole, whole.to(torch.int8), whole.numpy(), whole.half(), whole.bfloat16()):
        mesh = marching_cubes(given_field, 1)
        assert mesh.vertices.dtype == torch.float32 and torch.equal(mesh.vertices, expected.vertices)
    assert len(marching_cubes(whole > 0, 0.5).faces)


def test_no_crossing_is_an_empty_mesh():
    for level in (-10.0, 10.0):
        mesh = marching_cubes(torch.rand(4, 4, 4, generator=drawn(0)), level, colors=torch.zeros(4, 4, 4, 3), normals=True)
        assert mesh.vertices.shape == (0, 3) == mesh.faces.shape and mesh.faces.dtype == torch.int64
    nothing = sparse_marching_cubes(torch.zeros(0), torch.zeros(0, 3), torch.zeros(0, 8, dtype=torch.int64))
    assert not len(nothing.faces)
    assert not len(marching_cubes_slow(torch.ones(3, 3, 3)).faces)
    assert marching_squares(torch.ones(3, 3)).shape == (0, 2, 2)


def test_exact_level_is_outside():
    field = torch.ones(3, 3, 3)
    field[1, 1, 1] = 0.0
    assert not len(marching_cubes(field).faces)
    mesh = marching_cubes(field, 1.0)  # all the neighbours are exactly at the level
    assert_closed(mesh, empty_is_fine=False)
    assert float(meshes.volume(mesh)) == pytest.approx(8 / 6)


# --- gradient


def test_gradient_check():
    field = torch.randn(3, 4, 3, generator=drawn(10), dtype=torch.float64, requires_grad=True)
    colors = torch.rand(3, 4, 3, 3, generator=drawn(11), dtype=torch.float64, requires_grad=True)

    def run(field, colors):
        mesh = marching_cubes(field, 0.1, (1.0, 2.0, 0.5), colors=colors, normals=True)
        return mesh.vertices, mesh.colors, mesh.normals

    assert torch.autograd.gradcheck(run, (field, colors), eps=1e-7, atol=1e-4)


def test_gradient_check_sparse_and_squares():
    values = torch.randn(36, generator=drawn(12), dtype=torch.float64, requires_grad=True)
    positions = torch.cartesian_prod(*(torch.arange(n, dtype=torch.float64) for n in (3, 4, 3))).requires_grad_()
    cells = dense_cells((3, 4, 3))
    assert torch.autograd.gradcheck(lambda v, p: sparse_marching_cubes(v, p, cells).vertices, (values, positions), eps=1e-7, atol=1e-4)
    assert torch.autograd.gradcheck(lambda v: marching_squares(v.reshape(6, 6)), (values,), eps=1e-7, atol=1e-4)


def test_gradient_of_radius():
    """The volume of a ball grows with its radius by its area."""
    points, spacing = grid(31)
    radius = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    mesh = marching_cubes(points.norm(dim=-1) - radius, spacing=spacing)
    (slope,) = torch.autograd.grad(meshes.volume(mesh), radius)
    assert float(slope) == pytest.approx(float(meshes.area(mesh).detach()), rel=5e-3)


# --- squares


@pytest.mark.parametrize("dtype", DTYPES)
def test_squares_close_and_keep_the_inside_left(dtype):
    for seed in range(50):
        field = torch.randint(-2, 3, (7, 6), generator=drawn(seed)).to(dtype) if seed % 2 else torch.randn(7, 6, generator=drawn(seed), dtype=dtype)
        segments = marching_squares(torch.nn.functional.pad(field, (1,) * 4, value=3.0), 0.25)
        starts, ends = (sorted(map(tuple, segments[:, i].tolist())) for i in range(2))
        assert starts == ends  # every point is left as often as it is reached
        (x0, y0), (x1, y1) = segments[:, 0].T, segments[:, 1].T
        assert float((x0 * y1 - x1 * y0).sum()) > 0  # counter-clockwise round the inside


def test_squares_circle():
    axis = torch.linspace(-1.2, 1.2, 61, dtype=torch.float64)
    segments = marching_squares(torch.hypot(axis[:, None], axis[None]) - 1.0)
    assert float((segments[:, 1] - segments[:, 0]).norm(dim=1).sum()) * 0.04 == pytest.approx(2 * np.pi, rel=1e-3)
    assert float((segments * 0.04 - 1.2).norm(dim=-1).sub(1).abs().max()) < 1e-3


# --- bad input


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 3e38])
def test_bad_value_is_named(value):
    field = torch.zeros(4, 5, 6)
    field[2, 3, 1] = field[3, 0, 0] = value
    with pytest.raises(InputError, match=r"field\[2, 3, 1\]"):
        marching_cubes(field)
    with pytest.raises(InputError, match=r"field\[3, 1\]"):
        marching_squares(field[2])
    with pytest.raises(InputError, match=r"values\[79\]"):
        sparse_marching_cubes(field.flatten(), torch.zeros(120, 3), torch.zeros(1, 8, dtype=torch.int64))


def test_large_finite_values_are_fine():
    field = torch.full((3, 3, 3), 1e30)
    field[1, 1, 1] = -1e30
    assert_closed(marching_cubes(field), empty_is_fine=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"field": torch.zeros(4, 4)}, r"field has shape \(4, 4\)"),
        ({"field": torch.zeros(4, 1, 4)}, r"field has shape \(4, 1, 4\)"),
        ({"field": torch.zeros(0, 4, 4)}, "field has shape"),
        ({"field": torch.zeros(3, 3, 3, dtype=torch.complex64)}, "field is torch.complex64"),
        ({"level": float("nan")}, "level is nan"),
        ({"spacing": 0.0}, "spacing is 0.0"),
        ({"spacing": (1.0, 2.0)}, "spacing is"),
        ({"spacing": (1.0, -1.0, 1.0)}, "spacing is"),
        ({"origin": float("inf")}, "origin is inf"),
        ({"colors": torch.zeros(3, 3, 3)}, "colors is"),
        ({"colors": torch.zeros(3, 3, 3, 3, device="meta")}, "colors is on meta"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(InputError, match=message):
        marching_cubes(**({"field": torch.zeros(3, 3, 3)} | arguments))


def test_bad_sparse_arguments():
    values, positions, cells = torch.zeros(8), torch.zeros(8, 3), torch.arange(8)[None]
    for bad in ((values[:, None], positions, cells), (values, positions[:3], cells), (values, positions, cells[:, :7]), (values, positions, cells + 1)):
        with pytest.raises(InputError):
            sparse_marching_cubes(*bad)
    with pytest.raises(InputError):
        sparse_marching_cubes(values, positions, cells.float())
    with pytest.raises(InputError, match="one device"):
        sparse_marching_cubes(values, positions.to("meta"), cells)
