"""Object categories of the registration chapter: aligned instances, two of each held out, as closed meshes of even triangles.

Bottles and pots are real instances. Of cameras, drills and spray bottles there is one real template each; the other
instances are the template with its parts scaled and a smooth cage around it moved, so they share its triangles and the
true correspondences are known. Toys are turned on a lathe, all of one category with the same triangles.

Meshes are upright (y up, their front towards +z where they have one), in metres, stand on y = 0 and are centred in x and z.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from densebook.core.errors import InputError, nearest
from densebook.core.seeds import generator as seeded
from densebook.geometry.marching_cubes import marching_cubes
from densebook.geometry.mesh import Mesh, area, bounds, load, sample_surface, transform, volume
from densebook.geometry.sdf import MeshSDF

from . import registry
from .faces import farthest_points

CATEGORIES = ("bottle", "pot", "camera", "drill", "spray")
COUNT = 10  # instances of a category that has one template, and of a toy category; the last two are held out
CLOSING = 0.9  # cells: gaps narrower than twice this are closed by `watertight`
_TOYS = {  # ranges of what `lathe` takes: height, radius, neck, shoulder, collar, belly, squash, lean
    "bottle": ((0.18, 0.30), (0.028, 0.045), (0.3, 0.5), (0.42, 0.58), (0.66, 0.78), (-0.08, 0.08), (1.0, 1.0), (0.0, 0.0)),
    "pot": ((0.20, 0.40), (0.10, 0.16), (0.5, 0.8), (0.40, 0.55), (0.75, 0.90), (0.10, 0.35), (1.0, 1.0), (0.0, 0.0)),
    "camera": ((0.06, 0.10), (0.055, 0.07), (0.7, 0.9), (0.60, 0.70), (0.80, 0.90), (0.0, 0.05), (0.3, 0.5), (-0.2, 0.2)),
    "drill": ((0.20, 0.28), (0.03, 0.04), (0.5, 0.8), (0.20, 0.35), (0.55, 0.70), (-0.05, 0.05), (0.7, 1.0), (0.3, 0.6)),
    "spray": ((0.24, 0.32), (0.035, 0.05), (0.3, 0.4), (0.45, 0.60), (0.70, 0.80), (-0.1, 0.1), (0.7, 1.0), (0.1, 0.3)),
}


@dataclass(frozen=True, eq=False)
class Instance:
    """One object of a category."""

    name: str
    mesh: Mesh
    held_out: bool  # True: for tests only
    template: str  # instances of one template have the same triangles: vertex k of one is vertex k of the other


@functools.cache
def _table() -> dict:
    return json.loads(Path(__file__).with_name("categories.json").read_text(encoding="utf-8"))


def _known(category: str) -> dict:
    if category not in CATEGORIES:
        raise InputError(f"category {category!r} is not one of this book's{nearest(str(category), CATEGORIES)}")
    return _table()[category]


def _sources(category: str) -> list[dict]:
    entry = _known(category)
    return entry["instances"] if "instances" in entry else [entry["template"]]


def names(category: str) -> tuple[str, ...]:
    """The names in `densebook.data.available()` that the real instances of a category are made of."""
    return tuple(s["name"] for s in _sources(category))


def files(category: str) -> list[Path]:
    """The files that the real instances of a category are made of; raises InputError for one that is not there."""
    return [registry.get(name) for name in names(category)]


def instances(category: str, data: str = "real", resolution: int | None = None, dtype: torch.dtype = torch.float32) -> list[Instance]:
    """All instances of a category, the held-out ones last; the same at every call.

    Real ones are made watertight with `resolution` cells along the longest side (None: the category's own, for some 1,500
    to 3,000 vertices; 0: the file's own triangles, each cut in four, as the pots are: their files are closed, their walls
    thin). Toys have `resolution` rings and segments (None: 24, some 600 vertices).
    Raises InputError for a name that is not known and for a file that is not there.
    """
    if data not in ("toy", "real"):
        raise InputError(f"data {data!r} is not one of this book's{nearest(str(data), ('toy', 'real'))}")
    entry, low = _known(category), 8 if data == "toy" else 0
    if resolution is not None and (isinstance(resolution, bool) or not isinstance(resolution, int) or not low <= resolution <= 256):
        raise InputError(f"resolution {resolution!r} is not a whole number from {low} to 256; leave it out for the category's own")
    if data == "toy":
        found = _toys(category, 24 if resolution is None else resolution)
    else:
        cells = entry["resolution"] if resolution is None else resolution
        found = _real(entry, cells) if "instances" in entry else _deformed(category, entry, cells)
    return [replace(i, mesh=i.mesh.to(dtype)) for i in sorted(found, key=lambda i: i.held_out)]


def _real(entry: dict, cells: int) -> list[Instance]:
    sources = entry["instances"]
    return [Instance(s["name"], _closed(s["name"], cells), s.get("held_out", False), s["name"]) for s in sources]


def _deformed(category: str, entry: dict, cells: int) -> list[Instance]:
    source = entry["template"]
    mesh = _closed(source["name"], cells)
    made = [mesh] + [deform(mesh, entry["axis"], entry["parts"], seeded(1000 * CATEGORIES.index(category) + k)) for k in range(1, COUNT)]
    return [Instance(f"{source['name']}_{k:02d}", standing(m), k >= COUNT - 2, source["name"]) for k, m in enumerate(made)]


@functools.lru_cache(maxsize=64)
def _closed(name: str, cells: int) -> Mesh:
    """The real mesh, upright and closed, in float64; kept, as chapters ask for it again and again."""
    source = next(s for c in CATEGORIES for s in _sources(c) if s["name"] == name)
    mesh = transform(load(registry.get(name), dtype=torch.float64), torch.tensor(source["upright"], dtype=torch.float64))
    return standing(watertight(mesh, cells) if cells else subdivide(mesh))


def standing(mesh: Mesh) -> Mesh:
    """The mesh moved to stand on y = 0, its bounding box centred in x and z."""
    low, high = bounds(mesh)
    middle = (low + high) / 2
    return replace(mesh, vertices=mesh.vertices - torch.stack([middle[0], low[1], middle[2]]))


def points(mesh: Mesh, count: int, generator: torch.Generator | None = None) -> Float[Tensor, "count 3"]:
    """`count` points spread evenly over the surface: farthest points of four times as many random ones.

    Raises InputError when `count` is below 1 or the mesh has no area.
    """
    if count < 1:
        raise InputError(f"count is {count}; give the number of points, from 1 up")
    drawn = sample_surface(mesh, 4 * count, generator)[0]
    return drawn[farthest_points(drawn[None], count)[0]]


# Closed meshes


def watertight(mesh: Mesh, resolution: int = 64) -> Mesh:
    """The outside of any triangles as one closed mesh of even triangles, `resolution` cells along the longest side.

    Holes, double walls and cavities disappear (what ManifoldPlus does for the paper, Huang et al. 2020): the distance to the
    triangles is thickened by 0.9 cells, what cannot be reached from outside is filled, and the closed surface of that is
    taken back by as much: a morphological closing. Flat and convex places stay where they were to a fraction of a cell;
    gaps below 1.8 cells are closed, and parts and walls thinner than half a cell may vanish. Colours and textures become
    vertex colours. Memory: about 300 bytes a grid sample, at most (resolution + 7)^3 of them.
    Raises InputError for a mesh without faces or extent, and where nothing is left.
    """
    from scipy import ndimage

    if isinstance(resolution, bool) or not isinstance(resolution, int) or not 8 <= resolution <= 256:
        raise InputError(f"resolution {resolution!r} is not a whole number from 8 to 256; 64 is usual")
    if not len(mesh.faces):
        raise InputError("mesh has no faces, so it has no outside; give one that is not empty")
    low, high = bounds(mesh)
    cell = float((high - low).max()) / resolution
    if not cell > 0:
        raise InputError("mesh has all its vertices at one place, so it has no inside; give one with extent")
    mesh64 = Mesh(mesh.vertices.detach().double(), mesh.faces)
    samples, origin = _grid((low + high).double() / 2, (high - low).double(), cell)
    distance = MeshSDF(mesh64, backend="torch").closest(samples)[2] - CLOSING * cell
    regions, _ = ndimage.label((distance > 0).cpu().numpy())
    enclosed = torch.from_numpy((regions > 0) & (regions != regions[0, 0, 0])).to(distance.device)
    thick = marching_cubes(torch.where(enclosed, -distance, distance), spacing=cell, origin=origin)
    field = MeshSDF(thick, backend="torch")(samples) + CLOSING * cell
    closed = _largest(marching_cubes(field, spacing=cell, origin=origin)) if bool((field < 0).any()) else None
    if closed is None or not float(volume(closed)) > 0.1 * cell * float(area(closed)):  # a crust of rounding
        raise InputError(f"mesh encloses nothing at resolution {resolution}; it is thinner than a cell, give more of them")
    return replace(closed.to(mesh.vertices.dtype), colors=_colors(mesh, mesh64, closed.vertices))


def _grid(middle: Tensor, extent: Tensor, cell: float) -> tuple[Float[Tensor, "X Y Z 3"], Float[Tensor, "3"]]:
    """Samples over a box with three cells around it, and the first of them."""
    counts = (extent / cell).ceil().long() + 7
    origin = middle - (counts - 1) * cell / 2
    axes = [origin[k] + cell * torch.arange(int(counts[k]), device=middle.device) for k in range(3)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1), origin


def _largest(mesh: Mesh) -> Mesh:
    """The connected part with the most vertices: crumbs of thin parts go."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    start, end = mesh.faces.reshape(-1).cpu().numpy(), mesh.faces.roll(-1, dims=1).reshape(-1).cpu().numpy()
    _, part = connected_components(coo_matrix(([True] * len(start), (start, end)), shape=(len(mesh.vertices),) * 2), directed=False)
    part = torch.from_numpy(part).to(mesh.faces)
    kept = part == part.bincount().argmax()
    return Mesh(mesh.vertices[kept], (kept.cumsum(0) - 1)[mesh.faces[kept[mesh.faces[:, 0]]]])


