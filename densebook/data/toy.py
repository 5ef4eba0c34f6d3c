"""Toy shapes, made on the spot: what the notebooks read when no real mesh is at hand. No files, no network."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from densebook.core.errors import InputError, nearest
from densebook.core.seeds import generator as seeded
from densebook.geometry.mesh import Mesh, face_normals, join, load, normalize, sample_surface, transform, vertex_normals

SUN = torch.tensor([0.5, math.sqrt(0.5), 0.5])  # unit, towards the sun of `environment`
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


def _noise_texture(cells: tuple[int, int], texel: int, seed: int) -> Float[Tensor, "h w 3"]:
    """A checkerboard of `cells` squares of `texel` pixels, no two of one colour, each shaded from corner to corner.

    Every second square is dark, and the shading differs from left to right and from top to bottom, so that no turn, mirror
    or shift of the picture repeats it.
    """
    rows, columns = cells
    hues = torch.rand(rows, columns, 3, generator=seeded(seed))
    bright = (torch.arange(rows)[:, None] + torch.arange(columns)) % 2
    hues = hues * (0.25 + 0.6 * bright[..., None]) + 0.05
    ramp = torch.linspace(0.55, 1.0, texel)
    shade = (ramp[:, None] * ramp.flip(0)).repeat(rows, columns)
    return hues.repeat_interleave(texel, 0).repeat_interleave(texel, 1) * shade[..., None]


def textured_cube(size: float = 1.0) -> Mesh:
    """`cube_mesh` with a texture: each side has its own third of the upper or lower half of one picture; edges are seams.

    Seen from outside a side's picture is upright and not mirrored.
    """
    cube = cube_mesh(size)
    outward = face_normals(cube).round()
    up = torch.tensor([0.0, 1, 0]).expand_as(outward).clone()
    up[outward[:, 1] != 0] = outward[outward[:, 1] != 0][:, [0, 2, 1]] * -1  # of the top side -z, of the bottom z
    right = torch.linalg.cross(up, outward)
    square = (cube.triangles / size) @ torch.stack([right, up], dim=2) + 0.5  # from 0 to 1 over each side
    side = torch.arange(12) // 2
    cell = torch.stack([side % 3, side // 3], dim=1)[:, None]
    uv = (0.02 + 0.96 * square + cell) / torch.tensor([3.0, 2.0])  # a margin: a side's border shows nothing of the next
    return replace(cube, uv=uv, textures=(_noise_texture((8, 12), 12, 5),))


def textured_blob(subdivisions: int = 3) -> Mesh:
    """`blob_mesh` with a texture in place of colours: u is the angle around y, with a seam, v the height angle."""
    blob, directions = blob_mesh(subdivisions), icosphere(subdivisions).vertices
    x, y, z = directions.unbind(dim=1)
    u = (torch.atan2(x, z) / (2 * math.pi) + 0.5)[blob.faces]
    u = u + ((u.amax(dim=1, keepdim=True) - u) > 0.5)  # across the seam: on to the picture's next copy
    pole = ((x.abs() + z.abs()) < 1e-6)[blob.faces]
    others = (u.masked_fill(pole, 0).sum(dim=1, keepdim=True) / (~pole).sum(dim=1, keepdim=True)).expand_as(u)
    v = (y.clamp(-1, 1).asin() / math.pi + 0.5)[blob.faces]
    uv = torch.stack([torch.where(pole, others, u), v], dim=-1)  # at a pole every u is right: the middle of the other two
    return replace(blob, colors=None, uv=uv, textures=(_noise_texture((8, 16), 12, 6),))


def environment(size: tuple[int, int] = (64, 128)) -> Float[Tensor, "h w 3"]:
    """An outdoor light: blue sky, brighter to the horizon, brown ground, and a warm sun 45 degrees up towards +x and +z.

    Equirectangular linear radiance of `size` (height, width), y up: the top row looks along +y, the middle column along
    -z, the right half towards +x. The sun (a lobe of about 4 degrees) gives about as much light as the sky.
    """
    for name, value in zip(("height", "width"), size, strict=True):
        _whole(name, value, 2, 8192)
    height, width = size
    elevation = math.pi * (0.5 - (torch.arange(height) + 0.5) / height)[:, None]
    azimuth = 2 * math.pi * ((torch.arange(width) + 0.5) / width - 0.5)[None]
    directions = torch.stack(
        [elevation.cos() * azimuth.sin(), elevation.sin().expand(height, width), -elevation.cos() * azimuth.cos()], dim=-1
    )
    up = directions[..., 1:2]
    sky = torch.lerp(torch.tensor([0.9, 0.95, 1.0]), torch.tensor([0.2, 0.4, 0.85]), up.clamp_min(0).sqrt())
    ground = torch.tensor([0.22, 0.18, 0.13]) * (0.6 + 0.4 * torch.exp(4 * up.clamp_max(0)))
    lobe = torch.exp(400 * (directions @ SUN - 1))[..., None] * torch.tensor([130.0, 115.0, 90.0])
    return torch.where(up > 0, sky, ground) + lobe


def scene() -> Mesh:
    """Things on a square of ground at y = 0, joined, y up, within 2 metres: a small world to render.

    `objects`: 0 ground, 1 textured cube, 2 textured blob, 3 a torus of one colour, 4 a blob with vertex colours, 5 an
    orange ball; the cube is turned, the blobs and the ball stand around it, the torus lies before it.
    """
    corners = torch.tensor([[-1.5, 0, -1.5], [-1.5, 0, 1.5], [1.5, 0, 1.5], [1.5, 0, -1.5]])
    ground = Mesh(corners, torch.tensor([[0, 1, 2], [0, 2, 3]]))
    things = [  # mesh, longest side, turn around y, x, z
        (textured_cube(), 0.7, 0.5, 0.0, 0.0),
        (textured_blob(3), 0.6, 0.0, -0.85, -0.4),
        (_painted(torus_mesh(segments=48, sides=24), (0.1, 0.35, 0.3)), 0.6, 0.0, 0.35, 0.8),
        (blob_mesh(3, seeded(3)), 0.5, 1.0, 0.8, -0.5),
        (_painted(icosphere(3), (0.8, 0.3, 0.05)), 0.4, 0.0, -0.65, 0.7),
    ]
    return join([_painted(ground, (0.45, 0.45, 0.42)), *(_standing(*thing) for thing in things)])


def _painted(mesh: Mesh, color: tuple[float, float, float]) -> Mesh:
    return replace(mesh, face_colors=torch.tensor(color).expand(len(mesh.faces), 3))


def _standing(mesh: Mesh, size: float, turn: float, x: float, z: float) -> Mesh:
    """`mesh` scaled to `size`, turned around y by `turn` radians, standing on y = 0 at x, z."""
    mesh = normalize(mesh, size)
    T = torch.eye(4, dtype=torch.float64)
    T[0, 0] = T[2, 2] = math.cos(turn)
    T[0, 2], T[2, 0] = math.sin(turn), -math.sin(turn)
    T[:3, 3] = torch.tensor([x, -float(mesh.vertices[:, 1].min()), z])
    return transform(mesh, T)


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

    Both are centred, y up, and `size` metres along their longest side (1.8: within [-1, 1]^3 with a margin). A real one
    has its texture where it has one; the blob has vertex colours (`textured_blob` has a texture).
    `subdivisions` is for the blob. Raises InputError for another `data`, and where `densebook.data.get` does.
    """
    if not _real(data):
        return normalize(blob_mesh(subdivisions).to(dtype), size), None
    from . import images, registry

    path = registry.get(name)
    mesh = load(path, dtype=torch.float64)
    if picture := registry.texture(name):
        mesh = replace(mesh, textures=(images.read_image(registry.get(name, picture)).double(),))
    turn = torch.eye(4, dtype=torch.float64)
    turn[:3, :3] = torch.tensor(registry.upright(name), dtype=torch.float64)
    return normalize(transform(mesh, turn), size).to(dtype), path


def environment_or_toy(data: str, name: str, size: tuple[int, int] = (64, 128)) -> tuple[Float[Tensor, "h w 3"], Path | None]:
    """The light of a scene, with the file it came from: for data "real" the map called `name`, for "toy" `environment(size)`.

    Equirectangular linear radiance, y up, float32. Raises InputError for another `data`, and where `densebook.data.get`
    and `densebook.data.images.read_hdr` do.
    """
    if not _real(data):
        return environment(size), None
    from . import images, registry

    path = registry.get(name)
    return images.read_hdr(path), path


def _real(data: str) -> bool:
    if data not in ("toy", "real"):
        raise InputError(f"data {data!r} is not one of this book's{nearest(str(data), ('toy', 'real'))}")
    return data == "real"
