"""Hostile materials and textures: bad coordinates, paths that leave the folder, pictures that are huge, damaged or none."""

import json
import os
import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from densebook.core.errors import InputError
from densebook.geometry import mesh_common
from densebook.geometry.mesh import load, save
from densebook.geometry.mesh_common import encode
from tests.security.test_bad_files import JSON, MUTATIONS, TETRAHEDRON, mutated, places, refused, setting

OBJ = b"mtllib m.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 0 1\nusemtl a\nf 1/1 2/2 3/3\n"
MTL = b"newmtl a\nKd 1 0 0\nmap_Kd p.png\n"
PNG = encode(np.linspace(0, 1, 36).reshape(3, 4, 3))


@pytest.fixture
def shop(tmp_path):
    """A folder with a good OBJ, its MTL and its picture, in a folder with a secret; writes what is given."""
    folder = tmp_path / "shop"
    folder.mkdir()
    for name in ("secret.png", "shop2.png"):
        (tmp_path / name).write_bytes(PNG)
    (tmp_path / "secret.mtl").write_bytes(b"newmtl a\nKd 0 1 0\n")

    def made(**files: bytes):
        for name, content in {"m.obj": OBJ, "m.mtl": MTL, "p.png": PNG, **{k.replace("_", "."): v for k, v in files.items()}}.items():
            (folder / name).write_bytes(content)
        return folder / "m.obj"

    made.folder = folder
    return made


def test_the_files_of_these_tests_are_good(shop):
    mesh = load(shop())
    assert mesh.textures[0].shape == (3, 4, 3) and mesh.uv[0].tolist() == [[0, 0], [1, 0], [0, 1]]


# --- coordinates ---


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        (b"3/3", b"3/4", "line 9: a face names texture coordinate 4; there are 3"),
        (b"3/3", b"3/999999999999", "line 9: a face names texture coordinate 9+"),
        (b"3/3", b"3/" + b"9" * 400, "line 9: "),
        (b"3/3", b"3/0", "line 9: a face names texture coordinate 0; OBJ counts from 1"),
        (b"3/3", b"3/-4", "line 9: a face counts back to texture coordinate -4, but only 3 come before it"),
        (b"3/3", b"3/x", "line 9: texture coordinate index 'x' is no whole number"),
        (b"3/3", b"3/1_0", "line 9: texture coordinate index '1_0'"),
        (b"3/3", b"3/1.5/1", "line 9: texture coordinate index '1.5'"),
        (b"3/3", b"3", "line 9: a face has texture coordinates at some of its corners only"),
        (b"3/3", b"3//1", "line 9: a face has texture coordinates at some"),
        (b"vt 0 1", b"vt", "line 7: a texture coordinate has 0 numbers"),
        (b"vt 0 1", b"vt 0 0 0 0", "line 7: a texture coordinate has 4 numbers"),
        (b"vt 0 1", b"vt 0 one", "line 7: texture coordinate 'one' is no number"),
        (b"vt 0 1", b"vt nan 1", "line 7: texture coordinate 3 is .*finite"),
        (b"vt 0 1", b"vt 0 -inf", "line 7: texture coordinate 3 is .*finite"),
        (b"vt 0 1", b"vt 0 1e400", "line 7: texture coordinate 3 is .*finite"),
        (b"vt 0 1", b"vt 0 1e300", r"uv\[0\].*not finite"),
    ],
)
def test_bad_texture_coordinates(shop, old, new, match):
    path = shop(m_obj=OBJ.replace(old, new))
    refused(path, match)
    with pytest.raises(InputError, match=match):
        load(path, textures=False)


# --- MTL ---


@pytest.mark.parametrize(
    ("mtl", "match"),
    [
        (b"", "line 8: material 'a' is in none of its material files"),
        (b"newmtl b\n", "line 8: material 'a' is in none"),
        (b"newmtl a\nKd 1 0\n", "line 1: its material file 'm.mtl', line 2: Kd needs three finite numbers"),
        (b"newmtl a\nKd 1 red 0\n", "line 1: its material file 'm.mtl', line 2: Kd 'red' is no number"),
        (b"newmtl a\nKd nan 0 0\n", "line 2: Kd needs three finite"),
        (b"newmtl a\nKd 1 1 1e400\n", "line 2: Kd needs three finite"),
        (b"newmtl a\nKd\n", "line 2: Kd needs three finite"),
        (b"newmtl a\n\0\n", "line 2: holds binary data"),
        (PNG, "holds binary data"),
        (b"newmtl a\nmap_Kd no.png\n", "line 8: its material file 'm.mtl', line 2: its texture 'no.png' is not there; .*textures=False"),
        (b"newmtl a\nmap_Kd -s 2 2 1 p.png\n", "line 1: its material file 'm.mtl', line 2: option '-s 2 2 1' moves the picture"),
        (b"newmtl a\nmap_Kd -o 0.5 p.png\n", "option '-o 0.5' moves"),
        (b"newmtl a\nmap_Kd m.obj\n", "texture 'm.obj' is no PNG or JPEG picture"),
        (b"newmtl a\nmap_Kd .\n", "its texture '.' is not there"),
        (b"newmtl a\nmap_Kd " + b"x" * 5000 + b"\n", "its texture 'x+' (is not there|cannot be read)"),
        (b"newmtl a\nmap_Kd \xff\xfe.png\n", "is not there"),
    ],
)
def test_bad_mtl(shop, mtl, match):
    path = shop(m_mtl=mtl)
    refused(path, match)
    assert load(path, textures=False).textures is None


