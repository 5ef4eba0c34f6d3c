"""OBJ and MTL, read and written: positions, texture coordinates, vertex colours, materials and their pictures.

OBJ: https://www.martinreddy.net/gfx/3d/OBJ.spec, MTL: https://paulbourke.net/dataformats/mtl. What they leave open is
taken as Blender does: Kd is linear, and a picture (map_Kd) stands in place of Kd, where exporters leave any colour.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import numpy as np

from densebook.core.errors import InputError

from .mesh import Mesh
from .mesh_common import Bad, Pictures, arrays, beside, encode, groups, linear, materials, parse, polygons, shown, srgb

_IGNORED = frozenset(
    b"vn vp cstype deg bmat step p l curv curv2 surf parm trim hole scrv sp end con g s mg o bevel c_interp d_interp "
    b"lod shadow_obj trace_obj ctech stech usemap maplib call csh".split()
)
_NO_MATERIAL = (b"", b"(null)", b"None")  # what exporters write for none
_MOST_TINTED = 64  # pictures made for colours that OBJ cannot put on a picture


def _lines(data: bytes):
    """(number of its first line, content) of each statement; a backslash at the end of a line continues it."""
    started, kept = 0, b""
    for count, line in enumerate(data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"), 1):
        if line.endswith(b"\\"):
            started, kept = started or count, kept + line[:-1] + b" "
        else:
            yield started or count, kept + line if kept else line
            started, kept = 0, b""
    if kept:
        yield started, kept


def read(data: bytes, path: Path, textures: bool = True) -> Mesh:
    """OBJ: `v`, `vt`, `f`, `usemtl` and `mtllib` statements; without `textures` no other file is opened and all is white."""
    if b"\0" in data:
        raise Bad("holds binary data; it is no OBJ text", data[: data.index(b"\0")].count(b"\n") + 1)
    vertices, vertex_lines, colors, texels, texel_lines = [], [], [], [], []
    corners, corner_texels, lengths, lines, used = [], [], [], [], []
    libraries, names, current = [], {}, -1
    for line_number, line in _lines(data):
        words = line.split(b"#", 1)[0].split()
        if not words:
            continue
        kind = words[0]
        if kind == b"v":
            row = [parse(float, w, line_number, "coordinate") for w in words[1:]]
            if len(row) not in (3, 4, 6, 7):
                raise Bad(f"a vertex has {len(row)} numbers; it needs x y z (and may have w, or r g b)", line_number)
            vertices.append(row[:3])
            vertex_lines.append(line_number)
            colors.append(row[-3:] if len(row) > 4 else None)
        elif kind == b"vt":
            row = [parse(float, w, line_number, "texture coordinate") for w in words[1:]]
            if not 1 <= len(row) <= 3:
                raise Bad(f"a texture coordinate has {len(row)} numbers; it needs u v (and may have w)", line_number)
            texels.append([*row, 0.0][:2])
            texel_lines.append(line_number)
        elif kind == b"f":
            for word in words[1:]:
                place, *rest = word.split(b"/", 2)
                corners.append(_index(place, len(vertices), line_number, "vertex"))
                corner_texels.append(_index(rest[0], len(texels), line_number, "texture coordinate") if rest and rest[0] else -1)
            lengths.append(len(words) - 1)
            lines.append(line_number)
            used.append(current)
        elif kind in (b"usemtl", b"mtllib"):
            name = line.strip()[6:].strip()  # the rest of the line: names may hold spaces and #
            if kind == b"mtllib":
                libraries.append((name, line_number))
            else:
                current = -1 if name in _NO_MATERIAL else names.setdefault(name, (len(names), line_number))[0]
        elif kind not in _IGNORED:
            raise Bad(f"{shown(kind)} is no OBJ statement", line_number)
    uv, mapped = _corner_uv(texels, texel_lines, corner_texels, lengths, lines)
    used = np.array(used, dtype=np.int64)
    looks = _looks(names, libraries, set(used[mapped].tolist()), path.parent) if textures and libraries else ()
    used = np.where(used < 0, -1, 2 * used + mapped)
    every = len(vertices) > 0 and None not in colors
    return polygons(
        vertices=np.array(vertices, dtype=np.float64).reshape(-1, 3),
        lengths=np.array(lengths, dtype=np.int64),
        corners=np.array(corners, dtype=np.int64),
        colors=linear(np.array(colors, dtype=np.float64)) if every else None,
        lines=np.array(lines, dtype=np.int64),
        vertex_lines=np.array(vertex_lines, dtype=np.int64),
        first=1,
        uv=uv,
        dress=(lambda polygon: materials(used[polygon], *looks)) if looks else None,
    )


def _index(word: bytes, before: int, line: int, what: str) -> int:
    """An OBJ index, counted from 0; a negative one counts back from the latest of the `before` that were read."""
    index = parse(int, word, line, f"{what} index")
    if index == 0 or abs(index) > 2**40:
        raise Bad(f"a face names {what} {index}; OBJ counts from 1 (or back from -1)", line)
    if index < -before:
        raise Bad(f"a face counts back to {what} {index}, but only {before} come before it", line)
    return index - 1 if index > 0 else before + index


def _corner_uv(texels, texel_lines, corner_texels, lengths, lines) -> tuple[np.ndarray | None, np.ndarray]:
    """Texture coordinates of every corner (0 where a face has none; None where no face has any), and which faces have them."""
    table = np.array(texels, dtype=np.float64).reshape(-1, 2)
    if len(bad := np.flatnonzero(~np.isfinite(table).all(axis=1))):
        raise Bad(f"texture coordinate {bad[0] + 1} is {table[bad[0]].tolist()}; it must be finite", texel_lines[bad[0]])
    index, lengths = np.array(corner_texels, dtype=np.int64), np.array(lengths, dtype=np.int64)
    polygon = np.repeat(np.arange(len(lengths)), lengths)
    if len(bad := np.flatnonzero(index >= len(table))):
        raise Bad(f"a face names texture coordinate {index[bad[0]] + 1}; there are {len(table)}", lines[polygon[bad[0]]])
    given = np.bincount(polygon[index >= 0], minlength=len(lengths))
    if len(bad := np.flatnonzero((given > 0) & (given < lengths))):
        raise Bad("a face has texture coordinates at some of its corners only", lines[bad[0]])
    mapped = given > 0
    return np.concatenate([table, np.zeros((1, 2))])[index] if mapped.any() else None, mapped


# --- MTL ---


def _looks(names: dict, libraries: list, mapped: set[int], folder: Path) -> tuple[list, list[int], list[np.ndarray]]:
    """Colours and textures of the materials, two each, for faces without and with coordinates, and the pictures that are used."""
    known = {}
    for file, line in libraries:
        known = {**_read_mtl(file, line, folder), **known}
    colors, textures, pictures = [], [], Pictures()
    for name, (place, line) in names.items():
        if name not in known:
            raise Bad(f"material {shown(name)} is in none of its material files; add it, or load with textures=False", line)
        color, picture, file, named = known[name]
        texture = -1
        if picture and place in mapped:
            key = str(PurePosixPath(file.replace("\\", "/")).parent / picture.replace("\\", "/"))
            try:
                texture = pictures.number(key, f"texture {picture[:80]!r}", lambda key=key: beside(folder, key, "texture"))
            except Bad as error:
                raise Bad(f"its material file {file[:80]!r}, line {named}: {error}", line) from error
        colors += [color, color if texture < 0 else (1.0, 1.0, 1.0)]
        textures += [-1, texture]
    return colors, textures, pictures.images


def _read_mtl(file: bytes, line: int, folder: Path) -> dict[bytes, tuple]:
    """Materials of a library, or of several whose names an mtllib statement lists: (Kd, map_Kd, file, line of map_Kd)."""
    several = [file] if file.count(b".mtl") < 2 else file.split()
    found: dict[bytes, list] = {}
    for name in (f.decode("utf-8", "replace") for f in several):
        text = beside(folder, name, "material file", line)
        try:
            _parse_mtl(text, name, found)
        except Bad as error:
            raise Bad(f"its material file {name[:80]!r}, line {error.line}: {error}", line) from error
    return {material: tuple(look) for material, look in found.items()}


def _parse_mtl(text: bytes, name: str, found: dict[bytes, list]) -> None:
    look: list = [(1.0, 1.0, 1.0), "", name, 0]  # statements before the first newmtl change nothing
    for count, row in _lines(text):
        words = row.split()
        if b"\0" in row:
            raise Bad("holds binary data; it is no MTL text", count)
        if words[:1] == [b"newmtl"]:
            look = found[row.strip()[6:].strip()] = [(1.0, 1.0, 1.0), "", name, 0]
        elif words[:1] == [b"Kd"] and words[1:2] not in ([b"spectral"], [b"xyz"]):
            color = [parse(float, w, count, "Kd") for w in words[1:]]
            if len(color) not in (1, 3) or not np.isfinite(color).all():
                raise Bad("Kd needs three finite numbers", count)
            look[0] = tuple(color * (3 // len(color)))
        elif words[:1] == [b"map_Kd"]:
            look[1], look[3] = _picture_name(row.strip()[6:].strip(), count), count


_OPTION = re.compile(rb"-(blendu|blendv|cc|clamp|boost|texres|bm|imfchan|type|mm|[ost])((?:\s+-?[\d.][\d.eE+-]*){1,3}|\s+\S+)\s+")


def _picture_name(rest: bytes, line: int) -> str:
    """The file name of a map_Kd statement, after its options; those that would move the picture are refused."""
    while option := _OPTION.match(rest):
        kind, values = option[1], option[2].split()
        if kind in (b"o", b"s", b"t") and any(parse(float, v, line, "option") != (kind == b"s") for v in values):
            raise Bad(f"option {shown(option[0].strip())} moves the picture, which is not read here; put it into the coordinates", line)
        rest = rest[option.end() :]
    return rest.decode("utf-8", "replace")


# --- writing ---


def write(mesh: Mesh, path: Path) -> dict[Path, bytes]:
    """The files of a mesh as OBJ: pictures and materials beside it where it has any, itself last."""
    rows = arrays(mesh)
    looks, look = groups(rows)
    files, stem = {}, re.sub(r"[^\w.-]", "_", path.stem)
    digits = "%.17g" if rows["vertices"].dtype == np.float64 else "%.9g"
    points, row = rows["vertices"], f"v {digits} {digits} {digits}\n"
    if "colors" in rows:
        points, row = np.concatenate([points, srgb(rows["colors"])], axis=1), row[:-1] + " %.6f %.6f %.6f\n"
    text = [f"mtllib {stem}.mtl\n"] if looks is not None else []
    text.append(row * len(points) % tuple(points.reshape(-1).tolist()))
    corners, face = rows["faces"][..., None] + 1, "f %d %d %d\n"
    if "uv" in rows:
        texels, index = np.unique(rows["uv"].reshape(-1, 2), axis=0, return_inverse=True)
        text.append(f"vt {digits} {digits}\n" * len(texels) % tuple(texels.reshape(-1).tolist()))
        corners, face = np.concatenate([corners, index.reshape(-1, 3, 1) + 1], axis=2), "f %d/%d %d/%d %d/%d\n"
    starts = [0] if looks is None else [0, *(np.flatnonzero(np.diff(look)) + 1)]
    for start, end in zip(starts, [*starts[1:], len(corners)]):
        if looks is not None:
            text.append(f"usemtl m{look[start]}\n")
        text.append(face * (end - start) % tuple(corners[start:end].reshape(-1).tolist()))
    if looks is not None:
        files = _write_materials(looks, rows["textures"], stem, path.parent)
    return {**files, path: "".join(text).encode()}


def _write_materials(looks: np.ndarray, textures: list[np.ndarray], stem: str, folder: Path) -> dict[Path, bytes]:
    """MTL and PNG files. A picture stands in place of Kd, so that a colour on a picture needs a picture of its own."""
    files, text = {}, []
    tinted = [k for k, row in enumerate(looks) if row[0] >= 0 and (row[1:] != 1).any()]
    if len(tinted) > _MOST_TINTED:
        raise InputError(f"mesh has {len(tinted)} colours on its textures, which would be as many pictures; save it as GLB")
    for k, (texture, *color) in enumerate(looks.tolist()):
        text.append(f"newmtl m{k}\n")
        if texture < 0:
            text.append("Kd {:.9g} {:.9g} {:.9g}\n".format(*color))
            continue
        name = f"{stem}_{int(texture)}{f'_{k}' if k in tinted else ''}.png"
        if folder / name not in files:
            files[folder / name] = encode(textures[int(texture)] * (np.array(color) if k in tinted else 1))
        text.append(f"Kd 1 1 1\nmap_Kd {name}\n")
    return {**files, folder / f"{stem}.mtl": "".join(text).encode()}
