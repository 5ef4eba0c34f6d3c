"""Triangle meshes: the value every chapter passes on, what is measured on it, and its files (OBJ, PLY, GLB, STL)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from densebook.core.errors import InputError


@dataclass(frozen=True, eq=False)
class Mesh:
    """A triangle mesh; faces are counter-clockwise seen from outside, so normals point outward.

    Arrays and lists become tensors, faces int64. A mesh without vertices or faces is allowed.
    Raises InputError, naming the argument and the first bad row, for wrong shapes, types or devices, for values that
    are not finite and for faces that name a vertex that is not there.
    """

    vertices: Float[Tensor, "V 3"]  # metres, unless a file says otherwise
    faces: Int[Tensor, "F 3"]
    colors: Float[Tensor, "V 3"] | None = None  # linear RGB in [0, 1], at vertices
    normals: Float[Tensor, "V 3"] | None = None  # unit, at vertices

    def __post_init__(self) -> None:
        vertices = _rows("vertices", self.vertices)
        faces = _rows("faces", self.faces)
        object.__setattr__(self, "vertices", _finite("vertices", vertices))
        object.__setattr__(self, "faces", _indices(faces, len(vertices)))
        _same_device("faces", faces, vertices)
        for name in ("colors", "normals"):
            if getattr(self, name) is not None:
                rows = _finite(name, _rows(name, getattr(self, name)))
                if len(rows) != len(vertices):
                    raise InputError(f"{name} has {len(rows)} rows for {len(vertices)} vertices; give one row a vertex")
                _same_device(name, rows, vertices)
                object.__setattr__(self, name, rows)

    def __repr__(self) -> str:
        extras = "".join(f", {n}" for n in ("colors", "normals") if getattr(self, n) is not None)
        kind = f"{str(self.vertices.dtype).removeprefix('torch.')}, {self.vertices.device}"
        return f"Mesh({len(self.vertices)} vertices, {len(self.faces)} faces{extras}, {kind})"

    def to(self, *arguments, **keywords) -> Mesh:
        """The mesh on another device or in another float type, as `Tensor.to` takes them (faces stay int64)."""
        try:
            moved = {
                n: None if (t := getattr(self, n)) is None else t.to(*arguments, **keywords) for n in ("vertices", "colors", "normals")
            }
            return replace(self, faces=self.faces.to(moved["vertices"].device), **moved)
        except (RuntimeError, AssertionError, TypeError) as error:
            raise InputError(
                f"mesh.to{arguments or keywords}: {str(error).splitlines()[0]}; give a device or float type of this torch"
            ) from error

    @property
    def triangles(self) -> Float[Tensor, "F 3 3"]:
        """The three corners of every face."""
        return self.vertices[self.faces]


def _rows(name: str, value) -> Tensor:
    """`value` as a tensor of rows of three; nothing at all counts as zero rows."""
    if not isinstance(value, Tensor):
        try:
            value = torch.as_tensor(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"{name} is a {type(value).__name__} that torch makes no tensor of; give rows of 3 numbers") from error
        if value.shape == (0,):
            value = value.reshape(0, 3).to(torch.int64 if name == "faces" else value.dtype)
    if value.ndim != 2 or value.shape[1] != 3:
        raise InputError(f"{name} has shape {tuple(value.shape)}; it must be (rows, 3)")
    return value


def _finite(name: str, rows: Tensor) -> Tensor:
    """`rows`, known to be floating point and finite."""
    if not rows.is_floating_point():
        raise InputError(f"{name} is {rows.dtype}; give floating-point numbers, e.g. {name}.float()")
    good = torch.isfinite(rows.detach())
    if not bool(good.all()):
        first = int((~good.all(dim=1)).nonzero()[0])
        raise InputError(f"{name}[{first}] = {rows[first].tolist()} is not finite; remove or repair such rows first")
    return rows


def _indices(faces: Tensor, count: int) -> Int[Tensor, "F 3"]:
    """`faces` as int64, every index known to be one of `count` vertices."""
    if faces.is_floating_point() or faces.is_complex() or faces.dtype == torch.bool:
        raise InputError(f"faces is {faces.dtype}; give integer vertex indices, e.g. faces.long()")
    faces = faces.to(torch.int64)
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
    extras = {n: None if (t := getattr(mesh, n)) is None else t[kept] for n in ("colors", "normals")}
    return Mesh(mesh.vertices[kept], faces[whole], **extras)


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
    faces = mesh.faces if determinant > 0 else mesh.faces.flip(1)
    normals = None if mesh.normals is None else _unit(mesh.normals @ torch.linalg.inv(linear))
    return replace(mesh, vertices=mesh.vertices @ linear.T + T[:3, 3], faces=faces, normals=normals)


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


def load(path: str | Path, dtype: torch.dtype = torch.float32) -> Mesh:
    """Read a triangle mesh from an OBJ, PLY, GLB, glTF or STL file; see `densebook.geometry.mesh_files`.

    Raises one InputError, naming the file (and the line, in OBJ and ASCII PLY), for anything that is not a mesh.
    """
    from . import mesh_files

    return mesh_files.load(path, dtype)


def save(mesh: Mesh, path: str | Path) -> Path:
    """Write a mesh as OBJ, PLY or GLB, whole or not at all; see `densebook.geometry.mesh_files`. Returns the path."""
    from . import mesh_files

    return mesh_files.save(mesh, path)
