"""Texture coordinates, textures, colours and objects of meshes, and the OBJ, MTL, glTF and picture files that carry them."""

import io
import json
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from densebook.core.errors import InputError
from densebook.core.seeds import generator
from densebook.geometry import mesh as meshes
from densebook.geometry.mesh import Mesh, join, load, save
from densebook.geometry.mesh_common import decode, encode, linear, srgb

DTYPES = (torch.float32, torch.float64)


def tetrahedron(dtype=torch.float64) -> Mesh:
    return Mesh(torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=dtype), [[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])


def picture(seed: int, size=(3, 5)) -> torch.Tensor:
    """A picture whose values are those of 8-bit sRGB, so that PNG keeps them."""
    levels = torch.randint(0, 256, (*size, 3), generator=generator(seed))
    return torch.from_numpy(linear(levels.numpy() / 255))


def dressed(dtype=torch.float64, seed: int = 0) -> Mesh:
    """A tetrahedron with everything: corner uv (outside [0, 1] too), two textures, one face without, colours, objects."""
    draw = generator(seed)
    return replace(
        tetrahedron(),
        colors=torch.rand(4, 3, generator=draw).double(),
        uv=torch.rand(4, 3, 2, generator=draw).double() * 3 - 1,
        textures=(picture(1), picture(2, (4, 4))),
        face_textures=torch.tensor([1, -1, 0, 1]),
        face_colors=torch.tensor([[1.0, 1, 1], [0.25, 0.5, 0.75], [1, 1, 1], [1, 1, 1]]).double(),
        objects=torch.tensor([0, 0, 2, 5]),
    ).to(dtype)


def albedo(mesh: Mesh, count: int = 200) -> torch.Tensor:
    """Colour of fixed points on each face (nearest texel), faces in an order that does not depend on the file's."""
    centres = mesh.triangles.mean(dim=1).double()
    order = torch.from_numpy(np.lexsort(centres.numpy().round(4).T))
    weights = torch.rand(count, 3, generator=generator(7), dtype=torch.float64)
    weights = weights / weights.sum(dim=1, keepdim=True)
    # corners too may begin elsewhere: start each face at its lowest vertex
    start = torch.from_numpy(np.stack([np.lexsort(t.numpy().round(4).T)[0] for t in mesh.triangles.double()]))
    turn = (start[:, None] + torch.arange(3)) % 3
    found = torch.ones(len(mesh.faces), count, 3, dtype=torch.float64)
    if mesh.colors is not None:
        corners = mesh.colors[mesh.faces].double().gather(1, turn[..., None].expand(-1, -1, 3))
        found = found * torch.einsum("nk,fkc->fnc", weights, corners)
    if mesh.face_colors is not None:
        found = found * mesh.face_colors[:, None].double()
    if mesh.textures:
        uv = torch.einsum("nk,fkc->fnc", weights, mesh.uv.double().gather(1, turn[..., None].expand(-1, -1, 2)))
        which = torch.zeros(len(mesh.faces), dtype=torch.int64) if mesh.face_textures is None else mesh.face_textures
        for face in range(len(mesh.faces)):
            if which[face] >= 0:
                texture = mesh.textures[which[face]].double()
                h, w, _ = texture.shape
                u, v = (uv[face] - uv[face].floor()).unbind(1)
                found[face] *= texture[((1 - v) * h).long().clamp(0, h - 1), (u * w).long().clamp(0, w - 1)]
    return found[order]


# --- the value ---


def test_repr_and_to():
    mesh = dressed()
    assert repr(mesh) == "Mesh(4 vertices, 4 faces, colors, uv, 2 textures, face_colors, objects, float64, cpu)"
    assert "1 texture," in repr(replace(mesh, textures=mesh.textures[:1], face_textures=None))
    small = mesh.to(torch.float32)
    for value in (small.vertices, small.uv, small.face_colors, *small.textures):
        assert value.dtype == torch.float32
    assert small.face_textures.dtype == small.objects.dtype == torch.int64
    assert Mesh(mesh.vertices, mesh.faces, textures=()).textures is None
    plain = Mesh(
        [[0.0, 0, 0]] * 3, [[0, 1, 2]], uv=[[[0.0, 0], [1, 0], [0, 1]]], textures=[[[[0.5, 0.5, 0.5]]]], face_textures=[0], objects=[3]
    )
    assert plain.textures[0].shape == (1, 1, 3) and isinstance(plain.textures, tuple)
    empty = Mesh([], [], uv=[], face_textures=[], face_colors=[], objects=[])
    assert empty.uv.shape == (0, 3, 2) and empty.objects.shape == (0,) and empty.objects.dtype == torch.int64


