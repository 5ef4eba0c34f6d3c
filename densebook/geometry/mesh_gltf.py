"""GLB and glTF 2.0, read and written: https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html.

trimesh reads the arrays and places the nodes. It gets a cleaned document, since it lets negative indices, shared nodes and
missing data pass, and it gets the buffers as bytes, so it opens no file. Materials and pictures are read here: trimesh
would leave out what it cannot open, read one set of texture coordinates only, and round base colours to 8 bits.
"""

from __future__ import annotations

import base64
import io
import json
import math
import struct
import urllib.parse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from densebook.core.errors import InputError

from .mesh import Mesh, merge_duplicates
from .mesh_common import Bad, Pictures, arrays, beside, encode, groups, materials, tensors

_MOST = 50_000_000  # vertices or triangles that a glTF scene may repeat its meshes into
_HARMLESS = ("KHR_mesh_quantization", "KHR_materials", "KHR_texture", "EXT_texture", "KHR_lights")


def read(data: bytes, path: Path, textures: bool = True) -> Mesh:
    """GLB or glTF: the triangles of all nodes of the scene, moved to their places, joined; equal vertices of a node merged.

    Without `textures` materials are left out, and no picture is opened.
    """
    from trimesh.exchange.gltf import load_gltf

    text, binary = (data, b"") if path.suffix.lower() == ".gltf" else _chunks(data)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Bad(f"its JSON cannot be read ({type(error).__name__}: {str(error)[:80]})") from None
    try:
        if not isinstance(document, dict) or not str(document.get("asset", {}).get("version", "")).startswith("2."):
            raise Bad("its JSON is no glTF 2 document")
        if wanted := [name for name in document.get("extensionsRequired", []) if not name.startswith(_HARMLESS)]:
            raise Bad(f"needs the glTF extension {wanted[0]}, which is not read here; export it without")
        buffers = _buffers(document, binary, path)
        looks = _Looks(document, buffers, path.parent) if textures else None
        plain = json.dumps(_plain(document, buffers, looks)).encode()
        return _scene(load_gltf(io.BytesIO(plain), resolver=buffers, skip_materials=True), looks)
    except (Bad, InputError):
        raise
    except Exception as error:  # whatever plain Python or trimesh raises over a damaged document
        raise Bad(f"its JSON is no valid glTF ({type(error).__name__}: {str(error)[:80]}); export it again") from error


def _chunks(data: bytes) -> tuple[bytes, bytes]:
    """JSON and binary content of a GLB file, which come first and second (4.4)."""
    if data[:4] != b"glTF" or len(data) < 20:
        raise Bad("does not begin like a GLB file (bytes 'glTF'), or is cut off there")
    version, length, size, kind = struct.unpack_from("<III4s", data, 4)
    if version != 2:
        raise Bad(f"is GLB version {version}; only 2 is read here")
    if length != len(data):
        raise Bad(f"says it has {length} bytes but has {len(data)}; it is cut off or damaged")
    if kind != b"JSON" or 20 + size > length:
        raise Bad("has no whole JSON chunk; it is damaged")
    return data[20 : 20 + size], data[28 + size :]


def _buffers(document: dict, binary: bytes, path: Path) -> dict[str, bytes]:
    """Each buffer by its number: the binary chunk, base64 in the JSON, or a file in the folder of `path` or below it."""
    buffers = {}
    for index, buffer in enumerate(document.get("buffers", [])):
        uri = buffer.get("uri")
        content = (b"" if index else binary) if uri is None else _content(uri, path.parent, "buffer")
        if not 0 <= buffer["byteLength"] <= len(content):
            raise Bad(f"buffer {index} says it has {buffer['byteLength']} bytes, not {len(content)}; it is cut off or damaged")
        buffers[str(index)] = content
    return buffers


def _content(uri: str, folder: Path, what: str) -> bytes:
    """What a URI names: base64 in itself, or a file in `folder` or below it."""
    if uri.startswith("data:"):
        return base64.b64decode(uri.partition(",")[2], validate=True)
    name = urllib.parse.unquote(uri)
    if "\\" in name or urllib.parse.urlsplit(uri).scheme:
        raise Bad(f"its {what} {name[:80]!r} lies outside the file's folder; it is not opened")
    return beside(folder, name, what)


