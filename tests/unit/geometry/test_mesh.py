"""Meshes: what is refused, what is measured (against closed forms, finite differences and trimesh), and their files."""

import json
import math
import os
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from densebook.core.errors import InputError
from densebook.core.seeds import generator
from densebook.geometry import mesh as meshes
from densebook.geometry.mesh import Mesh, load, save

DTYPES = (torch.float32, torch.float64)
CORNERS = [[x, y, z] for x in (0.0, 1) for y in (0.0, 1) for z in (0.0, 1)]
QUADS = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
CUBE_FACES = [f for a, b, c, d in QUADS for f in ([a, b, c], [a, c, d])]


def cube(dtype=torch.float32) -> Mesh:
    """The unit cube, outward."""
    return Mesh(torch.tensor(CORNERS, dtype=dtype), torch.tensor(CUBE_FACES))


def bumpy(count: int = 400, dtype=torch.float64, seed: int = 0) -> Mesh:
    """A closed star-shaped mesh: the convex hull of random directions, each pushed out a little differently."""
    from scipy.spatial import ConvexHull

    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator(seed), dtype=dtype), dim=1)
    faces = torch.from_numpy(ConvexHull(directions.numpy()).simplices).long()
    inward = torch.linalg.det(directions[faces].double()) < 0
    faces[inward] = faces[inward].flip(1)
    return Mesh(directions * (1 + 0.2 * (3 * directions[:, :1]).sin()), faces)


# --- the value ---


def test_arrays_and_lists_become_tensors():
    for faces in (CUBE_FACES, np.array(CUBE_FACES, dtype=np.uint32), torch.tensor(CUBE_FACES, dtype=torch.int32)):
        mesh = Mesh(np.array(CORNERS, dtype=np.float32), faces)
        assert mesh.faces.dtype == torch.int64 and mesh.vertices.dtype == torch.float32
    assert Mesh(CORNERS, CUBE_FACES).triangles.shape == (12, 3, 3)
    assert repr(cube()) == "Mesh(8 vertices, 12 faces, float32, cpu)"


def test_empty_meshes_are_values():
    for mesh in (
        Mesh(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.long)),
        Mesh(torch.zeros(4, 3), torch.zeros(0, 3, dtype=torch.long)),
        Mesh([], []),
    ):
        assert meshes.area(mesh) == 0 and meshes.volume(mesh) == 0 and not meshes.is_watertight(mesh)
        assert meshes.face_normals(mesh).shape == (0, 3)
        assert meshes.vertex_normals(mesh).shape == mesh.vertices.shape
        assert len(meshes.merge_duplicates(mesh).faces) == 0
        with pytest.raises(InputError, match="no area"):
            meshes.sample_surface(mesh, 3)
    with pytest.raises(InputError, match="no bounds"):
        meshes.bounds(Mesh([], []))


V, F = torch.tensor(CORNERS), torch.tensor(CUBE_FACES)
NAN, INF = float("nan"), float("inf")


def changed(tensor, index, value):
    tensor = tensor.clone()
    tensor[index] = value
    return tensor


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((V[:, :2], F), r"^vertices has shape \(8, 2\)"),
        ((V[None], F), r"^vertices has shape \(1, 8, 3\)"),
        ((V, F[:, :2]), r"^faces has shape \(12, 2\)"),
        ((V.long(), F), "^vertices is torch.int64"),
        ((V, F.float()), "^faces is torch.float32"),
        ((V, F > 0), "^faces is torch.bool"),
        ((changed(V, (3, 1), NAN), F), r"^vertices\[3\].*not finite"),
        ((changed(V, (5, 0), -INF), F), r"^vertices\[5\].*not finite"),
        ((V, changed(F, (7, 2), 8)), r"^faces\[7\].*0 to 7"),
        ((V, changed(F, (4, 0), -1)), r"^faces\[4\].*0 to 7"),
        ((V[:0], F), r"^faces\[0\]"),
        ((V, F, V[:4]), "^colors has 4 rows for 8 vertices"),
        ((V, F, changed(V, (2, 2), NAN)), r"^colors\[2\]"),
        ((V, F, None, V[:, :1]), "^normals has shape"),
        (("text", F), "^vertices is a str"),
        ((V, None), "^faces is a NoneType"),
    ],
)
def test_refused(arguments, match):
    with pytest.raises(InputError, match=match) as caught:
        Mesh(*arguments)
    assert "\n" not in str(caught.value)


