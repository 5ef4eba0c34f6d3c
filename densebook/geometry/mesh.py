"""Triangle meshes: the value every chapter passes on, what is measured on it, and its files (OBJ, PLY, GLB, STL)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from densebook.core.errors import InputError


_PER_VERTEX = ("colors", "normals")
_PER_FACE = ("uv", "face_textures", "face_colors", "objects")
_NUMBERS = ("faces", "face_textures", "objects")  # the rest is floating point
_TAILS = {"uv": (3, 2), "face_textures": (), "objects": ()}  # shape of a row where it is not (3,)


@dataclass(frozen=True, eq=False)
class Mesh:
    """A triangle mesh; faces are counter-clockwise seen from outside, so normals point outward.

    A surface point's albedo is the product of what is there: its interpolated vertex colour, its face's colour, and its
    face's texture at its interpolated uv. Texture coordinates belong to face corners, so a seam needs no second vertex.
    Arrays and lists become tensors, faces int64. A mesh without vertices or faces is allowed.
    Raises InputError, naming the argument and the first bad row, for wrong shapes, types or devices, for values that
    are not finite and for indices of a vertex or texture that is not there.
    """

    vertices: Float[Tensor, "V 3"]  # metres, unless a file says otherwise
    faces: Int[Tensor, "F 3"]
    colors: Float[Tensor, "V 3"] | None = None  # linear RGB in [0, 1], at vertices
    normals: Float[Tensor, "V 3"] | None = None  # unit, at vertices
    uv: Float[Tensor, "F 3 2"] | None = None  # at face corners: u right, v up; outside [0, 1] the texture repeats
    textures: tuple[Float[Tensor, "_ _ 3"], ...] | None = None  # linear RGB, row 0 is the top (v = 1)
    face_textures: Int[Tensor, "F"] | None = None  # index into textures, -1: none; None: all have textures[0]
    face_colors: Float[Tensor, "F 3"] | None = None  # linear RGB of each face's material; None: white
    objects: Int[Tensor, "F"] | None = None  # object id of each face, not negative; None: all 0

    def __post_init__(self) -> None:
        vertices = _finite("vertices", _rows("vertices", self.vertices))
        faces = _indices(_rows("faces", self.faces), len(vertices))
        _same_device("faces", faces, vertices)
        checked = {"vertices": vertices, "faces": faces, "textures": _images(self.textures, vertices)}
        for name in (*_PER_VERTEX, *_PER_FACE):
            if (value := getattr(self, name)) is None:
                continue
            rows = _rows(name, value, _TAILS.get(name, (3,)))
            count, some, one = (len(vertices), "vertices", "vertex") if name in _PER_VERTEX else (len(faces), "faces", "face")
            if len(rows) != count:
                raise InputError(f"{name} has {len(rows)} rows for {count} {some}; give one row a {one}")
            _same_device(name, rows, vertices)
            checked[name] = rows if name in _NUMBERS else _finite(name, rows)
        if checked["textures"] and self.uv is None:
            raise InputError("textures are there but uv is None; give uv (faces, 3, 2), or leave the textures out")
        for name, low, high in (("face_textures", -1, len(checked["textures"] or ())), ("objects", 0, 2**31)):
            if name in checked:
                checked[name] = _whole(name, checked[name], low, high)
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        there = {n: f", {n}" for n in (*_PER_VERTEX, "uv", "textures", "face_colors", "objects") if getattr(self, n) is not None}
        if self.textures:
            there["textures"] = f", {len(self.textures)} texture{'s' * (len(self.textures) > 1)}"
        kind = f"{str(self.vertices.dtype).removeprefix('torch.')}, {self.vertices.device}"
        return f"Mesh({len(self.vertices)} vertices, {len(self.faces)} faces{''.join(there.values())}, {kind})"

    def to(self, *arguments, **keywords) -> Mesh:
        """The mesh on another device or in another float type, as `Tensor.to` takes them (indices stay int64)."""
        try:
            floats = {n: getattr(self, n) for n in ("vertices", *_PER_VERTEX, "uv", "face_colors")}
            moved = {n: None if t is None else t.to(*arguments, **keywords) for n, t in floats.items()}
            device = moved["vertices"].device
            for name in _NUMBERS:
                moved[name] = None if (t := getattr(self, name)) is None else t.to(device)
            return replace(self, textures=self.textures and tuple(t.to(*arguments, **keywords) for t in self.textures), **moved)
        except (RuntimeError, AssertionError, TypeError) as error:
            raise InputError(
                f"mesh.to{arguments or keywords}: {str(error).splitlines()[0]}; give a device or float type of this torch"
            ) from error

    @property
    def triangles(self) -> Float[Tensor, "F 3 3"]:
        """The three corners of every face."""
        return self.vertices[self.faces]


def _tensor(name: str, value, want: str) -> Tensor:
    if isinstance(value, Tensor):
        return value
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name} is a {type(value).__name__} that torch makes no tensor of; give {want}") from error


def _rows(name: str, value, tail: tuple[int, ...] = (3,)) -> Tensor:
    """`value` as a tensor of rows of shape `tail`; nothing at all counts as zero rows."""
    rows = _tensor(name, value, "rows of 3 numbers" if tail == (3,) else f"shape {('rows', *tail)}".replace("'", ""))
    if rows.shape == (0,) and not isinstance(value, Tensor):
        rows = rows.reshape(0, *tail).to(torch.int64 if name in _NUMBERS else rows.dtype)
    if rows.shape[1:] != tail or rows.ndim == 0:
        raise InputError(f"{name} has shape {tuple(rows.shape)}; it must be (rows{''.join(f', {n}' for n in tail) or ','})")
    return rows


def _finite(name: str, rows: Tensor) -> Tensor:
    """`rows`, known to be floating point and finite."""
    if not rows.is_floating_point():
        raise InputError(f"{name} is {rows.dtype}; give floating-point numbers, e.g. {name}.float()")
    if rows.numel() and not bool(torch.isfinite(rows.detach().sum())):  # a sum is cheap; only it may overflow
        good = torch.isfinite(rows.detach()).reshape(len(rows), -1).all(dim=1)
        if not bool(good.all()):
            first = int((~good).nonzero()[0])
            said = f" = {rows[first].tolist()}" if rows[first].numel() <= 6 else ""
            raise InputError(f"{name}[{first}]{said} is not finite; remove or repair such rows first")
    return rows


def _images(textures, vertices: Tensor) -> tuple[Tensor, ...] | None:
    """Textures as a tuple of finite (h, w, 3) tensors; no texture at all is None."""
    if textures is None:
        return None
    if not isinstance(textures, (tuple, list)):
        raise InputError(f"textures is a {type(textures).__name__}; give a tuple of images (h, w, 3)")
    images = []
    for k, value in enumerate(textures):
        image = _tensor(f"textures[{k}]", value, "an image (h, w, 3)")
        if image.ndim != 3 or image.shape[2] != 3 or not image.numel():
            raise InputError(f"textures[{k}] has shape {tuple(image.shape)}; it must be (h, w, 3), with h and w at least 1")
        _same_device(f"textures[{k}]", image, vertices)
        images.append(_finite(f"textures[{k}]", image))
    return tuple(images) or None


def _integers(name: str, rows: Tensor, want: str) -> Tensor:
    if rows.is_floating_point() or rows.is_complex() or rows.dtype == torch.bool:
        raise InputError(f"{name} is {rows.dtype}; give {want}, e.g. {name}.long()")
    return rows.to(torch.int64)


def _whole(name: str, rows: Tensor, low: int, high: int) -> Int[Tensor, "F"]:
    """`rows` as int64, every one from `low` to below `high`."""
    rows = _integers(name, rows, "integers")
    if len(bad := ((rows < low) | (rows >= high)).nonzero()):
        first = int(bad[0])
        raise InputError(f"{name}[{first}] = {int(rows[first])} is out of range; it runs from {low} to {high - 1}")
    return rows


def _indices(faces: Tensor, count: int) -> Int[Tensor, "F 3"]:
    """`faces` as int64, every index known to be one of `count` vertices."""
    faces = _integers("faces", faces, "integer vertex indices")
    if len(faces):
        low, high = faces.aminmax()
        if int(low) < 0 or int(high) >= count:
            first = int(((faces < 0) | (faces >= count)).any(dim=1).nonzero()[0])
            raise InputError(
                f"faces[{first}] = {faces[first].tolist()} names a vertex that is not there; indices run from 0 to {count - 1}"
            )
    return faces


def _same_device(name: str, rows: Tensor, vertices: Tensor) -> None:
    if rows.device != vertices.device:
        raise InputError(f"{name} is on {rows.device} but vertices on {vertices.device}; put both on one device")


def _length(vectors: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 1"]:
    """Lengths whose gradient at a zero vector is zero, not NaN."""
    squares = vectors.square().sum(dim=-1, keepdim=True)
    positive = squares > 0
    return torch.where(positive, squares.where(positive, torch.ones_like(squares)).sqrt(), torch.zeros_like(squares))


def _unit(vectors: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """Unit vectors; a zero vector stays zero. Scaled by the largest component first, so tiny triangles do not underflow."""
    scale = vectors.detach().abs().amax(dim=-1, keepdim=True)
    vectors = vectors / scale.where(scale > 0, torch.ones_like(scale))
    length = _length(vectors)
    return vectors / length.where(length > 0, torch.ones_like(length))


def _double_areas(mesh: Mesh) -> Float[Tensor, "F 3"]:
    """Cross products of two edges: outward, of length twice the area."""
    a, b, c = mesh.triangles.unbind(dim=1)
    return torch.linalg.cross(b - a, c - a)


def face_normals(mesh: Mesh) -> Float[Tensor, "F 3"]:
    """Unit outward normal of each face; zero for a face without area. Differentiable in the vertices."""
    return _unit(_double_areas(mesh))


def vertex_normals(mesh: Mesh) -> Float[Tensor, "V 3"]:
    """Unit normal at each vertex: face normals weighted by their angle there (Thuermer and Wuethrich 1998).

    The weights make the normal independent of how a flat part is cut into triangles. Zero at a vertex without faces.
    """
    corners = mesh.triangles
    ahead, behind = corners.roll(-1, dims=1) - corners, corners.roll(1, dims=1) - corners
    angles = torch.atan2(_length(torch.linalg.cross(ahead, behind)), (ahead * behind).sum(dim=-1, keepdim=True))
    weighted = angles * face_normals(mesh)[:, None]
    return _unit(torch.zeros_like(mesh.vertices).index_add(0, mesh.faces.reshape(-1), weighted.reshape(-1, 3)))


def bounds(mesh: Mesh) -> tuple[Float[Tensor, "3"], Float[Tensor, "3"]]:
    """Lowest and highest corner of the axis-aligned box around all vertices; raises InputError when there are none."""
    if not len(mesh.vertices):
        raise InputError("mesh has no vertices, so it has no bounds; give one that is not empty")
    return mesh.vertices.amin(dim=0), mesh.vertices.amax(dim=0)


def area(mesh: Mesh) -> Float[Tensor, ""]:
    """Surface area in square metres."""
    return 0.5 * _length(_double_areas(mesh)).sum()


def volume(mesh: Mesh) -> Float[Tensor, ""]:
    """Enclosed volume in cubic metres, by the divergence theorem; meaningful for a watertight mesh, negative when inside out."""
    if not len(mesh.faces):
        return mesh.vertices.new_zeros(())
    centre = mesh.vertices.detach().mean(dim=0)  # any point will do; a near one keeps the digits
    return (mesh.triangles[:, 0] - centre).mul(_double_areas(mesh)).sum() / 6


def is_watertight(mesh: Mesh) -> bool:
    """Whether every edge has exactly two faces that run along it in opposite directions; an empty mesh is not watertight."""
    faces = mesh.faces
    start, end = faces.reshape(-1), faces.roll(-1, dims=1).reshape(-1)
    if not len(faces) or bool((start == end).any()):
        return False
    edge = torch.minimum(start, end) * len(mesh.vertices) + torch.maximum(start, end)
    edge, order = edge.sort()
    if len(edge) % 2:
        return False
    pairs, forward = edge.reshape(-1, 2), (start < end)[order].reshape(-1, 2)
    twice = (pairs[:, 0] == pairs[:, 1]).all() and (pairs[1:, 0] != pairs[:-1, 0]).all()
    return bool(twice and (forward[:, 0] != forward[:, 1]).all())


def merge_duplicates(mesh: Mesh, tolerance: float = 0.0) -> Mesh:
    """Merge vertices at the same place and of the same colour, and drop faces that lose a corner.

    Corners keep their texture coordinates, faces their textures, colours and objects.
    `tolerance` in metres: 0 asks for equal coordinates, otherwise vertices in one cell of that size are merged (two that
    are near but in different cells stay apart). The first of equal vertices, in their order, is kept.
    """
    if not (tolerance >= 0 and math.isfinite(tolerance)):
        raise InputError(f"tolerance {tolerance} is not a distance; give 0 or a small length in metres")
    keys = mesh.vertices.detach() if tolerance == 0 else (mesh.vertices.detach() / tolerance).round()
    if mesh.colors is not None:
        keys = torch.cat([keys, mesh.colors.detach().to(keys)], dim=1)
    group = torch.zeros(len(keys), dtype=torch.int64, device=keys.device)
    for column in keys.unbind(dim=1):  # one-dimensional sorts: far cheaper than unique rows
        values, index = torch.unique(column, return_inverse=True)
        group = torch.unique(group * len(values) + index, return_inverse=True)[1]
    here = torch.arange(len(keys), device=keys.device)
    first = torch.full_like(here, len(keys)).scatter_reduce(0, group, here, "amin")[group]
    kept = first == here
    faces = (kept.cumsum(0) - 1)[first[mesh.faces]]
    whole = (faces != faces.roll(-1, dims=1)).all(dim=1)
    extras = {n: t[kept] for n in _PER_VERTEX if (t := getattr(mesh, n)) is not None}
    extras |= {n: t[whole] for n in _PER_FACE if (t := getattr(mesh, n)) is not None}
    return replace(mesh, vertices=mesh.vertices[kept], faces=faces[whole], **extras)


def join(meshes: Sequence[Mesh]) -> Mesh:
    """All meshes in one, in their order; `objects` becomes the index of the mesh that a face came from.

    What only some of them have is filled in where it is missing: white colours, computed normals, uv of 0, no texture.
    A texture that several share (the same tensor) is kept once. Raises InputError for no mesh at all and for meshes of
    different float types or devices.
    """
    meshes = list(meshes)
    if not meshes or not all(isinstance(m, Mesh) for m in meshes):
        raise InputError("meshes is no list of Mesh with at least one in it; give e.g. [a, b]")
    like = meshes[0].vertices
    for k, m in enumerate(meshes):
        if (m.vertices.dtype, m.vertices.device) != (like.dtype, like.device):
            raise InputError(f"meshes[{k}] is {m.vertices.dtype} on {m.vertices.device}, meshes[0] {like.dtype} on {like.device}; use .to")
    fill = {
        "colors": lambda m: torch.ones_like(m.vertices),
        "normals": vertex_normals,
        "uv": lambda m: like.new_zeros(len(m.faces), 3, 2),
        "face_colors": lambda m: like.new_ones(len(m.faces), 3),
    }
    there = [n for n in fill if any(getattr(m, n) is not None for m in meshes)]
    fields = {n: [fill[n](m) if (t := getattr(m, n)) is None else t for m in meshes] for n in there}
    textures = {id(t): t for m in meshes for t in m.textures or ()}
    if textures:
        fields["face_textures"] = [_texture_numbers(m, list(textures)) for m in meshes]
    starts = [0, *itertools.accumulate(len(m.vertices) for m in meshes)]
    return Mesh(
        torch.cat([m.vertices for m in meshes]),
        torch.cat([m.faces + start for m, start in zip(meshes, starts)]),
        textures=tuple(textures.values()) or None,
        objects=torch.cat([torch.full_like(m.faces[:, 0], k) for k, m in enumerate(meshes)]),
        **{n: torch.cat(rows) for n, rows in fields.items()},
    )


def _texture_numbers(mesh: Mesh, keys: list[int]) -> Int[Tensor, "F"]:
    """Each face's texture as its place in `keys`, the ids of all textures; -1: none."""
    if not mesh.textures:
        return torch.full_like(mesh.faces[:, 0], -1)
    numbers = torch.tensor([*(keys.index(id(t)) for t in mesh.textures), -1], device=mesh.faces.device)  # [-1] is the last
    return numbers[torch.zeros_like(mesh.faces[:, 0]) if mesh.face_textures is None else mesh.face_textures]


