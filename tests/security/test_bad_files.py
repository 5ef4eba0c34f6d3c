"""Malformed mesh files: each gives one InputError that names the file (and the line), never anything else, and no hang."""

import json
import os
import struct

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from densebook.core.errors import InputError
from densebook.geometry.mesh import Mesh, load, save

OBJ = b"# a tetrahedron\nv 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 3 2\nf 1 2 4\nf 2 3 4\nf 1 4 3\n"
PLY_HEADER = (
    b"ply\nformat ascii 1.0\nelement vertex 4\nproperty float x\nproperty float y\nproperty float z\n"
    b"element face 4\nproperty list uchar int vertex_indices\nend_header\n"
)
PLY = PLY_HEADER + b"0 0 0\n1 0 0\n0 1 0\n0 0 1\n3 0 2 1\n3 0 1 3\n3 1 2 3\n3 0 3 2\n"
TETRAHEDRON = Mesh([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], [[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]], torch.full((4, 3), 0.5))


def refused(path, match: str) -> None:
    """`load` refuses `path` in one sentence that begins with it."""
    with pytest.raises(InputError, match=match) as caught:
        load(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


@pytest.fixture
def write(tmp_path):
    def made(name: str, content: bytes):
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    return made


# --- any file ---


@pytest.mark.parametrize("suffix", [".obj", ".ply", ".glb", ".gltf", ".stl"])
def test_empty_and_missing_files(write, tmp_path, suffix):
    refused(write(f"empty{suffix}", b""), "is empty")
    refused(write(f"blank{suffix}", b" \n\n"), "is empty")
    refused(tmp_path / f"missing{suffix}", "no such file")
    (tmp_path / f"folder{suffix}").mkdir()
    refused(tmp_path / f"folder{suffix}", "is a folder")
    os.mkfifo(tmp_path / f"pipe{suffix}")
    refused(tmp_path / f"pipe{suffix}", "no regular file")


@pytest.mark.parametrize(
    ("name", "match"),
    [("m.objj", "known: .glb, .gltf, .obj, .ply, .stl"), ("m.fbx", "known: .*obj"), ("m", "suffix ''"), ("m.pkl", "suffix")],
)
def test_unknown_suffix(write, name, match):
    refused(write(name, OBJ), match)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable(write):
    path = write("m.obj", OBJ)
    path.chmod(0)
    refused(path, "permissions")


def test_a_file_of_another_kind_is_refused(write, tmp_path):
    save(TETRAHEDRON, tmp_path / "m.glb")
    content = (tmp_path / "m.glb").read_bytes()
    for suffix in (".obj", ".ply", ".stl", ".gltf"):
        refused(write(f"other{suffix}", content), "other")
    for suffix in (".ply", ".glb", ".gltf", ".stl"):
        refused(write(f"text{suffix}", OBJ), "text")


# --- OBJ ---


def obj(*lines: bytes) -> bytes:
    return b"v 0 0 0\nv 1 0 0\nv 0 1 0\n" + b"\n".join(lines)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (obj(b"f 1 2 4"), "line 4: .*vertex 4; vertices run from 1 to 3"),
        (obj(b"f 1 2 3", b"f 1 2 999999999999999999999"), "line 5: .*vertex 9+"),
        (obj(b"f 0 1 2"), "line 4: .*counts from 1"),
        (obj(b"f -4 -2 -1"), "line 4: .*only 3 come before"),
        (obj(b"f 1 2"), "line 4: a face has 2 corners"),
        (obj(b"f"), "line 4: a face has 0 corners"),
        (obj(b"f 1 2 x"), "line 4: vertex index 'x' is no whole number"),
        (obj(b"f 1 2 3.0"), "line 4: vertex index '3.0'"),
        (obj(b"f 1 2 /3"), "line 4: vertex index ''"),
        (obj(b"f 1_0 2 3"), "line 4: .*'1_0'"),
        (obj(b"f 1 2 " + b"9" * 5000), "line 4"),
        (obj(b"v 1 2", b"f 1 2 3"), "line 4: a vertex has 2 numbers"),
        (obj(b"v", b"f 1 2 3"), "line 4: a vertex has 0 numbers"),
        (obj(b"v 1 2 3 4 5", b"f 1 2 3"), "line 4: a vertex has 5 numbers"),
        (obj(b"v 1 two 3", b"f 1 2 3"), "line 4: coordinate 'two' is no number"),
        (obj(b"v 1 2 0x3", b"f 1 2 3"), "line 4: coordinate '0x3'"),
        (obj(b"v 1 nan 3", b"f 1 2 3"), "line 4: vertex 4 .*finite"),
        (obj(b"v 1 1e999 3", b"f 1 2 3"), "line 4: vertex 4 .*finite"),
        (obj(b"v 1 1e300 3", b"f 1 2 4"), r"vertices\[3\].*not finite"),
        (obj(b"v 0 0 0 nan 0 0", b"f 1 2 4"), None),
        (obj(b"garbage 1 2 3", b"f 1 2 3"), "line 4: 'garbage' is no OBJ statement"),
        (obj(b"\xff\xfe", b"f 1 2 3"), "line 4"),
        (obj(b"f 1 2 \\", b"9"), "line 4: .*vertex 9"),
        (obj(b"f 1 2 3", b"\0\0"), "line 5: holds binary data"),
        (obj(), "has no faces"),
        (obj(b"l 1 2"), "has no faces"),
        (b"f 1 2 3\n", "line 1: .*there are no vertices"),
        (b"# nothing\n", "has no faces"),
    ],
)
def test_bad_obj(write, content, match):
    if match is None:  # a colour that is not used by all vertices is left out
        assert load(write("m.obj", content)).colors is None
    else:
        refused(write("m.obj", content), match)


