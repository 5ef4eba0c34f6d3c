"""Rasterisation: the faces a ray meets first, no hole and no double, the same from every backend; odd input is refused."""

import math
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from densebook.core.errors import InputError, MissingPackageError
from densebook.data import toy
from densebook.geometry import mesh as meshes
from densebook.geometry.mesh import Mesh
from densebook.render import cameras, opengl, rasterizer
from densebook.render.cameras import Camera
from densebook.render.rasterizer import Fragments, interpolate, normals, objects, perspective_barycentrics, rasterize, visible_faces
from densebook.testing import assert_close, assert_grad

dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
needs_opengl = pytest.mark.skipif(not opengl.available(), reason="no OpenGL context")
seeds = st.integers(0, 2**31)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def soup(seed: int, count: int = 40) -> Mesh:
    """Triangles from 1 cm to metres around the origin; every seventh a sliver."""
    g = generator(seed)
    scale = 10 ** (-2 * torch.rand(count, 1, 1, generator=g))
    corners = torch.randn(count, 1, 3, generator=g) + scale * torch.randn(count, 3, 3, generator=g)
    corners[::7, 2] = torch.lerp(corners[::7, 0], corners[::7, 1], 0.4) + 1e-3 * corners[::7, 2]
    return Mesh(corners.reshape(-1, 3), torch.arange(3 * count).reshape(-1, 3))


def some_camera(seed: int, size=(48, 64)) -> Camera:
    """A camera among or before the triangles, its principal point and pixels not square, its near plane anywhere."""
    g = generator(seed + 1)
    a, e, d, near, cx, cy, aspect, skew = torch.rand(8, generator=g, dtype=torch.float64).tolist()
    camera = cameras.orbit(6.3 * a, 2 * e - 1, 0.2 + 3 * d, size=size, fov=1.2)
    change = torch.tensor([[0.7 + 0.6 * aspect, 4 * skew, 8 * cx - 4], [0.0, 1.0, 8 * cy - 4], [0.0, 0.0, 1.0]])
    K = camera.K + (change - torch.eye(3)) * torch.tensor([[camera.K[0, 0], 1, 1], [0, 0, 1], [0, 0, 0]])
    return replace(camera, K=K, near=0.01 + 0.6 * near)


def rays_against_faces(mesh: Mesh, camera: Camera, cull: bool = False) -> Fragments:
    """A slow twin that shares no formula: Moeller and Trumbore's test of every ray with every face, in the world."""
    (height, width), T = camera.size, camera.cam_from_world.double()
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    pixels = torch.stack([x, y, torch.ones_like(x)], dim=-1).double()
    rays = pixels @ torch.linalg.inv(camera.K.double()).T @ T[:3, :3]  # one metre along z each
    eye = -T[:3, :3].T @ T[:3, 3]
    face, weights = torch.full(camera.size, -1), torch.zeros(height, width, 3, dtype=torch.float64)
    depth = torch.full(camera.size, torch.inf, dtype=torch.float64)
    for index, (a, b, c) in enumerate(mesh.triangles.double()):
        p = torch.linalg.cross(rays, (c - a).expand_as(rays))
        determinant = p @ (b - a)
        s = (p @ (eye - a)) / determinant
        q = torch.linalg.cross(eye - a, b - a)
        t, z = (rays @ q) / determinant, ((c - a) @ q) / determinant
        hit = (s >= 0) & (t >= 0) & (s + t <= 1) & (z >= camera.near) & (z < depth)
        if cull:
            hit &= determinant > 0
        face[hit], depth[hit] = index, z[hit]
        weights[hit] = torch.stack([1 - s - t, s, t], dim=-1)[hit]
    return Fragments(face, weights, torch.where(face >= 0, depth, 0.0))


def calm(face: torch.Tensor) -> torch.Tensor:
    """Pixels whose eight neighbours see the same face."""
    pool = torch.nn.functional.max_pool2d
    picture = face[None].double()
    return (pool(picture, 3, 1, 1)[0] == face) & (-pool(-picture, 3, 1, 1)[0] == face)


