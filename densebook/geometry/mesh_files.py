"""Mesh files: strict readers for OBJ, PLY, GLB, glTF and STL, and writers for OBJ, PLY and GLB.

What cannot be a mesh is refused with one InputError that names the file and, in text files, the line. trimesh reads glTF
and STL and writes GLB. Own code remains where trimesh would change or lose something: its OBJ reader skips bad lines;
its PLY reader has no lines in its errors, takes what is no number as the end of a row, and refuses binary files with
triangles among quads; its PLY writer rounds float64 to float32. glTF goes to it as a cleaned document, since it lets
negative indices, shared nodes and missing data pass, and it gets the buffers as bytes, so it opens no file.
Nothing in a file is executed, textures and materials are not opened, and a glTF file reaches no buffer outside its
folder. Memory stays within a multiple of the file.

Kept from a file are positions, triangles and vertex colours. Polygons become fans around their first corner.
Text and 8-bit colours are sRGB in OBJ and PLY, as viewers show them, and linear in GLB, as its specification says.
"""

from __future__ import annotations

import base64
import io
import json
import struct
import urllib.parse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from densebook.core.errors import InputError
from densebook.core.files import atomic_path

from .mesh import Mesh, merge_duplicates

_MOST = 50_000_000  # vertices or triangles that a glTF scene may repeat its meshes into


class _Bad(Exception):
    """What is wrong, and the line it is on; becomes the one InputError."""

    def __init__(self, what: str, line: int | None = None):
        super().__init__(what)
        self.line = line


