"""Toy shapes: watertight, outward, the right size, the same on every call."""

import math
import os

import pytest
import torch

import densebook.data
from densebook.core.errors import InputError
from densebook.core.seeds import generator
from densebook.data import toy
from densebook.geometry.mesh import area, bounds, face_normals, is_watertight, vertex_normals, volume

SHAPES = {"icosphere": lambda: toy.icosphere(2), "blob": lambda: toy.blob_mesh(3), "torus": toy.torus_mesh, "cube": toy.cube_mesh}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_are_closed_and_outward(name):
    mesh = SHAPES[name]()
    assert is_watertight(mesh)
    assert volume(mesh) > 0
    assert face_normals(mesh).norm(dim=1).sub(1).abs().max() < 1e-5
    assert mesh.vertices.dtype == torch.float32


@pytest.mark.parametrize("subdivisions", range(5))
def test_icosphere_counts_and_radius(subdivisions):
    mesh = toy.icosphere(subdivisions, radius=2.0)
    assert len(mesh.faces) == 20 * 4**subdivisions
    assert len(mesh.vertices) == 10 * 4**subdivisions + 2
    assert torch.allclose(mesh.vertices.norm(dim=1), torch.tensor(2.0))
    assert (vertex_normals(mesh) * mesh.vertices).sum(dim=1).min() > 1.99


def test_icosphere_nears_the_sphere():
    errors = [4 * math.pi / 3 - float(volume(toy.icosphere(k))) for k in (2, 3, 4)]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.05) and errors[1] / errors[2] == pytest.approx(4, rel=0.05)


def test_torus_and_cube_measures():
    torus = toy.torus_mesh(0.6, 0.25, 256, 128)
    assert float(volume(torus)) == pytest.approx(2 * math.pi**2 * 0.6 * 0.25**2, rel=1e-3)
    assert float(area(torus)) == pytest.approx(4 * math.pi**2 * 0.6 * 0.25, rel=1e-3)
    assert bounds(torus)[1].tolist() == pytest.approx([0.85, 0.25, 0.85])
    cube = toy.cube_mesh(2.0)
    assert float(volume(cube)) == pytest.approx(8) and float(area(cube)) == pytest.approx(24)


def test_blob_fits_and_repeats():
    blob = toy.blob_mesh(3)
    assert blob.vertices.abs().max() <= 0.9 + 1e-6
    assert (bounds(blob)[1] - bounds(blob)[0]).max() == pytest.approx(1.8, abs=1e-5)
    assert 0 <= blob.colors.min() and blob.colors.max() <= 1
    assert torch.equal(blob.vertices, toy.blob_mesh(3).vertices)
    other = toy.blob_mesh(3, generator(1))
    assert not torch.allclose(blob.vertices, other.vertices)
    assert torch.equal(other.vertices, toy.blob_mesh(3, generator(1)).vertices)


@pytest.mark.parametrize("seed", range(10))
def test_blobs_of_any_seed_do_not_fold(seed):
    """Every face is seen from the middle of the blob: a star-shaped surface does not meet itself."""
    blob = toy.blob_mesh(3, generator(seed))
    sphere = toy.icosphere(3).vertices
    # vertices are s (r d + c) with unknown s, c: c/s from where the lines along d meet, in the least-squares sense
    across = torch.eye(3) - sphere[:, :, None] * sphere[:, None, :]
    middle = torch.linalg.solve(across.sum(dim=0), (across @ blob.vertices[:, :, None]).sum(dim=0))[:, 0]
    assert torch.linalg.cross(blob.vertices - middle, sphere).norm(dim=1).max() < 1e-4
    assert torch.linalg.det(blob.triangles - middle).min() > 0


def test_point_cloud_lies_on_the_blob():
    points, normals = toy.point_cloud(500)
    assert points.shape == normals.shape == (500, 3)
    assert torch.allclose(normals.norm(dim=1), torch.ones(500), atol=1e-5)
    assert torch.equal(points, toy.point_cloud(500)[0])
    noisy, _ = toy.point_cloud(500, noise=0.01)
    moved = (noisy - points).norm(dim=1)
    assert 0.005 < moved.mean() < 0.012
    assert toy.point_cloud(0)[0].shape == (0, 3)


@pytest.mark.parametrize(
    "call",
    [
        lambda: toy.icosphere(-1),
        lambda: toy.icosphere(10),
        lambda: toy.icosphere(2.5),
        lambda: toy.torus_mesh(0.2, 0.3),
        lambda: toy.torus_mesh(segments=2),
        lambda: toy.point_cloud(-1),
        lambda: toy.mesh_or_toy("fake", "spot"),
    ],
)
def test_wrong_arguments(call):
    with pytest.raises(InputError):
        call()