def assert_same(ours: Fragments, theirs: Fragments, limit: float = 1e-3) -> None:
    """What the chapter asks of two ways: faces off the edges, barycentrics and depth where the faces agree, the mask."""
    off, same = calm(ours.face) & calm(theirs.face), ours.face == theirs.face
    assert (off & ~same).sum() <= limit * off.sum()
    assert (calm(ours.mask.long()) & calm(theirs.mask.long()) & (ours.mask != theirs.mask)).sum() == 0
    if (seen := same & ours.mask).any():
        span = float(ours.depth[ours.mask].amax() - ours.depth[ours.mask].amin()) + 1e-3
        assert_close(ours.barycentrics[seen & off].double(), theirs.barycentrics[seen & off].double(), rtol=0, atol=1e-4)
        assert_close(ours.depth[seen & off].double(), theirs.depth[seen & off].double(), rtol=0, atol=1e-4 * span)


# ---- the scan against the slow twin ----


@settings(max_examples=12, deadline=None)
@given(seeds)
def test_soups_see_what_rays_meet(seed):
    mesh, camera = soup(seed), some_camera(seed)
    ours, theirs = rasterize(mesh, camera, backend="torch"), rays_against_faces(mesh, camera)
    assert (ours.face != theirs.face).sum() <= 1  # at edges too; a centre within rounding of one may go either way
    assert_same(ours, theirs)


@settings(max_examples=5, deadline=None)
@given(seeds)
def test_culled_soups_see_fronts_only(seed):
    mesh, camera = soup(seed, 25), some_camera(seed, (32, 40))
    ours, theirs = rasterize(mesh, camera, backend="torch", cull=True), rays_against_faces(mesh, camera, cull=True)
    assert (ours.face != theirs.face).sum() <= 1


@dtypes
@pytest.mark.parametrize("distance", [3.0, 1.0, 0.2])  # before, at and inside the mesh
def test_meshes_see_what_rays_meet(dtype, distance):
    away = torch.eye(4)
    away[:3, 3] = torch.tensor([0.8, 0.3, 0.2])
    mesh = meshes.join([toy.blob_mesh(2), meshes.transform(toy.torus_mesh(segments=20, sides=8), away)]).to(dtype)
    camera = replace(cameras.orbit(0.4, 0.5, distance, size=(60, 70)), near=0.15).to(dtype)
    ours, theirs = rasterize(mesh, camera, backend="torch"), rays_against_faces(mesh, camera)
    assert ours.barycentrics.dtype == ours.depth.dtype == dtype and ours.face.dtype == torch.int64
    assert (ours.face != theirs.face).sum() <= 1
    assert_same(ours, theirs)


def test_sub_pixel_faces():
    mesh, camera = toy.icosphere(4), cameras.orbit(0.3, size=(24, 24))
    ours, theirs = rasterize(mesh, camera, backend="torch"), rays_against_faces(mesh, camera)
    assert len(mesh.faces) > 8 * 24 * 24 and torch.equal(ours.face, theirs.face)


def test_blocks_and_chunks_change_nothing(monkeypatch):
    mesh, camera = soup(3, 200), some_camera(3)
    whole = visible_faces(mesh, camera, backend="torch")
    for block in ((7, 5), (1000, 63), (1, 10**6)):
        monkeypatch.setitem(rasterizer.BLOCKS, "cpu", block)
        assert torch.equal(visible_faces(mesh, camera, backend="torch"), whole)
        assert_close(rasterize(mesh, camera, backend="torch").barycentrics.sum(dim=-1), (whole >= 0).float())


def test_runs_and_spread():
    counts = torch.tensor([2, 0, 3, 7, 0, 1])
    item, position = rasterizer._spread(counts)
    assert item.tolist() == [0, 0, 2, 2, 2, *[3] * 7, 5] and position.tolist() == [0, 1, 0, 1, 2, *range(7), 0]
    for limit in (1, 2, 4, 100):
        runs = rasterizer._runs(counts, limit)
        assert [i for run in runs for i in range(run.start, run.stop)] == list(range(6))
        assert all(int(counts[run].sum()) <= limit + 7 for run in runs)
    assert rasterizer._runs(counts[:0], 4) == [] and len(rasterizer._spread(counts[:0])[0]) == 0


# ---- coverage ----