def load(path: str | Path, dtype: torch.dtype = torch.float32) -> Mesh:
    """Read a triangle mesh from an OBJ, PLY, GLB, glTF or STL file, on the CPU, in float type `dtype`.

    Vertices keep the order of the file. Those that a format repeats (STL corners; seams of texture or normals in PLY
    and glTF) are merged, so that what is watertight loads watertight; the nodes of a glTF scene are put in place and
    joined. Raises one InputError, naming the file (and the line, in OBJ and ASCII PLY), for anything that is not a mesh.
    """
    path = Path(path)
    data = _bytes(path)
    try:
        with np.errstate(all="ignore"):  # what overflows is refused as not finite
            mesh = _READERS[path.suffix.lower()](data, path).to(dtype)
        if not len(mesh.faces):
            raise _Bad("has no faces; give a file with a surface")
        return mesh
    except _Bad as error:
        where = f"{path}, line {error.line}" if error.line else f"{path}"
        raise InputError(f"{where}: {_one_line(error)}") from error
    except InputError as error:
        raise InputError(f"{path}: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    """A message as one short line, whatever of the file it quotes."""
    return " ".join(str(error).split())[:400]


def _bytes(path: Path) -> bytes:
    """The file's content, once it is known to be a file with a known suffix."""
    if not path.exists():
        raise InputError(f"{path}: there is no such file; check the path")
    if not path.is_file():
        raise InputError(f"{path}: is {'a folder' if path.is_dir() else 'no regular file'}; give a mesh file")
    if path.suffix.lower() not in _READERS:
        raise InputError(f"{path}: suffix {path.suffix!r} is not one that is read here; known: {', '.join(sorted(_READERS))}")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    if not data.strip():
        raise InputError(f"{path}: is empty; fetch or export it again")
    return data


def _mesh(vertices, lengths, corners, colors=None, lines=None, vertex_lines=None, first: int = 0, seams: bool = False) -> Mesh:
    """Polygons as a mesh of fans, after the checks that know a line.

    The polygons are runs of `lengths` corners in `corners`; `lines` and `vertex_lines` say where each came from, `first`
    is how the file numbers its first vertex, and with `seams` equal vertices become one.
    """

    def at(numbers, index: int) -> int | None:
        return None if numbers is None else int(numbers[index])

    if len(bad := np.flatnonzero(~np.isfinite(vertices).all(axis=1))):
        what = f"vertex {bad[0] + first} is {vertices[bad[0]].tolist()}; coordinates must be finite"
        raise _Bad(what, at(vertex_lines, bad[0]))
    if len(bad := np.flatnonzero(lengths < 3)):
        raise _Bad(f"a face has {lengths[bad[0]]} corners; it needs at least 3", at(lines, bad[0]))
    ends = np.cumsum(lengths)
    if len(bad := np.flatnonzero((corners < 0) | (corners >= len(vertices)))):
        span = f"{first} to {len(vertices) - 1 + first}" if len(vertices) else "nothing: there are no vertices"
        what = f"a face names vertex {corners[bad[0]] + first}; vertices run from {span}"
        raise _Bad(what, at(lines, np.searchsorted(ends, bad[0], side="right")))
    start = np.repeat(ends - lengths, lengths - 2)
    step = np.arange(len(start)) - np.repeat(np.cumsum(lengths - 2) - (lengths - 2), lengths - 2)
    faces = np.stack([corners[start], corners[start + step + 1], corners[start + step + 2]], axis=1)
    mesh = _tensors(vertices, faces, colors)
    return merge_duplicates(mesh) if seams else mesh


def _tensors(vertices: np.ndarray, faces: np.ndarray, colors: np.ndarray | None) -> Mesh:
    arrays = (np.ascontiguousarray(a, dtype=kind) for a, kind in ((vertices, "f8"), (faces, "i8"), (colors, "f8")) if a is not None)
    return Mesh(*map(torch.from_numpy, arrays))


def _number(kind, token: bytes, line: int | None, what: str):
    """`kind(token)` for int or float; Python's own underscores in numbers are refused."""
    try:
        if b"_" in token:
            raise ValueError
        return kind(token)
    except ValueError:
        raise _Bad(f"{what} {_shown(token)} is no {'whole ' if kind is int else ''}number", line) from None


def _shown(token: bytes) -> str:
    return repr(token[:24].decode("latin-1"))


def _linear(srgb: np.ndarray) -> np.ndarray:
    """sRGB in [0, 1] to linear (IEC 61966-2-1)."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((np.maximum(srgb, 0.04045) + 0.055) / 1.055) ** 2.4)


def _srgb(linear: np.ndarray) -> np.ndarray:
    """Linear to sRGB, clipped to [0, 1] (IEC 61966-2-1)."""
    linear = linear.clip(0, 1)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * np.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055)


# --- OBJ: https://www.martinreddy.net/gfx/3d/OBJ.spec ---

_OBJ_IGNORED = frozenset(
    b"vt vn vp cstype deg bmat step p l curv curv2 surf parm trim hole scrv sp end con g s mg o bevel c_interp d_interp "
    b"lod usemtl mtllib shadow_obj trace_obj ctech stech usemap maplib call csh".split()
)


def _obj_lines(data: bytes):
    """(number of its first line, content) of each statement; a backslash at the end of a line continues it."""
    started, kept = 0, b""
    for number, line in enumerate(data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"), 1):
        if line.endswith(b"\\"):
            started, kept = started or number, kept + line[:-1] + b" "
        else:
            yield started or number, kept + line if kept else line
            started, kept = 0, b""
    if kept:
        yield started, kept


def _read_obj(data: bytes, path: Path) -> Mesh:
    """OBJ: `v` and `f` statements; negative indices count back from the latest vertex."""
    if b"\0" in data:
        raise _Bad("holds binary data; it is no OBJ text", data[: data.index(b"\0")].count(b"\n") + 1)
    vertices, vertex_lines, colors, corners, lengths, lines = [], [], [], [], [], []
    for number, line in _obj_lines(data):
        words = line.split(b"#", 1)[0].split()
        if not words:
            continue
        kind = words[0]
        if kind == b"v":
            row = [_number(float, w, number, "coordinate") for w in words[1:]]
            if len(row) not in (3, 4, 6, 7):
                raise _Bad(f"a vertex has {len(row)} numbers; it needs x y z (and may have w, or r g b)", number)
            vertices.append(row[:3])
            vertex_lines.append(number)
            colors.append(row[-3:] if len(row) > 4 else None)
        elif kind == b"f":
            for word in words[1:]:
                index = _number(int, word.split(b"/", 1)[0], number, "vertex index")
                if index == 0 or abs(index) > 2**40:
                    raise _Bad(f"a face names vertex {index}; OBJ counts from 1 (or back from -1)", number)
                if index < -len(vertices):
                    raise _Bad(f"a face counts back to vertex {index}, but only {len(vertices)} come before it", number)
                corners.append(index - 1 if index > 0 else len(vertices) + index)
            lengths.append(len(words) - 1)
            lines.append(number)
        elif kind not in _OBJ_IGNORED:
            raise _Bad(f"{_shown(kind)} is no OBJ statement", number)
    every = len(vertices) > 0 and None not in colors
    return _mesh(
        vertices=np.array(vertices, dtype=np.float64).reshape(-1, 3),
        lengths=np.array(lengths, dtype=np.int64),
        corners=np.array(corners, dtype=np.int64),
        colors=_linear(np.array(colors, dtype=np.float64)) if every else None,
        lines=np.array(lines, dtype=np.int64),
        vertex_lines=np.array(vertex_lines, dtype=np.int64),
        first=1,
    )


# --- PLY: Turk 1994, http://paulbourke.net/dataformats/ply ---

# codes that struct and numpy share
_PLY_TYPES = {
    **{"char": "b", "uchar": "B", "short": "h", "ushort": "H", "int": "i", "uint": "I", "float": "f", "double": "d"},
    **{"int8": "b", "uint8": "B", "int16": "h", "uint16": "H", "int32": "i", "uint32": "I", "float32": "f", "float64": "d"},
}


def _ply_header(data: bytes) -> tuple[str, dict[str, tuple], int, int]:
    """Byte order ('' in ASCII), elements, where the body begins, and the number of its first line.

    An element is its count and its properties; a property is name, type, and the type of its count ('' but for lists).
    """
    orders = {b"ascii": "", b"binary_little_endian": "<", b"binary_big_endian": ">"}
    order, elements, position, number, properties = None, {}, 0, 0, []
    while True:
        end = data.find(b"\n", position)
        if end < 0 or number > 10_000:
            raise _Bad("the header has no end_header", number + 1)
        line, position, number = data[position:end].rstrip(b"\r"), end + 1, number + 1
        words = line.decode("latin-1").split()
        if number == 1:
            if words != ["ply"]:
                raise _Bad("does not begin with the word ply; it is no PLY file", 1)
        elif not words or words[0] in ("comment", "obj_info"):
            continue
        elif words[0] == "format" and len(words) == 3 and words[1].encode() in orders:
            order = orders[words[1].encode()]
        elif words[0] == "element" and len(words) == 3:
            count, properties = _number(int, words[2].encode(), number, "count"), []
            if count < 0 or words[1] in elements:
                raise _Bad(f"element {words[1][:24]!r} is there twice or has a negative count", number)
            elements[words[1]] = count, properties
        elif words[0] == "property" and elements:
            counted = _PLY_TYPES.get(words[2], "f") if words[1:2] == ["list"] and len(words) == 5 else ""
            kind, *names = words[3 if counted else 1 :] or [""]
            if kind not in _PLY_TYPES or counted in ("f", "d") or len(names) != 1 or any(p[0] == names[0] for p in properties):
                raise _Bad(f"{_shown(line)} is no property, or is there twice", number)
            properties.append((names[0], _PLY_TYPES[kind], counted))
        elif words == ["end_header"]:
            break
        else:
            raise _Bad(f"{_shown(line)} is no line of a PLY header", number)
    if order is None:
        raise _Bad("the header has no format line")
    if empty := [name for name, (_, properties) in elements.items() if not properties]:
        raise _Bad(f"element {empty[0]!r} has no properties")
    return order, elements, position, number + 1


def _read_ply(data: bytes, path: Path) -> Mesh:
    """PLY, ASCII or binary: elements `vertex` (x y z, red green blue) and `face` (vertex_indices); others are skipped."""
    order, elements, position, number = _ply_header(data)
    tables = _ply_binary(data, position, order, elements) if order else _ply_ascii(data[position:], number, elements)
    for need in ("vertex", "face"):
        if need not in elements:
            raise _Bad(f"has no element {need!r}; it is no triangle mesh")
    (columns, vertex_lines), (faces, lines) = tables["vertex"], tables["face"]
    kinds = {name: kind for name, kind, counted in elements["vertex"][1] if not counted}
    indices = [n for n, kind, counted in elements["face"][1] if n in ("vertex_indices", "vertex_index") and counted and kind not in "fd"]
    if missing := [c for c in "xyz" if c not in kinds] + ([] if indices else ["vertex_indices"]):
        raise _Bad(f"has no property {missing[0]!r}; it is no triangle mesh")
    colors = None
    if all(c in kinds for c in ("red", "green", "blue")):  # integers count to the largest of their type
        largest = {c: 1 if kinds[c] in "fd" else np.iinfo(np.dtype(kinds[c])).max for c in ("red", "green", "blue")}
        colors = _linear(np.stack([columns[c][1].astype(np.float64) / most for c, most in largest.items()], axis=1))
    vertices = np.stack([columns[c][1].astype(np.float64) for c in "xyz"], axis=1)
    seams = any(n in columns for n in ("s", "t", "u", "v", "texture_u", "texture_v", "nx"))
    lengths, corners = faces[indices[0]]
    return _mesh(vertices, lengths, corners.astype(np.int64), colors, lines, vertex_lines, seams=seams)


def _ply_columns(rows: list[list], properties: list[tuple]) -> dict[str, tuple]:
    """Lengths and values of each property; a row is a sequence of values for each property."""
    found = {}
    for k, (name, kind, _) in enumerate(properties):
        values = np.array([v for row in rows for v in row[k]], np.float64 if kind in "fd" else np.int64)
        found[name] = np.array([len(row[k]) for row in rows], np.int64), values
    return found


def _ply_ascii(data: bytes, number: int, elements: dict[str, tuple]) -> dict[str, tuple]:
    """Columns of each element, and the lines of its rows."""
    lines = [(k, words) for k, line in enumerate(data.split(b"\n"), number) if (words := line.split())]
    tables, begin = {}, 0
    for element, (count, properties) in elements.items():
        here, begin, rows = lines[begin : begin + count], begin + count, []
        if len(here) < count:
            raise _Bad(f"ends after {len(here)} of {count} {element} rows; it is cut off", number + data.count(b"\n"))
        for line, words in here:
            row, at = [], 0
            for name, kind, counted in properties:
                length = _number(int, b"".join(words[at : at + 1]), line, f"{element} value") if counted else 1
                at += bool(counted)
                if counted and not 0 <= length <= len(words) - at:
                    raise _Bad(f"{name} counts {length} values but the line has {len(words) - at}", line)
                read = float if kind in "fd" else int
                row.append([_number(read, word, line, f"{element} value") for word in words[at : at + length]])
                if read is int and any(abs(v) > 2**40 for v in row[-1]):
                    raise _Bad(f"{element} value {max(row[-1], key=abs)} is too large", line)
                at += length
            if at != len(words):
                raise _Bad(f"a {element} row has {len(words)} values; the header says {at}", line)
            rows.append(row)
        tables[element] = _ply_columns(rows, properties), [line for line, _ in here]
    return tables


def _ply_binary(data: bytes, at: int, order: str, elements: dict[str, tuple]) -> dict[str, tuple]:
    """Columns of each element, which has no lines: lists row by row, as each may have another length."""
    tables = {}
    for element, (count, properties) in elements.items():
        try:
            if not any(counted for _, _, counted in properties):
                table = np.frombuffer(data, [(name, order + kind) for name, kind, _ in properties], count, at) if count else np.zeros(0)
                tables[element] = {p[0]: (None, table[p[0]] if count else table) for p in properties}, None
                at += table.nbytes
                continue
            rows = []
            for _ in range(count):
                rows.append([])
                for _, kind, counted in properties:
                    (length,) = struct.unpack_from(order + counted, data, at) if counted else (1,)
                    at += struct.calcsize(order + counted) if counted else 0
                    rows[-1].append(struct.unpack_from(f"{order}{length}{kind}", data, at))
                    at += length * struct.calcsize(order + kind)
            tables[element] = _ply_columns(rows, properties), None
        except (struct.error, ValueError, OverflowError):
            raise _Bad(f"ends within its {count} {element} rows ({len(data)} bytes are there); it is cut off") from None
    return tables


# --- GLB and glTF 2.0: https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html ---

_GLTF_HARMLESS = ("KHR_mesh_quantization", "KHR_materials", "KHR_texture", "EXT_texture", "KHR_lights")


def _read_gltf(data: bytes, path: Path) -> Mesh:
    """GLB or glTF: the triangles of all nodes of the scene, moved to their places, joined; equal vertices of a node merged."""
    from trimesh.exchange.gltf import load_gltf

    text, binary = (data, b"") if path.suffix.lower() == ".gltf" else _glb_chunks(data)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _Bad(f"its JSON cannot be read ({type(error).__name__}: {str(error)[:80]})") from None
    try:
        if not isinstance(document, dict) or not str(document.get("asset", {}).get("version", "")).startswith("2."):
            raise _Bad("its JSON is no glTF 2 document")
        if wanted := [name for name in document.get("extensionsRequired", []) if not name.startswith(_GLTF_HARMLESS)]:
            raise _Bad(f"needs the glTF extension {wanted[0]}, which is not read here; export it without")
        buffers = _gltf_buffers(document, binary, path)
        plain = json.dumps(_gltf_plain(document, buffers)).encode()
        return _gltf_scene(load_gltf(io.BytesIO(plain), resolver=buffers, skip_materials=True))
    except (_Bad, InputError):
        raise
    except Exception as error:  # whatever plain Python or trimesh raises over a damaged document
        raise _Bad(f"its JSON is no valid glTF ({type(error).__name__}: {str(error)[:80]}); export it again") from error


def _glb_chunks(data: bytes) -> tuple[bytes, bytes]:
    """JSON and binary content of a GLB file, which come first and second (4.4)."""
    if data[:4] != b"glTF" or len(data) < 20:
        raise _Bad("does not begin like a GLB file (bytes 'glTF'), or is cut off there")
    version, length, size, kind = struct.unpack_from("<III4s", data, 4)
    if version != 2:
        raise _Bad(f"is GLB version {version}; only 2 is read here")
    if length != len(data):
        raise _Bad(f"says it has {length} bytes but has {len(data)}; it is cut off or damaged")
    if kind != b"JSON" or 20 + size > length:
        raise _Bad("has no whole JSON chunk; it is damaged")
    return data[20 : 20 + size], data[28 + size :]


def _gltf_buffers(document: dict, binary: bytes, path: Path) -> dict[str, bytes]:
    """Each buffer by its number: the binary chunk, base64 in the JSON, or a file in the folder of `path` or below it."""
    buffers, folder = {}, path.resolve().parent
    for index, buffer in enumerate(document.get("buffers", [])):
        uri = buffer.get("uri")
        if uri is None:
            content = b"" if index else binary
        elif uri.startswith("data:"):
            content = base64.b64decode(uri.partition(",")[2], validate=True)
        else:
            name = urllib.parse.unquote(uri)
            if {"\0", "\\"} & set(name) or urllib.parse.urlsplit(uri).scheme or not (folder / name).resolve().is_relative_to(folder):
                raise _Bad(f"its buffer {name[:80]!r} lies outside the file's folder; it is not opened")
            if not (folder / name).is_file():
                raise _Bad(f"its buffer {name[:80]!r} is not there; put it beside the file")
            content = (folder / name).read_bytes()
        if not 0 <= buffer["byteLength"] <= len(content):
            raise _Bad(f"buffer {index} says it has {buffer['byteLength']} bytes, not {len(content)}; it is cut off or damaged")
        buffers[str(index)] = content
    return buffers


def _gltf_plain(document: dict, buffers: dict[str, bytes]) -> dict:
    """Only what makes triangles, checked where trimesh would leave something out without a word."""

    def only(source: dict, keys: str) -> dict:
        return {key: source[key] for key in keys.split() if key in source}

    accessors, meshes, used = document.get("accessors", []), [], []
    for mesh in document.get("meshes", []):
        kept = [only(p, "attributes indices mode") for p in mesh["primitives"] if p.get("mode", 4) in (4, 5, 6)]  # no points, no lines
        for primitive in kept:
            attributes = primitive["attributes"] = only(primitive["attributes"], "POSITION COLOR_0")
            place, *tint = (accessors[a] for a in attributes.values())
            if tint and tint[0]["count"] != place["count"]:
                raise _Bad(f"has {tint[0]['count']} colours for {place['count']} vertices; it is damaged")
            used += [*attributes.values(), *only(primitive, "indices").values()]
            if place.get("normalized"):  # trimesh takes the integers as they are; `_gltf_scene` scales them
                attributes["_SCALED"] = attributes["POSITION"]
            if primitive.get("mode") == 6:  # trimesh knows no fans: it reads a strip, which `_gltf_scene` turns into one
                primitive["mode"], attributes["_FAN"] = 5, attributes["POSITION"]
        meshes.append({"primitives": kept})
    if any("sparse" in accessors[a] or "bufferView" not in accessors[a] for a in used):
        raise _Bad("is sparse or compressed, which is not read here; export it plainly")
    nodes = [only(n, "children mesh matrix translation rotation scale") for n in document.get("nodes", [])]
    for node in nodes:
        node["children"] = node.get("children", [])[::-1]  # trimesh takes the last one first
        if "mesh" in node and not meshes[node["mesh"]]["primitives"]:
            del node["mesh"]  # or trimesh leaves its children out
    children = [child for node in nodes for child in node["children"]]
    orphans = {"nodes": sorted({*range(len(nodes))} - {*children})}
    roots = document.get("scenes", [orphans])[document.get("scene", 0)].get("nodes", [])
    if len({*roots, *children}) < len(roots) + len(children):
        raise _Bad("a node has two parents or is part of a loop; it is damaged")
    wanted, empty = set(used), {"componentType": 5126, "count": 0, "type": "SCALAR"}
    plain = {
        "accessors": [only(a, "bufferView byteOffset componentType count type") if k in wanted else empty for k, a in enumerate(accessors)],
        "bufferViews": [only(v, "buffer byteOffset byteLength byteStride") for v in document.get("bufferViews", [])],
        "buffers": [{"uri": name} for name in buffers],
        "meshes": meshes,
        "nodes": nodes,
        "scenes": [{"nodes": roots[::-1]}],
    }
    _whole(plain)
    views = [(v.get("byteOffset", 0) + v["byteLength"], len(buffers[str(v["buffer"])])) for v in plain["bufferViews"]]
    if any(end > size for end, size in views):
        raise _Bad("a buffer view reaches past the end of its buffer; it is cut off or damaged")
    if sum(v["byteLength"] for v in plain["bufferViews"]) > 16 * sum(map(len, buffers.values())):
        raise _Bad("reads the same bytes over and over; simplify it")  # trimesh copies each
    if sum(accessors[a]["count"] for a in used) > _MOST:
        raise _Bad(f"has more than {_MOST:,} vertices and corners, or reaches past the end of its buffers; simplify it")
    return plain


def _whole(value, key: str = "") -> None:
    """Numbers must be whole and not negative (to Python, -1 is the last), but for those that place a node."""
    if isinstance(value, (dict, list)):
        for name, inner in value.items() if isinstance(value, dict) else ((key, v) for v in value):
            _whole(inner, name)
    elif key not in ("uri", "type", "matrix", "translation", "rotation", "scale") and not (type(value) is int and value >= 0):
        raise _Bad(f"its {key} {str(value)[:24]!r} is negative or no whole number; it is damaged")


def _gltf_scene(found: dict) -> Mesh:
    """One mesh of what trimesh read; places that mirror turn the faces round (glTF 3.7.4)."""
    places, parts = {found["base_frame"]: np.eye(4)}, []
    for edge in found["graph"]:
        place = places[edge["frame_to"]] = places[edge["frame_from"]] @ edge["matrix"]
        if "geometry" in edge:
            node = int(edge["frame_to"].split("_")[0])  # "7_a1b2c3" is a primitive of node 7
            parts.append((found["geometry"][edge["geometry"]], place, node))
    if sum(len(part["vertices"]) + len(part["faces"]) for part, _, _ in parts) > _MOST:
        raise _Bad(f"repeats its meshes into more than {_MOST:,} vertices and triangles; simplify it")
    vertices, faces, colors, base = [np.zeros((0, 3))], [np.zeros((0, 3), np.int64)], [np.zeros((0, 3))], 0
    nodes = [np.zeros(0)]
    for part, place, node in parts:
        points, corners, tints, marks = part["vertices"], part["faces"], part.get("vertex_colors"), part.get("vertex_attributes", {})
        if corners.dtype.kind not in "ui" or points.shape[1:] != (3,):
            raise _Bad("has indices that are not whole or positions that are not VEC3; it is damaged")
        if "_SCALED" in marks and points.dtype.kind != "f":
            points = np.maximum(points / np.iinfo(points.dtype).max, -1.0)
        if "_FAN" in marks and len(corners):  # a fan; a strip has every second triangle turned
            last = np.where(np.arange(len(corners)) % 2, corners[:, 0], corners[:, 2])
            corners = np.stack([np.full(len(corners), corners[0, 0]), corners[:, 1], last], axis=1)
        if tints is None:
            tints = np.ones(points.shape)
        vertices.append(points @ place[:3, :3].T + place[:3, 3])
        faces.append((corners[:, ::-1] if np.linalg.det(place[:3, :3]) < 0 else corners).astype(np.int64) + base)
        colors.append(tints[:, :3] / (1 if tints.dtype.kind == "f" else np.iinfo(tints.dtype).max))
        nodes.append(np.full(len(points), node))
        base += len(points)
    table, tint = np.unique(np.concatenate(colors), axis=0, return_inverse=True)
    keys = np.stack([tint.reshape(-1), *[np.concatenate(nodes)] * 2], axis=1)  # in place of colours: seams close within a node only
    merged = merge_duplicates(_tensors(np.concatenate(vertices), np.concatenate(faces), keys))
    coloured = any("vertex_colors" in part for part, _, _ in parts)
    return replace(merged, colors=torch.from_numpy(table)[merged.colors[:, 0].long()] if coloured else None)


# --- STL ---


def _read_stl(data: bytes, path: Path) -> Mesh:
    """STL, binary or ASCII, by trimesh; equal corners become one vertex."""
    import trimesh

    triangles = struct.unpack_from("<I", data, 80)[0] if len(data) >= 84 else 0
    if 84 + 50 * triangles != len(data) and not (data.lstrip()[:5].lower() == b"solid" and b"facet" in data.lower()):
        raise _Bad(
            f"says it has {triangles} triangles ({84 + 50 * triangles} bytes) but has {len(data)} bytes; it is cut off or no STL file"
        )
    try:
        loaded = trimesh.load_mesh(io.BytesIO(data), file_type="stl", process=False)
        vertices, faces = np.array(loaded.vertices, dtype=np.float64), np.array(loaded.faces, dtype=np.int64)
    except Exception as error:  # whatever a foreign reader raises over a damaged file
        raise _Bad(f"cannot be read as STL ({type(error).__name__}: {str(error)[:80]})") from error
    return _mesh(vertices.reshape(-1, 3), np.full(len(faces), 3), faces.reshape(-1), seams=True)


_READERS = {".obj": _read_obj, ".ply": _read_ply, ".glb": _read_gltf, ".gltf": _read_gltf, ".stl": _read_stl}

# --- writers ---


def save(mesh: Mesh, path: str | Path) -> Path:
    """Write a mesh as OBJ, PLY (binary) or GLB, whole or not at all; returns the path.

    OBJ and PLY keep float32 and float64 to the last bit; GLB is float32 by its definition. Colours are written as sRGB
    (8 bits in PLY) or, in GLB, as linear 8 bits; normals are not written. Raises InputError for another suffix, a mesh
    without faces (no file of it would load), or a place that cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in _WRITERS:
        raise InputError(f"{path}: suffix {path.suffix!r} is not one that is written here; known: {', '.join(sorted(_WRITERS))}")
    if not len(mesh.faces):
        raise InputError(f"{path}: mesh has no faces to save; give one that is not empty")
    vertices = mesh.vertices.detach().cpu()
    vertices = vertices.numpy() if vertices.dtype in (torch.float32, torch.float64) else vertices.float().numpy()
    colors = None if mesh.colors is None else mesh.colors.detach().cpu().double().numpy()
    content = _WRITERS[path.suffix.lower()](vertices, mesh.faces.cpu().numpy(), colors)
    try:
        with atomic_path(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); check the folder") from error
    return path


def _write_obj(vertices: np.ndarray, faces: np.ndarray, colors: np.ndarray | None) -> bytes:
    digits = "%.17g" if vertices.dtype == np.float64 else "%.9g"
    rows, row = vertices, f"v {digits} {digits} {digits}\n"
    if colors is not None:
        rows, row = np.concatenate([vertices, _srgb(colors)], axis=1), row[:-1] + " %.6f %.6f %.6f\n"
    return (
        row * len(rows) % tuple(rows.reshape(-1).tolist()) + "f %d %d %d\n" * len(faces) % tuple((faces + 1).reshape(-1).tolist())
    ).encode()


def _write_ply(vertices: np.ndarray, faces: np.ndarray, colors: np.ndarray | None) -> bytes:
    name, kind = ("double", "<f8") if vertices.dtype == np.float64 else ("float", "<f4")
    table = np.empty(len(vertices), [("place", kind, 3)] + ([] if colors is None else [("color", "u1", 3)]))
    table["place"], properties = vertices, "".join(f"property {name} {c}\n" for c in "xyz")
    if colors is not None:
        table["color"] = np.round(_srgb(colors) * 255)
        properties += "".join(f"property uchar {c}\n" for c in ("red", "green", "blue"))
    corners = np.empty(len(faces), [("count", "u1"), ("corners", "<i4", 3)])
    corners["count"], corners["corners"] = 3, faces
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(vertices)}\n{properties}element face {len(faces)}\n"
    return (header + "property list uchar int vertex_indices\nend_header\n").encode() + table.tobytes() + corners.tobytes()


def _write_glb(vertices: np.ndarray, faces: np.ndarray, colors: np.ndarray | None) -> bytes:
    import trimesh

    if (np.abs(vertices) > np.finfo(np.float32).max).any():
        raise InputError("mesh has coordinates beyond float32, which is all that GLB holds; save it as PLY or OBJ")
    tints = None if colors is None else np.round(colors.clip(0, 1) * 255).astype(np.uint8)
    return trimesh.Trimesh(vertices, faces, vertex_colors=tints, process=False).export(file_type="glb")


_WRITERS = {".obj": _write_obj, ".ply": _write_ply, ".glb": _write_glb}