def _plain(document: dict, buffers: dict[str, bytes], looks: _Looks | None) -> dict:
    """Only what makes triangles, checked where trimesh would leave something out without a word."""

    def only(source: dict, keys: str) -> dict:
        return {key: source[key] for key in keys.split() if key in source}

    accessors, meshes, used = document.get("accessors", []), [], []
    for mesh in document.get("meshes", []):
        drawn = [p for p in mesh["primitives"] if p.get("mode", 4) in (4, 5, 6)]  # no points, no lines
        kept = [only(p, "indices mode") for p in drawn]
        for primitive, source in zip(kept, drawn):
            given, material = source["attributes"], None if looks is None else looks.number(source.get("material"))
            attributes = primitive["attributes"] = only(given, "POSITION COLOR_0")
            texels = 0 if material is None else looks.found[material].texels
            if f"TEXCOORD_{texels}" in given:
                attributes["_UV"] = given[f"TEXCOORD_{texels}"]
            elif material is not None and looks.found[material].texture >= 0:
                raise Bad(f"has a texture but no TEXCOORD_{texels} to put it on; load with textures=False")
            place = accessors[attributes["POSITION"]]
            for name, what in (("COLOR_0", "colours"), ("_UV", "texture coordinates")):
                if name in attributes and accessors[attributes[name]]["count"] != place["count"]:
                    raise Bad(f"has {accessors[attributes[name]]['count']} {what} for {place['count']} vertices; it is damaged")
            used += [*attributes.values(), *only(primitive, "indices").values()]
            if place.get("normalized"):  # trimesh takes the integers as they are; `_scene` scales them
                attributes["_SCALED"] = attributes["POSITION"]
            if primitive.get("mode") == 6:  # trimesh knows no fans: it reads a strip, which `_scene` turns into one
                primitive["mode"], attributes["_FAN"] = 5, attributes["POSITION"]
            if material is not None:
                attributes[f"_MATERIAL{material}"] = attributes["POSITION"]
        meshes.append({"primitives": kept})
    if any("sparse" in accessors[a] or "bufferView" not in accessors[a] for a in used):
        raise Bad("is sparse or compressed, which is not read here; export it plainly")
    nodes = [only(n, "children mesh matrix translation rotation scale") for n in document.get("nodes", [])]
    for node in nodes:
        node["children"] = node.get("children", [])[::-1]  # trimesh takes the last one first
        if "mesh" in node and not meshes[node["mesh"]]["primitives"]:
            del node["mesh"]  # or trimesh leaves its children out
    children = [child for node in nodes for child in node["children"]]
    orphans = {"nodes": sorted({*range(len(nodes))} - {*children})}
    roots = document.get("scenes", [orphans])[document.get("scene", 0)].get("nodes", [])
    if len({*roots, *children}) < len(roots) + len(children):
        raise Bad("a node has two parents or is part of a loop; it is damaged")
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
        raise Bad("a buffer view reaches past the end of its buffer; it is cut off or damaged")
    if sum(v["byteLength"] for v in plain["bufferViews"]) > 16 * sum(map(len, buffers.values())):
        raise Bad("reads the same bytes over and over; simplify it")  # trimesh copies each
    if sum(accessors[a]["count"] for a in used) > _MOST:
        raise Bad(f"has more than {_MOST:,} vertices and corners, or reaches past the end of its buffers; simplify it")
    return plain


def _whole(value, key: str = "") -> None:
    """Numbers must be whole and not negative (to Python, -1 is the last), but for those that place a node."""
    if isinstance(value, (dict, list)):
        for name, inner in value.items() if isinstance(value, dict) else ((key, v) for v in value):
            _whole(inner, name)
    elif key not in ("uri", "type", "matrix", "translation", "rotation", "scale") and not (type(value) is int and value >= 0):
        raise Bad(f"its {key} {str(value)[:24]!r} is negative or no whole number; it is damaged")