def _colors(source: Mesh, plain: Mesh, at: Float[Tensor, "V 3"]) -> Float[Tensor, "V 3"] | None:
    """The albedo of `source` at its points nearest to `at`; None where it has no colour at all. `plain`: its triangles alone."""
    if source.colors is None and source.face_colors is None and not source.textures:
        return None
    where, face, _ = MeshSDF(plain, backend="torch").closest(at)
    corners = plain.triangles[face]
    weights = _barycentrics(where, corners).to(source.vertices)
    colors = torch.ones_like(weights)
    if source.colors is not None:
        colors = (source.colors[source.faces[face]] * weights[..., None]).sum(dim=1)
    if source.face_colors is not None:
        colors = colors * source.face_colors[face]
    number = torch.zeros_like(face) if source.face_textures is None else source.face_textures[face]
    for k, image in enumerate(source.textures or ()):
        uv = (source.uv[face] * weights[..., None]).sum(dim=1)
        u, v = torch.where((uv > 0) & (uv == uv.round()), 1, uv.remainder(1)).unbind(-1)  # 1 is the picture's last row, not its first
        height, width = image.shape[:2]
        row, column = ((1 - v) * height).long().clamp(0, height - 1), (u * width).long().clamp(0, width - 1)
        colors = torch.where((number == k)[:, None], colors * image[row, column], colors)
    return colors.clamp(0, 1)


