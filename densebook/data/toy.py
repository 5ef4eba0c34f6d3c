"""Toy shapes, made on the spot: what the notebooks read when no real mesh is at hand. No files, no network."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from densebook.core.errors import InputError, nearest
from densebook.core.seeds import generator as seeded
from densebook.geometry.mesh import Mesh, face_normals, load, normalize, sample_surface, transform, vertex_normals

SIZE = 1.8  # longest side: within [-1, 1]^3 with a margin of 0.1, so that a grid over it has a closed border


def _whole(name: str, value: int, low: int, high: int) -> None:
    if not isinstance(value, int) or not low <= value <= high:
        raise InputError(f"{name} {value!r} is not a whole number from {low} to {high}")


def icosphere(subdivisions: int = 3, radius: float = 1.0) -> Mesh:
    """A sphere of 20 * 4^subdivisions nearly equal triangles: an icosahedron, each triangle cut in four, again and again.

    `radius` in metres; `subdivisions` from 0 to 9 (5,242,880 faces, about 1 GB on the way). Vertices lie on the sphere.
    """
    _whole("subdivisions", subdivisions, 0, 9)
    vertices, faces = _icosahedron()
    for _ in range(subdivisions):
        vertices, faces = _subdivide(vertices, faces)
        vertices = vertices / vertices.norm(dim=1, keepdim=True)
    return Mesh((radius * vertices).float(), faces)


def _icosahedron() -> tuple[Tensor, Tensor]:
    """Two poles and two rings of five, the upper turned by 36 degrees; y up."""
    angle = 2 * math.pi / 5 * torch.arange(5, dtype=torch.float64)
    high, wide = 1 / math.sqrt(5), 2 / math.sqrt(5)

    def ring(height: float, turn: float) -> Tensor:
        return torch.stack([wide * (angle + turn).sin(), torch.full_like(angle, height), wide * (angle + turn).cos()], dim=1)

    poles = torch.tensor([[0.0, 1, 0], [0, -1, 0]], dtype=torch.float64)
    here = torch.arange(5)
    after = (here + 1) % 5
    north, south, upper, lower = torch.zeros(5, dtype=torch.int64), torch.ones(5, dtype=torch.int64), here + 2, here + 7
    upper_after, lower_after = after + 2, after + 7
    faces = [(north, upper, upper_after), (upper, lower, upper_after), (upper_after, lower, lower_after), (south, lower_after, lower)]
    return torch.cat([poles, ring(high, 0.0), ring(-high, math.pi / 5)]), torch.cat([torch.stack(f, dim=1) for f in faces])


def _subdivide(vertices: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
    """Each triangle in four, with one new vertex an edge, at its middle."""
    starts, ends = faces, faces.roll(-1, dims=1)
    keys = torch.minimum(starts, ends) * len(vertices) + torch.maximum(starts, ends)
    edges, middle = torch.unique(keys, return_inverse=True)
    middle = middle + len(vertices)
    halfway = (vertices[edges // len(vertices)] + vertices[edges % len(vertices)]) / 2
    (a, b, c), (ab, bc, ca) = faces.unbind(1), middle.unbind(1)
    cut = [torch.stack(t, dim=1) for t in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))]
    return torch.cat([vertices, halfway]), torch.stack(cut, dim=1).reshape(-1, 3)


def blob_mesh(subdivisions: int = 4, generator: torch.Generator | None = None) -> Mesh:
    """A smooth bumpy ball with vertex colours: star-shaped, watertight, within [-1, 1]^3 (longest side 1.8).

    Its radius is 1 plus eight waves over the direction, too small together to fold it. `generator` (on the CPU) picks
    the waves; without one every call gives the same blob. 20 * 4^subdivisions faces.
    """
    generator = seeded(0) if generator is None else generator
    sphere = icosphere(subdivisions)
    directions = sphere.vertices.double()
    waves = torch.randn(8, 3, generator=generator, dtype=torch.float64) * 2
    phases = torch.rand(8, generator=generator, dtype=torch.float64) * 2 * math.pi
    sizes = 0.05 + 0.05 * torch.rand(8, generator=generator, dtype=torch.float64)  # at most 0.8 in all
    bumps = (directions @ waves.T + phases).sin()
    radius = 1 + bumps @ sizes
    colors = 0.5 + 0.25 * bumps[:, :3]
    return normalize(Mesh((radius[:, None] * directions).float(), sphere.faces, colors.float()), SIZE)


def torus_mesh(major: float = 0.6, minor: float = 0.25, segments: int = 64, sides: int = 32) -> Mesh:
    """A torus around the y axis: `major` metres from the axis to the tube's middle, `minor` the tube's radius; watertight."""
    if not 0 < minor < major:
        raise InputError(f"minor {minor} must lie between 0 and major {major}, or the torus meets itself")
    _whole("segments", segments, 3, 10_000)
    _whole("sides", sides, 3, 10_000)
    around = (torch.arange(segments, dtype=torch.float64) * (2 * math.pi / segments))[:, None]
    across = (torch.arange(sides, dtype=torch.float64) * (2 * math.pi / sides))[None, :]
    distance = major + minor * across.cos()
    height = (minor * across.sin()).expand_as(distance * around)
    vertices = torch.stack([distance * around.sin(), height, distance * around.cos()], dim=-1).reshape(-1, 3)
    index = torch.arange(segments * sides).reshape(segments, sides)
    right, up = index.roll(-1, dims=0), index.roll(-1, dims=1)
    both = right.roll(-1, dims=1)
    faces = torch.stack([torch.stack([index, right, both], dim=-1), torch.stack([index, both, up], dim=-1)], dim=2)
    return Mesh(vertices.float(), faces.reshape(-1, 3))


def cube_mesh(size: float = 1.0) -> Mesh:
    """A cube of 12 triangles around the origin, `size` metres a side; vertex k has the bits of k as x, y, z signs."""
    bits = torch.arange(8)[:, None] >> torch.arange(3) & 1
    quads = torch.tensor([[0, 4, 6, 2], [1, 3, 7, 5], [0, 1, 5, 4], [2, 6, 7, 3], [0, 2, 3, 1], [4, 5, 7, 6]])
    faces = torch.stack([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]], dim=1).reshape(-1, 3)
    return Mesh((bits.float() - 0.5) * size, faces)


def point_cloud(
    count: int = 1000, generator: torch.Generator | None = None, noise: float = 0.0
) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N 3"]]:
    """Points spread uniformly over the default blob, moved along the normal by `noise` metres (one sigma), and their unit normals."""
    generator = seeded(0) if generator is None else generator
    mesh = blob_mesh()
    points, faces, barycentrics = sample_surface(mesh, count, generator)
    smooth = (vertex_normals(mesh)[mesh.faces[faces]] * barycentrics[..., None]).sum(dim=1)
    normals = torch.nn.functional.normalize(torch.where(smooth.norm(dim=1, keepdim=True) > 0, smooth, face_normals(mesh)[faces]), dim=1)
    if noise:
        points = points + noise * normals * torch.randn(count, 1, generator=generator)
    return points, normals


def mesh_or_toy(
    data: str, name: str, subdivisions: int = 4, dtype: torch.dtype = torch.float32, size: float = SIZE
) -> tuple[Mesh, Path | None]:
    """The mesh that a notebook reads, with the file it came from: for data "real" the one called `name`, for "toy" the blob.

    Both are centred, y up, and `size` metres along their longest side (1.8: within [-1, 1]^3 with a margin).
    `subdivisions` is for the blob. Raises InputError for another `data`, and where `densebook.data.get` does.
    """
    if data == "toy":
        return normalize(blob_mesh(subdivisions).to(dtype), size), None
    if data != "real":
        raise InputError(f"data {data!r} is not one of this book's{nearest(str(data), ('toy', 'real'))}")
    from . import registry

    path = registry.get(name)
    turn = torch.eye(4, dtype=torch.float64)
    turn[:3, :3] = torch.tensor(registry.upright(name), dtype=torch.float64)
    return normalize(transform(load(path, dtype=torch.float64), turn), size).to(dtype), path