def test_to():
    mesh = Mesh(V, F, V, V).to(torch.float64)
    assert mesh.vertices.dtype == mesh.colors.dtype == mesh.normals.dtype == torch.float64 and mesh.faces.dtype == torch.int64
    for wrong in ("cuda:99", "no device", torch.int32):
        with pytest.raises(InputError):
            mesh.to(wrong)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_agrees():
    mesh = bumpy().to("cuda")
    assert mesh.to(torch.float32).faces.is_cuda
    with pytest.raises(InputError, match="one device"):
        Mesh(mesh.vertices, mesh.faces.cpu())
    assert meshes.is_watertight(mesh) and len(meshes.merge_duplicates(mesh).vertices) == len(mesh.vertices)
    assert torch.allclose(meshes.vertex_normals(mesh).cpu(), meshes.vertex_normals(bumpy()))
    points = meshes.sample_surface(mesh, 100, generator(0))[0]
    assert torch.allclose(points.cpu(), meshes.sample_surface(bumpy(), 100, generator(0))[0])


# --- measures ---


@pytest.mark.parametrize("dtype", DTYPES)
def test_cube_measures(dtype):
    mesh = cube(dtype)
    assert float(meshes.area(mesh)) == pytest.approx(6) and float(meshes.volume(mesh)) == pytest.approx(1)
    assert meshes.is_watertight(mesh)
    assert [b.tolist() for b in meshes.bounds(mesh)] == [[0, 0, 0], [1, 1, 1]]
    corner = meshes.vertex_normals(mesh)
    outward = torch.nn.functional.normalize(mesh.vertices - 0.5, dim=1)
    assert torch.allclose(corner, outward, atol=1e-6), "angle weights do not see how squares are cut"
    assert corner.dtype == dtype and meshes.volume(mesh).dtype == dtype


def test_volume_far_from_the_origin():
    moved = Mesh(cube(torch.float32).vertices + 1000, F)
    assert float(meshes.volume(moved)) == pytest.approx(1, rel=1e-4)
    assert float(meshes.volume(Mesh(V, F.flip(1)))) == pytest.approx(-1)


def test_measures_equal_trimesh():
    trimesh = pytest.importorskip("trimesh")
    mesh = bumpy()
    peer = trimesh.Trimesh(mesh.vertices.numpy(), mesh.faces.numpy(), process=False)
    assert float(meshes.area(mesh)) == pytest.approx(peer.area, rel=1e-12)
    assert float(meshes.volume(mesh)) == pytest.approx(peer.volume, rel=1e-12)
    assert meshes.is_watertight(mesh) and peer.is_watertight
    assert np.allclose(meshes.face_normals(mesh), peer.face_normals)
    weighted = trimesh.geometry.weighted_vertex_normals(len(mesh.vertices), mesh.faces.numpy(), peer.face_normals, peer.face_angles)
    assert np.allclose(meshes.vertex_normals(mesh), weighted, atol=1e-9)


def test_faces_without_area_have_zero_normals_and_finite_gradients():
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [0, 1, 0]], dtype=torch.float64, requires_grad=True)
    mesh = Mesh(vertices, [[0, 1, 2], [0, 0, 1], [0, 1, 3]])
    assert meshes.face_normals(mesh)[:2].abs().max() == 0
    assert meshes.vertex_normals(mesh)[2].abs().max() == 0
    (meshes.face_normals(mesh).sum() + meshes.vertex_normals(mesh).sum() + meshes.area(mesh) + meshes.volume(mesh)).backward()
    assert vertices.grad.isfinite().all()


def test_tiny_triangles_have_normals():
    mesh = Mesh(cube().vertices * 1e-15, F)
    assert torch.allclose(meshes.face_normals(mesh), meshes.face_normals(cube()))


def test_gradients():
    faces = bumpy(12).faces
    for measure in (meshes.area, meshes.volume, meshes.vertex_normals, meshes.face_normals):
        vertices = bumpy(12).vertices.requires_grad_()
        assert torch.autograd.gradcheck(lambda v, m=measure: m(Mesh(v, faces)), vertices)