def normalize(mesh: Mesh, size: float = 1.0) -> Mesh:
    """Centre the bounding box at the origin and scale its longest side to `size` metres.

    Raises InputError for a mesh without vertices or without extent.
    """
    if not (size > 0 and math.isfinite(size)):
        raise InputError(f"size {size} is not a length; give a positive number of metres")
    low, high = bounds(mesh)
    extent = (high - low).max()
    if not float(extent) > 0:
        raise InputError("mesh has all its vertices at one place, so it has no size to scale; give one with extent")
    return replace(mesh, vertices=(mesh.vertices - (low + high) / 2) * (size / extent))


def transform(mesh: Mesh, T: Float[Tensor, "4 4"]) -> Mesh:
    """Move a mesh by an affine map, `x -> T x`; a mirroring one turns the faces round, so normals still point outward."""
    T = torch.as_tensor(T)
    if T.shape != (4, 4):
        raise InputError(f"T has shape {tuple(T.shape)}; it must be (4, 4)")
    T = T.to(mesh.vertices)
    linear = T[:3, :3]
    determinant = float(torch.linalg.det(linear.detach().double()))
    if not (math.isfinite(determinant) and determinant != 0) or T[3].tolist() != [0, 0, 0, 1]:
        raise InputError("T is no invertible affine map; its last row must be 0 0 0 1 and its 3x3 part of full rank")
    faces, uv = (mesh.faces, mesh.uv) if determinant > 0 else (mesh.faces.flip(1), None if mesh.uv is None else mesh.uv.flip(1))
    normals = None if mesh.normals is None else _unit(mesh.normals @ torch.linalg.inv(linear))
    return replace(mesh, vertices=mesh.vertices @ linear.T + T[:3, 3], faces=faces, uv=uv, normals=normals)