def _barycentrics(inside: Float[Tensor, "N 3"], corners: Float[Tensor, "N 3 3"]) -> Float[Tensor, "N 3"]:
    """Weights of points within their triangles; of a triangle without area, those of its first corner."""
    a, b, c = (corners - inside[:, None]).unbind(1)
    areas = torch.stack([torch.linalg.cross(one, other).norm(dim=1) for one, other in ((b, c), (c, a), (a, b))], dim=1)
    total = areas.sum(dim=1, keepdim=True)
    return torch.where(total > 0, areas / total, areas.new_tensor([1.0, 0, 0]))


def subdivide(mesh: Mesh) -> Mesh:
    """Each triangle cut in four at the middles of its edges, at the same places; vertex and face colours are carried along."""
    from .toy import _subdivide

    faces = mesh.faces
    rows = mesh.vertices if mesh.colors is None else torch.cat([mesh.vertices, mesh.colors], dim=1)
    rows, cut = _subdivide(rows, faces)
    face_colors = None if mesh.face_colors is None else mesh.face_colors.repeat_interleave(4, dim=0)
    return Mesh(rows[:, :3], cut, colors=None if mesh.colors is None else rows[:, 3:], face_colors=face_colors)


# Instances of one template


def deform(mesh: Mesh, axis: int, parts: Sequence[float], generator: torch.Generator | None = None, strength: float = 1.0) -> Mesh:
    """`mesh` with its parts scaled and its cage moved, as the generator draws: the same triangles, other vertices.

    `parts`: where the parts begin and end along `axis`, in metres, rising. Each part gets its own length along the axis and
    its own width across it, up to 20 % (times `strength`) more or less, blended at the borders. Then a lattice of 3 x 3 x 3
    control points around the mesh moves at random, with a standard deviation of 1.2 % of its sides (free-form deformation
    with Bernstein polynomials, Sederberg and Parry 1986). Smooth, and without folds for strength up to 1.
    Raises InputError for parts that do not rise.
    """
    generator = seeded(0) if generator is None else generator
    borders = torch.as_tensor(parts, dtype=torch.float64)
    if axis not in (0, 1, 2) or borders.ndim != 1 or len(borders) < 2 or not bool((borders.diff() > 0).all()):
        raise InputError(f"axis {axis!r} with parts {list(parts)} divides nothing; give 0, 1 or 2 and at least two rising lengths")
    x = mesh.vertices.detach().double().cpu()
    factors = torch.exp(0.18 * strength * (2 * torch.rand(2, len(borders) - 1, generator=generator, dtype=torch.float64) - 1))
    along = x[:, axis] - (x[:, axis].min() - borders[0])
    x = _scaled(x, axis, along, borders, factors)
    x = x + _cage(x, 0.012 * strength * torch.randn(3, 3, 3, 3, generator=generator, dtype=torch.float64))
    return replace(mesh, vertices=x.to(mesh.vertices), normals=None)