@pytest.mark.parametrize(
    ("faces", "why"),
    [
        (CUBE_FACES[1:], "a hole"),
        ([CUBE_FACES[0][::-1], *CUBE_FACES[1:]], "one face turned"),
        ([*CUBE_FACES, CUBE_FACES[0]], "a face twice"),
        ([*CUBE_FACES, CUBE_FACES[0], CUBE_FACES[0][::-1]], "edges with four faces"),
        ([*CUBE_FACES, [0, 0, 1]], "a corner twice"),
        ([[0, 1, 2]], "one triangle"),
    ],
)
def test_not_watertight(faces, why):
    assert not meshes.is_watertight(Mesh(V, faces)), why


def test_two_cubes_that_share_an_edge_are_not_watertight():
    """Each edge is run along as often in either direction, but one has four faces."""
    other = cube().vertices + torch.tensor([1.0, 1, 0])
    both = meshes.merge_duplicates(Mesh(torch.cat([V, other]), torch.cat([F, F + 8])))
    assert len(both.vertices) == 14 and not meshes.is_watertight(both)
    for seed in range(5):
        mixed = both.faces[torch.randperm(24, generator=generator(seed))]
        assert not meshes.is_watertight(Mesh(both.vertices, mixed))


def test_watertight_equals_a_plain_count():
    """Against the definition, on random subsets and turns of a closed mesh."""
    whole = bumpy(30)
    rng = np.random.default_rng(0)
    for k in range(60):
        faces = whole.faces.numpy().copy()
        if k % 3:
            which = rng.integers(len(faces), size=k % 4)
            faces[which] = faces[which][:, ::-1]
        if k % 5 == 0:
            faces = faces[rng.random(len(faces)) < 0.95 if k % 2 else slice(None)]
        edges = {}
        for a, b in (tuple(int(n) for n in e) for f in faces for e in zip(f, np.roll(f, -1))):
            edges[a, b] = edges.get((a, b), 0) + 1
        expected = bool(edges) and all(n == 1 and edges.get((b, a)) == 1 for (a, b), n in edges.items())
        assert meshes.is_watertight(Mesh(whole.vertices, faces.copy())) == expected


# --- changes ---


def test_merge_duplicates_undoes_a_soup():
    mesh = bumpy()
    soup = Mesh(mesh.triangles.reshape(-1, 3), torch.arange(3 * len(mesh.faces)).reshape(-1, 3))
    assert not meshes.is_watertight(soup)
    merged = meshes.merge_duplicates(soup)
    assert len(merged.vertices) == len(mesh.vertices) and meshes.is_watertight(merged)
    assert torch.equal(merged.triangles, mesh.triangles)
    same = meshes.merge_duplicates(mesh)
    assert torch.equal(same.vertices, mesh.vertices) and torch.equal(same.faces, mesh.faces)


def test_merge_duplicates_looks_at_colours_and_cells():
    vertices, faces = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [-0.0, 0, 0], [1, 1e-4, 0]]), [[0, 1, 2], [3, 1, 2], [0, 1, 4]]
    assert meshes.merge_duplicates(Mesh(vertices, faces)).faces.tolist() == [[0, 1, 2], [0, 1, 2], [0, 1, 3]]
    colors = torch.arange(15.0).reshape(5, 3) / 15
    assert len(meshes.merge_duplicates(Mesh(vertices, faces, colors)).vertices) == 5
    near = meshes.merge_duplicates(Mesh(vertices, faces), tolerance=0.01)
    assert len(near.vertices) == 3 and near.faces.tolist() == [[0, 1, 2], [0, 1, 2]], "the face that lost a corner is gone"
    for wrong in (-1.0, NAN, INF):
        with pytest.raises(InputError, match="tolerance"):
            meshes.merge_duplicates(Mesh(vertices, faces), wrong)


def test_normalize():
    mesh = meshes.normalize(Mesh(V * torch.tensor([2.0, 4, 1]) + 7, F), size=3.0)
    low, high = meshes.bounds(mesh)
    assert torch.allclose(low, -high) and (high - low).tolist() == pytest.approx([1.5, 3, 0.75])
    for wrong in (0.0, -1.0, NAN):
        with pytest.raises(InputError, match="size"):
            meshes.normalize(mesh, wrong)
    with pytest.raises(InputError, match="one place"):
        meshes.normalize(Mesh(torch.zeros(3, 3), [[0, 1, 2]]))