# --- PLY ---


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (PLY.replace(b"ply\n", b"plu\n", 1), "line 1: .*no PLY"),
        (PLY.replace(b"ascii", b"morse"), "line 2: .*no line of a PLY header"),
        (PLY.replace(b"format ascii 1.0\n", b""), "no format"),
        (PLY.replace(b"end_header\n", b""), "line 9: .*no line of a PLY header"),
        (PLY[:60], "no end_header"),
        (PLY.replace(b"vertex 4", b"vertex -4"), "line 3: .*negative"),
        (PLY.replace(b"vertex 4", b"vertex four"), "line 3: count 'four'"),
        (PLY.replace(b"vertex 4", b"vertex 5"), "line 14: a vertex row has 4 values"),
        (PLY.replace(b"face 4", b"face 5"), "line 18: ends after 4 of 5 face rows"),
        (PLY.replace(b"face 4", b"face 99999999999"), "ends after 4 of"),
        (PLY.replace(b"float x", b"flaot x"), "line 4: .*no property"),
        (PLY.replace(b"property list", b"property\nlist"), "line 8: 'property' is no property"),
        (PLY.replace(b"float y", b"float x"), "line 5: .*twice"),
        (PLY.replace(b"element face", b"element vertex"), "line 7: .*twice"),
        (PLY.replace(b"float z", b"float w"), "no property 'z'"),
        (PLY.replace(b"list uchar", b"list float"), "line 8: .*no property"),
        (PLY.replace(b"element face 4", b"element part 4"), "no element 'face'"),
        (PLY.replace(b"vertex_indices", b"corners"), "vertex_indices"),
        (PLY.replace(b"property list uchar int vertex_indices\n", b""), "'face' has no properties"),
        (PLY.replace(b"property list uchar int vertex_indices", b"property int vertex_indices"), "line 14: a face row has 4 values"),
        (PLY.replace(b"1 0 0\n", b"1 0\n"), "line 11: a vertex row has 2 values"),
        (PLY.replace(b"1 0 0\n", b"1 0 0 0\n"), "line 11: a vertex row has 4 values"),
        (PLY.replace(b"1 0 0\n", b"1 x 0\n"), "line 11: vertex value 'x'"),
        (PLY.replace(b"1 0 0\n", b"1 nan 0\n"), "line 11: .*finite"),
        (PLY.replace(b"3 1 2 3", b"3 1 2 4"), "line 16: .*vertex 4; vertices run from 0 to 3"),
        (PLY.replace(b"3 1 2 3", b"3 1 2 -1"), "line 16: .*vertex -1"),
        (PLY.replace(b"3 1 2 3", b"2 1 2"), "line 16: a face has 2 corners"),
        (PLY.replace(b"3 1 2 3", b"4 1 2 3"), "line 16: vertex_indices counts 4"),
        (PLY.replace(b"3 1 2 3", b"-1 1 2 3"), "line 16: vertex_indices counts -1"),
        (PLY.replace(b"3 1 2 3", b"3 1 2.5 3"), "line 16: face value '2.5'"),
        (PLY.replace(b"3 1 2 3", b"3 1 2 99999999999999999999"), "line 16"),
        (PLY[: PLY.index(b"3 0 2 1")], "ends after 0 of 4 face rows"),
        (PLY_HEADER.replace(b" 4", b" 0"), "has no faces"),
        (PLY_HEADER.replace(b"face 4", b"face 0") + b"0 0 0\n" * 4, "has no faces"),
    ],
)
def test_bad_ascii_ply(write, content, match):
    refused(write("m.ply", content), match)