def _scene(found: dict, looks: _Looks | None) -> Mesh:
    """One mesh of what trimesh read; places that mirror turn the faces round (glTF 3.7.4)."""
    places, parts = {found["base_frame"]: np.eye(4)}, []
    for edge in found["graph"]:
        place = places[edge["frame_to"]] = places[edge["frame_from"]] @ edge["matrix"]
        if "geometry" in edge:
            node = int(edge["frame_to"].split("_")[0])  # "7_a1b2c3" is a primitive of node 7
            parts.append((found["geometry"][edge["geometry"]], place, node))
    if sum(len(part["vertices"]) + len(part["faces"]) for part, _, _ in parts) > _MOST:
        raise Bad(f"repeats its meshes into more than {_MOST:,} vertices and triangles; simplify it")
    table = {n: [np.zeros((0, k))] for n, k in (("vertices", 3), ("faces", 3), ("colors", 3), ("uv", 2), ("nodes", 1), ("material", 1))}
    base = 0
    for part, place, node in parts:
        points, corners, tints, marks = part["vertices"], part["faces"], part.get("vertex_colors"), part.get("vertex_attributes", {})
        if corners.dtype.kind not in "ui" or points.shape[1:] != (3,):
            raise Bad("has indices that are not whole or positions that are not VEC3; it is damaged")
        if "_SCALED" in marks:
            points = _fraction(points)
        if "_FAN" in marks and len(corners):  # a fan; a strip has every second triangle turned
            last = np.where(np.arange(len(corners)) % 2, corners[:, 0], corners[:, 2])
            corners = np.stack([np.full(len(corners), corners[0, 0]), corners[:, 1], last], axis=1)
        texels = _fraction(marks["_UV"]) if "_UV" in marks else np.zeros((len(points), 2))
        if texels.shape != (len(points), 2):
            raise Bad("has texture coordinates that are not VEC2; it is damaged")
        material = next((int(name[9:]) for name in marks if name.startswith("_MATERIAL")), -1)
        table["vertices"].append(points @ place[:3, :3].T + place[:3, 3])
        table["faces"].append((corners[:, ::-1] if np.linalg.det(place[:3, :3]) < 0 else corners).astype(np.int64) + base)
        table["colors"].append(np.ones(points.shape) if tints is None else _fraction(tints)[:, :3])
        table["uv"].append(texels if material < 0 else looks.found[material].moved(texels))
        table["nodes"].append(np.full((len(points), 1), node))
        table["material"].append(np.full((len(corners), 1), material))
        base += len(points)
    rows = {n: np.concatenate(r) for n, r in table.items()}
    faces, number = rows["faces"].astype(np.int64), rows["material"][:, 0].astype(np.int64)
    more = {} if looks is None else materials(number, *looks.rows())
    if any("_UV" in part.get("vertex_attributes", {}) for part, _, _ in parts):
        if not ((faces >= 0) & (faces < base)).all():
            tensors(rows["vertices"], faces)  # raises: names the face
        more["uv"] = (rows["uv"] * [1, -1] + [0, 1])[faces]  # v runs down in glTF
    tints, tint = np.unique(rows["colors"], axis=0, return_inverse=True)
    keys = np.concatenate([tint.reshape(-1, 1), rows["nodes"], rows["nodes"]], axis=1)  # in place of colours: seams close within a node
    merged = merge_duplicates(tensors(rows["vertices"], faces, keys, **more))
    coloured = any("vertex_colors" in part for part, _, _ in parts)
    return replace(merged, colors=torch.from_numpy(tints)[merged.colors[:, 0].long()] if coloured else None)


def _fraction(values: np.ndarray) -> np.ndarray:
    """Integers that stand for fractions, as floats from -1 to 1; floats as they are (3.11)."""
    return values if values.dtype.kind == "f" else np.maximum(values / np.iinfo(values.dtype).max, -1.0)


# --- materials: 3.9, and KHR_texture_transform ---


@dataclass
class _Look:
    """A material: colour, picture (-1: none), which texture coordinates it takes, and how it moves them."""

    color: tuple[float, float, float]
    texture: int
    texels: int
    offset: tuple[float, float]
    rotation: float
    scale: tuple[float, float]

    def moved(self, uv: np.ndarray) -> np.ndarray:
        cos, sin = math.cos(self.rotation), math.sin(self.rotation)
        return uv * self.scale @ np.array([[cos, -sin], [sin, cos]]) + self.offset


class _Looks:
    """The materials that primitives name, each read once."""

    def __init__(self, document: dict, buffers: dict[str, bytes], folder: Path):
        self.document, self.buffers, self.folder = document, buffers, folder
        self.found: list[_Look] = []
        self.numbers: dict[int, int] = {}
        self.pictures = Pictures()

    def number(self, index: int | None) -> int | None:
        """The place in `found` of a material of the document; None for none."""
        if index is None:
            return None
        if index not in self.numbers:
            self.found.append(self._look(_item(self.document, "materials", index).get("pbrMetallicRoughness", {})))
            self.numbers[index] = len(self.found) - 1
        return self.numbers[index]

    def _look(self, base: dict) -> _Look:
        color = _numbers(base.get("baseColorFactor", [1, 1, 1, 1]), 4, "baseColorFactor")
        if "baseColorTexture" not in base:
            return _Look(color[:3], -1, 0, (0, 0), 0.0, (1, 1))
        info = base["baseColorTexture"]
        move = info.get("extensions", {}).get("KHR_texture_transform", {})
        texels = move.get("texCoord", info.get("texCoord", 0))
        if type(texels) is not int or texels < 0:
            raise Bad(f"its texCoord {str(texels)[:24]!r} is negative or no whole number; it is damaged")
        (rotation,) = _numbers([move.get("rotation", 0)], 1, "rotation")
        offset, scale = (_numbers(move.get(n, d), 2, n) for n, d in (("offset", [0, 0]), ("scale", [1, 1])))
        return _Look(color[:3], self._texture(info["index"]), texels, offset, rotation, scale)

    def _texture(self, index: int) -> int:
        source = _item(self.document, "textures", index).get("source")
        if source is None:
            raise Bad("has a texture that is neither PNG nor JPEG; load with textures=False")
        return self.pictures.number(source, f"image {str(source)[:24]}", lambda: self._image(_item(self.document, "images", source)))

    def _image(self, image: dict) -> bytes:
        if "uri" in image:
            return _content(image["uri"], self.folder, "image")
        view = _item(self.document, "bufferViews", image["bufferView"])
        _whole(view)
        start, content = view.get("byteOffset", 0), self.buffers[str(view["buffer"])]
        return content[start : start + view["byteLength"]]

    def rows(self) -> tuple[list, list[int], list[np.ndarray]]:
        return [f.color for f in self.found], [f.texture for f in self.found], self.pictures.images