@pytest.mark.parametrize("mirror", [1.0, -1.0])
def test_transform_keeps_normals_outward(mirror):
    mesh = bumpy()
    mesh = Mesh(mesh.vertices, mesh.faces, None, meshes.vertex_normals(mesh))
    T = torch.eye(4, dtype=torch.float64)
    T[:3, :3] = torch.tensor([[1, 2, 0], [0, 1, 0.5], [0.3, 0, mirror]])
    T[:3, 3] = torch.tensor([1, 2, 3])
    moved = meshes.transform(mesh, T)
    assert float(meshes.volume(moved)) == pytest.approx(abs(float(torch.linalg.det(T))) * float(meshes.volume(mesh)))
    assert meshes.is_watertight(moved)
    rigid = torch.eye(4, dtype=torch.float64)
    rigid[:3, :3] = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, mirror]])
    turned = meshes.transform(mesh, rigid)
    assert torch.allclose(turned.normals, meshes.vertex_normals(turned), atol=1e-9)
    back = meshes.transform(moved, torch.linalg.inv(T))
    assert torch.allclose(back.vertices, mesh.vertices) and torch.allclose(back.normals, mesh.normals)


@pytest.mark.parametrize("T", [torch.eye(3), torch.zeros(4, 4), torch.ones(4, 4), torch.full((4, 4), NAN)])
def test_transform_refuses(T):
    with pytest.raises(InputError, match="^T "):
        meshes.transform(cube(), T)


@pytest.mark.parametrize("dtype", DTYPES)
def test_samples_lie_on_their_faces_and_are_uniform(dtype):
    mesh = meshes.transform(cube(dtype), torch.diag(torch.tensor([4.0, 1, 1, 1])))
    points, faces, barycentrics = meshes.sample_surface(mesh, 20_000, generator(0))
    assert points.dtype == barycentrics.dtype == dtype and faces.dtype == torch.int64
    assert torch.allclose(barycentrics.sum(dim=1), torch.ones(20_000, dtype=dtype)) and barycentrics.min() >= 0
    assert torch.allclose((mesh.triangles[faces] * barycentrics[..., None]).sum(dim=1), points)
    share = torch.bincount(faces, minlength=12) / 20_000
    areas = torch.linalg.cross(*(mesh.triangles[:, k] - mesh.triangles[:, 0] for k in (1, 2))).norm(dim=1)
    assert torch.allclose(share, (areas / areas.sum()).float(), atol=0.01)
    assert torch.allclose(barycentrics.mean(dim=0), torch.full((3,), 1 / 3, dtype=dtype), atol=0.01)
    assert torch.equal(points, meshes.sample_surface(mesh, 20_000, generator(0))[0])
    assert meshes.sample_surface(mesh, 0)[0].shape == (0, 3)
    with pytest.raises(InputError, match="count"):
        meshes.sample_surface(mesh, -1)


def test_samples_avoid_faces_without_area_and_carry_gradients():
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]], requires_grad=True)
    points, faces, _ = meshes.sample_surface(Mesh(vertices, [[0, 0, 1], [0, 1, 2], [1, 1, 1]]), 200, generator(3))
    assert set(faces.tolist()) == {1}
    points.sum().backward()
    assert vertices.grad.sum() == pytest.approx(600)


# --- files ---


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("suffix", [".obj", ".ply", ".glb", ".PLY"])
def test_round_trip(tmp_path, suffix, dtype):
    mesh = bumpy().to(dtype)
    mesh = Mesh(mesh.vertices, mesh.faces, (mesh.vertices * 0.3 + 0.5).clamp(0, 1))
    path = save(mesh, tmp_path / f"new/mesh{suffix}")
    again = load(path, dtype)
    assert torch.equal(again.faces, mesh.faces) and meshes.is_watertight(again)
    exact = dtype == torch.float32 or suffix != ".glb"
    assert torch.equal(again.vertices, mesh.vertices if exact else mesh.vertices.float().double())
    assert torch.allclose(again.colors, mesh.colors, atol={".obj": 3e-6, ".glb": 2e-3}.get(suffix, 5e-3))
    assert again.vertices.dtype == dtype and load(path).vertices.dtype == torch.float32
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".obj", ".ply", ".glb"])
def test_trimesh_reads_what_is_written(tmp_path, suffix):
    trimesh = pytest.importorskip("trimesh")
    mesh = bumpy(100, torch.float32)
    mesh = Mesh(mesh.vertices, mesh.faces, torch.full_like(mesh.vertices, 0.5))
    peer = trimesh.load(save(mesh, tmp_path / f"m{suffix}"), process=False, force="mesh")
    assert np.allclose(peer.vertices, mesh.vertices) and np.array_equal(peer.faces, mesh.faces)
    level = 0.5 if suffix == ".glb" else 0.7354  # sRGB of linear 0.5, but glTF colours are linear
    assert abs(peer.visual.vertex_colors[0, 0] / 255 - level) < 0.01


