"""Categories: instances stand and are closed, share triangles where they say so, and torn meshes are closed again."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from densebook.core.errors import InputError
from densebook.core.seeds import generator
from densebook.data import categories, registry, toy
from densebook.geometry.mesh import Mesh, area, bounds, is_watertight, join, transform, volume
from densebook.geometry.sdf import MeshSDF
from densebook.testing import assert_close


def there(category: str) -> bool:
    try:
        return bool(categories.files(category))
    except InputError:
        return False


@pytest.mark.parametrize("category", categories.CATEGORIES)
@pytest.mark.parametrize("data", ["toy", "real"])
def test_instances_stand_are_closed_and_two_are_held_out(category, data):
    if data == "real" and not there(category):
        pytest.skip("the real meshes are not there")
    found = categories.instances(category, data)
    assert [i.held_out for i in found] == [False] * (len(found) - 2) + [True] * 2
    assert len({i.name for i in found}) == len(found) >= 6
    for item in found:
        low, high = bounds(item.mesh)
        assert item.mesh.vertices.dtype == torch.float32
        assert_close(low[1], torch.tensor(0.0), atol=1e-6)
        assert_close((low + high)[[0, 2]], torch.zeros(2), atol=1e-6)
        assert 0.05 < float((high - low).max()) < 0.5, "a hand-held thing, in metres"
        assert is_watertight(item.mesh) and float(volume(item.mesh)) > 0


@pytest.mark.parametrize("category", categories.CATEGORIES)
def test_instances_are_the_same_at_every_call(category):
    for a, b in zip(categories.instances(category, "toy"), categories.instances(category, "toy")):
        assert torch.equal(a.mesh.vertices, b.mesh.vertices) and a.name == b.name


@pytest.mark.parametrize("category", ["camera", "drill", "spray"])
def test_instances_of_one_template_share_triangles_and_differ(category):
    if not there(category):
        pytest.skip("the real meshes are not there")
    found = categories.instances(category, dtype=torch.float64)
    assert len(found) == categories.COUNT
    for a, b in zip(found, found[1:]):
        assert a.template == b.template and torch.equal(a.mesh.faces, b.mesh.faces)
        assert float((a.mesh.vertices - b.mesh.vertices).norm(dim=1).mean()) > 1e-3
    assert found[0].mesh.colors is not None and float(found[0].mesh.colors.std()) > 0.01


def test_real_bottles_keep_their_labels_as_vertex_colors():
    if not there("bottle"):
        pytest.skip("the real meshes are not there")
    labelled = next(i.mesh for i in categories.instances("bottle") if i.name == "labelled_wine_bottle")
    assert float(labelled.colors.std(0).max()) > 0.05, "glass, label and capsule have different colours"


def test_pots_keep_their_cavity():
    if not there("pot"):
        pytest.skip("the real meshes are not there")
    for item in categories.instances("pot"):
        low, high = bounds(item.mesh)
        assert float(volume(item.mesh)) < 0.25 * float((high - low).prod()), "thin walls, not a solid"


def test_the_table_names_meshes_of_the_registry_and_upright_motions():
    table = json.loads(Path(categories.__file__).with_name("categories.json").read_text(encoding="utf-8"))
    assert set(table) == set(categories.CATEGORIES)
    for category in table:
        for name in categories.names(category):
            assert registry.describe(name)["files"]
    for source in [s for e in table.values() for s in e.get("instances", [e.get("template")])]:
        T = torch.tensor(source["upright"], dtype=torch.float64)
        R = T[:3, :3] / torch.linalg.det(T[:3, :3]) ** (1 / 3)
        assert_close(R @ R.T, torch.eye(3, dtype=torch.float64), atol=1e-5)
        assert T[3].tolist() == [0, 0, 0, 1]


# Closed meshes


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_watertight_closes_torn_meshes_and_keeps_the_volume(dtype):
    whole = toy.icosphere(3, 0.1).to(dtype)
    torn = Mesh(whole.vertices, whole.faces[torch.rand(len(whole.faces), generator=generator(1)) > 0.1])
    closed = categories.watertight(torn, 24)
    assert closed.vertices.dtype == dtype
    assert is_watertight(closed) and not is_watertight(torn)
    assert float(volume(closed)) == pytest.approx(4 / 3 * math.pi * 0.1**3, rel=0.06)


@settings(max_examples=6, deadline=None)
@given(st.floats(0.01, 10.0), st.floats(-5, 5), st.integers(12, 32))
def test_watertight_stays_within_a_fraction_of_a_cell_wherever_the_mesh_is(size, shift, cells):
    mesh = toy.icosphere(3, size).to(torch.float64)
    T = torch.eye(4, dtype=torch.float64)
    T[:3, 3] = shift
    closed = categories.watertight(transform(mesh, T), cells)
    away = (closed.vertices - shift).norm(dim=1) - size
    assert float(away.abs().max()) < 0.3 * 2 * size / cells


def test_watertight_fills_double_walls_and_keeps_colors():
    outer, inner = toy.icosphere(3, 0.1).to(torch.float64), toy.icosphere(3, 0.09).to(torch.float64)
    red = torch.tensor([0.8, 0.1, 0.1], dtype=torch.float64)
    hollow = join([replace(outer, colors=red.expand(len(outer.vertices), 3)), replace(inner, faces=inner.faces.flip(1))])
    closed = categories.watertight(hollow, 32)
    assert float(volume(closed)) == pytest.approx(float(volume(outer)), rel=0.05)
    assert_close(closed.colors, red.expand_as(closed.vertices), atol=1e-6)


def test_watertight_reads_textures():
    cube = toy.textured_cube().to(torch.float64)
    half = torch.ones(2, 2, 3, dtype=torch.float64) * 0.25
    closed = categories.watertight(replace(cube, textures=(half,), face_colors=torch.full((12, 3), 0.5, dtype=torch.float64)), 16)
    assert_close(closed.colors, torch.full_like(closed.vertices, 0.125))


def test_watertight_reads_textures_the_right_way_up():
    cube = toy.cube_mesh().to(torch.float64)
    uv = torch.stack([torch.full((12, 3), 0.5, dtype=torch.float64), cube.triangles[..., 1] + 0.5], dim=-1)  # v is the height
    image = torch.tensor([[[1.0, 0, 0]], [[0, 0, 1.0]]], dtype=torch.float64)  # red above, blue below
    closed = categories.watertight(replace(cube, uv=uv, textures=(image,)), 16)
    height = closed.vertices[:, 1]
    for part, color in ((height > 0.1, image[0, 0]), (height < -0.1, image[1, 0])):
        assert_close(closed.colors[part], color.expand(int(part.sum()), 3))


def test_watertight_closes_no_ring():
    """A torus stays one: closing fills gaps narrower than two cells, not holes that are wider."""
    ring = toy.torus_mesh()
    closed = categories.watertight(ring, 32)
    euler = len(closed.vertices) - 3 * len(closed.faces) // 2 + len(closed.faces)
    assert euler == 0
    assert float(volume(closed)) == pytest.approx(float(volume(ring)), rel=0.06)


def test_subdivide_keeps_the_surface():
    blob = toy.blob_mesh(2)
    finer = categories.subdivide(blob)
    assert len(finer.faces) == 4 * len(blob.faces) and is_watertight(finer)
    assert_close(area(finer), area(blob), rtol=1e-5)
    assert_close(volume(finer), volume(blob), rtol=1e-5)
    assert_close(finer.colors[: len(blob.colors)], blob.colors)


# Deformed templates, points, toys


def test_deform_without_strength_moves_nothing_but_the_origin():
    mesh = categories.lathe()
    still = categories.deform(mesh, 1, (0.0, 0.1, 0.25), generator(3), strength=0.0)
    assert_close(categories.standing(still).vertices, categories.standing(mesh).vertices, atol=1e-9)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 2))
def test_deform_is_smooth_and_does_not_fold(seed, axis):
    mesh = toy.icosphere(3, 0.1).to(torch.float64)
    moved = categories.deform(mesh, axis, (-0.1, -0.02, 0.03, 0.1), generator(seed))
    assert is_watertight(moved) and float(volume(moved)) > 0.3 * float(volume(mesh))
    normals = torch.linalg.cross(*(moved.triangles[:, k] - moved.triangles[:, 0] for k in (1, 2)))
    outward = (normals * (moved.triangles.mean(1) - moved.vertices.mean(0))).sum(1)
    assert bool((outward > 0).all()), "a ball that has been stretched is still seen from outside"


def test_parts_are_scaled_along_and_across_the_axis():
    """With one part only, the axis scales by one factor, the others by another."""
    mesh = toy.cube_mesh(1.0).to(torch.float64)
    draw = torch.exp(0.18 * (2 * torch.rand(2, 1, generator=generator(5), dtype=torch.float64) - 1))[:, 0]
    scaled = categories._scaled(mesh.vertices, 1, mesh.vertices[:, 1] + 0.5, torch.tensor([0.0, 1.0], dtype=torch.float64), draw[:, None])
    assert_close(scaled[:, 1].amax() - scaled[:, 1].amin(), draw[0])
    assert_close(scaled[:, 0].amax() - scaled[:, 0].amin(), draw[1])


def test_each_part_has_its_own_scale():
    y = torch.linspace(0, 1, 101, dtype=torch.float64)
    x = torch.stack([torch.ones_like(y), y, torch.ones_like(y)], dim=1)
    factors = torch.tensor([[1.0, 2.0], [1.0, 3.0]], dtype=torch.float64)
    scaled = categories._scaled(x, 1, y, torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64), factors)
    slope = scaled[:, 1].diff() / 0.01
    assert_close(slope[:40], torch.ones(40, dtype=torch.float64), rtol=1e-3)
    assert_close(slope[-40:], torch.full((40,), 2.0, dtype=torch.float64), rtol=1e-3)
    assert_close(scaled[[0, -1], 0], torch.tensor([1.0, 3.0], dtype=torch.float64))


def test_cage_is_linear_and_follows_its_corners():
    x = toy.cube_mesh(2.0).vertices.double()
    moves = torch.randn(3, 3, 3, 3, generator=generator(0), dtype=torch.float64)
    assert_close(categories._cage(x, 2 * moves), 2 * categories._cage(x, moves))
    bits = (x > 0).long()
    assert_close(categories._cage(x, moves), 2 * moves[tuple(2 * bits.T)])


def test_points_lie_on_the_surface_evenly():
    mesh = toy.icosphere(4, 0.1)
    found = categories.points(mesh, 200, generator(0))
    assert found.shape == (200, 3)
    assert float(MeshSDF(mesh, backend="torch").closest(found)[2].max()) < 1e-6
    apart = torch.cdist(found, found).fill_diagonal_(1).amin(1)
    assert float(apart.min()) > 0.5 * float(apart.mean()), "no two points fall on one another"


def test_lathe_turns_what_it_is_asked_for():
    mesh = categories.lathe(height=0.3, radius=0.05, neck=0.4, resolution=64)
    low, high = bounds(mesh)
    assert_close(high - low, torch.tensor([0.1, 0.3, 0.1], dtype=torch.float64), rtol=0.02)
    top = mesh.vertices[mesh.vertices[:, 1] > 0.28]
    assert float(top[:, [0, 2]].norm(dim=1).max()) == pytest.approx(0.02, rel=1e-6)
    assert is_watertight(mesh) and float(volume(mesh)) > 0


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: categories.instances("botle"), "did you mean 'bottle'"),
        (lambda: categories.instances("bottle", "reel"), "data 'reel'"),
        (lambda: categories.instances("bottle", "toy", resolution=2), "resolution 2"),
        (lambda: categories.watertight(toy.cube_mesh(), 2.5), "resolution 2.5"),
        (lambda: categories.watertight(Mesh(torch.zeros(3, 3), torch.zeros(0, 3, dtype=torch.int64)), 16), "no faces"),
        (lambda: categories.watertight(Mesh(torch.zeros(3, 3), torch.tensor([[0, 1, 2]])), 16), "extent"),
        (lambda: categories.watertight(Mesh(torch.eye(3), torch.tensor([[0, 1, 2]])), 16), "encloses nothing"),
        (lambda: categories.points(toy.cube_mesh(), 0), "count is 0"),
        (lambda: categories.deform(toy.cube_mesh(), 1, (0.2, 0.1)), "divides nothing"),
        (lambda: categories.deform(toy.cube_mesh(), 3, (0.0, 0.1)), "axis 3"),
    ],
)
def test_bad_input_is_one_clear_sentence(call, says):
    with pytest.raises(InputError) as caught:
        call()
    assert says in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_watertight_and_points_on_a_gpu():
    mesh = toy.icosphere(3, 0.1).to(torch.float64)
    theirs, ours = categories.watertight(mesh, 24), categories.watertight(mesh.to("cuda"), 24)
    assert ours.vertices.is_cuda
    assert_close(volume(ours).cpu(), volume(theirs), rtol=1e-6)
    assert_close(categories.points(mesh.to("cuda"), 50, generator(0)).cpu(), categories.points(mesh, 50, generator(0)))