def _scaled(x: Tensor, axis: int, along: Tensor, borders: Tensor, factors: Tensor) -> Float[Tensor, "V 3"]:
    """Parts scaled: along the axis by the integral of the length factor, across it by the width factor."""
    ends = (min(float(borders[0]), float(along.min())), max(float(borders[-1]), float(along.max())))  # the first and last part go on
    fine = torch.linspace(*ends, 400, dtype=torch.float64)
    blend = 0.15 * (borders[-1] - borders[0])
    step = ((fine[:, None] - borders[1:-1]) / blend + 0.5).clamp(0, 1)
    step = step * step * (3 - 2 * step)  # 0 before a border, 1 after it
    length, width = (f[0] + (step * f.diff()).sum(dim=1) for f in factors)
    place = torch.cat([fine[:1] * 0, torch.cumulative_trapezoid(length, fine)])
    across = torch.ones(3, dtype=torch.bool)
    across[axis] = False
    scaled = torch.where(across, x * _interpolate(along, fine, width)[:, None], x)
    scaled[:, axis] = _interpolate(along, fine, place)
    return scaled


def _interpolate(at: Tensor, fine: Tensor, values: Tensor) -> Tensor:
    """`values` at the even places `fine`, read off between them."""
    place = (at - fine[0]) / (fine[1] - fine[0])
    low = place.long().clamp(0, len(fine) - 2)
    return torch.lerp(values[low], values[low + 1], place - low)


def _cage(x: Float[Tensor, "V 3"], moves: Float[Tensor, "3 3 3 3"]) -> Float[Tensor, "V 3"]:
    """The move at each point when the control points move by `moves`, in shares of the box's sides."""
    low, high = x.amin(dim=0), x.amax(dim=0)
    t = (x - low) / (high - low)
    bernstein = torch.stack([(1 - t) ** 2, 2 * t * (1 - t), t**2], dim=-1)  # V 3 3
    return torch.einsum("vi,vj,vk,ijkd->vd", *bernstein.unbind(1), moves) * (high - low)


# Toys