def sheet(seed: int, n: int = 7, cell: float = 5.0, snap: float = 0.5):
    """Homogeneous pixels of n x n corners around an image, moved by multiples of `snap` pixels, and the faces of a sheet."""
    line = torch.arange(n).double() * cell - cell / 2
    grid = torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1)
    move = (torch.rand(n - 2, n - 2, 2, generator=generator(seed), dtype=torch.float64) - 0.5) * 0.45 * cell  # too little to fold the sheet
    grid[1:-1, 1:-1] += (move / snap).round() * snap if snap else move
    a = (torch.arange(n - 1)[:, None] * n + torch.arange(n - 1)).reshape(-1)
    faces = torch.cat([torch.stack([a, a + n, a + 1], 1), torch.stack([a + 1, a + n, a + n + 1], 1)])
    return torch.cat([grid.reshape(-1, 2), torch.ones(n * n, 1)], dim=1), faces


@settings(max_examples=15, deadline=None)
@given(seeds, st.sampled_from([0.0, 0.5, 1.0, 0.25]))
def test_every_pixel_of_a_sheet_has_one_owner(seed, snap):
    points, faces = sheet(seed, snap=snap)
    w = 2.0 ** torch.randint(5, (len(points), 1), generator=generator(seed))  # exact, so that corners stay on pixel centres
    size = (25, 25)
    owners = sum((rasterizer._scan(points * w, face[None], size, 0.01, False) >= 0).long() for face in faces)
    assert (owners == 1).all()


def test_the_top_and_left_edge_belong_to_a_face():
    points = torch.tensor([[0.5, 0.5, 1], [3.5, 0.5, 1], [3.5, 3.5, 1], [0.5, 3.5, 1]], dtype=torch.float64)
    seen = rasterizer._scan(points, torch.tensor([[0, 1, 2], [0, 2, 3]]), (5, 5), 0.01, False) >= 0
    assert seen[:3, :3].all() and seen.sum() == 9


def test_no_hole_where_faces_cross_the_near_plane():
    """Inside a ball cut by the near plane every pixel is covered, one sheet deep."""
    mesh, camera = toy.icosphere(3), replace(cameras.orbit(0.2, 0.1, 0.7, size=(40, 50)), near=0.4)
    points = rasterizer._homogeneous(mesh.vertices, camera)
    drawn = torch.stack([rasterizer._scan(points, face[None], camera.size, camera.near, False) >= 0 for face in mesh.faces])
    new, corners, owner = rasterizer._clip(points, mesh.faces, camera.near)
    assert len(owner) != len(mesh.faces) and float(new[corners][..., 2].min()) >= camera.near
    assert torch.equal(drawn.sum(dim=0) > 0, rasterize(mesh, camera, backend="torch").mask)
    assert torch.equal(drawn.sum(dim=0), torch.stack([f.mask for f in _shells(mesh, camera)]).sum(dim=0))


def _shells(mesh, camera):
    """The ball's near and far side, by the sign of the faces' winding."""
    yield rasterize(mesh, camera, backend="torch", cull=True)
    yield rasterize(replace(mesh, faces=mesh.faces.flip(1)), camera, backend="torch", cull=True)


def test_faces_without_area_cover_nothing():
    flat = torch.tensor([[0.0, 0, 0], [1, 1, 1], [2, 2, 2], [0.5, 0, 0], [0, 0.5, 0.2]])
    faces = torch.tensor([[0, 1, 2], [3, 3, 4], [4, 4, 4], [2, 0, 1]])
    camera = cameras.orbit(0.3, size=(64, 64))
    assert not rasterize(Mesh(flat - 0.5, faces), camera, backend="torch").mask.any()
    p, q = torch.cartesian_prod(torch.arange(50.0), torch.arange(50.0)).double().T
    lines = torch.stack([0.5 + torch.stack([s * p, s * q], dim=1) for s in (0, 1, 3)], dim=1)  # corners on centres, slopes that round
    points = torch.cat([lines, torch.ones_like(lines[..., :1])], dim=-1).reshape(-1, 3)
    assert (rasterizer._scan(points, torch.arange(len(points)).reshape(-1, 3), (160, 160), 0.01, False) == -1).all()