def test_mesh_or_toy_gives_the_blob():
    mesh, path = densebook.data.mesh_or_toy("toy", "spot", subdivisions=2, dtype=torch.float64)
    assert path is None and mesh.vertices.dtype == torch.float64 and len(mesh.faces) == 320
    assert float((bounds(mesh)[1] - bounds(mesh)[0]).max()) == pytest.approx(1.8)


def test_mesh_or_toy_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("DENSEBOOK_DATA", str(tmp_path))
    with pytest.raises(InputError, match="densebook data get spot"):
        densebook.data.mesh_or_toy("real", "spot")


REAL = [n for n in densebook.data.available() if "upright" in densebook.data.registry._entry(n)]
LIGHTS = sorted(set(densebook.data.available()) - set(REAL))
CLOSED = ("spot", "fish", "nefertiti", "penguin", "wingnut", "boot", "plane", "pot", "bottle", "iodine")


@pytest.mark.parametrize("name", REAL)
def test_mesh_or_toy_gives_real_ones(name):
    if not os.environ.get("DENSEBOOK_DATA"):
        pytest.skip("DENSEBOOK_DATA is not set")
    mesh, path = densebook.data.mesh_or_toy("real", name)
    assert path == densebook.data.get(name)
    assert mesh.vertices.abs().max() <= 0.9 + 1e-6
    if "categories" not in path.parts or name in CLOSED:  # test_categories.py says which of those are closed
        assert is_watertight(mesh) == (name in CLOSED) and (volume(mesh) > 0 or name not in CLOSED)
    pictures = any(f["path"].endswith((".png", ".jpg", ".jpeg")) for f in densebook.data.registry._entry(name)["files"])
    assert bool(mesh.textures) == pictures, "what has a picture comes with it"


@pytest.mark.parametrize("name", LIGHTS)
def test_environment_or_toy_gives_real_ones(name):
    if not os.environ.get("DENSEBOOK_DATA"):
        pytest.skip("DENSEBOOK_DATA is not set")
    light, path = densebook.data.environment_or_toy("real", name)
    assert path == densebook.data.get(name) and light.shape[1] == 2 * light.shape[0] and light.dtype == torch.float32
    assert light.isfinite().all() and light.min() >= 0 and light.max() > 10


# --- textured ones ---


@pytest.mark.parametrize("name", ["textured_cube", "textured_blob"])
def test_textured_toys_are_closed_and_their_pictures_stand_right(name):
    """u runs right and v up as seen from outside: no face shows its picture mirrored, and none takes more than a third of it."""
    mesh = getattr(toy, name)()
    assert is_watertight(mesh) and volume(mesh) > 0 and len(mesh.textures) == 1 and mesh.colors is None
    edges = mesh.uv[:, 1:] - mesh.uv[:, :1]
    assert (edges[:, 0, 0] * edges[:, 1, 1] - edges[:, 0, 1] * edges[:, 1, 0]).min() > 0
    assert (mesh.uv.amax(dim=1) - mesh.uv.amin(dim=1)).max() < 0.5
    assert 0 < mesh.textures[0].min() and mesh.textures[0].max() <= 1
    again = getattr(toy, name)()
    assert torch.equal(again.uv, mesh.uv) and torch.equal(again.textures[0], mesh.textures[0])


def test_textured_cube_sides():
    """Each side has its own sixth of the picture, upright: v grows with height on the sides, u to the right of who looks."""
    cube = toy.textured_cube(2.0)
    normals = face_normals(cube)
    cells = (cube.uv.mean(dim=1) * torch.tensor([3.0, 2.0])).floor()
    assert len(torch.unique(cells, dim=0)) == 6
    for side in range(6):
        two = torch.arange(12) // 2 == side
        assert (cells[two] == cells[two][0]).all() and (normals[two] == normals[two][0]).all()
        points, uv = cube.triangles[two].reshape(-1, 3), cube.uv[two].reshape(-1, 2)
        points, uv = points - points.mean(0), uv - uv.mean(0)
        assert torch.allclose(points @ torch.linalg.pinv(points) @ uv, uv, atol=1e-5), "one affine map a side"
        if not normals[two][0, 1]:
            assert torch.corrcoef(torch.stack([points[:, 1], uv[:, 1]]))[0, 1] > 0.999
    quarters = cube.textures[0].reshape(2, 48, 3, 48, 3).permute(0, 2, 1, 3, 4).reshape(6, 48, 48, 3)
    for turn in range(4):  # no side looks like another, or like itself turned or mirrored
        for flip in (False, True):
            other = torch.rot90(quarters.flip(2) if flip else quarters, turn, dims=(1, 2))
            apart = (quarters[:, None] - other[None]).abs().mean(dim=(2, 3, 4))
            assert apart[~torch.eye(6, dtype=torch.bool)].min() > 0.05 and (apart.diagonal().min() > 0.05 or (turn, flip) == (0, False))