@pytest.mark.parametrize("kind", ["obj", "ply", "ply-ascii", "glb", "stl", "stl-ascii", "gltf"])
def test_what_trimesh_writes_is_read(tmp_path, kind):
    trimesh = pytest.importorskip("trimesh")
    mesh = bumpy(60)
    peer = trimesh.Trimesh(mesh.vertices.numpy(), mesh.faces.numpy(), process=False)
    suffix, _, text = kind.partition("-")
    path = tmp_path / f"m.{suffix}"
    if suffix == "gltf":
        for name, content in peer.scene().export(file_type="gltf").items():
            (tmp_path / (name if not name.endswith(".gltf") else "m.gltf")).write_bytes(content)
    elif suffix == "stl":
        path.write_bytes(peer.export(file_type="stl_ascii").encode() if text else peer.export(file_type="stl"))
    else:
        peer.export(path, **({"encoding": "ascii"} if text else {}))
    again = load(path, torch.float64)
    assert len(again.vertices) == len(mesh.vertices) and meshes.is_watertight(again)
    assert torch.allclose(again.triangles, mesh.triangles, atol=1e-6)


def test_textured_seams_close(tmp_path):
    """Vertices that a texture or normals cut apart in OBJ, PLY and GLB load as one."""
    trimesh = pytest.importorskip("trimesh")
    mesh = cube()
    soup = trimesh.Trimesh(mesh.triangles.reshape(-1, 3).numpy(), np.arange(36).reshape(-1, 3), process=False)
    soup.visual = trimesh.visual.TextureVisuals(uv=np.random.default_rng(0).random((36, 2)))
    soup.export(tmp_path / "m.glb")
    rows = [f"{x} {y} {z} {k / 36} 0" for k, (x, y, z) in enumerate(soup.vertices)] + [f"3 {a} {b} {c}" for a, b, c in soup.faces]
    properties = "".join(f"property float {n}\n" for n in "xyzst") + "element face 12\nproperty list uchar int vertex_index\n"
    (tmp_path / "m.ply").write_text("ply\nformat ascii 1.0\nelement vertex 36\n" + properties + "end_header\n" + "\n".join(rows))
    texts = [f"v {x} {y} {z}" for x, y, z in CORNERS] + [f"vt {k / 36} 0" for k in range(36)]
    texts += ["f " + " ".join(f"{v + 1}/{3 * k + j + 1}" for j, v in enumerate(f)) for k, f in enumerate(CUBE_FACES)]
    (tmp_path / "m.obj").write_text("\n".join(texts))
    for suffix in ("obj", "ply", "glb"):
        again = load(tmp_path / f"m.{suffix}")
        assert len(again.vertices) == 8 and meshes.is_watertight(again), suffix


def test_obj_says_everything(tmp_path):
    """Quads, negative and forward indices, comments, continued lines, CRLF, weights and statements without geometry."""
    text = "mtllib no.mtl\r\n# made by hand\r\nf 5//1 6//2 7//3\r\nv 0 0 0 # origin\r\nv 1 0 0 1.0\r\nv 1 1 0\r\nv 0 1 0\r\n"
    text += "usemtl red\r\nf -4//1 -3//2 \\\r\n -2 -1\r\n\r\nv 0 0 1\r\nv 1 0 1e0\r\nv +1 1. 1\r\ng a b c\r\ns off"
    (tmp_path / "m.obj").write_bytes(text.encode())
    mesh = load(tmp_path / "m.obj", textures=False)
    assert mesh.faces.tolist() == [[4, 5, 6], [0, 1, 2], [0, 2, 3]] and mesh.colors is None
    (tmp_path / "m.obj").write_text("v 0 0 0 1 0 0\nv 1 0 0 0 1 0\nv 0 1 0 0.5 0.5 0.5\nf 1 2 3\n")
    assert load(tmp_path / "m.obj").colors[2].tolist() == pytest.approx([0.21404] * 3, abs=1e-4)