def sample_surface(
    mesh: Mesh, count: int, generator: torch.Generator | None = None
) -> tuple[Float[Tensor, "N 3"], Int[Tensor, "N"], Float[Tensor, "N 3"]]:
    """`count` points spread uniformly over the surface: points, the face each lies on, its barycentric coordinates there.

    Differentiable in the vertices (the drawn faces and barycentrics are held fixed). Draws on the generator's device, so
    a seed gives the same points on CPU and CUDA. Raises InputError for a mesh without area. Osada et al. 2002, Eq. 1.
    """
    if count < 0:
        raise InputError(f"count {count} is negative; give the number of points")
    areas = _double_areas(mesh).detach().double().norm(dim=1)
    if not float(areas.sum()) > 0:
        raise InputError("mesh has no area to sample; give one with faces of positive area")
    device = mesh.vertices.device if generator is None else generator.device
    draws = torch.rand(3, count, generator=generator, device=device, dtype=torch.float64).to(areas.device)
    sums = areas.cumsum(0)
    faces = torch.searchsorted(sums, draws[0] * sums[-1], right=True).clamp_max(int(areas.nonzero()[-1]))
    root, v = draws[1].sqrt(), draws[2]
    barycentrics = torch.stack([1 - root, root * (1 - v), root * v], dim=1).to(mesh.vertices)
    return (mesh.triangles[faces] * barycentrics[..., None]).sum(dim=1), faces, barycentrics


def load(path: str | Path, dtype: torch.dtype = torch.float32, textures: bool = True) -> Mesh:
    """Read a triangle mesh from an OBJ, PLY, GLB, glTF or STL file; see `densebook.geometry.mesh_files`.

    OBJ and glTF bring their materials along; `textures=False` opens none. Raises one InputError, naming the file (and the
    line, in OBJ and ASCII PLY), for anything that is not a mesh and for materials and pictures that are missing.
    """
    from . import mesh_files

    return mesh_files.load(path, dtype, textures)


def save(mesh: Mesh, path: str | Path) -> Path:
    """Write a mesh as OBJ, PLY or GLB, whole or not at all; see `densebook.geometry.mesh_files`. Returns the path."""
    from . import mesh_files

    return mesh_files.save(mesh, path)