def _toys(category: str, resolution: int) -> list[Instance]:
    draw, ranges = seeded(100 + CATEGORIES.index(category)), torch.tensor(_TOYS[category], dtype=torch.float64)
    shares = torch.rand(COUNT, len(ranges), generator=draw, dtype=torch.float64)
    colors = 0.2 + 0.6 * torch.rand(COUNT, 2, 3, generator=draw, dtype=torch.float64)
    shares[-2:] = 0.25 + 0.5 * shares[-2:]  # held-out shapes lie within the range of the others
    made = [lathe(*torch.lerp(ranges[:, 0], ranges[:, 1], s).tolist(), resolution=resolution, colors=c) for s, c in zip(shares, colors)]
    return [Instance(f"toy_{category}_{k:02d}", standing(m), k >= COUNT - 2, f"toy_{category}") for k, m in enumerate(made)]


def lathe(
    height: float = 0.25,
    radius: float = 0.035,
    neck: float = 0.4,
    shoulder: float = 0.5,
    collar: float = 0.72,
    belly: float = 0.0,
    squash: float = 1.0,
    lean: float = 0.0,
    resolution: int = 24,
    colors: Float[Tensor, "2 3"] | None = None,
) -> Mesh:
    """A bottle turned on a lathe, closed, in float64: `resolution` rings of `resolution` vertices and two in the middles of its ends.

    Body `radius` up to `shoulder`, `neck` times that from `collar` up (both shares of `height`), `belly` more in the middle of
    the body, x times `squash`, the top leaning over to z by `lean` of the height. Equal rings for equal parts, so that
    vertices of two bottles correspond. `colors`: of the body and of the neck.
    """
    share = torch.linspace(0, 1, resolution - 4, dtype=torch.float64)  # along the side: 40 % body, 35 % shoulder, 25 % neck
    body, slope, top = share / 0.4, (share - 0.4) / 0.35, (share - 0.75) / 0.25
    y = shoulder * body.clamp(0, 1) + (collar - shoulder) * slope.clamp(0, 1) + (1 - collar) * top.clamp(0, 1)
    smooth = slope.clamp(0, 1) ** 2 * (3 - 2 * slope.clamp(0, 1))
    r = 1 + (neck - 1) * smooth + belly * torch.sin(math.pi * body.clamp(0, 1))
    r = torch.cat([0.5 * r[:1], 0.9 * r[:1], r, 0.9 * r[-1:], 0.5 * r[-1:]]) * radius
    y = torch.cat([y[:1], y[:1], y + (share == 0) * 0.01, y[-1:] + 0.01, y[-1:] + 0.01]) * height
    angle = torch.arange(resolution, dtype=torch.float64) * (2 * math.pi / resolution)
    rings = torch.stack([r[:, None] * angle.sin() * squash, y[:, None].expand(-1, resolution), r[:, None] * angle.cos()], dim=-1)
    ends = torch.stack([torch.stack([0 * y[k], y[k], 0 * y[k]]) for k in (0, -1)])
    vertices = torch.cat([rings.reshape(-1, 3), ends])
    vertices[:, 2] += lean * height * (vertices[:, 1] / height).clamp_min(0) ** 2
    paint = None if colors is None else torch.where((vertices[:, 1] > 0.95 * collar * height)[:, None], colors[1], colors[0])
    return Mesh(vertices, _rings(resolution, resolution), colors=paint)


def _rings(rings: int, sides: int) -> Int[Tensor, "F 3"]:
    """Triangles between rings from the bottom up, closed by a fan at each end; its middles are the last two vertices."""
    index = torch.arange(rings * sides).reshape(rings, sides)
    right = index.roll(-1, dims=1)
    a, b, c, d = index[:-1], right[:-1], right[1:], index[1:]
    walls = torch.stack([torch.stack([a, b, c], -1), torch.stack([a, c, d], -1)], dim=2).reshape(-1, 3)
    bottom = torch.stack([right[0], index[0], torch.full_like(index[0], rings * sides)], dim=1)
    lid = torch.stack([index[-1], right[-1], torch.full_like(index[0], rings * sides + 1)], dim=1)
    return torch.cat([walls, bottom, lid])