def test_equal_depths_show_the_lower_index():
    mesh = toy.icosphere(2)
    n = len(mesh.faces)
    twice = replace(mesh, faces=torch.cat([mesh.faces, mesh.faces.roll(1, dims=1), mesh.faces.flip(1)]))
    camera = cameras.orbit(0.4, size=(80, 80))
    assert torch.equal(visible_faces(twice, camera, backend="torch"), visible_faces(mesh, camera, backend="torch"))
    assert int(visible_faces(twice, camera, backend="torch").max()) < n


def test_a_wall_hides_another_close_behind_it():
    """A micrometre at three metres, in a scene of a hundred."""
    wall = Mesh([[-9.0, -9, 0], [9, -9, 0], [9, 9, 0], [-9, 9, 0]], [[0, 1, 2], [0, 2, 3]]).to(torch.float64)
    walls = [replace(wall, vertices=wall.vertices - torch.tensor([0, 0, z])) for z in (1e-6, 0.0, 97.0)]
    camera = cameras.orbit(0.0, 0.0, 3.0, size=(50, 50)).to(torch.float64)
    assert set(visible_faces(meshes.join(walls), camera, backend="torch").unique().tolist()) == {2, 3}


def test_the_same_whatever_the_order_of_faces():
    mesh, camera = soup(11, 80), some_camera(11)
    order = torch.randperm(80, generator=generator(0))
    shuffled = visible_faces(replace(mesh, faces=mesh.faces[order]), camera, backend="torch")
    face = visible_faces(mesh, camera, backend="torch")
    assert torch.equal(torch.where(shuffled >= 0, order[shuffled], -1), face)


# ---- laws of the fragments ----


@dtypes
@settings(max_examples=6, deadline=None)
@given(seeds)
def test_fragments_lie_on_their_rays(dtype, seed):
    mesh, camera = soup(seed).to(dtype), some_camera(seed).to(dtype)
    found = rasterize(mesh, camera, backend="torch")
    assert_close(found.barycentrics.sum(dim=-1), found.mask.to(dtype))
    assert float(found.barycentrics.min()) >= 0 and torch.equal(found.depth > 0, found.mask) and not found.depth.isnan().any()
    assert float(found.depth[found.mask].min() if found.mask.any() else 1) >= camera.near * (1 - 1e-6)
    y, x = found.mask.nonzero(as_tuple=True)
    at = interpolate(found, (mesh.faces, mesh.vertices))[y, x]
    lifted = camera.unproject(torch.stack([x, y], dim=-1).to(dtype) + 0.5, found.depth[y, x])
    assert_close(at, lifted, rtol=0, atol=2e-5 if dtype == torch.float32 else 1e-6)  # slivers: weights are rounded to [0, 1]


@dtypes
def test_interpolation_of_corners_and_vertices(dtype):
    mesh, camera = toy.blob_mesh(2).to(dtype), cameras.orbit(size=(40, 30)).to(dtype)
    found = rasterize(mesh, camera, backend="torch")
    at = interpolate(found, (mesh.faces, mesh.vertices))
    assert at.shape == (40, 30, 3) and (at[~found.mask] == 0).all()
    assert_close(at, interpolate(found, mesh.triangles))
    assert_close(interpolate(found, torch.ones(len(mesh.faces), 3, 1, dtype=dtype))[..., 0], found.mask.to(dtype))
    assert interpolate(found, torch.ones(len(mesh.faces), 3, 0, dtype=dtype)).shape == (40, 30, 0)


def test_gradients_of_barycentrics_and_depth():
    mesh = meshes.transform(toy.icosphere(1).to(torch.float64), torch.diag(torch.tensor([0.8, 1.0, 0.9, 1.0])))
    camera = cameras.orbit(0.4, size=(6, 7)).to(torch.float64)
    face = visible_faces(mesh, camera, backend="torch")
    assert (face >= 0).any() and (face < 0).any()

    def pictures(vertices, K, shift):
        T = camera.cam_from_world + torch.nn.functional.pad(shift[:, None], (3, 0, 0, 1))
        return perspective_barycentrics(replace(mesh, vertices=vertices), replace(camera, K=K * (camera.K != 0), cam_from_world=T), face)

    def by_K(focal):
        K = torch.stack([focal[0], camera.K[0, 1], focal[1], camera.K[1, 0], focal[2], focal[3], *camera.K[2]]).view(3, 3)
        return perspective_barycentrics(mesh, replace(camera, K=K), face)

    assert_grad(lambda v, s: pictures(v, camera.K, s), mesh.vertices, torch.zeros(3, dtype=torch.float64))
    assert_grad(by_K, torch.stack([camera.K[0, 0], camera.K[0, 2], camera.K[1, 1], camera.K[1, 2]]))


