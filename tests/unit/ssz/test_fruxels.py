"""Fruxels: exact maps, voxelisation against solids of known inside and slow twins, the ways back, and the measure."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from densebook.core.errors import InputError
from densebook.data import streets, toy
from densebook.geometry import mesh as meshes
from densebook.geometry import poses
from densebook.geometry.mesh import Mesh, is_watertight, join, transform, volume
from densebook.ssz import fruxels
from densebook.ssz.fruxels import (
    SEMANTIC_VOXELS,
    SHAPENET,
    Frustum,
    class_colors,
    draw_slices,
    from_grid,
    iou,
    load_fruxels,
    save_fruxels,
    shrink,
    to_grid,
    to_mesh,
    view,
    voxelize,
)
from densebook.testing import assert_close, assert_grad

FRUSTUM = Frustum(2.0, 12.0, 40, math.radians(50), (36, 44))
MIDDLE = torch.tensor([0.2, -0.1, 6.3])
frusta = st.builds(
    lambda near, length, depth, fov, height, width: Frustum(near, near + length, depth, fov, (height, width)),
    st.floats(0.1, 5), st.floats(0.1, 20), st.integers(1, 9), st.floats(0.1, 2.5), st.integers(1, 9), st.integers(1, 9),
)  # fmt: skip


def moved(mesh: Mesh, by=MIDDLE) -> Mesh:
    return replace(mesh, vertices=mesh.vertices + torch.as_tensor(by).to(mesh.vertices))


def turned(mesh: Mesh, seed: int, by=MIDDLE) -> tuple[Mesh, torch.Tensor]:
    """A mesh in a random pose, and that pose."""
    xi = torch.randn(6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    T = poses.exp(torch.cat([0.1 * xi[:3], xi[3:]]))
    T[:3, 3] += torch.as_tensor(by).double()
    return transform(mesh.to(torch.float64), T), T


def overlap(a, b) -> float:
    return float((a & b).sum() / (a | b).sum())


def naive(mesh: Mesh, frustum: Frustum) -> torch.Tensor:
    """Every ray against every triangle, in general position."""
    a, b, c = mesh.triangles.double().unbind(1)
    rays = frustum.points(torch.float64)[0].reshape(-1, 3)
    ea, eb, ec = (rays @ torch.linalg.cross(p, q).T for p, q in ((b, c), (c, a), (a, b)))
    sign = ((ea > 0) & (eb > 0) & (ec > 0)).int() - ((ea < 0) & (eb < 0) & (ec < 0)).int()
    depth = (ea * a[:, 2] + eb * b[:, 2] + ec * c[:, 2]) / (ea + eb + ec)
    z = frustum.points(torch.float64)[:, 0, 0, 2]
    return torch.stack([(sign * (depth > zk)).sum(1) != 0 for zk in z]).view(frustum.shape)


# --- maps ---


@given(frusta)
@settings(deadline=None, max_examples=20)
def test_there_and_back(frustum):
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.float64, 1e-11)):
        points = frustum.points(dtype)
        index, inside = frustum.index(points)
        own = torch.stack(torch.meshgrid(*map(torch.arange, frustum.shape), indexing="ij"), -1)
        assert points.dtype == dtype and inside.all() and torch.equal(index, own)
        assert_close(frustum.coordinates(points), own.to(dtype) + 0.5, rtol=0, atol=tolerance)
        assert_close(frustum.at(frustum.coordinates(points)), points, rtol=1e-5 if dtype == torch.float32 else 1e-11, atol=1e-5)


@given(frusta)
@settings(deadline=None, max_examples=20)
def test_volumes_add_up(frustum):
    whole = (frustum.far**3 - frustum.near**3) * math.prod(frustum.size) / (3 * frustum.focal**2)
    assert float(frustum.volumes(torch.float64).sum()) * math.prod(frustum.size) == pytest.approx(whole, rel=1e-12)


def test_volume_of_one_cell_is_that_of_its_corners():
    corners = FRUSTUM.corners(torch.float64)
    for k in (0, 20, 39):
        (x, y) = (corners[k : k + 2, 0, 0, n] - corners[k : k + 2, 1, 1, n] for n in (0, 1))
        base, top = x * y
        prism = FRUSTUM.step / 3 * (base + top + (base * top).sqrt())  # a frustum of a pyramid
        assert float(FRUSTUM.volumes(torch.float64)[k]) == pytest.approx(float(prism), rel=1e-12)


def test_columns_are_pixels_of_the_camera():
    points = FRUSTUM.points(torch.float64)
    pose = poses.exp(torch.tensor([0.3, -0.2, 0.5, 0.1, 0.4, -0.3], dtype=torch.float64))
    camera = FRUSTUM.camera(pose)
    world = (points - pose[:3, 3]) @ pose[:3, :3]
    uv, depth = camera.project(world)
    assert_close(uv, FRUSTUM.coordinates(points)[..., [2, 1]], atol=1e-9)
    assert_close(depth, points[..., 2], atol=1e-9)
    assert camera.size == FRUSTUM.size


def test_the_index_of_what_is_outside():
    n, f = FRUSTUM.near, FRUSTUM.far
    wide = 0.5 * FRUSTUM.size[1] * 5 / FRUSTUM.focal
    points = torch.tensor([[0, 0, -3], [0, 0, 0], [0, 0, n - 1e-3], [0, 0, f + 1e-3], [wide + 1e-3, 0, 5], [-wide - 1e-3, 0, 5], [0, 9, 5]])
    index, inside = FRUSTUM.index(points.float())
    assert not inside.any() and (index == -1).all()
    index, inside = FRUSTUM.index(torch.tensor([[wide - 1e-3, 0, 5.0], [0, 0, n], [0, 0, f - 1e-3]]))
    assert inside.all() and index[:, 2].tolist() == [43, 22, 22] and index[1:, 0].tolist() == [0, 39]


def test_coordinates_carry_gradients():
    points = torch.tensor([[0.3, -0.2, 4.0], [1.0, 0.5, 9.0]], dtype=torch.float64)
    assert_grad(FRUSTUM.coordinates, points)
    assert_grad(FRUSTUM.at, FRUSTUM.coordinates(points))


def test_presets_are_the_papers():
    assert SHAPENET.focal == pytest.approx(110.85, abs=0.01) and SHAPENET.step == pytest.approx(0.0547, abs=1e-4)
    assert SEMANTIC_VOXELS.focal == pytest.approx(175.84, abs=0.01) and SEMANTIC_VOXELS.step == pytest.approx(0.0781, abs=1e-4)
    assert hash(SHAPENET) != hash(SEMANTIC_VOXELS)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"near": 12.0}, "0 < near < far"), ({"near": 0.0}, "near"), ({"far": math.inf}, "far"), ({"fov": 40.0}, "radians"), ({"fov": 0.0}, "fov"),
        ({"depth": 0}, "at least 1"), ({"depth": 2.5}, "whole"), ({"size": (3,)}, "height, width"), ({"size": None}, "size"), ({"near": math.nan}, "near"),
    ],
)  # fmt: skip
def test_no_frustum(change, what):
    with pytest.raises(InputError, match=what):
        replace(FRUSTUM, **change)


# --- voxelising ---


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_box_is_exact(seed, dtype):
    half = torch.tensor([0.9, 0.5, 1.3], dtype=torch.float64)
    box = toy.cube_mesh(2.0)
    mesh, T = turned(replace(box, vertices=box.vertices * half.float()), seed)
    local = (FRUSTUM.points(torch.float64) - T[:3, 3]) @ T[:3, :3]
    truth = (local.abs() < half).all(-1)
    labels = voxelize([(mesh.to(dtype), 4)], FRUSTUM)
    assert labels.dtype == torch.int64 and set(labels.unique().tolist()) == {0, 4}
    assert int(((labels == 4) != truth).sum()) <= (0 if dtype == torch.float64 else 2)


@pytest.mark.parametrize("count", [12, 17, 32, 33])
def test_rays_through_edges_and_corners(count):
    """The diagonals of a cube straight ahead lie on rays; so do, for odd counts, the edges of an octahedron."""
    frustum = Frustum(2.0, 12.1, count, math.radians(40), (count, count))  # no centre lies on a face
    points = frustum.points(torch.float64) - torch.tensor([0.0, 0.0, 6.0])
    cube = moved(toy.cube_mesh(2.0), (0.0, 0.0, 6.0))
    assert torch.equal(voxelize([(cube, 1)], frustum) > 0, (points.abs() < 1).all(-1))
    corners = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]])
    faces = torch.tensor([[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]])
    found = voxelize([(moved(Mesh(corners, faces), (0.0, 0.0, 6.0)), 1)], frustum) > 0
    assert torch.equal(found, points.abs().sum(-1) < 1)


@pytest.mark.parametrize("seed", range(3))
def test_the_slow_twin(seed):
    frustum = Frustum(2.0, 12.0, 14, math.radians(45), (11, 13))
    blob = toy.blob_mesh(2, torch.Generator().manual_seed(seed))
    mesh, _ = turned(replace(blob, vertices=2 * blob.vertices), seed)
    assert torch.equal(voxelize([(mesh, 1)], frustum, rule="winding") > 0, naive(mesh, frustum))


def test_blocks_change_nothing(monkeypatch):
    mesh = moved(toy.torus_mesh(1.2, 0.5, 12, 8))
    whole = {rule: voxelize([(mesh, 1)], FRUSTUM, rule=rule) for rule in ("winding", "parity", "fill")}
    monkeypatch.setattr(fruxels, "BLOCK", 300)
    for rule, labels in whole.items():
        assert torch.equal(voxelize([(mesh, 1)], FRUSTUM, rule=rule), labels)


def test_the_camera_may_be_inside_and_faces_may_pass_it():
    room = toy.cube_mesh(60.0)  # the camera is in the middle of it
    assert (voxelize([(room, 3)], FRUSTUM) == 3).all()
    floor = moved(toy.cube_mesh(20.0), (0.0, 11.0, 0.0))  # from y = 1 down, before and behind
    assert torch.equal(voxelize([(floor, 3)], FRUSTUM) == 3, (FRUSTUM.points(torch.float64) - torch.tensor([0, 11.0, 0])).abs().amax(-1) < 10)


def test_inside_out_and_unjoined_meshes():
    ball = moved(toy.icosphere(3))
    expected = voxelize([(ball, 1)], FRUSTUM)
    inside_out = replace(ball, faces=ball.faces.flip(1))
    soup = Mesh(ball.triangles.reshape(-1, 3), torch.arange(3 * len(ball.faces)).view(-1, 3))
    for mesh in (inside_out, soup):
        assert torch.equal(voxelize([(mesh, 1)], FRUSTUM), expected)


def test_parity_leaves_holes_where_solids_overlap():
    pair = join([moved(toy.icosphere(3), MIDDLE + torch.tensor([x, 0, 0])) for x in (-0.5, 0.5)])
    points = FRUSTUM.points() - MIDDLE
    truth = ((points - torch.tensor([0.5, 0, 0])).norm(dim=-1) < 1) | ((points + torch.tensor([0.5, 0, 0])).norm(dim=-1) < 1)
    assert overlap(voxelize([(pair, 1)], FRUSTUM) > 0, truth) > 0.96
    assert overlap(voxelize([(pair, 1)], FRUSTUM, rule="parity") > 0, truth) < 0.85


@pytest.mark.parametrize("seed", range(3))
def test_slabs_hold_what_any_sample_of_their_ray_does(seed):
    mesh, _ = turned(toy.torus_mesh(1.2, 0.4, 24, 12), seed)
    fine = replace(FRUSTUM, depth=FRUSTUM.depth * 25)
    samples = (voxelize([(mesh, 1)], fine) > 0).view(FRUSTUM.depth, 25, *FRUSTUM.size).any(1)
    slabs = voxelize([(mesh, 1)], FRUSTUM, sampling="slab") > 0
    centres = voxelize([(mesh, 1)], FRUSTUM) > 0
    assert not (samples & ~slabs).any() and not (centres & ~slabs).any()
    assert overlap(slabs, samples) > 0.97 and slabs.sum() > 1.1 * centres.sum()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_lines_of_each_axis_find_both_sides(axis):
    """Of a convex solid, the cells between its hits along any axis are the cells inside."""
    mesh, _ = turned(toy.icosphere(3, 1.5), 4)
    corners = mesh.triangles.double()
    low, high = fruxels._extents(corners, FRUSTUM)
    box = fruxels._box(low, high, FRUSTUM.shape)
    hits = list(fruxels._hits(corners, low, high, fruxels._Lines(axis, FRUSTUM)))
    assert torch.equal(fruxels._between(hits, box, axis, "cpu")[0], (voxelize([(mesh, 1)], FRUSTUM) > 0)[box])


def test_fill_closes_torn_surfaces():
    frustum = Frustum(2.0, 12.0, 64, math.radians(40), (64, 64))
    ball = moved(toy.icosphere(4, 1.5), (0.0, 0.0, 6.0))
    torn = Mesh(ball.vertices, ball.faces[torch.rand(len(ball.faces), generator=torch.Generator().manual_seed(0)) > 0.05])
    half = Mesh(ball.vertices, ball.faces[ball.triangles[..., 1].mean(1) < 1.0])  # a bowl, open below
    truth = voxelize([(ball, 1)], frustum) > 0
    assert not is_watertight(torn)
    assert torch.equal(voxelize([(ball, 1)], frustum, rule="fill") > 0, truth)
    assert overlap(voxelize([(torn, 1)], frustum) > 0, truth) > 0.96 > 0.95 > overlap(voxelize([(torn, 1)], frustum, rule="winding") > 0, truth)
    assert overlap(voxelize([(half, 1)], frustum) > 0, truth) > 0.85


def test_a_sheet_keeps_the_cells_it_passes():
    sheet = Mesh(torch.tensor([[-1.0, -1, 6.03], [1, -1, 6.03], [1, 1, 6.03], [-1, 1, 6.03]]), torch.tensor([[0, 1, 2], [0, 2, 3]]))
    labels = voxelize([(sheet, 7)], FRUSTUM)
    k = int((6.03 - FRUSTUM.near) / FRUSTUM.step)
    x, y = FRUSTUM.points()[k, ..., 0] * 6.03 / FRUSTUM.points()[k, 0, 0, 2], FRUSTUM.points()[k, ..., 1] * 6.03 / FRUSTUM.points()[k, 0, 0, 2]
    assert torch.equal(labels[k] == 7, (x.abs() < 1) & (y.abs() < 1)) and not labels[k + 1 :].any() and not labels[:k].any()


def test_nearest_first_ground_last():
    near, far = moved(toy.cube_mesh(2.0), (0.0, 0.0, 5.0)), moved(toy.cube_mesh(2.0), (0.3, 0.0, 6.0))
    ground = moved(toy.cube_mesh(20.0), (0.0, 10.3, 5.0))
    points = FRUSTUM.points(torch.float64)
    parts = [((points - torch.tensor(p)).abs() < h).all(-1) for p, h in (((0.0, 0.0, 5.0), 1), ((0.3, 0.0, 6.0), 1), ((0.0, 10.3, 5.0), 10))]
    for order in ((near, far, ground), (ground, far, near)):
        labels = voxelize([(m, {id(near): 1, id(far): 2, id(ground): 9}[id(m)]) for m in order], FRUSTUM)
        begins = [torch.where(p.any(0), p.int().argmax(0), 99) for p in parts]
        expected = torch.where(parts[2], 9, 0)
        expected = torch.where(parts[1] & (begins[1] < begins[0]), 2, torch.where(parts[0], 1, torch.where(parts[1], 2, expected)))
        assert torch.equal(labels, expected)


def test_behind_the_camera_is_not_drawn():
    behind, ahead = moved(toy.cube_mesh(1.0), (0.0, 0.0, -5.0)), moved(toy.cube_mesh(1.0))
    assert torch.equal(voxelize([(behind, 1), (ahead, 2)], FRUSTUM), voxelize([(ahead, 2)], FRUSTUM))


def test_a_street():
    frustum = Frustum(2.0, 12.0, 32, math.radians(40), (32, 32))
    street = streets.toy_street(torch.Generator().manual_seed(1), size=(64, 64))
    labels = voxelize(street, frustum)
    view_T = street.camera.cam_from_world
    meshes_ = [(transform(m, view_T @ T), n) for m, T, n in zip(street.meshes, street.poses, street.labels)]
    assert (voxelize(meshes_, frustum) != labels).float().mean() < 1e-3  # the poses are multiplied in another order
    assert set(labels.unique().tolist()) <= {0, *street.labels} and 9 in labels
    heights = frustum.points() @ view_T[:3, :3]
    up = heights[..., 1] + street.camera.center[1]
    assert not ((labels == 9) & (up > 1e-3)).any() and not ((labels == 0) & (up < -1e-3)).any()


@pytest.mark.parametrize(
    ("scene", "change", "what"),
    [
        ([(toy.cube_mesh(), 0)], {}, "0 is air"), ([(toy.cube_mesh(), 256)], {}, "255"), ([(toy.cube_mesh(), 1.0)], {}, "whole numbers"),
        ([(toy.cube_mesh(), True)], {}, "label True"), ([], {}, "nothing in the frustum"), ([(toy.cube_mesh(), 1)], {}, "poses and units"),
        (toy.cube_mesh(), {}, "neither a Street"), ([toy.cube_mesh()], {}, "neither"), ([(toy.cube_mesh(), 1)], {"rule": "fil"}, "did you mean 'fill'"),
        ([(toy.cube_mesh(), 1)], {"sampling": "slabs"}, "did you mean 'slab'"),
    ],
)  # fmt: skip
def test_scenes_that_are_refused(scene, change, what):
    with pytest.raises(InputError, match=what):
        voxelize(scene, FRUSTUM, **change)


def test_a_street_with_another_camera_is_refused():
    with pytest.raises(InputError, match="one angle and shape"):
        voxelize(streets.toy_street(size=(32, 32)), SHAPENET)


# --- the ways back ---


def scattered(shape=(6, 5, 7), classes=4, seed=0) -> tuple[torch.Tensor, Frustum]:
    labels = torch.randint(0, classes, shape, generator=torch.Generator().manual_seed(seed))
    return labels, Frustum(2.0, 5.0, shape[0], 0.8, shape[1:])


@pytest.mark.parametrize("seed", range(3))
def test_each_class_is_bounded_by_a_closed_surface(seed):
    labels, frustum = scattered(seed=seed)
    mesh = to_mesh(labels, frustum)
    for n in (1, 2, 3):
        part = Mesh(mesh.vertices.double(), mesh.faces[mesh.objects == n])
        cells = ((labels == n) * frustum.volumes(torch.float64)[:, None, None]).sum()
        assert_close(volume(part), cells, rtol=1e-5)
        starts, ends = part.faces.reshape(-1), part.faces.roll(-1, 1).reshape(-1)
        there, back = torch.bincount(starts * 1000 + ends, minlength=10**6), torch.bincount(ends * 1000 + starts, minlength=10**6)
        assert torch.equal(there, back)
    assert 0 not in mesh.objects and set(mesh.objects.tolist()) == {1, 2, 3}


def test_only_faces_between_classes():
    labels = torch.ones(3, 4, 5, dtype=torch.int64)
    frustum = Frustum(1.0, 2.0, 3, 1.0, (4, 5))
    mesh = to_mesh(labels, frustum)
    assert len(mesh.faces) == 2 * 2 * (3 * 4 + 4 * 5 + 3 * 5) and is_watertight(mesh)
    labels[:, :, 2:] = 2
    assert len(to_mesh(labels, frustum).faces) == len(mesh.faces) + 2 * 2 * 12
    assert_close(mesh.face_colors[0], class_colors(torch.tensor(1)))
    empty = to_mesh(torch.zeros(3, 4, 5, dtype=torch.int64), frustum)
    assert len(empty.faces) == len(empty.vertices) == 0


def test_voxelising_the_mesh_of_fruxels_gives_them_back():
    labels, frustum = scattered()
    mesh = to_mesh(labels, frustum)
    found = voxelize([(Mesh(mesh.vertices, mesh.faces[mesh.objects == n]), n) for n in (1, 2, 3)], frustum, rule="winding")
    assert torch.equal(found, labels)


def test_a_fine_grid_keeps_every_cell():
    labels, frustum = scattered()
    grid, origin = to_grid(labels, frustum, 0.04)
    assert torch.equal(from_grid(grid, origin, 0.04, frustum), labels)
    shape = torch.tensor(grid.shape)
    corner = origin + 0.04 * (shape.flip(0) - 1)
    wide, high = 5.0 / frustum.focal * 7 / 2, 5.0 / frustum.focal * 5 / 2
    assert_close(corner + 0.02, torch.tensor([wide, high, 5.0]), atol=0.04)
    outside, _ = to_grid(labels, frustum, 0.04, outside=255)
    assert (outside == 255).any() and (grid[outside == 255] == 0).all() and torch.equal(grid[outside != 255], outside[outside != 255])
    share = float((outside != 255).sum()) * 0.04**3 / float(frustum.volumes(torch.float64).sum() * 35)
    assert share == pytest.approx(1, abs=0.02)


def test_grids_that_are_refused():
    labels, frustum = scattered()
    for spacing, what in ((0.0, "positive"), (math.nan, "positive"), (1e-4, "cubes")):
        with pytest.raises(InputError, match=what):
            to_grid(labels, frustum, spacing)


def test_files(tmp_path):
    labels, frustum = scattered()
    path = save_fruxels(labels, frustum, tmp_path / "a" / "x.npz")
    again, same = load_fruxels(path)
    assert torch.equal(again, labels) and same == frustum
    mesh = meshes.load(save_fruxels(labels, frustum, tmp_path / "x.ply"))
    assert len(mesh.faces) == len(to_mesh(labels, frustum).faces)
    with pytest.raises(InputError, match="suffix"):
        save_fruxels(labels, frustum, tmp_path / "x.docx")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "x.ply"]


def test_files_that_are_refused(tmp_path):
    path = tmp_path / "x.npz"

    class Evil:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    numbers = np.array([2.0, 5.0, 0.8])
    for content in (
        {"labels": np.array([Evil()], dtype=object), "near_far_fov": numbers},
        {"labels": np.zeros((2, 2, 2), np.uint8)},
        {"labels": np.zeros((2, 2), np.uint8), "near_far_fov": numbers},
        {"labels": np.zeros((2, 2, 2), np.float32), "near_far_fov": numbers},
        {"labels": np.zeros((2, 2, 2), np.uint8), "near_far_fov": numbers[:2]},
        {"labels": np.zeros((2, 2, 2), np.uint8), "near_far_fov": numbers[[1, 0, 2]]},
    ):
        np.savez(path, **content)
        with pytest.raises(InputError):
            load_fruxels(path)
    for raw in (b"", b"PK\x03\x04", b"no archive"):
        path.write_bytes(raw)
        with pytest.raises(InputError, match="x.npz"):
            load_fruxels(path)
    with pytest.raises(InputError, match="none.npz"):
        load_fruxels(tmp_path / "none.npz")


def test_shrink_keeps_the_most_frequent():
    labels = torch.zeros(4, 4, 4, dtype=torch.int64)
    labels[:2, :2, :2] = torch.tensor([3, 3, 3, 1, 1, 0, 0, 0]).view(2, 2, 2)
    labels[2:, 2:, 2:] = torch.tensor([5, 5, 5, 5, 5, 1, 1, 0]).view(2, 2, 2)
    coarse, frustum = shrink(labels, Frustum(1.0, 2.0, 4, 1.0, (4, 4)), 2)
    assert frustum == Frustum(1.0, 2.0, 2, 1.0, (2, 2)) and int(coarse[1, 1, 1]) == 5
    assert int(coarse[0, 0, 0]) == 0  # of equally frequent ones the first
    with pytest.raises(InputError, match="divide"):
        shrink(labels, Frustum(1.0, 2.0, 4, 1.0, (4, 4)), 3)


def test_views():
    import matplotlib

    matplotlib.use("agg")
    labels, frustum = scattered((8, 8, 8))
    figure = draw_slices(labels, frustum, count=5, columns=3)
    assert [a.get_title() for a in figure.axes][:2] == ["2.2 m", "2.9 m"] and len(figure.axes) == 6
    assert len(view(labels, frustum).data[0].i) == len(to_mesh(labels, frustum).faces)
    assert len(view(labels, frustum, most=4).data[0].i) < len(to_mesh(labels, frustum).faces)


@pytest.mark.parametrize("labels", [torch.zeros(2, 2, 2), torch.zeros(2, 2, dtype=torch.int64), torch.full((2, 2, 2), -1), torch.full((2, 2, 2), 256), [[[0]]]])
def test_labels_that_are_refused(labels):
    with pytest.raises(InputError, match="labels"):
        to_mesh(labels, Frustum(1.0, 2.0, 2, 1.0, (2, 2)))
    with pytest.raises(InputError, match="frustum"):
        to_mesh(torch.zeros(2, 2, 3, dtype=torch.int64), Frustum(1.0, 2.0, 2, 1.0, (2, 2)))


# --- the measure ---


@given(st.integers(0, 1000), st.booleans())
@settings(deadline=None, max_examples=20)
def test_iou_is_its_definition(seed, weighted):
    a, b = torch.randint(0, 4, (2, 3, 4, 5, 6), generator=torch.Generator().manual_seed(seed))
    weights = torch.rand(4, generator=torch.Generator().manual_seed(seed)) if weighted else None
    w = torch.ones((), dtype=torch.float64) if weights is None else weights.double()[:, None, None]
    found = iou(a, b, classes=6, weights=weights)
    for n in range(4):
        expected = float((((a == n) & (b == n)) * w).sum() / (((a == n) | (b == n)) * w).sum())
        assert float(found[n]) == pytest.approx(expected, rel=1e-9)
    assert found[4:].isnan().all() and found.dtype == torch.float64


def test_iou_of_one_with_itself_and_with_nothing():
    labels = torch.tensor([0, 1, 2, 2]).view(1, 2, 2)
    assert iou(labels, labels, 4)[:3].tolist() == [1, 1, 1]
    assert iou(torch.zeros_like(labels), labels, 4)[:3].tolist() == [0.25, 0, 0]
    assert iou(labels.to(torch.uint8), labels, 4, weights=torch.ones(1, 2, 2))[:3].tolist() == [1, 1, 1]


def test_iou_refuses():
    labels = torch.zeros(2, 3, 3, dtype=torch.int64)
    for arguments, what in (
        ((labels.float(), labels), "argmax"), ((labels + 10, labels), "prediction has labels from 10"), ((labels, labels - 1), "truth has labels"),
        ((labels[:1], labels), "make both alike"), ((labels, labels, 10, torch.ones(3)), "weights"), ((labels, labels, 10, -torch.ones(2)), "weights"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=what):
            iou(*arguments)


# --- CUDA ---


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_cuda_agrees():
    street = streets.toy_street(torch.Generator().manual_seed(1), size=(64, 64))
    torn = Mesh(toy.icosphere(3).vertices + MIDDLE, toy.icosphere(3).faces[::2])
    frustum = Frustum(2.0, 12.0, 48, math.radians(40), (48, 48))
    labels = voxelize(street, frustum)
    device = voxelize(replace(street, meshes=[m.to("cuda") for m in street.meshes]), frustum)
    assert device.is_cuda and torch.equal(device.cpu(), labels)
    assert torch.equal(voxelize([(torn.to("cuda"), 1)], frustum).cpu(), voxelize([(torn, 1)], frustum))
    assert len(to_mesh(device, frustum).faces) == len(to_mesh(labels, frustum).faces)
    grid, origin = to_grid(device, frustum, 0.2)
    assert torch.equal(from_grid(grid, origin, 0.2, frustum).cpu(), from_grid(grid.cpu(), origin.cpu(), 0.2, frustum))
    assert_close(iou(device, device), iou(labels, labels).cuda())
    assert torch.equal(shrink(device, frustum, 2)[0].cpu(), shrink(labels, frustum, 2)[0])