NAN = float("nan")
UV, PICTURE = torch.rand(4, 3, 2), torch.rand(2, 2, 3)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"uv": UV[:, :2]}, r"^uv has shape \(4, 2, 2\); it must be \(rows, 3, 2\)"),
        ({"uv": UV[:3]}, "^uv has 3 rows for 4 faces"),
        ({"uv": UV.long()}, "^uv is torch.int64"),
        ({"uv": torch.cat([UV[:3], UV[3:] * NAN])}, r"^uv\[3\].*not finite"),
        ({"uv": "map"}, "^uv is a str"),
        ({"textures": (PICTURE,)}, "^textures are there but uv is None"),
        ({"uv": UV, "textures": PICTURE}, "^textures is a Tensor"),
        ({"uv": UV, "textures": (PICTURE, PICTURE[0])}, r"^textures\[1\] has shape \(2, 3\)"),
        ({"uv": UV, "textures": (PICTURE[:0],)}, r"^textures\[0\] has shape \(0, 2, 3\)"),
        ({"uv": UV, "textures": (PICTURE * NAN,)}, r"^textures\[0\]\[0\].* is not finite"),
        ({"uv": UV, "textures": (PICTURE.byte(),)}, r"^textures\[0\] is torch.uint8"),
        ({"uv": UV, "textures": ("a.png",)}, r"^textures\[0\] is a str"),
        ({"uv": UV, "textures": (PICTURE,), "face_textures": [0, 1, 0, 0]}, r"^face_textures\[1\] = 1 .*from -1 to 0"),
        ({"uv": UV, "textures": (PICTURE,), "face_textures": [0, -2, 0, 0]}, r"^face_textures\[1\] = -2"),
        ({"face_textures": [0] * 4}, r"^face_textures\[0\] = 0"),
        ({"face_textures": torch.zeros(4)}, "^face_textures is torch.float32"),
        ({"face_textures": [[-1]] * 4}, r"^face_textures has shape \(4, 1\)"),
        ({"face_colors": torch.ones(3, 3)}, "^face_colors has 3 rows for 4 faces"),
        ({"face_colors": torch.full((4, 3), NAN)}, r"^face_colors\[0\].*not finite"),
        ({"objects": [0, 0, -1, 0]}, r"^objects\[2\] = -1"),
        ({"objects": torch.ones(4, dtype=torch.bool)}, "^objects is torch.bool"),
    ],
)
def test_refused(fields, match):
    with pytest.raises(InputError, match=match) as caught:
        replace(tetrahedron(), **fields)
    assert "\n" not in str(caught.value)


def test_large_finite_values_are_finite():
    """The sum that is looked at first may overflow where no value is infinite."""
    big = torch.full((4, 3, 2), 3e38)
    assert torch.equal(replace(tetrahedron(torch.float32), uv=big).uv, big)


@pytest.mark.parametrize("mirror", [1.0, -1.0])
def test_moving_keeps_the_dress(mirror):
    mesh = dressed()
    T = torch.diag(torch.tensor([mirror * 2, 1.0, 3, 1]))
    moved = meshes.normalize(meshes.transform(mesh, T))
    back = meshes.transform(moved, torch.diag(torch.tensor([mirror, 1.0, 1, 1])))
    assert torch.equal(moved.objects, mesh.objects) and moved.textures[1] is mesh.textures[1]
    assert (meshes.volume(moved) > 0) == (meshes.volume(mesh) > 0)
    for each, uv in zip(moved.faces.tolist(), moved.uv):  # each corner keeps its own coordinates
        face = [sorted(f) for f in mesh.faces.tolist()].index(sorted(each))
        for vertex, texel in zip(each, uv):
            assert torch.equal(texel, mesh.uv[face][mesh.faces[face].tolist().index(vertex)])
    assert len(back.faces) == 4


