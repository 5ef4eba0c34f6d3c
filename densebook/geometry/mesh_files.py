"""Mesh files: strict readers for OBJ, PLY, GLB, glTF and STL, and writers for OBJ, PLY and GLB.

What cannot be a mesh is refused with one InputError that names the file and, in text files, the line. trimesh reads STL
and the arrays and scene of glTF. Own code remains where trimesh would change or lose something: its OBJ reader skips bad
lines; its PLY reader has no lines in its errors, takes what is no number as the end of a row, and refuses binary files
with triangles among quads; its PLY writer rounds float64 to float32; its GLB writer rounds colours to 8 bits and cuts a
mesh of several materials apart. Nothing in a file is executed, and what a file names is opened only in its folder or
below it: OBJ materials, glTF buffers and pictures (`textures=False` opens none but buffers). Memory stays within a
multiple of the file, but for pictures, which have 2^25 pixels at most.

Kept from a file are positions, triangles and vertex colours, and from OBJ and glTF texture coordinates, base colours and
base-colour pictures; polygons become fans around their first corner; transparency, shine and bumps are left out.
Text and 8-bit colours and pictures are sRGB, as viewers show them; numbers in GLB and of materials are linear.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import torch

from densebook.core.errors import InputError
from densebook.core.files import atomic_path

from . import mesh_gltf, mesh_obj
from .mesh import Mesh
from .mesh_common import Bad, arrays, linear, parse, polygons, shown, srgb


def load(path: str | Path, dtype: torch.dtype = torch.float32, textures: bool = True) -> Mesh:
    """Read a triangle mesh from an OBJ, PLY, GLB, glTF or STL file, on the CPU, in float type `dtype`.

    Vertices keep the order of the file. Those that a format repeats (STL corners; seams of texture or normals in PLY
    and glTF) are merged, so that what is watertight loads watertight; the nodes of a glTF scene are put in place and
    joined. OBJ and glTF bring texture coordinates, and the colours and pictures of their materials; with `textures` False
    no material or picture is opened, and every face is white. Raises one InputError, naming the file (and the line, in
    OBJ and ASCII PLY), for anything that is not a mesh, and for a material or picture that is missing or damaged.
    """
    path = Path(path)
    data = _bytes(path)
    try:
        with np.errstate(all="ignore"):  # what overflows is refused as not finite
            mesh = _READERS[path.suffix.lower()](data, path, textures).to(dtype)
        if not len(mesh.faces):
            raise Bad("has no faces; give a file with a surface")
        return mesh
    except Bad as error:
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
            raise Bad("the header has no end_header", number + 1)
        line, position, number = data[position:end].rstrip(b"\r"), end + 1, number + 1
        words = line.decode("latin-1").split()
        if number == 1:
            if words != ["ply"]:
                raise Bad("does not begin with the word ply; it is no PLY file", 1)
        elif not words or words[0] in ("comment", "obj_info"):
            continue
        elif words[0] == "format" and len(words) == 3 and words[1].encode() in orders:
            order = orders[words[1].encode()]
        elif words[0] == "element" and len(words) == 3:
            count, properties = parse(int, words[2].encode(), number, "count"), []
            if count < 0 or words[1] in elements:
                raise Bad(f"element {words[1][:24]!r} is there twice or has a negative count", number)
            elements[words[1]] = count, properties
        elif words[0] == "property" and elements:
            counted = _PLY_TYPES.get(words[2], "f") if words[1:2] == ["list"] and len(words) == 5 else ""
            kind, *names = words[3 if counted else 1 :] or [""]
            if kind not in _PLY_TYPES or counted in ("f", "d") or len(names) != 1 or any(p[0] == names[0] for p in properties):
                raise Bad(f"{shown(line)} is no property, or is there twice", number)
            properties.append((names[0], _PLY_TYPES[kind], counted))
        elif words == ["end_header"]:
            break
        else:
            raise Bad(f"{shown(line)} is no line of a PLY header", number)
    if order is None:
        raise Bad("the header has no format line")
    if empty := [name for name, (_, properties) in elements.items() if not properties]:
        raise Bad(f"element {empty[0]!r} has no properties")
    return order, elements, position, number + 1


def _read_ply(data: bytes, path: Path, textures: bool) -> Mesh:
    """PLY, ASCII or binary: elements `vertex` (x y z, red green blue) and `face` (vertex_indices); others are skipped."""
    order, elements, position, number = _ply_header(data)
    tables = _ply_binary(data, position, order, elements) if order else _ply_ascii(data[position:], number, elements)
    for need in ("vertex", "face"):
        if need not in elements:
            raise Bad(f"has no element {need!r}; it is no triangle mesh")
    (columns, vertex_lines), (faces, lines) = tables["vertex"], tables["face"]
    kinds = {name: kind for name, kind, counted in elements["vertex"][1] if not counted}
    indices = [n for n, kind, counted in elements["face"][1] if n in ("vertex_indices", "vertex_index") and counted and kind not in "fd"]
    if missing := [c for c in "xyz" if c not in kinds] + ([] if indices else ["vertex_indices"]):
        raise Bad(f"has no property {missing[0]!r}; it is no triangle mesh")
    colors = None
    if all(c in kinds for c in ("red", "green", "blue")):  # integers count to the largest of their type
        largest = {c: 1 if kinds[c] in "fd" else np.iinfo(np.dtype(kinds[c])).max for c in ("red", "green", "blue")}
        colors = linear(np.stack([columns[c][1].astype(np.float64) / most for c, most in largest.items()], axis=1))
    vertices = np.stack([columns[c][1].astype(np.float64) for c in "xyz"], axis=1)
    seams = any(n in columns for n in ("s", "t", "u", "v", "texture_u", "texture_v", "nx"))
    lengths, corners = faces[indices[0]]
    return polygons(vertices, lengths, corners.astype(np.int64), colors, lines, vertex_lines, seams=seams)


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
            raise Bad(f"ends after {len(here)} of {count} {element} rows; it is cut off", number + data.count(b"\n"))
        for line, words in here:
            row, at = [], 0
            for name, kind, counted in properties:
                length = parse(int, b"".join(words[at : at + 1]), line, f"{element} value") if counted else 1
                at += bool(counted)
                if counted and not 0 <= length <= len(words) - at:
                    raise Bad(f"{name} counts {length} values but the line has {len(words) - at}", line)
                read = float if kind in "fd" else int
                row.append([parse(read, word, line, f"{element} value") for word in words[at : at + length]])
                if read is int and any(abs(v) > 2**40 for v in row[-1]):
                    raise Bad(f"{element} value {max(row[-1], key=abs)} is too large", line)
                at += length
            if at != len(words):
                raise Bad(f"a {element} row has {len(words)} values; the header says {at}", line)
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
            raise Bad(f"ends within its {count} {element} rows ({len(data)} bytes are there); it is cut off") from None
    return tables


# --- STL ---


def _read_stl(data: bytes, path: Path, textures: bool) -> Mesh:
    """STL, binary or ASCII, by trimesh; equal corners become one vertex."""
    import trimesh

    triangles = struct.unpack_from("<I", data, 80)[0] if len(data) >= 84 else 0
    if 84 + 50 * triangles != len(data) and not (data.lstrip()[:5].lower() == b"solid" and b"facet" in data.lower()):
        raise Bad(
            f"says it has {triangles} triangles ({84 + 50 * triangles} bytes) but has {len(data)} bytes; it is cut off or no STL file"
        )
    try:
        loaded = trimesh.load_mesh(io.BytesIO(data), file_type="stl", process=False)
        vertices, faces = np.array(loaded.vertices, dtype=np.float64), np.array(loaded.faces, dtype=np.int64)
    except Exception as error:  # whatever a foreign reader raises over a damaged file
        raise Bad(f"cannot be read as STL ({type(error).__name__}: {str(error)[:80]})") from error
    return polygons(vertices.reshape(-1, 3), np.full(len(faces), 3), faces.reshape(-1), seams=True)


_READERS = {".obj": mesh_obj.read, ".ply": _read_ply, ".glb": mesh_gltf.read, ".gltf": mesh_gltf.read, ".stl": _read_stl}

# --- writers ---


def save(mesh: Mesh, path: str | Path) -> Path:
    """Write a mesh as OBJ, PLY (binary) or GLB, each file whole or not at all; returns the path.

    OBJ and PLY keep float32 and float64 to the last bit; GLB is float32 by its definition. Vertex colours are written as
    sRGB (8 bits in PLY) or, in GLB, as linear floats. OBJ puts materials and pictures beside itself (NAME.mtl, NAME_0.png,
    ...), GLB into itself; pictures are 8-bit sRGB. PLY has neither. Normals and `objects` are not written. In GLB the
    faces of one material come together. Raises InputError for another suffix, a mesh without faces (no file of it would
    load), or a place that cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in _WRITERS:
        raise InputError(f"{path}: suffix {path.suffix!r} is not one that is written here; known: {', '.join(sorted(_WRITERS))}")
    if not len(mesh.faces):
        raise InputError(f"{path}: mesh has no faces to save; give one that is not empty")
    files = _WRITERS[path.suffix.lower()](mesh, path)
    try:
        for file, content in files.items():
            with atomic_path(file) as temporary:
                temporary.write_bytes(content)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); check the folder") from error
    return path


def _write_ply(mesh: Mesh, path: Path) -> dict[Path, bytes]:
    rows = arrays(mesh)
    name, kind = ("double", "<f8") if rows["vertices"].dtype == np.float64 else ("float", "<f4")
    table = np.empty(len(mesh.vertices), [("place", kind, 3)] + ([("color", "u1", 3)] if "colors" in rows else []))
    table["place"], properties = rows["vertices"], "".join(f"property {name} {c}\n" for c in "xyz")
    if "colors" in rows:
        table["color"] = np.round(srgb(rows["colors"].astype(np.float64)) * 255)
        properties += "".join(f"property uchar {c}\n" for c in ("red", "green", "blue"))
    corners = np.empty(len(mesh.faces), [("count", "u1"), ("corners", "<i4", 3)])
    corners["count"], corners["corners"] = 3, rows["faces"]
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(table)}\n{properties}element face {len(corners)}\n"
    return {path: (header + "property list uchar int vertex_indices\nend_header\n").encode() + table.tobytes() + corners.tobytes()}


_WRITERS = {".obj": mesh_obj.write, ".ply": _write_ply, ".glb": mesh_gltf.write}
