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
    assert is_watertight(mesh) == (name in CLOSED) and (volume(mesh) > 0 or name not in CLOSED)
    assert bool(mesh.textures) == (name not in CLOSED or name in ("spot", "iodine")), "what has a picture comes with it"


@pytest.mark.parametrize("name", LIGHTS)
def test_environment_or_toy_gives_real_ones(name):
    if not os.environ.get("DENSEBOOK_DATA"):
        pytest.skip("DENSEBOOK_DATA is not set")
    light, path = densebook.data.environment_or_toy("real", name)
    assert path == densebook.data.get(name) and light.shape[1] == 2 * light.shape[0] and light.dtype == torch.float32
    assert light.isfinite().all() and light.min() >= 0 and light.max() > 10