def test_gradients_through_interpolation():
    mesh, camera = toy.icosphere(1).to(torch.float64), cameras.orbit(0.4, size=(6, 7)).to(torch.float64)
    found = rasterize(mesh, camera, backend="torch")
    values = torch.rand(len(mesh.vertices), 2, generator=generator(0), dtype=torch.float64)

    def mixed(values, weights):
        return interpolate(Fragments(found.face, weights, found.depth), (mesh.faces, values))

    assert_grad(mixed, values, found.barycentrics)
    assert_grad(lambda v: interpolate(found, v), torch.rand(len(mesh.faces), 3, 2, generator=generator(0), dtype=torch.float64))


def test_nothing_carries_a_gradient():
    mesh, camera = toy.icosphere(1), cameras.orbit(size=(20, 20))
    found = rasterize(replace(mesh, vertices=mesh.vertices.clone().requires_grad_()), camera, backend="torch")
    assert not found.barycentrics.requires_grad and not found.depth.requires_grad
    assert_close(found.barycentrics, perspective_barycentrics(mesh, camera, found.face)[0], atol=1e-6)


@dtypes
def test_normals_of_a_ball(dtype):
    mesh, camera = toy.icosphere(4).to(dtype), cameras.orbit(0.3, size=(50, 50)).to(dtype)
    found = rasterize(mesh, camera, backend="torch")
    at = torch.nn.functional.normalize(interpolate(found, (mesh.faces, mesh.vertices)), dim=-1)
    for smooth, tolerance in ((True, 4e-3), (False, 0.06)):
        picture = normals(mesh, found, smooth=smooth)
        assert picture.dtype == dtype and (picture[~found.mask] == 0).all()
        assert_close(picture.norm(dim=-1), found.mask.to(dtype), rtol=1e-5)
        assert_close(picture, at, rtol=0, atol=tolerance)
    own = replace(mesh, normals=torch.tensor([0.0, 0, 1]).to(dtype).expand_as(mesh.vertices))
    assert_close(normals(own, found)[found.mask][:, 2].min(), 1.0)
    assert len(normals(mesh, found, smooth=False)[found.mask].unique(dim=0)) == len(found.face[found.mask].unique())


def test_objects_and_texture_coordinates():
    scene, camera = toy.scene(), cameras.orbit(0.5, 0.45, 3.4, size=(60, 80))
    found = rasterize(scene, camera, backend="torch")
    ids = objects(scene, found)
    assert set(ids.unique().tolist()) == {-1, *scene.objects.unique().tolist()} and torch.equal(ids >= 0, found.mask)
    assert (objects(replace(scene, objects=None), found)[found.mask] == 0).all()
    uv = interpolate(found, scene.uv)
    worst = torch.where(found.mask, (found.barycentrics[..., None] * scene.uv[found.face]).sum(dim=-2)[..., 0] - uv[..., 0], 0.0)
    assert float(worst.abs().max()) < 1e-6


# ---- odd views ----


@dtypes
@pytest.mark.parametrize("backend", ["torch", pytest.param("opengl", marks=needs_opengl), "auto"])
def test_nothing_to_see(dtype, backend):
    camera = cameras.orbit(size=(5, 7)).to(dtype)
    away = replace(camera, cam_from_world=cameras.look_at((0.0, 0.0, 3.0), (0.0, 0.0, 9.0)).to(dtype))
    empty = Mesh(torch.zeros(0, 3, dtype=dtype), torch.zeros(0, 3, dtype=torch.int64))
    points_only = Mesh(torch.zeros(4, 3, dtype=dtype), torch.zeros(0, 3, dtype=torch.int64))
    for mesh, view in ((empty, camera), (points_only, camera), (toy.icosphere(1).to(dtype), away)):
        found = rasterize(mesh, view, backend=backend)
        assert found.face.shape == (5, 7) and (found.face == -1).all() and (found.barycentrics == 0).all() and (found.depth == 0).all()
        assert found.depth.dtype == dtype
        assert (objects(mesh, found) == -1).all() and (normals(mesh, found) == 0).all() and (normals(mesh, found, smooth=False) == 0).all()
        assert interpolate(found, (mesh.faces, mesh.vertices)).shape == (5, 7, 3)