@pytest.mark.parametrize("order", ["<", ">"])
def test_binary_ply_with_mixed_polygons(tmp_path, order):
    """Triangles among quads, more properties and elements than are needed, either byte order."""
    name = {"<": "little", ">": "big"}[order]
    header = f"ply\nformat binary_{name}_endian 1.0\ncomment c\nelement extra 2\nproperty short a\nelement vertex 5\n"
    header += "property double x\nproperty double y\nproperty double z\nproperty uchar red\nproperty uchar green\nproperty uchar blue\n"
    header += "element face 2\nproperty uchar flag\nproperty list uint uint vertex_indices\nend_header\n"
    places = [(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (2, 0.5, 0)]
    body = struct.pack(order + "hh", 1, 2) + b"".join(struct.pack(order + "dddBBB", *p, 255, 0, 128) for p in places)
    body += struct.pack(order + "BI4I", 1, 4, 0, 1, 2, 3) + struct.pack(order + "BI3I", 1, 3, 1, 4, 2)
    (tmp_path / "m.ply").write_bytes(header.encode() + body)
    mesh = load(tmp_path / "m.ply")
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3], [1, 4, 2]]
    assert mesh.vertices.tolist() == [list(map(float, p)) for p in places]
    assert mesh.colors[0].tolist() == pytest.approx([1, 0, 0.21586], abs=1e-4)


def gltf(tmp_path, nodes, scene=(0,), mode=4, **more):
    """A glTF document of one triangle (or strip) in a file beside it."""
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]], dtype="<f4")
    order = np.array({4: [0, 1, 2, 1, 3, 2], 5: [0, 1, 2, 3], 6: [0, 1, 3, 2], 1: [0, 1]}[mode], dtype="<u2")
    (tmp_path / "m.bin").write_bytes(corners.tobytes() + order.tobytes())
    size = corners.nbytes + order.nbytes
    document = {
        "asset": {"version": "2.0"},
        "scenes": [{"nodes": list(scene)}],
        "nodes": nodes,
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1, "mode": mode}]}],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": 4, "type": "VEC3"},
            {"bufferView": 1, "componentType": 5123, "count": len(order), "type": "SCALAR"},
        ],
        "bufferViews": [
            {"buffer": 0, "byteOffset": 0, "byteLength": corners.nbytes},
            {"buffer": 0, "byteOffset": corners.nbytes, "byteLength": order.nbytes},
        ],
        "buffers": [{"byteLength": size, "uri": "m.bin"}],
    } | more
    (tmp_path / "m.gltf").write_text(json.dumps(document))
    return tmp_path / "m.gltf"


@pytest.mark.parametrize("mode", [4, 5, 6])
def test_gltf_modes(tmp_path, mode):
    mesh = load(gltf(tmp_path, [{"mesh": 0}], mode=mode))
    assert float(meshes.area(mesh)) == pytest.approx(1)
    assert torch.allclose(meshes.face_normals(mesh), torch.tensor([0.0, 0, 1]))
    with pytest.raises(InputError, match="has no faces"):
        load(gltf(tmp_path, [{"mesh": 0}], mode=1))


def test_gltf_nodes_are_put_in_place_like_trimesh(tmp_path):
    trimesh = pytest.importorskip("trimesh")
    half = math.sqrt(0.5)
    nodes = [
        {"children": [1, 2], "translation": [1, 2, 3], "rotation": [0, half, 0, half]},
        {"mesh": 0, "scale": [2, 3, 1]},
        {"children": [3]},
        {"mesh": 0, "matrix": [0, 1, 0, 0, -1, 0, 0, 0, 0, 0, 1, 0, 5, 6, 7, 1]},
        {"mesh": 0, "translation": [100, 0, 0]},
    ]
    path = gltf(tmp_path, nodes)
    mesh = load(path, torch.float64)
    assert len(mesh.faces) == 4, "the last node is in no scene"
    peer = trimesh.load(path, process=False, force="scene")
    parts = [trimesh.transform_points(peer.geometry[g].vertices, T) for T, g in (peer.graph[n] for n in peer.graph.nodes_geometry)]
    ours, theirs = mesh.vertices.numpy(), np.concatenate([p for p in parts if p.max() < 50])
    assert np.allclose(ours[np.lexsort(ours.round(6).T)], theirs[np.lexsort(theirs.round(6).T)])