def binary(write, old: bytes = b"", new: bytes = b"") -> bytes:
    path = write("good.ply", b"")
    content = save(TETRAHEDRON, path).read_bytes()
    assert old in content
    return content.replace(old, new, 1) if old else content


def test_bad_binary_ply(write):
    good = binary(write)
    body = good.index(b"end_header\n") + len(b"end_header\n")
    for cut in range(body, len(good)):
        refused(write("m.ply", good[:cut]), "cut off")
    refused(write("m.ply", binary(write, b"vertex 4", b"vertex 4000000000000")), "cut off")
    refused(write("m.ply", binary(write, b"face 4", b"face 4000000000000")), "cut off")
    faces = body + 4 * 15
    for corner, match in ((4, "vertex 4"), (-1, "vertex -1"), (2**31 - 1, "vertices run from 0 to 3")):
        refused(write("m.ply", good[: faces + 1] + struct.pack("<i", corner) + good[faces + 5 :]), match)
    refused(write("m.ply", good[:faces] + b"\x02" + good[faces + 1 :]), "m.ply")
    refused(write("m.ply", good[:body] + struct.pack("<f", float("nan")) + good[body + 4 :]), "vertex 0 .*finite")
    for kind in (b"list char", b"list int", b"list uint"):  # counts read wrong: negative or huge
        refused(write("m.ply", binary(write, b"list uchar", kind)[: -20 if kind == b"list char" else None]), "m.ply")


# --- GLB ---


def parts() -> tuple[dict, bytes]:
    """The tetrahedron as glTF: accessors 0 places, 1 corners, 2 colours."""
    arrays = [(TETRAHEDRON.vertices.numpy(), 5126, "VEC3"), (TETRAHEDRON.faces.int().numpy().reshape(-1), 5125, "SCALAR")]
    arrays.append((TETRAHEDRON.colors.numpy(), 5126, "VEC3"))
    starts = [0, 48, 96]
    document = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0, "COLOR_0": 2}, "indices": 1}]}],
        "accessors": [{"bufferView": k, "componentType": c, "count": len(x), "type": t} for k, (x, c, t) in enumerate(arrays)],
        "bufferViews": [{"buffer": 0, "byteOffset": k, "byteLength": 48} for k in starts],
        "buffers": [{"byteLength": 144}],
    }
    return document, b"".join(array.tobytes() for array, _, _ in arrays)


def glb(document=None, change=lambda d: None, binary_chunk=None, **header) -> bytes:
    """The tetrahedron as GLB, its JSON changed, its header rewritten."""
    whole, found = parts()
    if document is None:
        change(whole)
        document = json.dumps(whole).encode()
    document += b" " * (-len(document) % 4)
    found = found if binary_chunk is None else binary_chunk
    body = struct.pack("<I4s", len(document), b"JSON") + document + struct.pack("<I4s", len(found), b"BIN\0") + found
    return header.get("magic", b"glTF") + struct.pack("<II", header.get("version", 2), header.get("length", 12 + len(body))) + body