def test_inside_a_mesh_backs_are_seen_unless_culled():
    mesh = toy.icosphere(2)
    camera = replace(cameras.orbit(size=(30, 30)), cam_from_world=cameras.look_at((0.0, 0.0, 0.0), (1.0, 0.2, 0.0)))
    assert rasterize(mesh, camera, backend="torch").mask.all()
    assert not rasterize(mesh, camera, backend="torch", cull=True).mask.any()
    outside = cameras.orbit(0.3, size=(40, 40))
    assert torch.equal(visible_faces(mesh, outside, backend="torch", cull=True), visible_faces(mesh, outside, backend="torch"))


@pytest.mark.parametrize("reach", [1e3, 1e5])
def test_a_ground_that_reaches_far(reach):
    """Seen from a metre above, depth under each pixel below the horizon is known."""
    ground = Mesh(torch.tensor([[-reach, 0, -reach], [-reach, 0, reach], [reach, 0, reach], [reach, 0, -reach]]), [[0, 1, 2], [0, 2, 3]])
    camera = replace(cameras.orbit(size=(40, 60)), cam_from_world=cameras.look_at((0.0, 1.0, 0.0), (0.0, 1.0, -1.0)))
    found = rasterize(ground.to(torch.float64), camera.to(torch.float64), backend="torch")
    rows = torch.arange(40).double() + 0.5 - 20
    depth = torch.where(rows > 0, camera.K[1, 1].double() / rows, 0.0)
    assert torch.equal(found.mask, (depth > 0)[:, None].expand(40, 60))
    assert_close(found.depth, depth[:, None].expand(40, 60), rtol=1e-5)


def test_small_and_large_worlds_look_alike():
    mesh, camera = toy.blob_mesh(2).to(torch.float64), cameras.orbit(0.4, size=(50, 50)).to(torch.float64)
    seen = rasterize(mesh, camera, backend="torch")
    for scale in (1e-6, 1e6):
        T = camera.cam_from_world.clone()
        T[:3, 3] *= scale
        other = rasterize(
            replace(mesh, vertices=mesh.vertices * scale), replace(camera, cam_from_world=T, near=0.01 * scale), backend="torch"
        )
        assert (other.face != seen.face).sum() <= 1
        assert_close(other.depth / scale, seen.depth, rtol=1e-6)


@pytest.mark.parametrize(
    "attempt, words",
    [
        (lambda m, c: rasterize(m, c, backend="openggl"), "backend 'openggl'"),
        (lambda m, c: rasterize(m, c, backend=None), "backend None"),
        (lambda m, c: rasterize(replace(m, vertices=m.vertices * 1e25), c), r"vertices\[0\]"),
        (lambda m, c: rasterize(replace(m, vertices=m.vertices * torch.nan), c), "not finite"),
        (lambda m, c: interpolate(rasterize(m, c), (m.faces[:3], m.vertices)), "3 faces"),
        (lambda m, c: interpolate(rasterize(m, c), m.vertices), "values has shape"),
        (lambda m, c: interpolate(rasterize(m, c), torch.zeros(len(m.faces), 2, 3)), "values has shape"),
        (lambda m, c: interpolate(rasterize(m, c), (m.faces, m.triangles)), "values has shape"),
    ],
)
def test_wrong_input_is_named(attempt, words):
    with pytest.raises(InputError, match=words) as caught:
        attempt(toy.icosphere(2), cameras.orbit(size=(30, 30)))
    assert "\n" not in str(caught.value)


# ---- the other backends ----