def test_gltf_nodes_below_cameras_and_lines_are_kept(tmp_path):
    line = {"primitives": [{"attributes": {"POSITION": 0}, "mode": 3}]}
    nodes = [{"camera": 0, "children": [1]}, {"mesh": 1, "children": [2], "translation": [0, 0, 2]}, {"mesh": 0}]
    triangle = {"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}
    camera = {"type": "perspective", "perspective": {"yfov": 1, "znear": 1, "aspectRatio": 1}}
    mesh = load(gltf(tmp_path, nodes, meshes=[triangle, line], cameras=[camera]))
    assert len(mesh.faces) == 2 and mesh.vertices[:, 2].tolist() == [2] * 4


def test_gltf_positions_may_be_fractions_of_integers(tmp_path):
    path = gltf(tmp_path, [{"mesh": 0}], extensionsRequired=["KHR_mesh_quantization"])
    document = json.loads(path.read_text())
    corners = np.array([[0, 0, 0], [127, 0, 0], [0, 127, 0], [-127, -128, 0]], dtype="i1")
    (tmp_path / "m.bin").write_bytes(corners.tobytes().ljust(48, b"\0") + (tmp_path / "m.bin").read_bytes()[48:])
    document["accessors"][0] |= {"componentType": 5120, "normalized": True}
    path.write_text(json.dumps(document))
    assert load(path).vertices.tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0], [-1, -1, 0]]


def test_gltf_nodes_that_touch_stay_apart(tmp_path):
    mesh = load(gltf(tmp_path, [{"mesh": 0}, {"mesh": 0}], scene=(0, 1)))
    assert len(mesh.vertices) == 8 and mesh.faces.tolist() == [[0, 1, 2], [1, 3, 2], [4, 5, 6], [5, 7, 6]]


def test_gltf_mirror_keeps_faces_outward(tmp_path):
    mesh = load(gltf(tmp_path, [{"mesh": 0, "scale": [-1, 1, 1]}]))
    assert torch.allclose(meshes.face_normals(mesh), torch.tensor([0.0, 0, 1]))


@pytest.mark.parametrize("suffix", [".stl", ".xyz", ""])
def test_save_refuses_a_suffix(tmp_path, suffix):
    with pytest.raises(InputError, match="suffix"):
        save(cube(), tmp_path / f"m{suffix}")


def test_save_refuses_what_would_not_load(tmp_path):
    with pytest.raises(InputError, match="no faces"):
        save(Mesh(V, F[:0]), tmp_path / "m.obj")
    with pytest.raises(InputError, match="beyond float32"):
        save(Mesh(V.double() * 1e300, F), tmp_path / "m.glb")
    (tmp_path / "m.ply").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        save(cube(), tmp_path / "m.ply")
    assert [p.name for p in tmp_path.iterdir()] == ["m.ply"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e30, 1e30), min_size=9, max_size=9), st.sampled_from([".obj", ".ply"]))
def test_any_float64_survives(tmp_path_factory, numbers, suffix):
    path = tmp_path_factory.mktemp("m") / f"m{suffix}"
    mesh = Mesh(torch.tensor(numbers, dtype=torch.float64).reshape(3, 3), [[0, 1, 2]])
    assert torch.equal(load(save(mesh, path), torch.float64).vertices, mesh.vertices)


# name: vertices, faces, as the files' README and a count of their statements say; all are closed
REAL = {
    "spot": (2930, 5856),
    "fish": (10786, 21568),
    "nefertiti": (35002, 70000),
    "penguin": (3362, 6720),
    "wingnut": (3047, 6090),
    "boot": (19931, 39906),
    "plane": (8730, 17456),
}


@pytest.mark.parametrize("name", REAL)
def test_real_meshes_are_watertight(name):
    if not os.environ.get("DENSEBOOK_DATA"):
        pytest.skip("DENSEBOOK_DATA is not set")
    from densebook.data import get

    mesh = load(get(name))
    assert (len(mesh.vertices), len(mesh.faces)) == REAL[name]
    assert meshes.is_watertight(mesh) and meshes.volume(mesh) > 0
    trimesh = pytest.importorskip("trimesh")
    peer = trimesh.load(get(name), process=False, force="mesh")
    assert float(meshes.volume(mesh)) == pytest.approx(peer.volume, rel=1e-5)
    assert float(meshes.area(mesh)) == pytest.approx(peer.area, rel=1e-5)