def setting(*path_and_value):
    *path, key, value = path_and_value

    def change(document):
        for step in path:
            document = document[step]
        document[key] = value

    return change


def test_the_glb_of_these_tests_is_good(write):
    assert len(load(write("m.glb", glb())).faces) == 4


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (glb(magic=b"glTG"), "does not begin like a GLB"),
        (glb(version=1), "version 1"),
        (glb(length=100), "says it has 100 bytes"),
        (glb() + b"more", "cut off or damaged"),
        (glb()[:15], "cut off"),
        (glb()[:-1], "cut off"),
        (glb(document=b"{"), "JSON cannot be read"),
        (glb(document=b"\xff\xff"), "JSON cannot be read"),
        (glb(document=b"[" * 100_000), "JSON cannot be read"),
        (glb(document=b"[]"), "no glTF 2 document"),
        (glb(document=b"{}"), "no glTF 2 document"),
        (glb(document=b'{"asset": 3}'), "no valid glTF"),
        (glb(document=b'{"asset": {"version": "1.0"}}'), "no glTF 2 document"),
        (glb(document=b'{"asset": {"version": "2.0"}}'), "has no faces"),
        (glb(binary_chunk=b"\0" * 8), "buffer 0 says it has"),
    ],
)
def test_bad_glb(write, content, match):
    refused(write("m.glb", content), match)


def test_glb_chunk_longer_than_the_file(write):
    content = bytearray(glb())
    content[12:16] = struct.pack("<I", 2**32 - 1)
    refused(write("m.glb", bytes(content)), "JSON chunk")
    content = bytearray(glb())
    content[16:20] = b"XXXX"
    refused(write("m.glb", bytes(content)), "JSON chunk")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (setting("accessors", 0, "count", 5), "4 colours for 5 vertices"),
        (lambda d: [d["accessors"][k].update(count=5) for k in (0, 2)], "no valid glTF .*size"),
        (lambda d: [d["accessors"][k].update(count=10**18) for k in (0, 2)], "past the end"),
        (setting("meshes", 0, "primitives", []), "has no faces"),
        (lambda d: d["bufferViews"].extend([{"buffer": 0, "byteLength": 144}] * 100), "over and over"),
        (setting("accessors", 0, "count", 10**18), "reaches past the end|colours for"),
        (setting("accessors", 0, "count", -4), "colours|negative or no whole number"),
        (setting("accessors", 0, "count", 1.5), "colours|negative or no whole number"),
        (setting("accessors", 0, "count", "4"), "colours|negative or no whole number"),
        (setting("accessors", 0, "componentType", 7), "no valid glTF"),
        (setting("accessors", 0, "type", "MAT9"), "no valid glTF"),
        (setting("accessors", 0, "type", "VEC2"), "no valid glTF|not VEC3"),
        (setting("accessors", 0, "bufferView", 99), "no valid glTF .*out of range"),
        (setting("accessors", 0, "bufferView", -1), "bufferView '-1' is negative"),
        (setting("accessors", 0, "bufferView", True), "bufferView 'True'"),
        (setting("accessors", 0, "sparse", {"count": 10**9}), "sparse"),
        (lambda d: d["accessors"][0].pop("bufferView"), "sparse or compressed"),
        (setting("accessors", 1, "count", 11), "no valid glTF .*reshape"),
        (setting("accessors", 1, "componentType", 5126), "indices that are not whole"),
        (setting("accessors", 2, "count", 3), "3 colours for 4 vertices"),
        (setting("bufferViews", 0, "buffer", 1), "no valid glTF"),
        (setting("bufferViews", 0, "byteOffset", 10**6), "reaches past the end"),
        (setting("bufferViews", 0, "byteOffset", -12), "negative"),
        (setting("bufferViews", 0, "byteStride", 0), "[sS]tride"),
        (setting("bufferViews", 0, "byteLength", 10**6), "reaches past the end"),
        (setting("buffers", 0, "byteLength", 10**6), "buffer 0 says"),
        (setting("buffers", 0, "byteLength", None), "no valid glTF"),
        (setting("meshes", 0, "primitives", 7), "no valid glTF"),
        (setting("meshes", 0, "primitives", 0, "attributes", {}), "no valid glTF"),
        (setting("nodes", 0, "mesh", 5), "no valid glTF .*out of range"),
        (setting("nodes", 0, "mesh", []), "no valid glTF"),
        (setting("nodes", 0, "children", [0]), "loop"),
        (setting("nodes", 0, "children", [7]), "no valid glTF .*out of range"),
        (setting("nodes", 0, "matrix", [1, 2]), "no valid glTF"),
        (setting("nodes", 0, "matrix", [1e300] * 16), "finite"),
        (setting("nodes", 0, "matrix", [10**400] * 16), "no valid glTF"),
        (setting("nodes", 0, "translation", [float("nan")] * 3), "finite"),
        (setting("nodes", 0, "rotation", "up"), "no valid glTF"),
        (setting("scenes", 0, "nodes", [0, 0]), "two parents"),
        (setting("scene", 4), "no valid glTF .*out of range"),
        (setting("extensionsRequired", ["KHR_draco_mesh_compression"]), "KHR_draco_mesh_compression"),
        (setting("extensionsRequired", ["a\nb" * 1000]), "needs the glTF extension a ba b"),
        (setting("accessors", 0, "bufferView", "\n"), "its bufferView"),
        (setting("extensionsRequired", [1]), "no valid glTF"),
    ],
)
def test_bad_glb_documents(write, change, match):
    refused(write("m.glb", glb(change=change)), match)