@needs_opengl
@pytest.mark.parametrize("cull", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_opengl_agrees_on_soups(seed, cull):
    mesh, camera = soup(seed, 60), some_camera(seed, (120, 160))
    assert_same(rasterize(mesh, camera, backend="opengl", cull=cull), rasterize(mesh, camera, backend="torch", cull=cull))


@needs_opengl
@pytest.mark.parametrize("distance", [3.0, 0.9, 0.2])
def test_opengl_agrees_on_objects(distance):
    scene = toy.scene()
    things = scene.objects > 0  # the cube stands on the ground: two faces in one place, either may be seen
    mesh = Mesh(scene.vertices, scene.faces[things])
    camera = cameras.orbit(0.5, 0.4, distance, target=(0.0, 0.3, 0.0), size=(150, 200))
    ours, theirs = rasterize(mesh, camera, backend="torch"), rasterize(mesh, camera, backend="opengl")
    assert_same(ours, theirs)
    assert (ours.face == theirs.face).float().mean() > 0.998


@needs_opengl
def test_opengl_on_sub_pixel_faces():
    mesh, camera = toy.icosphere(6), cameras.orbit(0.5, size=(100, 100))
    ours, theirs = rasterize(mesh, camera, backend="torch"), rasterize(mesh, camera, backend="opengl")
    assert (ours.mask != theirs.mask).float().mean() < 1e-3 and (ours.face == theirs.face).float().mean() > 0.98
    assert_close(ours.depth[ours.mask & theirs.mask], theirs.depth[ours.mask & theirs.mask], rtol=0, atol=2e-3)


@needs_opengl
def test_channels_of_the_paper_hold_what_is_recomputed():
    mesh, camera = toy.blob_mesh(3), cameras.orbit(0.5, size=(90, 70))
    points = rasterizer._homogeneous(mesh.vertices, camera)
    indices, weights = opengl.channels(points, mesh.faces, camera.size, camera.near)
    face = opengl.face_ids(points, mesh.faces, camera.size, camera.near)
    seen = face >= 0
    assert torch.equal(indices[seen], mesh.faces[face[seen]]) and (indices[~seen] == -1).all()
    assert_close(weights[seen], perspective_barycentrics(mesh, camera, face)[0][seen], rtol=0, atol=2e-3)  # corners snap to 1/256 pixel


@needs_opengl
def test_opengl_in_threads_and_sizes():
    mesh = toy.icosphere(2)
    views = [cameras.orbit(0.1 * i, size=(20 + i, 30 - i)) for i in range(4)]
    want = [visible_faces(mesh, view, backend="opengl") for view in views]
    wrong = []

    def work():
        wrong.extend(i for i in (0, 1, 2, 3, 0) if not torch.equal(visible_faces(mesh, views[i], backend="opengl"), want[i]))
        wrong.append(None)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [None] * 3
    with pytest.raises(InputError, match="more than this OpenGL draws"):
        rasterize(mesh, cameras.orbit(size=(2, 10**6)), backend="opengl")


def _python(code: str, **environment) -> str:
    import os

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env={**os.environ, **environment})
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


SETUP = """
import os, torch
from densebook.core.errors import InputError
from densebook.data import toy
from densebook.render import cameras, opengl
from densebook.render.rasterizer import rasterize
mesh, camera = toy.icosphere(1), cameras.orbit(size=(20, 20))
def opengl_says():
    try:
        rasterize(mesh, camera, backend="opengl")
        return "drawn"
    except InputError as error:
        return str(error)
"""


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="no fork")
@needs_opengl
def test_a_forked_child_does_not_hang():
    """Mesa's threads do not come along: the child refuses to draw, and "auto" scans."""
    code = (
        SETUP
        + """
opengl_says()
if os.fork() == 0:
    print(opengl_says(), "|", bool(rasterize(mesh, camera).mask.any()), flush=True)
    os._exit(0)
os.wait()
print(opengl_says())
"""
    )
    child, parent = _python(code).splitlines()
    assert "forked" in child and child.endswith("| True") and parent == "drawn"