def _item(document: dict, key: str, index: int) -> dict:
    """`document[key][index]`, where a negative index is none."""
    items = document.get(key, [])
    if type(index) is not int or not 0 <= index < len(items):
        raise Bad(f"names {key}[{str(index)[:24]}], which is not there; it is damaged")
    return items[index]


def _numbers(values: list, count: int, what: str) -> tuple[float, ...]:
    """`count` finite numbers."""
    if len(values) != count or not all(type(v) in (int, float) and math.isfinite(v) for v in values):
        raise Bad(f"its {what} {str(values)[:40]!r} is not {count} finite numbers; it is damaged")
    return tuple(float(v) for v in values)


# --- writing ---


def write(mesh: Mesh, path: Path) -> dict[Path, bytes]:
    """GLB of one node, with a primitive for each material: the faces of one material come together."""
    rows = arrays(mesh)
    if (np.abs(rows["vertices"]) > np.finfo(np.float32).max).any():
        raise InputError("mesh has coordinates beyond float32, which is all that GLB holds; save it as PLY or OBJ")
    looks, look = groups(rows)
    binary, document = bytearray(), {"asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0}]}
    document |= {"accessors": [], "bufferViews": []}

    def view(content: bytes) -> int:
        document["bufferViews"].append({"buffer": 0, "byteOffset": len(binary), "byteLength": len(content)})
        binary.extend(content + b"\0" * (-len(content) % 4))
        return len(document["bufferViews"]) - 1

    def accessor(values: np.ndarray, kind: str) -> int:
        entry = {"bufferView": view(values.tobytes()), "componentType": 5126 if values.dtype.kind == "f" else 5125}
        document["accessors"].append(entry | {"count": len(values), "type": kind})
        if kind == "VEC3":
            document["accessors"][-1] |= {"min": values.min(0).tolist(), "max": values.max(0).tolist()}
        return len(document["accessors"]) - 1

    primitives = []
    for k in range(look.max() + 1):
        here, corners = look == k, rows["faces"][look == k]
        point, uv = np.arange(len(mesh.vertices)), None
        if "uv" in rows:  # a vertex for each pair of vertex and texture coordinates
            pairs = np.concatenate([corners.reshape(-1, 1), rows["uv"][here].reshape(-1, 2).astype(np.float64)], axis=1)
            pairs, corners = np.unique(pairs, axis=0, return_inverse=True)
            point, uv = pairs[:, 0].astype(np.int64), pairs[:, 1:] * [1, -1] + [0, 1]  # v runs down in glTF
        elif look.any():
            point, corners = np.unique(corners, return_inverse=True)
        attributes = {"POSITION": accessor(rows["vertices"][point].astype("<f4"), "VEC3")}
        if uv is not None:
            attributes["TEXCOORD_0"] = accessor(uv.astype("<f4"), "VEC2")
        if "colors" in rows:
            attributes["COLOR_0"] = accessor(rows["colors"][point].clip(0, 1).astype("<f4"), "VEC3")
        primitives.append({"attributes": attributes, "indices": accessor(corners.reshape(-1).astype("<u4"), "SCALAR")})
        primitives[-1] |= {} if looks is None else {"material": k}
    document["meshes"] = [{"primitives": primitives}]
    if looks is not None:
        document["materials"] = [_material(int(texture), color) for texture, *color in looks.tolist()]
    if rows["textures"]:
        document["images"] = [{"bufferView": view(encode(t)), "mimeType": "image/png"} for t in rows["textures"]]
        document["textures"] = [{"source": k} for k in range(len(rows["textures"]))]
    document["buffers"] = [{"byteLength": len(binary)}]
    text = json.dumps(document, allow_nan=False).encode()
    text += b" " * (-len(text) % 4)
    body = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + bytes(binary)
    return {path: struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body}


def _material(texture: int, color: list[float]) -> dict:
    """A rough material of a colour within [0, 1] and, from 0 on, a texture."""
    base: dict = {"baseColorFactor": [*np.clip(color, 0, 1).tolist(), 1.0], "metallicFactor": 0.0}
    if texture >= 0:
        base["baseColorTexture"] = {"index": texture}
    return {"pbrMetallicRoughness": base, "doubleSided": True}