@pytest.mark.parametrize(
    "name",
    ["../secret.png", "../shop2.png", "a/../../secret.png", "..\\secret.png", "/etc/passwd", "C:\\secret.png", "file:" + "///etc/passwd", "http://127.0.0.1:9/x", "link.png", "sub/link.png"],
)  # fmt: skip
def test_textures_stay_in_their_folder(shop, name):
    (shop.folder / "sub").mkdir()
    for link in ("link.png", "sub/link.png"):
        (shop.folder / link).symlink_to(shop.folder.parent / "secret.png")
    refused(shop(m_mtl=b"newmtl a\nmap_Kd " + name.encode()), "lies outside the file's folder; it is not opened")


@pytest.mark.parametrize("name", ["../secret.mtl", "/etc/passwd", "..\\secret.mtl", "C:\\m.mtl", "link.mtl"])
def test_libraries_stay_in_their_folder(shop, name):
    (shop.folder / "link.mtl").symlink_to(shop.folder.parent / "secret.mtl")
    refused(shop(m_obj=OBJ.replace(b"m.mtl", name.encode())), "line 1: its material file .* lies outside the file's folder")


def test_what_is_no_file_is_not_opened(shop):
    os.mkfifo(shop.folder / "pipe.png")
    (shop.folder / "round.png").symlink_to("round.png")
    for name in (b"pipe.png", b"round.png"):
        refused(shop(m_mtl=b"newmtl a\nmap_Kd " + name), "is not there|cannot be read")
    refused(shop(m_obj=OBJ.replace(b"m.mtl", b"missing.mtl")), "line 1: its material file 'missing.mtl' is not there; .*textures=False")
    (shop.folder / "m.mtl").unlink()
    assert load(shop(), textures=False).uv is not None


def test_large_files_are_not_read(shop, monkeypatch):
    monkeypatch.setattr(mesh_common, "_LARGEST", 20)
    refused(shop(), "its material file 'm.mtl' has more than 20 bytes")
    monkeypatch.setattr(mesh_common, "_LARGEST", len(MTL))
    refused(shop(), "its texture 'p.png' has more than")


# --- pictures ---