@pytest.mark.skipif(sys.platform != "linux", reason="names Linux's library")
def test_without_egl_auto_scans_and_opengl_says_why():
    pytest.importorskip("moderngl")
    code = SETUP + 'print(opengl_says())\nprint(opengl.available(), bool(rasterize(mesh, camera).mask.any()), opengl_says() != "drawn")'
    why, rest = _python(code, GLCONTEXT_LINUX_LIBEGL="libnone.so", GLCONTEXT_LINUX_LIBGL="libnone.so").splitlines()
    assert "no context" in why and "backend='torch'" in why and rest == "False True True"


def test_without_moderngl_auto_scans(monkeypatch):
    monkeypatch.setitem(sys.modules, "moderngl", None)
    monkeypatch.setattr(opengl, "_own", threading.local())
    monkeypatch.setattr(opengl, "_refused", set())
    mesh, camera = toy.icosphere(1), cameras.orbit(size=(20, 20))
    assert rasterize(mesh, camera).mask.any()
    with pytest.raises(MissingPackageError, match="moderngl"):
        rasterize(mesh, camera, backend="opengl")


def test_without_pytorch3d(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch3d", None)
    with pytest.raises(MissingPackageError, match="pytorch3d"):
        rasterize(toy.icosphere(1), cameras.orbit(size=(20, 20)), backend="pytorch3d")


@pytest.mark.parametrize("cull", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_pytorch3d_agrees_on_soups(seed, cull):
    pytest.importorskip("pytorch3d")
    mesh, camera = soup(seed, 50), some_camera(seed, (60, 80) if seed else (80, 60))
    assert_same(rasterize(mesh, camera, backend="pytorch3d", cull=cull), rasterize(mesh, camera, backend="torch", cull=cull))


def test_pytorch3d_itself_agrees():
    """Its own barycentrics and depth, from its own camera."""
    pytest.importorskip("pytorch3d")
    from pytorch3d.renderer.mesh.rasterize_meshes import rasterize_meshes
    from pytorch3d.structures import Meshes

    mesh, camera = toy.blob_mesh(2), cameras.orbit(0.4, size=(50, 50))
    uv, depth = camera.project(mesh.vertices)
    screen = torch.cat([1 - uv / 25, depth[:, None]], dim=1)
    face, z, weights, _ = rasterize_meshes(Meshes([screen], [mesh.faces]), 50, faces_per_pixel=1, perspective_correct=True)
    found = rasterize(mesh, camera, backend="torch")
    theirs = Fragments(face[0, ..., 0], weights[0, :, :, 0], torch.where(face[0, ..., 0] >= 0, z[0, ..., 0], 0.0))
    assert_same(found, theirs)


# ---- CUDA ----


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@dtypes
def test_cuda_sees_the_same(dtype):
    for seed in range(4):
        mesh, camera = soup(seed, 300).to(dtype), some_camera(seed, (120, 160)).to(dtype)
        for cull in (False, True):
            ours, theirs = rasterize(mesh.to("cuda"), camera.to("cuda"), cull=cull), rasterize(mesh, camera, backend="torch", cull=cull)
            assert (ours.face.cpu() != theirs.face).sum() <= 2
            seen = ours.face.cpu() == theirs.face
            assert_close(ours.depth.cpu()[seen], theirs.depth[seen], rtol=1e-4)
    with pytest.raises(InputError, match="put both on one device"):
        rasterize(mesh.to("cuda"), camera)
    points, faces = sheet(0)
    owners = sum((rasterizer._scan(points.cuda(), f[None].cuda(), (25, 25), 0.01, False) >= 0).long() for f in faces)
    assert (owners == 1).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_cuda_interpolates_and_differentiates():
    mesh, camera = toy.blob_mesh(3).to("cuda"), cameras.orbit(size=(80, 80)).to("cuda")
    found = rasterize(mesh, camera)
    vertices = mesh.vertices.clone().requires_grad_()
    weights, depth = perspective_barycentrics(replace(mesh, vertices=vertices), camera, found.face)
    (weights.square().sum() + depth.sum() + interpolate(found, (mesh.faces, vertices)).sum()).backward()
    assert vertices.grad.isfinite().all() and vertices.grad.device.type == "cuda"
    assert math.isfinite(float(normals(mesh, found).sum())) and objects(mesh, found).device.type == "cuda"