def test_merge_duplicates_keeps_the_dress():
    mesh = dressed()
    empty = torch.tensor([[0, 0, 1]])  # a face without area, which goes
    rows = {n: torch.cat([t := getattr(mesh, n), t[:1]]) for n in ("uv", "face_textures", "face_colors", "objects")}
    corners = torch.cat([torch.arange(12).reshape(4, 3), empty])
    soup = replace(mesh, vertices=mesh.triangles.reshape(-1, 3), faces=corners, colors=None, **rows)
    again = meshes.merge_duplicates(soup)
    assert len(again.vertices) == 4 and len(again.faces) == 4 and meshes.is_watertight(again)
    assert torch.equal(again.uv, mesh.uv) and torch.equal(again.triangles, mesh.triangles)
    assert torch.equal(again.objects, mesh.objects) and torch.equal(again.face_textures, mesh.face_textures)


@pytest.mark.parametrize("dtype", DTYPES)
def test_join(dtype):
    a, b = dressed(dtype), tetrahedron(dtype)
    b = replace(b, normals=meshes.vertex_normals(b))
    c = replace(dressed(dtype, 1), textures=(a.textures[1],), face_textures=None, colors=None, face_colors=None)
    whole = join([a, b, c])
    assert whole.objects.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert torch.equal(whole.triangles, torch.cat([m.triangles for m in (a, b, c)]))
    assert len(whole.textures) == 2 and whole.textures[1] is a.textures[1], "a shared texture is kept once"
    assert whole.face_textures.tolist() == [1, -1, 0, 1] + [-1] * 4 + [1] * 4
    assert torch.equal(whole.uv[8:], c.uv) and not whole.uv[4:8].any()
    assert (whole.colors[4:] == 1).all() and (whole.face_colors[4:] == 1).all() and torch.equal(whole.colors[:4], a.colors)
    assert torch.allclose(whole.normals, torch.cat([meshes.vertex_normals(m) for m in (a, b, c)]))
    assert torch.allclose(albedo(replace(whole, objects=None))[0], albedo(whole)[0])
    alone = join([b])
    assert alone.textures is alone.uv is alone.colors is None and alone.objects.tolist() == [0] * 4
    assert join([a, Mesh(a.vertices[:0], a.faces[:0])]).objects.tolist() == [0] * 4


def test_join_carries_gradients_and_refuses():
    a = tetrahedron()
    a.vertices.requires_grad_()
    meshes.area(join([a, tetrahedron()])).backward()
    assert a.vertices.grad.abs().sum() > 0
    for wrong, match in (([], "no list"), ([1], "no list"), ([a, a.to(torch.float32)], r"meshes\[1\] is torch.float32")):
        with pytest.raises(InputError, match=match):
            join(wrong)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda():
    mesh = dressed().to("cuda")
    assert mesh.uv.is_cuda and mesh.textures[0].is_cuda and mesh.objects.is_cuda and join([mesh, mesh]).face_textures.is_cuda
    with pytest.raises(InputError, match="one device"):
        replace(mesh, textures=(mesh.textures[0].cpu(), mesh.textures[1]))


# --- pictures ---


def png(values: np.ndarray, mode: str | None = None, kind: str = "PNG", **more) -> bytes:
    out = io.BytesIO()
    Image.fromarray(values, mode).save(out, kind, **more) if mode is None else Image.fromarray(values).convert(mode).save(out, kind, **more)
    return out.getvalue()


def test_pictures_of_every_kind():
    levels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    assert np.allclose(decode(png(levels)), linear(levels / 255), atol=1e-7) and decode(png(levels)).dtype == np.float32
    grey = levels[..., 0]
    assert np.allclose(decode(png(grey)), linear(grey / 255)[..., None].repeat(3, 2), atol=1e-7)
    deep = grey.astype(np.uint16) * 257
    assert np.allclose(decode(png(deep)), linear(grey / 255)[..., None].repeat(3, 2), atol=1e-6)
    see_through = np.concatenate([levels, np.full((4, 6, 1), 7, np.uint8)], axis=2)
    assert np.allclose(decode(png(see_through)), linear(levels / 255), atol=1e-7)
    few = np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8)
    assert np.allclose(decode(png(few, "P")), few / 255)
    assert np.allclose(decode(png(few[:, :1], kind="JPEG", quality=100)), few[:, :1] / 255, atol=0.02)
    assert np.allclose(decode(encode(linear(levels / 255))), linear(levels / 255), atol=1e-7)
    x = np.linspace(0, 1, 100)
    assert np.allclose(srgb(linear(x)), x, atol=1e-12) and linear(np.array(0.5)) == pytest.approx(0.21404, abs=1e-5)