def test_glb_face_out_of_range_and_nan(write):
    content = glb()
    start = content.index(struct.pack("<12I", *TETRAHEDRON.faces.reshape(-1).tolist()))
    refused(
        write("m.glb", content[:start] + struct.pack("<I", 4) + content[start + 4 :]),
        "names a vertex that is not there; indices run from 0 to 3",
    )
    places = content.index(TETRAHEDRON.vertices.numpy().tobytes())
    refused(write("m.glb", content[:places] + struct.pack("<f", float("nan")) + content[places + 4 :]), "finite")


def test_a_small_glb_does_not_become_a_huge_mesh(write):
    def change(document):
        document["accessors"][1]["count"] = 3
        document["nodes"] = [{"mesh": 0}] * 200_000
        document["scenes"] = [{"nodes": list(range(200_000))}]

    from densebook.geometry import mesh_gltf

    path = write("m.glb", glb(change=change))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mesh_gltf, "_MOST", 100_000)
        refused(path, "repeats its meshes")


@pytest.mark.parametrize(
    "uri",
    [
        "../secret.bin",
        "/etc/passwd",
        "file:" + "///etc/passwd",
        "http://127.0.0.1:9/x",
        "%2e%2e/secret.bin",
        "a/../../secret.bin",
        "..\\secret.bin",
        "link.bin",
        "m\0",
    ],
)
def test_gltf_reaches_no_buffer_outside_its_folder(tmp_path, uri):
    (tmp_path / "secret.bin").write_bytes(b"\0" * 1000)
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link.bin").symlink_to(tmp_path / "secret.bin")
    document = json.loads(glb()[20 : 20 + struct.unpack_from("<I", glb(), 12)[0]])
    document["buffers"][0]["uri"] = uri
    (inside / "m.gltf").write_text(json.dumps(document))
    refused(inside / "m.gltf", "outside the file's folder")
    document["buffers"][0]["uri"] = "not-there.bin"
    (inside / "m.gltf").write_text(json.dumps(document))
    refused(inside / "m.gltf", "is not there")
    document["buffers"][0]["uri"] = "data:application/octet-stream;base64,!!!"
    (inside / "m.gltf").write_text(json.dumps(document))
    refused(inside / "m.gltf", "base64")


# --- STL ---

STL = (
    b"\0" * 80
    + struct.pack("<I", 2)
    + b"".join(struct.pack("<12fH", *([0.0] * 3), *c, 0) for c in ([0.0, 0, 0, 1, 0, 0, 0, 1, 0], [0.0, 0, 0, 0, 1, 0, 0, 0, 1]))
)


