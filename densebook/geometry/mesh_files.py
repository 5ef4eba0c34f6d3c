"""Mesh files: strict readers for OBJ, PLY, GLB, glTF and STL, and writers for OBJ, PLY and GLB.

What cannot be a mesh is refused with one InputError that names the file and, in text files, the line. The general
readers of trimesh skip lines that they do not understand, cut vertices apart at texture seams and lose line numbers;
so only STL, which has no indices to get wrong, is left to it. Nothing in a file is executed, textures and materials are
not opened, and a glTF file reaches no buffer outside its folder. Memory stays within a small multiple of the file.

Kept from a file are positions, triangles and vertex colours. Polygons become fans around their first corner.
Text and 8-bit colours are sRGB in OBJ and PLY, as viewers show them, and linear in GLB, as its specification says.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import struct
import urllib.parse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from densebook.core.errors import InputError
from densebook.core.files import atomic_path

from .mesh import Mesh, merge_duplicates

_MOST = 50_000_000  # vertices or triangles that a glTF scene may repeat its meshes into


@dataclass
class _Polygons:
    """What a reader finds: polygons as runs of `lengths` corners in `corners`, and the line each came from."""

    vertices: np.ndarray  # (V, 3) float64
    lengths: np.ndarray  # (P,) int64
    corners: np.ndarray  # (sum of lengths,) int64
    colors: np.ndarray | None = None  # (V, 3) linear
    lines: np.ndarray | None = None  # (P,) of the polygons
    vertex_lines: np.ndarray | None = None  # (V,)
    first: int = 0  # number of the first vertex, as the file counts
    seams: bool = False  # vertices may be there several times, for texture or normals

    def triangles(self) -> np.ndarray:
        """(F, 3): each polygon as a fan around its first corner, in order."""
        count = self.lengths - 2
        start = np.repeat(np.cumsum(self.lengths) - self.lengths, count)
        step = np.arange(len(start)) - np.repeat(np.cumsum(count) - count, count)
        return np.stack([self.corners[start], self.corners[start + step + 1], self.corners[start + step + 2]], axis=1)


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


def _mesh(found: _Polygons) -> Mesh:
    """Polygons as a mesh, after the checks that know a line."""
    vertices, lengths, corners = found.vertices, found.lengths, found.corners
    finite = np.isfinite(vertices).all(axis=1)
    if not finite.all():
        first = int(np.flatnonzero(~finite)[0])
        line = None if found.vertex_lines is None else int(found.vertex_lines[first])
        raise _Bad(f"vertex {first + found.first} is {vertices[first].tolist()}; coordinates must be finite", line)
    if (lengths < 3).any():
        first = int(np.flatnonzero(lengths < 3)[0])
        raise _Bad(f"a face has {lengths[first]} corners; it needs at least 3", None if found.lines is None else int(found.lines[first]))
    outside = (corners < 0) | (corners >= len(vertices))
    if outside.any():
        corner = int(np.flatnonzero(outside)[0])
        face = int(np.searchsorted(np.cumsum(lengths), corner, side="right"))
        span = f"{found.first} to {len(vertices) - 1 + found.first}" if len(vertices) else "nothing: there are no vertices"
        what = f"a face names vertex {corners[corner] + found.first}; vertices run from {span}"
        raise _Bad(what, None if found.lines is None else int(found.lines[face]))
    colors = None if found.colors is None else torch.from_numpy(np.ascontiguousarray(found.colors, dtype=np.float64))
    mesh = Mesh(torch.from_numpy(np.ascontiguousarray(vertices)), torch.from_numpy(found.triangles()), colors)
    return merge_duplicates(mesh) if found.seams else mesh


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
    found = _Polygons(
        vertices=np.array(vertices, dtype=np.float64).reshape(-1, 3),
        lengths=np.array(lengths, dtype=np.int64),
        corners=np.array(corners, dtype=np.int64),
        colors=_linear(np.array(colors, dtype=np.float64)) if every else None,
        lines=np.array(lines, dtype=np.int64),
        vertex_lines=np.array(vertex_lines, dtype=np.int64),
        first=1,
    )
    return _mesh(found)


# --- PLY: Turk 1994, http://paulbourke.net/dataformats/ply ---

_PLY_TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4", "double": "f8"},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4", "float32": "f4", "float64": "f8"},
}


@dataclass
class _Element:
    """One `element` of a PLY header; a property is (name, type, type of its count or None)."""

    name: str
    count: int
    properties: list[tuple[str, str, str | None]]

    @property
    def lists(self) -> bool:
        return any(counted for _, _, counted in self.properties)


def _ply_header(data: bytes) -> tuple[str, list[_Element], int, int]:
    """Format ('ascii', '<' or '>'), elements, where the body begins, and the number of its first line."""
    ends = {b"ascii": "ascii", b"binary_little_endian": "<", b"binary_big_endian": ">"}
    form, elements, position, number = "", [], 0, 0
    while True:
        end = data.find(b"\n", position)
        if end < 0 or number > 10_000:
            raise _Bad("the header has no end_header", number + 1)
        line, position, number = data[position:end].rstrip(b"\r"), end + 1, number + 1
        words = line.split()
        if number == 1:
            if line.strip() != b"ply":
                raise _Bad("does not begin with the word ply; it is no PLY file", 1)
        elif not words or words[0] in (b"comment", b"obj_info"):
            continue
        elif words[0] == b"format" and len(words) == 3 and words[1] in ends:
            form = ends[words[1]]
        elif words[0] == b"element" and len(words) == 3:
            count = _number(int, words[2], number, "count")
            if count < 0 or any(e.name == words[1].decode("latin-1") for e in elements):
                raise _Bad(f"element {_shown(words[1])} is there twice or has a negative count", number)
            elements.append(_Element(words[1].decode("latin-1"), count, []))
        elif words[0] == b"property" and elements:
            elements[-1].properties.append(_ply_property(words, elements[-1], number))
        elif words == [b"end_header"]:
            break
        else:
            raise _Bad(f"{_shown(line)} is no line of a PLY header", number)
    if not form:
        raise _Bad("the header has no format line")
    if empty := [e.name for e in elements if not e.properties]:
        raise _Bad(f"element {empty[0]!r} has no properties")
    return form, elements, position, number + 1


def _ply_property(words: list[bytes], element: _Element, number: int) -> tuple[str, str, str | None]:
    """`property TYPE NAME` or `property list COUNT_TYPE TYPE NAME`."""
    texts = [w.decode("latin-1") for w in words[1:]]
    counted = None
    if len(texts) == 4 and texts[0] == "list":
        counted = _PLY_TYPES.get(texts[1], "f")
        texts = texts[2:]
    known = len(texts) == 2 and texts[0] in _PLY_TYPES and not (counted or "").startswith("f")
    if not known or texts[1] in [name for name, _, _ in element.properties]:
        raise _Bad(f"{_shown(b' '.join(words))} is no property, or is there twice", number)
    return texts[1], _PLY_TYPES[texts[0]], counted


def _read_ply(data: bytes, path: Path) -> Mesh:
    """PLY, ASCII or binary: elements `vertex` (x y z, red green blue) and `face` (vertex_indices); others are skipped."""
    form, elements, position, number = _ply_header(data)
    body = _AsciiBody(data[position:], number) if form == "ascii" else _BinaryBody(data, position, form)
    tables = {e.name: body.read(e) for e in elements}
    for need in ("vertex", "face"):
        if need not in tables:
            raise _Bad(f"has no element {need!r}; it is no triangle mesh")
    (columns, vertex_lines), (faces, lines) = tables["vertex"], tables["face"]
    name = next((n for n in ("vertex_indices", "vertex_index") if isinstance(faces.get(n), tuple)), None)
    if missing := [c for c in "xyz" if not isinstance(columns.get(c), np.ndarray)] + ([] if name else ["vertex_indices"]):
        raise _Bad(f"has no property {missing[0]!r}; it is no triangle mesh")
    lengths, corners = faces[name]
    return _mesh(
        _Polygons(
            vertices=np.stack([columns[c].astype(np.float64) for c in "xyz"], axis=1),
            lengths=lengths,
            corners=corners.astype(np.int64),
            colors=_ply_colors(columns, next(e for e in elements if e.name == "vertex")),
            lines=lines,
            vertex_lines=vertex_lines,
            seams=any(n in columns for n in ("s", "t", "u", "v", "texture_u", "texture_v", "nx")),
        )
    )


def _ply_colors(columns: dict, element: _Element) -> np.ndarray | None:
    """Vertex colours in linear RGB, where there are three; integers count to the largest of their type."""
    kinds = {n: kind for n, kind, counted in element.properties if not counted}
    if not all(n in kinds for n in ("red", "green", "blue")):
        return None
    scales = [1 if kinds[n].startswith("f") else np.iinfo(kinds[n]).max for n in ("red", "green", "blue")]
    return _linear(np.stack([columns[n].astype(np.float64) / s for n, s in zip(("red", "green", "blue"), scales)], axis=1))


class _AsciiBody:
    """The lines after an ASCII header; every element takes as many as it counts."""

    def __init__(self, data: bytes, number: int):
        self.lines = [(k, words) for k, line in enumerate(data.split(b"\n"), number) if (words := line.split())]
        self.next = 0
        self.last = number + data.count(b"\n")

    def read(self, element: _Element):
        """Columns of `element` (a list property: lengths and values) and the line of each row."""
        rows = self.lines[self.next : self.next + element.count]
        if len(rows) < element.count:
            raise _Bad(f"ends after {len(rows)} of {element.count} {element.name} rows; it is cut off", self.last)
        self.next += element.count
        columns = {name: ([], []) for name, _, _ in element.properties}
        for number, words in rows:
            at = 0
            for name, kind, counted in element.properties:
                length = 1
                if counted:
                    length = self._value(words, at, int, number, element)
                    at += 1
                    if not 0 <= length <= len(words) - at:
                        raise _Bad(f"{name} counts {length} values but the line has {len(words) - at}", number)
                columns[name][0].append(length)
                read = float if kind.startswith("f") else int
                columns[name][1].extend([self._value(words, at + k, read, number, element) for k in range(length)])
                at += length
            if at != len(words):
                raise _Bad(f"a {element.name} row has {len(words)} values; the header says {at}", number)
        numbers = np.array([number for number, _ in rows], dtype=np.int64)
        arrays = {}
        for name, kind, counted in element.properties:
            lengths, values = columns[name]
            flat = np.array(values, dtype=np.float64 if kind.startswith("f") else np.int64)
            arrays[name] = (np.array(lengths, dtype=np.int64), flat) if counted else flat
        return arrays, numbers

    @staticmethod
    def _value(words: list[bytes], at: int, kind, number: int, element: _Element):
        if at >= len(words):
            raise _Bad(f"a {element.name} row has {len(words)} values; the header asks for more", number)
        value = _number(kind, words[at], number, f"{element.name} value")
        if kind is int and abs(value) > 2**40:
            raise _Bad(f"{element.name} value {value} is too large", number)
        return value


class _BinaryBody:
    """The bytes after a binary header."""

    def __init__(self, data: bytes, position: int, order: str):
        self.data, self.position, self.order = data, position, order

    def _cut(self, element: _Element) -> _Bad:
        return _Bad(f"ends within its {element.count} {element.name} rows ({len(self.data)} bytes are there); it is cut off")

    def read(self, element: _Element):
        """Columns of `element` (a list property: lengths and values); binary files have no lines."""
        row = self._row_type(element)
        if row is None:
            return self._read_ragged(element), None
        table = np.frombuffer(self.data, dtype=row, count=element.count, offset=self.position)
        lengths = {name: table[f"{name} count"] for name, _, counted in element.properties if counted}
        if any((n != row[name].shape[0]).any() for name, n in lengths.items()):
            return self._read_ragged(element), None
        self.position += element.count * row.itemsize
        return {
            n: (lengths[n].astype(np.int64), table[n].reshape(-1)) if n in lengths else table[n] for n, _, _ in element.properties
        }, None

    def _row_type(self, element: _Element) -> np.dtype | None:
        """The type of one row if all rows were like the first, or None when that does not fit the file."""
        fields, at, left = [], self.position, len(self.data) - self.position
        for name, kind, counted in element.properties:
            if counted and not element.count:
                fields.append((f"{name} count", self.order + counted))
                fields.append((name, self.order + kind, (0,)))
            elif counted:
                length = self._at(self.order + counted, at, element)
                at += np.dtype(counted).itemsize
                if not 0 <= length * np.dtype(kind).itemsize <= left:
                    return None
                fields += [(f"{name} count", self.order + counted), (name, self.order + kind, (length,))]
                at += length * np.dtype(kind).itemsize
            else:
                fields.append((name, self.order + kind))
                at += np.dtype(kind).itemsize
        row = np.dtype(fields)
        if element.count * row.itemsize > left:
            if not element.lists:
                raise self._cut(element)
            return None
        return row

    def _at(self, kind: str, at: int, element: _Element) -> int:
        if at + np.dtype(kind).itemsize > len(self.data):
            raise self._cut(element)
        return int(np.frombuffer(self.data, dtype=kind, count=1, offset=at)[0])

    def _read_ragged(self, element: _Element):
        """Row by row, for lists of different lengths."""
        columns = {name: ([], []) for name, _, _ in element.properties}
        letters = {"i1": "b", "u1": "B", "i2": "h", "u2": "H", "i4": "i", "u4": "I", "f4": "f", "f8": "d"}
        plan = [(columns[n], letters[k], np.dtype(k).itemsize, letters.get(c)) for n, k, c in element.properties]
        data, order, at, size = self.data, self.order, self.position, len(self.data)
        try:
            for _ in range(element.count):
                for (lengths, values), letter, width, counted in plan:
                    length = 1
                    if counted:
                        (length,) = struct.unpack_from(order + counted, data, at)
                        at += struct.calcsize(order + counted)
                    if not 0 <= length * width <= size - at:
                        raise self._cut(element)
                    lengths.append(length)
                    values.extend(struct.unpack_from(f"{order}{length}{letter}", data, at))
                    at += length * width
        except struct.error:
            raise self._cut(element) from None
        self.position = at
        arrays = {}
        for name, kind, counted in element.properties:
            lengths, values = columns[name]
            flat = np.array(values, dtype=kind)
            arrays[name] = (np.array(lengths, dtype=np.int64), flat) if counted else flat
        return arrays


# --- GLB and glTF 2.0: https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html ---

_GLTF_TYPES = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_GLTF_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
_GLTF_HARMLESS = ("KHR_mesh_quantization", "KHR_materials", "KHR_texture", "EXT_texture", "KHR_lights")


def _read_gltf(data: bytes, path: Path) -> Mesh:
    """GLB or glTF: the triangles of all nodes of the scene, moved to their places and joined."""
    try:
        text, binary = (data, None) if path.suffix.lower() == ".gltf" else _glb_chunks(data)
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise _Bad(f"its JSON cannot be read ({type(error).__name__}: {str(error)[:80]})") from None
        if not isinstance(document, dict) or not str(document.get("asset", {}).get("version", "")).startswith("2."):
            raise _Bad("its JSON is no glTF 2 document")
        for name in document.get("extensionsRequired", []):
            if not name.startswith(_GLTF_HARMLESS):
                raise _Bad(f"needs the glTF extension {name}, which is not read here; export it without")
        return _gltf_scene(document, _gltf_buffers(document, binary, path))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError, ZeroDivisionError) as error:
        if isinstance(error, InputError):
            raise
        raise _Bad(f"its JSON is no valid glTF ({type(error).__name__}: {str(error)[:80]})") from error


def _glb_chunks(data: bytes) -> tuple[bytes, bytes | None]:
    """JSON and binary chunk of a GLB file."""
    if data[:4] != b"glTF" or len(data) < 20:
        raise _Bad("does not begin like a GLB file (bytes 'glTF')" if data[:4] != b"glTF" else "ends within its header; it is cut off")
    version, length = struct.unpack_from("<II", data, 4)
    if version != 2:
        raise _Bad(f"is GLB version {version}; only 2 is read here")
    if length != len(data):
        raise _Bad(f"says it has {length} bytes but has {len(data)}; it is cut off or damaged")
    chunks, at = {}, 12
    while at + 8 <= length:
        size, kind = struct.unpack_from("<I4s", data, at)
        if at + 8 + size > length:
            raise _Bad(f"chunk {_shown(kind)} says it has {size} bytes but {length - at - 8} are left; it is damaged")
        chunks.setdefault(kind, data[at + 8 : at + 8 + size])
        at += 8 + size
    if b"JSON" not in chunks:
        raise _Bad("has no JSON chunk; it is damaged")
    return chunks[b"JSON"], chunks.get(b"BIN\0")


def _gltf_buffers(document: dict, binary: bytes | None, path: Path) -> list[bytes]:
    """The bytes of each buffer: the binary chunk, base64 in the JSON, or a file in the folder of `path`."""
    buffers = []
    for index, buffer in enumerate(document.get("buffers", [])):
        uri = buffer.get("uri")
        if uri is None:
            content = binary if index == 0 else None
        elif uri.startswith("data:"):
            try:
                content = base64.b64decode(uri.partition(",")[2], validate=True)
            except binascii.Error:
                raise _Bad(f"buffer {index} is no valid base64") from None
        else:
            content = _neighbour(uri, path)
        if content is None or not 0 <= buffer["byteLength"] <= len(content):
            raise _Bad(
                f"buffer {index} says it has {buffer['byteLength']} bytes but {len(content or b'')} are there; it is cut off or damaged"
            )
        buffers.append(content)
    return buffers


def _neighbour(uri: str, path: Path) -> bytes:
    """The file that `uri` names, in the folder of `path` or below it and nowhere else."""
    name = urllib.parse.unquote(uri)
    folder = path.resolve().parent
    if "\0" in name or "\\" in name or urllib.parse.urlsplit(uri).scheme or not (folder / name).resolve().is_relative_to(folder):
        raise _Bad(f"its buffer {name[:80]!r} lies outside the file's folder; it is not opened")
    try:
        if not (folder / name).is_file():
            raise OSError
        return (folder / name).read_bytes()
    except OSError:
        raise _Bad(f"its buffer {name[:80]!r} is not there; put it beside the file") from None


def _item(document: dict, key: str, index) -> dict:
    """`document[key][index]`, where `index` comes from the file."""
    items = document.get(key, [])
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(items):
        raise _Bad(f"names {key}[{str(index)[:24]}], but it has {len(items)}; it is damaged")
    return items[index]


def _accessor(document: dict, buffers: list[bytes], index) -> np.ndarray:
    """(count, width) numbers of an accessor, unscaled; every span is checked against the buffer."""
    accessor = _item(document, "accessors", index)
    if "sparse" in accessor or "bufferView" not in accessor:
        raise _Bad(f"accessors[{index}] is sparse or compressed, which is not read here; export it plainly")
    view = _item(document, "bufferViews", accessor["bufferView"])
    _item(document, "buffers", view["buffer"])
    kind, width = np.dtype(_GLTF_TYPES[accessor["componentType"]]), _GLTF_WIDTHS[accessor["type"]]
    size, count = kind.itemsize * width, accessor["count"]
    stride, within = view.get("byteStride", size), accessor.get("byteOffset", 0)
    start, length = view.get("byteOffset", 0), view["byteLength"]
    if not all(isinstance(n, int) and n >= 0 for n in (count, stride, within, start, length)) or stride < size:
        raise _Bad(f"accessors[{index}] has a negative or fractional count, offset or stride; it is damaged")
    end = within + (count - 1) * stride + size if count else 0
    if end > length or start + length > len(buffers[view["buffer"]]):
        raise _Bad(f"accessors[{index}] reaches past the end of its buffer; it is cut off or damaged")
    return np.ndarray((count, width), kind, buffers[view["buffer"]], start + within, (stride, kind.itemsize))


def _scaled(values: np.ndarray, normalized: bool) -> np.ndarray:
    """float64; normalized integers as fractions of their largest (glTF 3.11)."""
    if not normalized or values.dtype.kind == "f":
        return values.astype(np.float64)
    return np.maximum(values / np.iinfo(values.dtype).max, -1.0)


def _gltf_mesh(document: dict, buffers: list[bytes], index) -> Mesh:
    """All triangle primitives of one mesh, joined, seams merged; points and lines are left out."""
    vertices, colors, faces, base = [], [], [], 0
    for primitive in _item(document, "meshes", index)["primitives"]:
        mode = primitive.get("mode", 4)
        if mode not in (4, 5, 6):
            continue
        attributes = primitive["attributes"]
        place = _accessor(document, buffers, attributes["POSITION"])
        if place.shape[1] != 3:
            raise _Bad(f"meshes[{index}] has positions that are not VEC3; it is damaged")
        order = np.arange(len(place))
        if "indices" in primitive:
            order = _accessor(document, buffers, primitive["indices"])
            if order.dtype.kind != "u" or order.shape[1] != 1:
                raise _Bad(f"meshes[{index}] has indices that are not unsigned; it is damaged")
            order = order[:, 0].astype(np.int64)
        if len(order) and order.max() >= len(place):
            raise _Bad(f"meshes[{index}] has a face that names vertex {order.max()}; vertices run from 0 to {len(place) - 1}")
        if mode == 4 and len(order) % 3:
            raise _Bad(f"meshes[{index}] has {len(order)} corners, which make no whole triangles; it is damaged")
        vertices.append(_scaled(place, document["accessors"][attributes["POSITION"]].get("normalized", False)))
        colors.append(_gltf_colors(document, buffers, attributes, len(place)))
        faces.append(_assemble(order, mode) + base)
        base += len(place)
    if not vertices:
        return Mesh(torch.zeros(0, 3, dtype=torch.float64), torch.zeros(0, 3, dtype=torch.int64))
    joined = None
    if any(c is not None for c in colors):
        joined = torch.from_numpy(np.concatenate([np.ones_like(v) if c is None else c for c, v in zip(colors, vertices)]))
    return merge_duplicates(Mesh(torch.from_numpy(np.concatenate(vertices)), torch.from_numpy(np.concatenate(faces)), joined))


def _gltf_colors(document: dict, buffers: list[bytes], attributes: dict, count: int) -> np.ndarray | None:
    if "COLOR_0" not in attributes:
        return None
    colors = _scaled(_accessor(document, buffers, attributes["COLOR_0"]), True)
    if len(colors) != count or colors.shape[1] < 3:
        raise _Bad(f"has {len(colors)} colours for {count} vertices; it is damaged")
    return colors[:, :3]


def _assemble(order: np.ndarray, mode: int) -> np.ndarray:
    """Triangles from a list (4), a strip (5, every second one turned) or a fan (6) of corners."""
    if mode == 4:
        return order.reshape(-1, 3)
    step = np.arange(max(len(order) - 2, 0))
    if mode == 6:
        return np.stack([order[np.zeros_like(step)], order[step + 1], order[step + 2]], axis=1)
    odd = step % 2
    return np.stack([order[step], order[step + 1 + odd], order[step + 2 - odd]], axis=1)


def _gltf_scene(document: dict, buffers: list[bytes]) -> Mesh:
    """Walk the scene; a node that is met twice is a loop or has two parents, both of which glTF forbids."""
    nodes = document.get("nodes", [])
    if "scenes" in document:
        roots = _item(document, "scenes", document.get("scene", 0)).get("nodes", [])
    else:
        children = {c for n in nodes for c in n.get("children", [])}
        roots = [i for i in range(len(nodes)) if i not in children]
    waiting, met, meshes, parts, total = [(r, np.eye(4)) for r in reversed(roots)], set(), {}, [], 0
    while waiting:
        index, above = waiting.pop()
        node = _item(document, "nodes", index)
        if index in met:
            raise _Bad(f"nodes[{index}] has two parents or is part of a loop; it is damaged")
        met.add(index)
        matrix = above @ _local_matrix(node)
        if "mesh" in node:
            if node["mesh"] not in meshes:
                meshes[node["mesh"]] = _gltf_mesh(document, buffers, node["mesh"])
            part = meshes[node["mesh"]]
            total += len(part.vertices) + len(part.faces)
            if total > _MOST:
                raise _Bad(f"repeats its meshes into more than {_MOST:,} vertices and triangles; simplify it")
            parts.append((part, matrix))
        waiting.extend((c, matrix) for c in reversed(node.get("children", [])))
    return _join([(m, T) for m, T in parts if len(m.faces)])


def _local_matrix(node: dict) -> np.ndarray:
    """4x4 map of a node: `matrix` by columns, or translation, rotation (x y z w) and scale."""
    if "matrix" in node:
        return np.array(node["matrix"], dtype=np.float64).reshape(4, 4).T
    x, y, z, w = (float(n) for n in node.get("rotation", (0, 0, 0, 1)))
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    matrix = np.eye(4)
    matrix[:3, :3] = rotation * np.array(node.get("scale", (1, 1, 1)), dtype=np.float64).reshape(1, 3)
    matrix[:3, 3] = np.array(node.get("translation", (0, 0, 0)), dtype=np.float64).reshape(3)
    return matrix


def _join(parts: list[tuple[Mesh, np.ndarray]]) -> Mesh:
    """One mesh of all parts, each moved by its matrix; a mirroring one turns the faces round (glTF 3.7.4)."""
    vertices, faces, colors, base = [np.zeros((0, 3))], [np.zeros((0, 3), np.int64)], [np.zeros((0, 3))], 0
    for mesh, matrix in parts:
        vertices.append(mesh.vertices.numpy() @ matrix[:3, :3].T + matrix[:3, 3])
        mirrored = np.linalg.det(matrix[:3, :3]) < 0
        corners = mesh.faces.numpy() + base
        faces.append(corners[:, ::-1] if mirrored else corners)
        colors.append(np.ones((len(mesh.vertices), 3)) if mesh.colors is None else mesh.colors.numpy())
        base += len(mesh.vertices)
    coloured = any(m.colors is not None for m, _ in parts)
    arrays = np.concatenate(vertices), np.concatenate(faces), np.concatenate(colors) if coloured else None
    return Mesh(*(None if a is None else torch.from_numpy(np.ascontiguousarray(a)) for a in arrays))


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
    return _mesh(_Polygons(vertices.reshape(-1, 3), np.full(len(faces), 3), faces.reshape(-1), seams=True))


_READERS = {".obj": _read_obj, ".ply": _read_ply, ".glb": _read_gltf, ".gltf": _read_gltf, ".stl": _read_stl}


# --- writers ---


def save(mesh: Mesh, path: str | Path) -> Path:
    """Write a mesh as OBJ, PLY (binary) or GLB, whole or not at all; returns the path.

    OBJ and PLY keep float32 and float64 to the last bit; GLB is float32 by its definition. Colours are written as sRGB
    (8 bits in PLY) or, in GLB, as linear floats; normals are not written. Raises InputError for another suffix, a mesh
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
    name = "double" if vertices.dtype == np.float64 else "float"
    fields = [(c, vertices.dtype.newbyteorder("<")) for c in "xyz"] + (
        [] if colors is None else [(c, "u1") for c in ("red", "green", "blue")]
    )
    table = np.zeros(len(vertices), dtype=fields)
    for k, c in enumerate("xyz"):
        table[c] = vertices[:, k]
    if colors is not None:
        for k, c in enumerate(("red", "green", "blue")):
            table[c] = np.round(_srgb(colors[:, k]) * 255)
    corners = np.zeros(len(faces), dtype=[("count", "u1"), ("corners", "<i4", (3,))])
    corners["count"], corners["corners"] = 3, faces
    properties = "".join(f"property {'uchar' if c in ('red', 'green', 'blue') else name} {c}\n" for c, _ in fields)
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(vertices)}\n{properties}element face {len(faces)}\n"
    return (header + "property list uchar int vertex_indices\nend_header\n").encode() + table.tobytes() + corners.tobytes()