# --- OBJ and MTL ---

OBJ = """mtllib shop.mtl
v 0 0 0
v 1 0 0
v 1 1 0
v 0 1 0
v 0 0 1
vt 0 0
vt 1 0
vt 1 1 0.5
vt 0 -2.5
f 1 2 5
usemtl two words # and a hash
f 1/1 2/2 3/3 4/4
usemtl red
f -5/-4/7 -4/-3/7 -1/-1/7
f 2 3 5
usemtl (null)
f 3 4 5
"""
MTL = """# made by hand
Kd 0 0 0
newmtl red
  Kd 0.5 0.25 0.125
map_Kd -blendu on -s 1 1 1 -o 0 0 pictures\\red.png
newmtl two words # and a hash
Ka 1 1 1
Kd 0.3
illum 2
"""


def shop(folder, obj=OBJ, mtl=MTL):
    (folder / "pictures").mkdir(exist_ok=True)
    (folder / "pictures/red.png").write_bytes(encode(picture(1).numpy()))
    (folder / "shop.mtl").write_text(mtl)
    (folder / "m.obj").write_text(obj)
    return folder / "m.obj"


def test_obj_with_two_materials(tmp_path):
    mesh = load(shop(tmp_path), torch.float64)
    assert mesh.faces.tolist() == [[0, 1, 4], [0, 1, 2], [0, 2, 3], [0, 1, 4], [1, 2, 4], [2, 3, 4]]
    assert mesh.face_textures.tolist() == [-1, -1, -1, 0, -1, -1]
    assert torch.allclose(mesh.textures[0], picture(1), atol=1e-7)
    tint, white = [0.3] * 3, [1.0] * 3
    assert mesh.face_colors.tolist() == [white, tint, tint, white, [0.5, 0.25, 0.125], white], "a picture stands in place of Kd"
    assert mesh.uv[1:4].tolist() == [[[0, 0], [1, 0], [1, 1]], [[0, 0], [1, 1], [0, -2.5]], [[0, 0], [1, 0], [0, -2.5]]]
    assert not mesh.uv[[0, 4, 5]].any()
    plain = load(tmp_path / "m.obj", torch.float64, textures=False)
    assert plain.textures is plain.face_colors is plain.face_textures is None and torch.equal(plain.uv, mesh.uv)
    for path in (tmp_path / "shop.mtl", tmp_path / "pictures/red.png"):
        path.unlink()
    assert torch.equal(load(tmp_path / "m.obj", textures=False).uv, mesh.uv.float())
    (tmp_path / "m.obj").write_text(OBJ.replace("mtllib", "# mtllib"))
    assert load(tmp_path / "m.obj").face_colors is None, "names without a library mean nothing"