def test_bad_stl(write):
    assert len(load(write("m.stl", STL)).vertices) == 4
    for cut in (1, 83, 84, 100, len(STL) - 1):
        refused(write("m.stl", STL[:cut] + (b"" if cut > 80 else b"x")), "cut off|no faces|no STL")
    refused(write("m.stl", STL[:80] + struct.pack("<I", 2**32 - 1) + STL[84:]), "cut off")
    refused(write("m.stl", STL[:96] + struct.pack("<f", float("nan")) + STL[100:]), "finite")
    for text in (
        b"solid a\nendsolid a\n",
        b"solid a\nfacet normal 0 0 1\nouter loop\nvertex 0 0 0\nvertex 1 0\nendloop\nendfacet\nendsolid a\n",
        b"solid a facet",
    ):
        refused(write("m.stl", text), "m.stl")


# --- any bytes at all ---

GOOD: dict[str, list[bytes]] = {".obj": [OBJ], ".ply": [PLY], ".glb": [glb()], ".stl": [STL]}


def all_good(folder) -> dict[str, list[bytes]]:
    GOOD[".ply"] = [PLY, save(TETRAHEDRON, folder / "good.ply").read_bytes()]
    return GOOD


def holds(path) -> None:
    """`load` gives a valid mesh or an InputError of one line."""
    try:
        mesh = load(path)
    except InputError as error:
        assert str(error).startswith(str(path)) and "\n" not in str(error)
        return
    assert len(mesh.faces) and mesh.vertices.isfinite().all()
    assert mesh.faces.min() >= 0 and mesh.faces.max() < len(mesh.vertices)


MUTATIONS = st.lists(
    st.tuples(st.sampled_from(["set", "cut", "insert", "drop", "double"]), st.integers(0, 10_000), st.binary(min_size=1, max_size=6)),
    min_size=1,
    max_size=4,
)


def mutated(content: bytes, changes) -> bytes:
    for kind, place, new in changes:
        at = place % (len(content) + 1)
        content = {
            "set": content[:at] + new + content[at + len(new) :],
            "cut": content[:at],
            "insert": content[:at] + new + content[at:],
            "drop": content[:at] + content[at + len(new) :],
            "double": content[:at] + content[at : at + 40] + content[at:],
        }[kind]
    return content


@pytest.mark.parametrize("suffix", GOOD)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=MUTATIONS, which=st.integers(0, 1), digits=st.booleans())
@example(changes=[("set", 0, b"\0")], which=0, digits=False)
def test_mutated_files(tmp_path, suffix, changes, which, digits):
    good = all_good(tmp_path)[suffix]
    if digits:  # text that may still parse
        changes = [(k, p, bytes(b"0123456789-. e\n/{}[]"[c % 20] for c in new)) for k, p, new in changes]
    path = tmp_path / f"m{suffix}"
    path.write_bytes(mutated(good[which % len(good)], changes))
    holds(path)


@pytest.mark.parametrize("suffix", [*GOOD, ".gltf"])
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=300),
    start=st.sampled_from([b"", b"ply\nformat ascii 1.0\n", b"glTF\2\0\0\0", b"solid x facet\n", b'{"asset": {"version": "2.0"}']),
)
def test_any_bytes(tmp_path, suffix, content, start):
    path = tmp_path / f"m{suffix}"
    path.write_bytes(start + content)
    holds(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 2**70) | st.floats() | st.text(max_size=3),
    lambda s: st.lists(s, max_size=3) | st.dictionaries(st.text(max_size=3), s, max_size=3),
    max_leaves=5,
)


def places(value, path=()):
    """Every (path, key) in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in items:
        yield (*path, key)
        yield from places(child, (*path, key))


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), value=JSON)
def test_any_value_anywhere_in_a_gltf_document(tmp_path, data, value):
    def change(document):
        path = data.draw(st.sampled_from(sorted(places(document), key=str)))
        setting(*path, value)(document)

    path = tmp_path / "m.glb"
    path.write_bytes(glb(change=change))
    holds(path)