def _write_glb(vertices: np.ndarray, faces: np.ndarray, colors: np.ndarray | None) -> bytes:
    with np.errstate(over="ignore"):
        places = vertices.astype("<f4")
    if not np.isfinite(places).all():
        raise InputError("mesh has coordinates beyond float32, which is all that GLB holds; save it as PLY or OBJ")
    arrays = [(places, 5126, "VEC3"), (faces.astype("<u4").reshape(-1, 1), 5125, "SCALAR")]
    attributes = {"POSITION": 0}
    if colors is not None:
        arrays.append((colors.astype("<f4"), 5126, "VEC3"))
        attributes["COLOR_0"] = 2
    views, accessors, offset = [], [], 0
    for index, (array, kind, shape) in enumerate(arrays):
        views.append({"buffer": 0, "byteOffset": offset, "byteLength": array.nbytes, "target": 34963 if index == 1 else 34962})
        accessors.append({"bufferView": index, "componentType": kind, "count": len(array), "type": shape})
        offset += array.nbytes
    accessors[0] |= {"min": places.min(axis=0).tolist(), "max": places.max(axis=0).tolist()}
    document = {
        "asset": {"version": "2.0", "generator": "densebook"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": attributes, "indices": 1}]}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": offset}],
    }
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    binary = b"".join(array.tobytes() for array, _, _ in arrays)  # every array is a whole number of 4-byte words
    body = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
    return b"glTF" + struct.pack("<II", 2, 12 + len(body)) + body


_WRITERS = {".obj": _write_obj, ".ply": _write_ply, ".glb": _write_glb}