def test_mtllib_finds_files(tmp_path):
    """Several libraries, the first that has a name wins; pictures lie relative to their library; pictures are read once."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/a b.mtl").write_text("newmtl a\nmap_Kd ../p.png\nnewmtl d\nmap_Kd ../p.png")
    (tmp_path / "c.mtl").write_text("newmtl c\nKd 0 1 0\nnewmtl a\nKd 1 1 1\nnewmtl unused\nmap_Kd not there.png")
    (tmp_path / "p.png").write_bytes(encode(picture(1).numpy()))
    lines = ["mtllib sub/a b.mtl", "mtllib e.mtl c.mtl", "v 0 0 0", "v 1 0 0", "v 0 1 0", "vt 0 0"]
    lines += [x for m in "acd" for x in (f"usemtl {m}", "f 1/1 2/1 3/1")]
    (tmp_path / "e.mtl").write_text("")
    (tmp_path / "m.obj").write_text("\n".join(lines))
    mesh = load(tmp_path / "m.obj")
    assert len(mesh.textures) == 1 and mesh.face_textures.tolist() == [0, -1, 0]
    assert mesh.face_colors.tolist() == [[1, 1, 1], [0, 1, 0], [1, 1, 1]]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("suffix", [".obj", ".glb"])
def test_round_trip(tmp_path, suffix, dtype):
    mesh = dressed(dtype)
    again = load(save(mesh, tmp_path / f"my mesh{suffix}"), dtype)
    exact = dtype == torch.float32 or suffix == ".obj"
    if suffix == ".obj":  # in GLB the faces of a material come together
        assert torch.equal(again.faces, mesh.faces) and torch.equal(again.vertices, mesh.vertices)
        assert torch.equal(again.uv, mesh.uv) and torch.equal(again.face_colors, mesh.face_colors)
        names = sorted(p.name for p in tmp_path.iterdir())
        assert names == ["my mesh.obj", "my_mesh.mtl", "my_mesh_0.png", "my_mesh_1.png"]
    else:
        assert [p.name for p in tmp_path.iterdir()] == ["my mesh.glb"]
    assert len(again.vertices) == 4 and meshes.is_watertight(again) and len(again.textures) == 2
    assert torch.allclose(albedo(again), albedo(mesh), atol=1e-5 if suffix == ".obj" or exact else 1e-4)
    if suffix == ".obj":
        assert again.objects is None and albedo(mesh).std() > 0.05


@pytest.mark.parametrize("suffix", [".obj", ".glb"])
def test_round_trip_of_colours_on_pictures(tmp_path, suffix):
    """OBJ has no colour on a picture, so that the picture is written in that colour; GLB has one."""
    mesh = replace(dressed(), colors=None, face_colors=torch.tensor([[0.5, 1, 1], [0.2, 0.3, 0.4], [1, 1, 1], [1, 0.25, 1]]).double())
    again = load(save(mesh, tmp_path / f"m{suffix}"), torch.float64)
    assert torch.allclose(albedo(again), albedo(mesh), atol=5e-3 if suffix == ".obj" else 1e-6)
    assert len(again.textures) == (3 if suffix == ".obj" else 2)
    many = join([replace(mesh, face_colors=torch.rand(4, 3, generator=generator(k)).double()) for k in range(40)])
    if suffix == ".obj":
        with pytest.raises(InputError, match="120 colours on its textures.*GLB"):
            save(many, tmp_path / "many.obj")
        assert not (tmp_path / "many.obj").exists()
    else:
        assert len(load(save(many, tmp_path / "many.glb")).faces) == 160


@pytest.mark.parametrize("suffix", [".obj", ".glb", ".ply"])
def test_what_is_not_there_is_not_written(tmp_path, suffix):
    mesh = tetrahedron()
    again = load(save(replace(mesh, uv=torch.rand(4, 3, 2).double()), tmp_path / f"uv{suffix}"))
    assert (again.uv is None) == (suffix == ".ply") and again.textures is again.face_colors is None
    again = load(save(replace(mesh, face_colors=torch.full((4, 3), 0.5).double()), tmp_path / f"c{suffix}"))
    assert (again.face_colors is None) == (suffix == ".ply") and again.uv is None
    assert again.face_colors is None or (again.face_colors == 0.5).all()
    again = load(save(mesh, tmp_path / f"m{suffix}"))
    assert again.uv is again.textures is again.face_colors is again.colors is None


def test_trimesh_sees_what_is_written(tmp_path):
    trimesh = pytest.importorskip("trimesh")
    mesh = replace(dressed(torch.float32), textures=(picture(1).float(),), face_textures=None, face_colors=None, colors=None)
    for suffix in (".obj", ".glb"):
        peer = trimesh.load(save(mesh, tmp_path / f"m{suffix}"), process=False, force="mesh")
        found = peer.visual.uv[peer.faces]
        order = [
            [sorted(map(tuple, t)) for t in peer.vertices[peer.faces].round(5).tolist()].index(sorted(map(tuple, t)))
            for t in mesh.triangles.tolist()
        ]
        for k, corner in zip(order, mesh.uv.numpy()):
            assert np.allclose(np.sort(found[k], axis=0), np.sort(corner, axis=0), atol=1e-5), suffix
        material = peer.visual.material
        image = material.image if suffix == ".obj" else material.baseColorTexture
        assert np.allclose(np.asarray(image.convert("RGB")), srgb(picture(1).numpy()) * 255, atol=0.6)


# --- glTF ---


def textured_gltf(folder, change=lambda d: None, transform=None, inside: bool = True):
    """One quadrilateral with a picture, in a glTF file with base64 or files beside it."""
    import base64

    places = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], "<f4")
    uv, order = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], "<f4"), np.array([0, 1, 2, 0, 2, 3], "<u2")
    data, image = places.tobytes() + uv.tobytes() + order.tobytes(), encode(picture(1).numpy())
    info = {"index": 0} | ({"extensions": {"KHR_texture_transform": transform}} if transform else {})
    document = {
        "asset": {"version": "2.0"},
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0, "TEXCOORD_0": 1}, "indices": 2, "material": 0}]}],
        "materials": [{"pbrMetallicRoughness": {"baseColorTexture": info, "baseColorFactor": [0.5, 1, 0.25, 1]}}],
        "textures": [{"source": 0}],
        "images": [{"uri": "a%20picture.png"}],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": 4, "type": "VEC3"},
            {"bufferView": 1, "componentType": 5126, "count": 4, "type": "VEC2"},
            {"bufferView": 2, "componentType": 5123, "count": 6, "type": "SCALAR"},
        ],
        "bufferViews": [{"buffer": 0, "byteOffset": a, "byteLength": n} for a, n in ((0, 48), (48, 32), (80, 12))],
        "buffers": [{"byteLength": len(data), "uri": "data:application/octet-stream;base64," + base64.b64encode(data).decode()}],
    }
    (folder / "a picture.png").write_bytes(image)
    change(document)
    (folder / "m.gltf").write_text(json.dumps(document))
    return folder / "m.gltf"


def test_gltf_picture_and_factor(tmp_path):
    mesh = load(textured_gltf(tmp_path), torch.float64)
    assert repr(mesh) == "Mesh(4 vertices, 2 faces, uv, 1 texture, face_colors, float64, cpu)"
    assert torch.allclose(mesh.uv, mesh.triangles[..., :2]), "v runs down in glTF and up here"
    assert torch.allclose(mesh.textures[0], picture(1), atol=1e-7) and mesh.face_colors[0].tolist() == [0.5, 1, 0.25]
    plain = load(tmp_path / "m.gltf", textures=False)
    assert plain.textures is plain.face_colors is None and torch.equal(plain.uv, mesh.uv.float())


def test_gltf_texture_transform(tmp_path):
    """KHR_texture_transform's own example: turned by 90 degrees, and offset and scale, as its formula has them."""
    path = textured_gltf(tmp_path, transform={"offset": [0.25, 0.5], "rotation": np.pi / 2, "scale": [0.5, 2]})
    uv = load(path, torch.float64).uv * torch.tensor([1.0, -1]) + torch.tensor([0.0, 1])
    plain = load(textured_gltf(tmp_path), torch.float64).uv * torch.tensor([1.0, -1]) + torch.tensor([0.0, 1])
    T = np.array([[1, 0, 0.25], [0, 1, 0.5], [0, 0, 1]])
    R, S = np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1.0]]), np.diag([0.5, 2, 1])  # R as in the extension's text
    wanted = np.concatenate([plain.numpy(), np.ones((2, 3, 1))], axis=2) @ (T @ R @ S).T
    assert np.allclose(uv, wanted[..., :2], atol=1e-6)