def png(width: int, height: int, rows: int = 1, ends: bool = True) -> bytes:
    """A PNG whose header says how large it is, with data for a few rows at most."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return content + chunk(b"IDAT", zlib.compress(b"\0" * rows * 1000)) + (chunk(b"IEND", b"") if ends else b"")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "is no PNG or JPEG picture"),
        (PNG[:-30], "is no PNG or JPEG picture"),
        (PNG[:40], "is no PNG or JPEG picture"),
        (PNG.replace(b"IDAT", b"IDAX"), "is no PNG or JPEG picture"),
        (b"GIF89a" + b"\1\0\1\0\0\0\0;", "is no PNG or JPEG picture"),
        (b"BM" + b"\0" * 100, "is no PNG or JPEG picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n", "is no PNG or JPEG picture"),
        (b"RIFF\x24\0\0\0WEBPVP8 ", "is no PNG or JPEG picture"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "is no PNG or JPEG picture"),
        (png(100, 100), "is no PNG or JPEG picture"),
        (png(8192, 4097), "8192 x 4097 pixels; at most 33,554,432"),
        (png(30_000, 30_000), "pixels"),
        (png(2**31 - 1, 2**31 - 1), "pixel|PNG"),
        (png(0, 5), "is no PNG or JPEG picture"),
    ],
)
def test_bad_pictures(shop, content, match):
    refused(shop(p_png=content), match)


def test_pictures_together_are_limited(shop, monkeypatch):
    monkeypatch.setattr(mesh_common, "MOST_PIXELS", 30)
    obj = OBJ + b"usemtl b\nf 1/1 2/2 3/3\nusemtl c\nf 1/1 2/2 3/3\n"
    mtl = MTL + b"newmtl b\nmap_Kd q.png\nnewmtl c\nmap_Kd %b\n"
    assert len(load(shop(m_obj=obj, m_mtl=mtl % b"p.png", q_png=PNG)).textures) == 2, "each is counted once"
    refused(shop(m_obj=obj, m_mtl=mtl % b"r.png", q_png=PNG, r_png=PNG), "texture 'r.png' has 4 x 3 pixels; at most 6")


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=MUTATIONS, which=st.sampled_from(["m_obj", "m_mtl", "p_png"]), digits=st.booleans())
def test_mutated_files(shop, changes, which, digits):
    if digits:  # text that may still parse
        changes = [(k, p, bytes(b"0123456789-. e\n/amKd"[c % 20] for c in new)) for k, p, new in changes]
    path = shop(**{which: mutated({"m_obj": OBJ, "m_mtl": MTL, "p_png": PNG}[which], changes)})
    try:
        mesh = load(path)
    except InputError as error:
        assert str(error).startswith(str(path)) and "\n" not in str(error)
        return
    assert len(mesh.faces) and (mesh.uv is None or mesh.uv.isfinite().all())
    assert mesh.textures is None or mesh.face_textures is None or mesh.face_textures.max() < len(mesh.textures)


# --- glTF ---


def parts() -> dict:
    """A textured triangle as glTF: accessors 0 places, 1 texture coordinates; buffer view 2 is the picture."""
    arrays = [TETRAHEDRON.vertices[:3].numpy().tobytes(), torch.tensor([[0.0, 0], [1, 0], [0, 1]]).numpy().tobytes(), PNG]
    starts = np.cumsum([0, *map(len, arrays)]).tolist()
    return {
        "document": {
            "asset": {"version": "2.0"},
            "scene": 0,
            "scenes": [{"nodes": [0]}],
            "nodes": [{"mesh": 0}],
            "meshes": [{"primitives": [{"attributes": {"POSITION": 0, "TEXCOORD_0": 1}, "material": 0}]}],
            "materials": [
                {
                    "pbrMetallicRoughness": {
                        "baseColorFactor": [1, 0.5, 0.25, 1],
                        "baseColorTexture": {
                            "index": 0,
                            "texCoord": 0,
                            "extensions": {"KHR_texture_transform": {"offset": [0, 0], "rotation": 0, "scale": [1, 1]}},
                        },
                    }
                }
            ],
            "textures": [{"source": 0}],
            "images": [{"bufferView": 2, "mimeType": "image/png"}],
            "accessors": [
                {"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"},
                {"bufferView": 1, "componentType": 5126, "count": 3, "type": "VEC2"},
            ],
            "bufferViews": [{"buffer": 0, "byteOffset": a, "byteLength": len(b)} for a, b in zip(starts, arrays)],
            "buffers": [{"byteLength": starts[-1]}],
        },
        "binary": b"".join(arrays),
    }


def glb(change=lambda d: None) -> bytes:
    """The textured triangle as GLB, its JSON changed."""
    found = parts()
    change(found["document"])
    text, binary = json.dumps(found["document"]).encode(), found["binary"] + b"\0" * (-len(found["binary"]) % 4)
    text += b" " * (-len(text) % 4)
    body = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
    return b"glTF" + struct.pack("<II", 2, 12 + len(body)) + body


@pytest.fixture
def write(tmp_path):
    def made(content: bytes):
        (tmp_path / "m.glb").write_bytes(content)
        return tmp_path / "m.glb"

    return made


def test_the_glb_of_these_tests_is_good(write):
    mesh = load(write(glb()))
    assert mesh.textures[0].shape == (3, 4, 3) and mesh.face_colors.tolist() == [[1, 0.5, 0.25]]


BASE = ("materials", 0, "pbrMetallicRoughness")
TEXTURE = (*BASE, "baseColorTexture")
TRANSFORM = (*TEXTURE, "extensions", "KHR_texture_transform")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (setting("meshes", 0, "primitives", 0, "material", 1), r"names materials\[1\], which is not there"),
        (setting("meshes", 0, "primitives", 0, "material", -1), r"names materials\[-1\]"),
        (setting("meshes", 0, "primitives", 0, "material", True), r"names materials\[True\]"),
        (setting("meshes", 0, "primitives", 0, "material", {}), "no valid glTF|names materials"),
        (setting("meshes", 0, "primitives", 0, "attributes", {"POSITION": 0}), "has a texture but no TEXCOORD_0"),
        (setting(*TEXTURE, "texCoord", 3), "TEXCOORD_3|TEXCOORD_0"),
        (setting(*TRANSFORM, "texCoord", -1), "texCoord '-1' is negative"),
        (setting(*TRANSFORM, "texCoord", "0"), "texCoord '0' is negative or no whole number"),
        (setting(*TRANSFORM, "scale", [1]), "its scale .* is not 2 finite numbers"),
        (setting(*TRANSFORM, "offset", [float("nan"), 0]), "its offset .* is not 2 finite numbers"),
        (setting(*TRANSFORM, "rotation", "up"), "its rotation .* is not 1 finite"),
        (setting(*TRANSFORM, "scale", [1e300, 1e300]), r"uv\[0\].*not finite"),
        (setting(*BASE, "baseColorFactor", [1, 1, 1]), "baseColorFactor .* is not 4 finite"),
        (setting(*BASE, "baseColorFactor", [1, 1, float("inf"), 1]), "baseColorFactor .* is not 4 finite"),
        (setting(*BASE, "baseColorFactor", "red!"), "baseColorFactor .* is not 4 finite"),
        (setting(*TEXTURE, "index", 9), r"names textures\[9\]"),
        (setting(*TEXTURE, "index", -1), r"names textures\[-1\]"),
        (setting("textures", 0, "source", 1), r"names images\[1\]"),
        (setting("textures", 0, {"extensions": {"EXT_texture_webp": {"source": 0}}}), "neither PNG nor JPEG; load with textures=False"),
        (setting("images", 0, "bufferView", 9), r"names bufferViews\[9\]"),
        (setting("images", 0, "bufferView", -1), r"names bufferViews\[-1\]"),
        (setting("images", 0, "bufferView", 0), "its image 0 is no PNG or JPEG"),
        (setting("images", 0, {}), "no valid glTF"),
        (setting("images", 0, {"uri": 5}), "no valid glTF"),
        (setting("images", 0, {"uri": "data:image/png;base64,!!"}), "no valid glTF"),
        (setting("images", 0, {"uri": "no.png"}), "its image 'no.png' is not there"),
        (setting("bufferViews", 2, "byteLength", 40), "its image 0 is no PNG or JPEG"),
        (setting("bufferViews", 2, "byteLength", -5), "byteLength '-5' is negative"),
        (setting("bufferViews", 2, "buffer", 4), "no valid glTF"),
        (setting("accessors", 1, "count", 2), "has 2 texture coordinates for 3 vertices"),
        (setting("accessors", 1, "type", "SCALAR"), "texture coordinates that are not VEC2"),
        (setting("accessors", 1, "sparse", {}), "sparse"),
    ],
)
def test_bad_gltf_materials(write, change, match):
    refused(write(glb(change)), match)


def test_bad_materials_can_be_left_out(write):
    path = write(glb(setting(*TEXTURE, "index", 9)))
    assert load(path, textures=False).uv is not None


@pytest.mark.parametrize(
    "uri",
    ["../secret.png", "%2e%2e/secret.png", "/etc/passwd", "file:" + "///etc/passwd", "http://127.0.0.1:9/x", "..\\secret.png", "link.png"],
)
def test_gltf_images_stay_in_their_folder(tmp_path, uri):
    (tmp_path / "secret.png").write_bytes(PNG)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/link.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "in/m.glb").write_bytes(glb(setting("images", 0, {"uri": uri})))
    refused(tmp_path / "in/m.glb", "its image .* lies outside the file's folder; it is not opened")


def test_nan_coordinates_in_glb(write):
    content = glb()
    at = content.index(torch.tensor([[0.0, 0], [1, 0], [0, 1]]).numpy().tobytes())
    refused(write(content[:at] + struct.pack("<f", float("nan")) + content[at + 4 :]), r"uv\[0\].*not finite")


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), value=JSON)
def test_any_value_anywhere_in_a_textured_document(write, data, value):
    def change(document):
        path = data.draw(st.sampled_from(sorted(places(document), key=str)))
        setting(*path, value)(document)

    path = write(glb(change))
    try:
        mesh = load(path)
    except InputError as error:
        assert str(error).startswith(str(path)) and "\n" not in str(error)
    else:
        assert len(mesh.faces) and (mesh.uv is None or mesh.uv.isfinite().all())


# --- writing ---


def test_names_of_pictures_do_not_leave_the_folder(tmp_path):
    """What a file is called becomes part of other files' names, but only its plain letters."""
    from dataclasses import replace

    mesh = replace(TETRAHEDRON, uv=torch.rand(4, 3, 2), textures=(torch.rand(2, 2, 3),))
    path = save(mesh, tmp_path / "a b;c:d\\..e.obj")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([path.name, "a_b_c_d_..e.mtl", "a_b_c_d_..e_0.png"])
    assert load(path).textures[0].shape == (2, 2, 3)