@pytest.mark.parametrize("subdivisions", [0, 1, 4])
def test_textured_blob_seam(subdivisions):
    """Texture coordinates are those of the direction, up to whole turns of u; at a pole u lies between the other corners'."""
    blob, d = toy.textured_blob(subdivisions), toy.icosphere(subdivisions).vertices
    u = (torch.atan2(d[:, 0], d[:, 2]) / (2 * math.pi) + 0.5)[blob.faces]
    off = blob.uv[..., 0] - u
    pole = (d[:, 1].abs() > 1 - 1e-6)[blob.faces]
    assert pole.sum() == 10 and (off - off.round())[~pole].abs().max() < 1e-6
    assert torch.allclose(blob.uv[..., 1], (d[:, 1].clamp(-1, 1).asin() / math.pi + 0.5)[blob.faces])
    others = (blob.uv[..., 0].masked_fill(pole, 0).sum(1) / 2)[pole.any(1)]
    assert torch.allclose(blob.uv[..., 0][pole], others)


def test_environment_is_a_bright_sky():
    for size in ((64, 128), (33, 50), (256, 512)):
        light = toy.environment(size)
        h, w = size
        assert light.shape == (h, w, 3) and light.dtype == torch.float32 and light.min() > 0
        elevation = math.pi * (0.5 - (torch.arange(h) + 0.5) / h)
        azimuth = 2 * math.pi * ((torch.arange(w) + 0.5) / w - 0.5)
        brightest = light.sum(dim=2).argmax()
        e, a = elevation[brightest // w], azimuth[brightest % w]
        towards = torch.stack([e.cos() * a.sin(), e.sin(), -e.cos() * a.cos()])
        assert towards @ toy.SUN > math.cos(2 * math.pi / w), "the sun stands where SUN says"
        assert light.max() > 50 * light.median() and light[0].mean() > 2 * light[-1].mean()
    areas = (elevation.cos() * math.pi / h * 2 * math.pi / w)[:, None, None]
    small = toy.environment((64, 128))
    e64 = math.pi * (0.5 - (torch.arange(64) + 0.5) / 64)
    coarse = (small * (e64.cos() * math.pi / 64 * 2 * math.pi / 128)[:, None, None]).sum(dim=(0, 1))
    assert torch.allclose(coarse, (light * areas).sum(dim=(0, 1)), rtol=0.01), "as much light at every size"
    for wrong in ((1, 4), (4, 2.0), (4, 100_000)):
        with pytest.raises(InputError):
            toy.environment(wrong)
    with pytest.raises(ValueError):
        toy.environment((4,))


def test_scene_stands_on_its_ground():
    scene = toy.scene()
    assert scene.objects.unique().tolist() == [0, 1, 2, 3, 4, 5] and len(scene.textures) == 2
    low, high = bounds(scene)
    assert low.tolist() == [-1.5, 0, -1.5] and high[0] == high[2] == 1.5
    boxes = []
    for k in range(1, 6):
        corners = scene.triangles[scene.objects == k].reshape(-1, 3)
        assert abs(float(corners[:, 1].min())) < 1e-6 and corners.abs().max() < 1.5
        boxes.append((corners.amin(0), corners.amax(0)))
    for k, (low, high) in enumerate(boxes):
        for other_low, other_high in boxes[k + 1 :]:
            assert bool((low > other_high).any() or (other_low > high).any()), "nothing runs through another thing"
    textured = scene.face_textures >= 0
    assert scene.objects[textured].unique().tolist() == [1, 2] and (scene.face_colors[scene.objects == 5] != 1).any()
    assert (face_normals(scene)[scene.objects == 0] == torch.tensor([0.0, 1, 0])).all()


def test_environment_or_toy_gives_the_sky_or_says_what_is_missing(tmp_path, monkeypatch):
    light, path = densebook.data.environment_or_toy("toy", "park", size=(8, 16))
    assert path is None and torch.equal(light, toy.environment((8, 16)))
    monkeypatch.setenv("DENSEBOOK_DATA", str(tmp_path))
    with pytest.raises(InputError, match="densebook data get park"):
        densebook.data.environment_or_toy("real", "park")
    with pytest.raises(InputError, match="'fake' is not one"):
        densebook.data.environment_or_toy("fake", "park")


def test_spot_has_its_texture():
    if not os.environ.get("DENSEBOOK_DATA"):
        pytest.skip("DENSEBOOK_DATA is not set")
    mesh, _ = densebook.data.mesh_or_toy("real", "spot", dtype=torch.float64)
    assert mesh.textures[0].shape == (1024, 1024, 3) and mesh.textures[0].dtype == mesh.uv.dtype == torch.float64
    with pytest.raises(InputError, match="is no mesh|suffix"):
        densebook.data.mesh_or_toy("real", "studio")