def test_gltf_other_coordinates_and_integers(tmp_path):
    def second(document):
        document["meshes"][0]["primitives"][0]["attributes"] = {"POSITION": 0, "TEXCOORD_1": 1}
        document["materials"][0]["pbrMetallicRoughness"]["baseColorTexture"]["texCoord"] = 1

    assert load(textured_gltf(tmp_path, second)).uv.shape == (2, 3, 2)

    def fractions(document):
        import base64

        data = base64.b64decode(document["buffers"][0]["uri"].partition(",")[2])
        uv = np.array([[0, 255, 0, 0], [255, 255, 0, 0], [255, 0, 0, 0], [0, 0, 0, 0]], "u1")  # 4 bytes a row: aligned
        data = data[:48] + uv.tobytes().ljust(32, b"\0") + data[80:]
        document["buffers"][0]["uri"] = "data:;base64," + base64.b64encode(data).decode()
        document["accessors"][1] |= {"componentType": 5121, "normalized": True}
        document["bufferViews"][1] |= {"byteLength": 16, "byteStride": 4}

    mesh = load(textured_gltf(tmp_path, fractions), torch.float64)
    assert torch.allclose(mesh.uv, mesh.triangles[..., :2])


def test_gltf_material_without_picture_or_primitive_without_material(tmp_path):
    def change(document):
        primitive = document["meshes"][0]["primitives"][0]
        plain = {k: primitive[k] for k in ("attributes", "indices")} | {"attributes": {"POSITION": 0}}
        document["meshes"][0]["primitives"] += [plain, plain | {"material": 1}]
        document["materials"].append({"name": "green", "pbrMetallicRoughness": {"baseColorFactor": [0, 1, 0, 0.5]}})
        document["materials"].append({"pbrMetallicRoughness": {"baseColorTexture": {"index": 99}}})  # not used: not looked at

    mesh = load(textured_gltf(tmp_path, change))
    assert mesh.face_textures.tolist() == [0, 0, -1, -1, -1, -1]
    assert mesh.face_colors[[0, 2, 4]].tolist() == [[0.5, 1, 0.25], [1, 1, 1], [0, 1, 0]]


# --- real files ---


def data_folder():
    if not os.environ.get("DENSEBOOK_DATA"):
        pytest.skip("DENSEBOOK_DATA is not set")
    import densebook.data

    return densebook.data


def test_real_glb_equals_trimesh():
    trimesh = pytest.importorskip("trimesh")
    path = data_folder().get("house")
    mesh, peer = load(path, torch.float64), trimesh.load(path, force="mesh", process=False)
    assert len(mesh.faces) == len(peer.faces) and np.allclose(mesh.triangles, peer.triangles, atol=1e-6)
    assert np.allclose(mesh.uv, peer.visual.uv[peer.faces], atol=1e-6)
    image = np.asarray(peer.visual.material.baseColorTexture.convert("RGB")) / 255
    assert np.allclose(mesh.textures[0], linear(image), atol=1e-6)


@pytest.mark.parametrize("name", ["camera", "drill", "cap", "helmet", "iodine"])
def test_real_obj_equals_pytorch3d(name):
    io3d = pytest.importorskip("pytorch3d.io")
    path = data_folder().get(name)
    mesh = load(path)
    vertices, faces, extras = io3d.load_obj(path, load_textures=True)
    assert torch.equal(mesh.faces, faces.verts_idx) and torch.allclose(mesh.vertices, vertices)
    mapped = (faces.textures_idx >= 0).all(dim=1)
    assert torch.allclose(mesh.uv[mapped], extras.verts_uvs[faces.textures_idx[mapped]]) and not mesh.uv[~mapped].any()
    names = list(extras.material_colors)
    for k, material in enumerate(names):
        here = (faces.materials_idx == k) & mapped
        if material in extras.texture_images and here.any():
            number = int(mesh.face_textures[here][0])
            assert (mesh.face_textures[here] == number).all()
            image = torch.from_numpy(linear(extras.texture_images[material].double().numpy()))
            assert torch.allclose(mesh.textures[number].double(), image, atol=1e-6)
        elif material not in extras.texture_images:
            here = faces.materials_idx == k
            assert mesh.face_textures is None or (mesh.face_textures[here] == -1).all()
            assert torch.allclose(mesh.face_colors[here], extras.material_colors[material]["diffuse_color"])


def test_real_ones_survive_a_round_trip(tmp_path):
    """Cameras have two materials each; what is loaded, saved and loaded again looks the same."""
    for name in ("camera", "fedora"):
        mesh, _ = data_folder().mesh_or_toy("real", name)
        for suffix in (".obj", ".glb"):
            again = load(save(mesh, tmp_path / f"{name}{suffix}"))
            assert len(again.textures) == len(mesh.textures) and len(again.faces) == len(mesh.faces)
            if suffix == ".obj":
                assert torch.equal(again.uv, mesh.uv) and torch.equal(again.vertices, mesh.vertices)
                assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(again.textures, mesh.textures))
