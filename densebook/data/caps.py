"""Caps and their pictures: procedural ones with exact correspondences, real ones, rendered views, and the files of both.

`toy_caps` makes textured baseball caps of random shape and colours that all share their faces and texture coordinates, so a
face and its barycentrics name the same place on every one of them. `render_views` takes pictures with mask, metric depth,
camera, face and barycentrics. Readers and writers keep the layout that the released data of Dense Object Nets uses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from densebook.core.errors import InputError, nearest
from densebook.core.seeds import generator as seeded
from densebook.geometry.mesh import Mesh, bounds
from densebook.geometry.sphere_tracing import to_srgb

BACKGROUNDS = ("noise", "image", "plain")
THICKNESS = 0.003  # metres, of cloth and visor
_VISOR = 1.15  # radians: the visor is sewn to the crown from minus to plus this angle around y; 0 is the front, +z


# Caps ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Caps:
    """Instances of one topology: a face and its barycentrics are the same place on all of them. y up, base at y = 0, front +z."""

    vertices: Float[Tensor, "I V 3"]  # metres
    faces: Int[Tensor, "F 3"]
    uv: Float[Tensor, "F 3 2"]  # at face corners, as in `Mesh`
    textures: Float[Tensor, "I T T 3"]  # linear RGB

    def __len__(self) -> int:
        return len(self.vertices)

    def mesh(self, i: int) -> Mesh:
        """Instance `i` as a mesh with its texture."""
        return Mesh(self.vertices[i], self.faces, uv=self.uv, textures=(self.textures[i],))

    def points(
        self, instance: Int[Tensor, "*batch"], face: Int[Tensor, "*batch"], barycentrics: Float[Tensor, "*batch 3"]
    ) -> Float[Tensor, "*batch 3"]:
        """Places on instances, in metres; differentiable in vertices and barycentrics."""
        corners = self.vertices[instance[..., None], self.faces[face.long()]]
        return (corners * barycentrics[..., None]).sum(-2)

    def to(self, *arguments, **keywords) -> Caps:
        """The caps on another device or in another float type, as `Tensor.to` takes them (faces stay int64)."""
        vertices = self.vertices.to(*arguments, **keywords)
        rest = {n: getattr(self, n).to(*arguments, **keywords) for n in ("uv", "textures")}
        return Caps(vertices, self.faces.to(vertices.device), **rest)


def toy_caps(
    count: int,
    seed: int = 0,
    detail: int = 1,  # 1: 3,500 faces and textures of 256 pixels; 2: four times as many faces, 512 pixels; up to 4
) -> Caps:
    """`count` caps of random shape and colours: crown with dents, visor, button, seams, eyelets, prints; float32.

    0.16 to 0.20 m wide, 0.23 to 0.31 m from back to visor. Every cap carries the same prints at the same places (but one of
    four logos in front), in its own colours, so places can be told apart on each but not by colour alone. Crown, visor
    and button are closed bodies with the cloth's thickness. The same seed makes the same caps, whatever the count.
    Memory: 6 MB a cap at detail 1 on the way, 1 MB kept. Raises InputError for a count below 1 and another detail.
    """
    if not isinstance(count, int) or count < 1:
        raise InputError(f"count is {count!r}; give a whole number of caps from 1 up")
    if detail not in (1, 2, 3, 4):
        raise InputError(f"detail is {detail!r}; give 1, 2, 3 or 4")
    draws = torch.stack([torch.rand(64, generator=seeded(seed * 1_000_003 + i), dtype=torch.float64) for i in range(count)])
    columns, rows = 40 * detail, 14 * detail
    parts = [_crown(draws, columns, rows), _visor(draws, 20 * detail, 6 * detail), _button(draws, 12 * detail, 4 * detail)]
    start, faces = 0, []
    for vertices, f, _ in parts:
        faces.append(f + start)
        start += vertices.shape[1]
    vertices = torch.cat([v for v, _, _ in parts], dim=1)
    vertices[..., 1] -= vertices[..., 1].amin(dim=1, keepdim=True)
    return Caps(vertices.float(), torch.cat(faces), torch.cat([uv for _, _, uv in parts]).float(), _paint(draws, 256 * detail))


def _between(draws: Tensor, k: int, low: float, high: float) -> Float[Tensor, "I 1 1"]:
    """The k-th number of every instance, from `low` to `high`."""
    return (low + (high - low) * draws[:, k])[:, None, None]


def _grid(rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    return torch.meshgrid(rows.double(), columns.double(), indexing="ij")


def _quads(index: Int[Tensor, "R C"], uv: Float[Tensor, "R C 2"]) -> tuple[Int[Tensor, "F 3"], Float[Tensor, "F 3 2"]]:
    """Two triangles a cell, counter-clockwise where columns run right and rows run up."""

    def cut(x: Tensor) -> Tensor:
        a, b, c, d = x[:-1, :-1], x[:-1, 1:], x[1:, 1:], x[1:, :-1]
        return torch.stack([torch.stack([a, b, c], 2), torch.stack([a, c, d], 2)], 2).flatten(0, 2)

    return cut(index), cut(uv)


def _fan(ring: Int[Tensor, "C"], uv: Float[Tensor, "C 2"], tip: int, tip_v: float) -> tuple[Tensor, Tensor]:
    """Triangles from a ring to a tip above it; the tip has the u of the middle of each."""
    u = (uv[:-1, 0] + uv[1:, 0]) / 2
    faces = torch.stack([ring[:-1], ring[1:], torch.full_like(ring[1:], tip)], 1)
    return faces, torch.stack([uv[:-1], uv[1:], torch.stack([u, torch.full_like(u, tip_v)], 1)], 1)


def _rim(draws: Tensor, angle: Tensor, height: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Outer crown at `angle` around y and `height` from 0 (rim) to 1 (top), in metres: dome, steep front, dents."""
    width, depth, tall = _between(draws, 0, 0.080, 0.100), _between(draws, 1, 0.090, 0.112), _between(draws, 2, 0.100, 0.140)
    power, lean = _between(draws, 3, 2.0, 2.9), _between(draws, 4, -0.05, 0.25)
    up = (height * math.pi / 2).sin()
    radius = (1 - up**power).clamp_min(0) ** (1 / power)
    dent = torch.zeros_like(radius)
    for k in range(3):
        phase, size = _between(draws, 10 + k, 0.0, 2 * math.pi), _between(draws, 13 + k, -0.025, 0.025)
        dent = dent + size * ((k + 1) * angle + phase + 2.5 * height).sin()
    radius = radius * (1 + dent * (math.pi * height.clamp(0, 1)).sin())
    x, z = width * radius * angle.sin(), depth * radius * angle.cos()
    return x, tall * up, z + lean * tall * up * angle.cos().clamp_min(0) * (1 - up)


def _crown(draws: Tensor, columns: int, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Outside, inside and the rim between them: a bowl of cloth, closed."""
    angle = torch.arange(columns) * (2 * math.pi / columns)
    height, turn = _grid(torch.arange(rows) / rows, angle)
    outer = torch.stack(_rim(draws, turn, height), dim=-1)
    top = torch.stack(_rim(draws, torch.zeros(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)), dim=-1)
    both = torch.cat([outer.flatten(1, 2), top.flatten(1, 2)], dim=1)
    across = both.new_tensor([1.0, 0.0, 1.0])
    inner = both * (1 - THICKNESS / 0.09 * across) - THICKNESS * both.new_tensor([0.0, 1.0, 0.0]) * (both[..., 1:2] / 0.12)
    index = torch.arange(rows * columns).reshape(rows, columns)
    index = torch.cat([index, index[:, :1]], dim=1)
    v, u = _grid(torch.arange(rows) / rows, torch.arange(columns + 1) / columns)
    uv = torch.stack([u, 0.42 + 0.57 * v], dim=-1)
    lining = torch.stack([0.68 + 0.28 * u, 0.04 + 0.30 * v], dim=-1)
    many = rows * columns + 1
    pieces = [
        _quads(index, uv),
        _fan(index[-1], uv[-1], many - 1, 0.99),
        _flipped(*_quads(index + many, lining)),
        _flipped(*_fan(index[-1] + many, lining[-1], 2 * many - 1, 0.34)),
        _quads(torch.stack([index[0] + many, index[0]]), torch.stack([uv[0], uv[0]])),
    ]
    return torch.cat([both, inner], dim=1), torch.cat([f for f, _ in pieces]), torch.cat([t for _, t in pieces])


def _flipped(faces: Tensor, uv: Tensor) -> tuple[Tensor, Tensor]:
    return faces.flip(1), uv.flip(1)


def _visor(draws: Tensor, columns: int, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """A bent plate: its upper side, its lower side and the edge around it, closed. Its root lies a little inside the crown."""
    out, across = _grid(torch.arange(rows + 1) / rows, torch.arange(columns + 1) * (2 / columns) - 1)
    angle = across * _VISOR
    x, y, z = _rim(draws, angle, torch.full_like(out, 0.03))
    long, tilt, droop = _between(draws, 5, 0.055, 0.080), _between(draws, 6, 0.05, 0.35), _between(draws, 7, 0.0, 0.035)
    reach = out * (0.006 + long * (across * math.pi / 2).cos().clamp_min(0) ** _between(draws, 8, 0.4, 0.8))
    side = x / x.abs().amax(dim=(1, 2), keepdim=True)
    middle = torch.stack([0.985 * x * (1 + 0.12 * out), y - tilt * reach - droop * side**2 * out.sqrt(), 0.985 * z + reach], dim=-1)
    half = middle.new_tensor([0.0, THICKNESS / 2, 0.0])
    index = torch.arange(out.numel()).reshape(out.shape)
    uv = torch.stack([0.32 + 0.28 * across, 0.39 - 0.18 * out], dim=-1)
    below = torch.stack([0.82 + 0.13 * across, 0.05 + 0.25 * out], dim=-1)
    turned, turned_uv = index.flip(0), uv.flip(0)  # rows run away from the eye above: up in the picture is towards the crown
    edge = torch.cat([turned[0, :-1], turned[:-1, -1], turned[-1].flip(0)[:-1], turned[:, 0].flip(0)])
    edge_uv = torch.cat([turned_uv[0, :-1], turned_uv[:-1, -1], turned_uv[-1].flip(0)[:-1], turned_uv[:, 0].flip(0)])
    pieces = [
        _quads(turned, turned_uv),
        _flipped(*_quads(turned + out.numel(), below.flip(0))),
        _quads(torch.stack([edge + out.numel(), edge]), torch.stack([edge_uv, edge_uv])),
    ]
    vertices = torch.cat([(middle + half).flatten(1, 2), (middle - half).flatten(1, 2)], dim=1)
    return vertices, torch.cat([f for f, _ in pieces]), torch.cat([t for _, t in pieces])


def _button(draws: Tensor, columns: int, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """A flat ball on top of the crown."""
    one = torch.ones(1, 1, dtype=torch.float64)
    top = torch.stack(_rim(draws, 0 * one, one), dim=-1)[:, 0]
    polar, turn = _grid(math.pi * (torch.arange(1, rows) / rows - 0.5), torch.arange(columns) * (2 * math.pi / columns))
    ball = torch.stack([polar.cos() * turn.sin(), polar.sin(), polar.cos() * turn.cos()], dim=-1).flatten(0, 1)
    ball = torch.cat([ball, ball.new_tensor([[0.0, -1, 0], [0.0, 1, 0]])])
    size = _between(draws, 9, 0.008, 0.011) * ball.new_tensor([1.0, 0.5, 1.0])
    index = torch.arange(len(ball) - 2).reshape(polar.shape)
    index = torch.cat([index, index[:, :1]], dim=1)
    v, u = _grid(torch.arange(1, rows) / rows, torch.arange(columns + 1) / columns)
    uv = torch.stack([0.03 + 0.24 * u, 0.02 + 0.13 * v], dim=-1)
    last = len(ball) - 1
    pieces = [_quads(index, uv), _fan(index[-1], uv[-1], last, 0.15), _flipped(*_fan(index[0], uv[0], last - 1, 0.02))]
    return top + size * ball, torch.cat([f for f, _ in pieces]), torch.cat([t for _, t in pieces])


# Paint --------------------------------------------------------------------------------------------------------------


def _colors(draws: Tensor, first: int) -> Float[Tensor, "I 4 3"]:
    """Four colours an instance, linear RGB: cloth, print (of clearly other brightness), logo (again), trim."""
    hue, rich = draws[:, first : first + 4], 0.25 + 0.7 * draws[:, first + 4 : first + 8]
    base = draws[:, first + 8]
    bright = torch.stack([base, (base + 0.40 + 0.2 * draws[:, first + 9]) % 1, (base + 0.5) % 1, draws[:, first + 10]], dim=1)
    bright = 0.12 + 0.83 * bright
    k = (torch.tensor([0.0, 2 / 3, 1 / 3], dtype=torch.float64) + hue[..., None]) * 6 % 6
    pure = ((k - 3).abs() - 1).clamp(0, 1)
    return (bright[..., None] * (1 - rich[..., None] * (1 - pure))) ** 2.2


def _waves(place: Float[Tensor, "T T 3"], seed: int, frequency: float) -> Float[Tensor, "T T"]:
    """A smooth random field with spread 1, the same for every cap."""
    draw = seeded(seed)
    directions = torch.randn(24, 3, generator=draw, dtype=torch.float64) * frequency
    phases = torch.rand(24, generator=draw, dtype=torch.float64) * 2 * math.pi
    field = place.new_zeros(place.shape[:2])
    for direction, phase in zip(directions, phases):
        field += (place @ direction + phase).sin()
    return field / math.sqrt(12)


def _cover(signed: Tensor, soft: float) -> Tensor:
    """1 inside (signed < 0), 0 outside, a ramp of width `soft` between."""
    return (0.5 - signed / soft).clamp(0, 1)


def _logos(x: Tensor, y: Tensor, soft: float) -> Float[Tensor, "4 T T"]:
    """A target, a star, a letter and a mountain over local coordinates; each about 1 in half-width."""
    r, a = (x * x + y * y).sqrt(), torch.atan2(x, y)
    target = torch.maximum(_cover((r - 0.78).abs() - 0.18, soft), _cover((x + 0.12 * y).hypot(y - 0.1) - 0.3, soft))
    star = _cover(r - 0.62 - 0.32 * (5 * a).cos(), soft)

    strokes = ((-0.5, 0.0, 0.18, 0.9), (0.1, 0.72, 0.6, 0.18), (0.0, 0.05, 0.45, 0.16), (-0.3, -0.72, 0.2, 0.18))
    letter = _cover(torch.stack([_box(x, y, *stroke) for stroke in strokes]).amin(0), soft)
    peaks = torch.minimum((x + 0.3).abs() * 1.6 + y - 0.6, (x - 0.45).abs() * 1.6 + y - 0.2)
    mountain = torch.minimum(_cover(-0.7 - y, soft), _cover(peaks, soft))
    return torch.stack([target, star, letter, mountain])


def _paint(draws: Tensor, size: int) -> Float[Tensor, "I T T 3"]:
    """Textures: the same prints for all, in the colours of each."""
    v, u = _grid(1 - (torch.arange(size) + 0.5) / size, (torch.arange(size) + 0.5) / size)
    crown, visor = v > 0.405, (v <= 0.405) & (v > 0.185) & (u < 0.63)
    angle = (u * 2 * math.pi + math.pi) % (2 * math.pi) - math.pi
    height = ((v - 0.42) / 0.57).clamp(0, 1)
    across, out = ((u - 0.32) / 0.28).clamp(-1, 1), ((0.39 - v) / 0.18).clamp(0, 1)
    rise, turn = torch.where(crown, height * math.pi / 2, 0.0), torch.where(crown, angle, across * _VISOR)
    reach = torch.where(crown, rise.cos(), 1 + 0.7 * out)
    place = torch.stack([reach * turn.sin(), rise.sin(), reach * turn.cos()], dim=-1)  # on a dome of radius 1, visor in its plane
    soft = 6.0 / size  # about one texel on the crown, in units of its radius
    shown = crown | visor
    colors = _colors(draws, 20)
    layers = []  # (mask (T, T) or (I, T, T), colour (I, 3), strength (I,))
    ones = torch.ones(len(draws), dtype=torch.float64)
    print_one = _cover(0.25 - _waves(place, 11, 3.2), 8 * soft) * shown
    print_two = _cover(0.55 - _waves(place, 12, 6.0), 10 * soft) * shown
    layers.append((print_one, colors[:, 1], 0.35 + 0.5 * draws[:, 40]))
    layers.append((print_two, colors[:, 2], 0.25 + 0.5 * draws[:, 41]))
    layers.append((_cover(out.neg() + 0.88, 0.05) * visor, colors[:, 3], 0.9 * ones))
    marks = _marks(place, across, out, crown, visor, soft)
    layers += [(mask, colors[:, which], strength * ones) for mask, which, strength in marks]
    x, y = place[..., 0] / 0.36, (place[..., 1] - 0.52) / 0.30
    front = _logos(x, y, 3 * soft) * (crown & (place[..., 2] > 0))
    layers.append((front[(draws[:, 42] * 4).long().clamp_max(3)], colors[:, 2], ones))
    textures = colors[:, :1, None].expand(len(draws), size, size, 3).clone()
    textures = torch.where(shown[..., None], textures, (0.35 * colors[:, 3] + 0.1)[:, None, None])
    for mask, color, strength in layers:
        weight = (mask if mask.ndim == 3 else mask[None]) * strength[:, None, None]
        textures = torch.lerp(textures, color[:, None, None].expand_as(textures), weight[..., None])
    seams = _seams(place, angle, height, out, crown, visor, soft)
    return (textures * (1 - 0.75 * seams[..., None])).clamp(0, 1).float()


def _stripes(along: Tensor, pitch: float, half: float) -> Tensor:
    """Signed distance to stripes of half-width `half`, one every `pitch`."""
    return ((along / pitch) % 1 - 0.5).abs() * pitch - half


def _box(x: Tensor, y: Tensor, cx: float, cy: float, width: float, height: float) -> Tensor:
    """Signed: below 0 within `width` and `height` of the middle."""
    return torch.maximum((x - cx).abs() - width, (y - cy).abs() - height)


def _marks(place, across, out, crown, visor, soft) -> list[tuple[Tensor, int, float]]:
    """Prints that every cap has: a star on its left, stripes on its right, the strap behind, sticker and bars on the visor."""
    x, y, z = place.unbind(-1)
    left, right, behind = crown & (x > 0), crown & (x < 0), crown & (z < 0)
    star = _logos(-z / 0.26, (y - 0.42) / 0.26, 4 * soft)[1] * left
    stripes = _cover(torch.maximum(_stripes(y + 0.35 * z, 1 / 7, 0.035), _box(z, y, 0.0, 0.42, 0.30, 0.22)), soft) * right
    opening = _cover((x / 0.34).hypot(y / 0.30) - 1, 4 * soft) * behind
    strap = _cover(_box(x, y, 0.0, 0.07, 0.36, 0.05), soft) * behind
    sticker = _cover((across - 0.5).mul(1.4).hypot((out - 0.5) * 0.75) - 0.22, 2 * soft) * visor
    bars = _cover(torch.maximum(_stripes(across, 1 / 9, 0.03), _box(across, out, -0.5, 0.45, 0.2, 0.2)), soft) * visor
    return [(star, 3, 0.95), (stripes, 2, 0.9), (opening, 3, 0.85), (strap, 1, 1.0), (sticker, 2, 1.0), (bars, 3, 0.9)]


def _seams(place, angle, height, out, crown, visor, soft) -> Tensor:
    """Where the cloth is sewn: six meridians, the sweatband, eyelets, and lines of stitches along the visor."""
    ring = (height * math.pi / 2).cos().clamp_min(0.05)
    meridian = ((angle / (math.pi / 3) + 0.5) % 1 - 0.5).abs() * (math.pi / 3) * ring
    seams = torch.maximum(_cover(meridian - 0.012, soft), _cover((height - 0.055).abs() - 0.008, soft))
    panel = (torch.arange(6, dtype=torch.float64) + 0.5) * (math.pi / 3)
    holes = torch.stack([0.57 * panel.sin(), torch.full_like(panel, 0.82), 0.57 * panel.cos()], dim=1)
    eyelets = _cover(torch.stack([(place - hole).norm(dim=-1) for hole in holes]).amin(0) - 0.045, 2 * soft)
    stitches = _cover(((out * 5) % 1 - 0.5).abs() / 5 - 0.012, 2 * soft)
    return torch.maximum(seams, eyelets) * crown + 0.6 * stitches * visor


# Views --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Views:
    """Pictures of objects with everything that is known about each pixel, stacked; 37 bytes a pixel in float32."""

    rgb: Float[Tensor, "B 3 H W"]  # sRGB in [0, 1]
    mask: Bool[Tensor, "B H W"]  # the object
    depth: Float[Tensor, "B H W"]  # metres along z; 0: not known, as on the background
    K: Float[Tensor, "B 3 3"]
    cam_from_world: Float[Tensor, "B 4 4"]
    face: Int[Tensor, "B H W"]  # of the instance's mesh; -1 on the background and where views were read from files
    barycentrics: Float[Tensor, "B H W 3"]
    instance: Int[Tensor, "B"]

    def __len__(self) -> int:
        return len(self.rgb)

    def __getitem__(self, which) -> Views:
        """Some of the views, in their order: an index, a slice, a list or a tensor; a single index keeps the batch dimension."""
        if isinstance(which, int):
            which = [which]
        return Views(**{f.name: getattr(self, f.name)[which] for f in fields(self)})

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, pixels."""
        return tuple(self.mask.shape[1:])

    def camera(self, i: int):
        """The camera of view `i`, a `densebook.render.cameras.Camera`."""
        from densebook.render.cameras import Camera

        return Camera(self.K[i], self.cam_from_world[i], self.size)

    def to(self, *arguments, **keywords) -> Views:
        """The views on another device or in another float type, as `Tensor.to` takes them (masks and indices keep theirs)."""
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        moved = {n: t.to(*arguments, **keywords) if t.is_floating_point() else t for n, t in moved.items()}
        device = moved["rgb"].device
        return Views(**{n: t.to(device) for n, t in moved.items()})


def join_views(parts: Sequence[Views]) -> Views:
    """Views one after the other; all of one picture size. Raises InputError otherwise."""
    parts = list(parts)
    if not parts or len({p.size for p in parts}) > 1:
        raise InputError(f"parts holds views of {len({p.size for p in parts})} picture sizes; give at least one, all of one size")
    return Views(**{f.name: torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Views)})


@torch.no_grad()
def render_views(
    objects: Caps | Mesh | Sequence[Mesh],  # y up, base at y = 0, metres
    count: int,  # pictures in all; picture k shows object k modulo their number
    size: tuple[int, int] = (128, 160),  # height and width, pixels
    generator: torch.Generator | int = 0,  # on the CPU, or a seed
    background: str = "noise",  # "noise", "image" (random clutter) or "plain" (one colour)
    distance: tuple[float, float] = (0.5, 0.7),  # of the camera from the object's middle, metres
    elevation: tuple[float, float] = (0.2, 1.2),  # above the horizon, radians
    azimuth: tuple[float, float] = (-math.pi, math.pi),  # about y, radians; 0 looks at the front
    roll: float = 0.6,  # the picture turns by up to this about the line of sight, radians
    focal: float = 1.6,  # focal length in widths of the picture
) -> Views:
    """Pictures from random places around the objects, in random light, before random backgrounds.

    A cap is about 100 pixels wide in a picture of 160 x 128. The light is a soft sky and one or two lamps, the colour of
    both random. Time: about 27 ms a picture of 160 x 128 on one core, 250 ms at 640 x 480. Memory: 37 bytes a pixel kept, 700 a pixel
    of one picture on the way. Raises InputError for no object, an unknown background and a count below 1.
    """
    from densebook.render.rasterizer import rasterize

    meshes = _meshes(objects)
    if not isinstance(count, int) or count < 1:
        raise InputError(f"count is {count!r}; give a whole number of pictures from 1 up")
    if background not in BACKGROUNDS:
        raise InputError(f"background {background!r} is not known{nearest(str(background), BACKGROUNDS)}")
    draw = seeded(generator) if isinstance(generator, int) else generator
    found: dict[str, list[Tensor]] = {f.name: [] for f in fields(Views)}
    for k in range(count):
        mesh = meshes[k % len(meshes)]
        camera = _around(mesh, size, draw, distance, elevation, azimuth, roll, focal)
        seen = rasterize(mesh, camera, backend="torch")
        rgb = _picture(mesh, camera, _lights(draw), _behind(background, size, draw).to(mesh.vertices))
        row = (rgb, seen.mask, seen.depth, camera.K, camera.cam_from_world, seen.face.int(), seen.barycentrics)
        for name, value in zip(found, (*row, torch.tensor(k % len(meshes), device=rgb.device))):
            found[name].append(value)
    return Views(**{name: torch.stack(values) for name, values in found.items()})


def _picture(mesh: Mesh, camera, lights: tuple, behind: Float[Tensor, "H W 3"]) -> Float[Tensor, "3 H W"]:
    """sRGB, each pixel the mean of four in linear light: a fifth of the time of exact edges, and it calms textures too."""
    from densebook.render.differentiable import render

    height, width = camera.size
    behind = behind.repeat_interleave(2, 0).repeat_interleave(2, 1)
    fine = render(mesh, camera.resized((2 * height, 2 * width)), lights=lights, background=behind, backend="torch", antialias=False)
    return to_srgb(F.avg_pool2d(fine.color.permute(2, 0, 1)[None], 2)[0])


def _meshes(objects) -> list[Mesh]:
    if isinstance(objects, Caps):
        return [objects.mesh(i) for i in range(len(objects))]
    meshes = [objects] if isinstance(objects, Mesh) else list(objects)
    if not meshes or not all(isinstance(m, Mesh) for m in meshes):
        raise InputError("objects holds no mesh, or something that is none; give Caps, a Mesh or a list of Mesh")
    return meshes


def _uniform(draw: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), generator=draw, dtype=torch.float64))


def _around(mesh: Mesh, size, draw, distance, elevation, azimuth, roll, focal):
    """A camera that looks at about the middle of the mesh, from a random place."""
    from densebook.render.cameras import orbit

    low, high = bounds(mesh)
    off = 0.02 * (2 * torch.rand(3, generator=draw) - 1).to(low)
    camera = orbit(_uniform(draw, *azimuth), _uniform(draw, *elevation), _uniform(draw, *distance), (low + high) / 2 + off, size)
    turn = _uniform(draw, -roll, roll)
    T = camera.cam_from_world.clone()
    spin = T.new_tensor([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    T[:2] = spin @ T[:2]
    f, (height, width) = focal * size[1], size
    return replace(camera, K=T.new_tensor([[f, 0, width / 2], [0, f, height / 2], [0, 0, 1]]), cam_from_world=T)


def _lights(draw: torch.Generator) -> tuple:
    from densebook.render.shading import Ambient, Directional

    def tint(strength: float) -> list[float]:
        return [strength * _uniform(draw, 0.85, 1.15) for _ in range(3)]

    lamps = [Ambient(tint(_uniform(draw, 0.25, 0.6)))]
    for strength in ((0.3, 0.8), (0.0, 0.3)):
        turn, up = _uniform(draw, -math.pi, math.pi), _uniform(draw, 0.2, 1.4)
        direction = (math.cos(up) * math.sin(turn), math.sin(up), math.cos(up) * math.cos(turn))
        lamps.append(Directional(direction, tint(_uniform(draw, *strength))))
    return tuple(lamps)


def _noise(size: tuple[int, int], draw: torch.Generator) -> Float[Tensor, "3 H W"]:
    """Coloured noise of four scales, from spots as large as a third of the picture to single pixels."""
    picture = torch.zeros(1, 3, *size)
    for cells, strength in ((3, 1.0), (8, 0.7), (24, 0.4), (80, 0.25)):
        small = torch.rand(1, 3, cells, max(1, cells * size[1] // size[0]), generator=draw) - 0.5
        picture += strength * F.interpolate(small, size=size, mode="bilinear", align_corners=False)
    return (0.45 + 0.75 * picture[0]).clamp(0, 1)


def _clutter(size: tuple[int, int], draw: torch.Generator, shapes: int = 14) -> Float[Tensor, "3 H W"]:
    """Boxes and ellipses of many colours over each other, each with its own stripes."""
    height, width = size
    v, u = torch.meshgrid((torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / height, indexing="ij")
    picture = _noise(size, draw) * 0.5 + 0.5 * torch.rand(3, 1, 1, generator=draw)
    for _ in range(shapes):
        cx, cy, a, b, turn, kind, wave = torch.rand(7, generator=draw).tolist()
        c, s = math.cos(math.pi * turn), math.sin(math.pi * turn)
        x, y = u - cx * width / height, v - cy
        x, y = (c * x + s * y) / (0.05 + 0.3 * a), (c * y - s * x) / (0.05 + 0.3 * b)
        inside = (x * x + y * y < 1) if kind < 0.5 else torch.maximum(x.abs(), y.abs()) < 1
        stripes = 0.75 + 0.25 * (x * (2 + 14 * wave)).sin()
        picture = torch.where(inside, torch.rand(3, 1, 1, generator=draw) * stripes, picture)
    return picture


def _behind(background: str, size: tuple[int, int], draw: torch.Generator) -> Float[Tensor, "H W 3"]:
    """A picture to stand behind the object, linear RGB."""
    if background == "plain":
        picture = torch.rand(3, 1, 1, generator=draw).expand(3, *size)
    else:
        picture = _noise(size, draw) if background == "noise" else _clutter(size, draw)
    return (picture**2.2).permute(1, 2, 0).contiguous()


# Real ones ----------------------------------------------------------------------------------------------------------

# metres a unit of the file, and what is added to x, y, z (metres) so that the hat stands on y = 0 around the origin
_STANDING = {
    "casquette.obj": (0.0099868, (0.0, -0.0002346, -0.015936)),
    "casque.obj": (0.0099897, (0.0, 0.0036269, -0.0126862)),
    "fedora.obj": (0.1, (0.00066, -0.75898, -0.063305)),
    "fedora_cocked.obj": (0.1, (-0.00265, -0.75032, -0.06351)),
}
_FEDORAS = ("fedora_texture.png", "fedora_texture_black.png", "fedora_texture_grey.png")


def _standing(name: str, file: str = "") -> Mesh:
    from densebook.geometry.mesh import load, transform

    from . import registry

    path = registry.get(name, file)
    scale, shift = _STANDING[path.name]
    T = torch.eye(4, dtype=torch.float64)
    T[:3, 3] = torch.tensor(shift, dtype=torch.float64)
    mesh = load(path, dtype=torch.float64)
    return transform(replace(mesh, vertices=mesh.vertices * scale, normals=None), T).to(torch.float32)


def fedoras() -> Caps:
    """A real hat in two shapes (straight and cocked) of one topology, each in three colours: six instances with exact truth.

    0.20 x 0.11 x 0.26 m, textures of 512 pixels; instance i has shape i // 3 and texture i % 3. Raises InputError, saying
    how to get it, where the hat is not in the data folder.
    """
    from . import images, registry

    shapes = [_standing("fedora"), _standing("fedora", "fedora_cocked.obj")]
    textures = torch.stack([images.read_image(registry.get("fedora", name)) for name in _FEDORAS])
    vertices = torch.stack([m.vertices for m in shapes]).repeat_interleave(len(textures), 0)
    return Caps(vertices, shapes[0].faces, shapes[0].uv, textures.repeat(len(shapes), 1, 1, 1))


def real_caps() -> list[Mesh]:
    """Eight real hats with textures, metric, y up, base at y = 0: a baseball cap, a helmet, and the six `fedoras`.

    The cap's visor points to +z. Raises InputError, saying how to get them, where they are not in the data folder.
    """
    hats = fedoras()
    return [_standing("cap"), _standing("helmet"), *(hats.mesh(i) for i in range(len(hats)))]


def read_shapenet_caps(root: str | Path, length: float = 0.27) -> list[Mesh]:
    """The caps of ShapeNetCore.v2: `root`/02954340/<id>/models/model_normalized.obj, in the order of their ids.

    ShapeNet's models have no size: they are scaled so that the longest side is `length` metres, stood on y = 0, and turned
    from -z to +z, where the visor of this book's caps points. Lines (`l` elements) are skipped. Raises InputError for a
    folder without such models and for a model that cannot be read.
    """
    from densebook.geometry.mesh import load

    paths = sorted(Path(root).glob("02954340/*/models/model_normalized.obj"))
    if not paths:
        raise InputError(f"{root}: holds no 02954340/<id>/models/model_normalized.obj; give the folder of ShapeNetCore.v2")
    turn, meshes = torch.tensor([-1.0, 1.0, -1.0]), []
    for path in paths:
        mesh = load(path)
        low, high = bounds(mesh)
        middle = torch.stack([(low[0] + high[0]) / 2, low[1], (low[2] + high[2]) / 2])
        vertices = (mesh.vertices - middle) * turn * (length / (high - low).max())
        meshes.append(replace(mesh, vertices=vertices, normals=None if mesh.normals is None else mesh.normals * turn))
    return meshes


# Files of views -----------------------------------------------------------------------------------------------------

FAR = 10000.0  # depth on the background in the files, metres
_SWAP = torch.tensor([[0.0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=torch.float64)
_PARTS = {"rgbs": "{}_rgb.png", "masks": "{}_mask.png", "depths": "{}_depth.npy", "cam_to_world_trafo": "{}_pose.txt"}


def write_blenderproc(folder: str | Path, views: Views, start: int = 0) -> list[Path]:
    """Write views in the layout that `read_blenderproc` reads, numbered from `start`; returns the files, each written whole.

    rgbs/N_rgb.png, masks/N_mask.png (255 on the object), depths/N_depth.npy (float32 metres, 10000 on the background),
    cam_to_world_trafo/N_pose.txt (world from camera, with camera axes down, right, forward), and intrinsics.txt, one for all.
    Raises InputError for views of more than one K.
    """
    import numpy as np
    from PIL import Image

    from densebook.core.files import atomic_path

    if len(views) and not bool((views.K == views.K[:1]).all()):
        raise InputError("views have several K, but this layout has one intrinsics.txt; write them to several folders")
    folder, written = Path(folder), []

    def put(part: str, number: int, save) -> None:
        path = folder / part / _PARTS[part].format(number)
        with atomic_path(path) as temporary:
            save(temporary)
        written.append(path)

    depth = torch.where(views.mask & (views.depth > 0), views.depth, FAR).float().cpu().numpy()
    rgb = (views.rgb.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    mask = (views.mask.byte() * 255).cpu().numpy()
    pose = torch.linalg.inv(views.cam_from_world.double().cpu()) @ _SWAP
    for k in range(len(views)):
        put("rgbs", start + k, Image.fromarray(rgb[k]).save)
        put("masks", start + k, Image.fromarray(mask[k]).save)
        put("depths", start + k, lambda path, k=k: np.save(path, depth[k], allow_pickle=False))
        put("cam_to_world_trafo", start + k, lambda path, k=k: np.savetxt(path, pose[k].numpy()))
    with atomic_path(folder / "intrinsics.txt") as temporary:
        np.savetxt(temporary, views.K[0].double().cpu().numpy())
    return written


def read_blenderproc(
    folder: str | Path,
    numbers: Sequence[int] | None = None,  # which pictures; None: all
    far: float = 20.0,  # depth from here on is not known: the background, and edges blended with it
) -> Views:
    """Views from a folder of rgbs, masks, depths, cam_to_world_trafo and intrinsics.txt, as BlenderProc's script wrote them.

    The object is where the mask is above 0. The files' camera has x down, y right, z forward (BlenderProc's ["-Y", "X", "-Z"]),
    which is left-handed: its poses have determinant -1; here x and y are swapped back. Nothing pickled is read. `face` is
    -1 and `instance` 0 throughout. Raises InputError, naming the file, for what is missing, damaged or of another size.
    """
    folder = Path(folder)
    if numbers is None:
        numbers = sorted(int(p.name[:-8]) for p in folder.glob("rgbs/*_rgb.png") if p.name[:-8].isdigit())
    if not len(numbers):
        raise InputError(f"{folder}: holds no rgbs/N_rgb.png; give the folder that has rgbs, masks, depths and cam_to_world_trafo in it")
    K = torch.from_numpy(_table(folder / "intrinsics.txt", (3, 3))).float()
    rows = [_read_view(folder, int(n), far) for n in numbers]
    if len(sizes := {row[1].shape for row in rows}) > 1:
        raise InputError(f"{folder}: pictures have sizes {sorted(map(tuple, sizes))}; read those of one size with `numbers`")
    rgb, mask, depth, pose = (torch.stack(x) for x in zip(*rows))
    face = torch.full(mask.shape, -1, dtype=torch.int32)
    none = torch.zeros(len(rows), dtype=torch.int64)
    return Views(rgb, mask, depth, K.expand(len(rows), 3, 3), pose, face, torch.zeros(*mask.shape, 3), none)


def _read_view(folder: Path, number: int, far: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    paths = {part: folder / part / name.format(number) for part, name in _PARTS.items()}
    rgb, mask = _pixels(paths["rgbs"]), _pixels(paths["masks"])
    mask = mask.max(axis=-1) > 0
    depth = _array(paths["depths"])
    for name, found in (("masks", mask), ("depths", depth)):
        if found.shape != rgb.shape[:2]:
            raise InputError(f"{paths[name]}: has shape {found.shape}, but its picture {rgb.shape[:2]}; render them in one size")
    pose = torch.from_numpy(_table(paths["cam_to_world_trafo"], (4, 4)))
    if not float(torch.det(pose[:3, :3])) < 0:
        raise InputError(
            f'{paths["cam_to_world_trafo"]}: its axes are right-handed, but this layout has x down, y right, z forward; '
            'write poses with source frame ["-Y", "X", "-Z"]'
        )
    depth = torch.from_numpy(depth.astype("float32"))
    depth = torch.where(torch.isfinite(depth) & (depth > 0) & (depth < far), depth, 0.0)
    picture = torch.from_numpy(rgb[..., :3].astype("float32") / 255).permute(2, 0, 1)
    return picture, torch.from_numpy(mask), depth, torch.linalg.inv(pose @ _SWAP).float()


def _table(path: Path, shape: tuple[int, int]):
    """Numbers of a text file."""
    import numpy as np

    try:
        values = np.loadtxt(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a table of numbers ({str(error).splitlines()[0]}); write it again") from error
    if values.shape != shape or not np.isfinite(values).all():
        raise InputError(f"{path}: has shape {values.shape} or numbers that are not finite; it must be {shape[0]} x {shape[1]}")
    return values


def _array(path: Path):
    import numpy as np

    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: cannot be read as an array ({str(error).splitlines()[0]}); write it again without pickle") from error
    if values.ndim != 2 or values.dtype.kind != "f":
        raise InputError(f"{path}: holds {values.dtype} of shape {values.shape}; it must be floating point (H, W), metres")
    return values


def _pixels(path: Path):
    """A PNG's bytes as (H, W, 3)."""
    import numpy as np
    from PIL import Image

    from densebook.geometry.mesh_common import MOST_PIXELS

    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise InputError(f"{path}: has {picture.width} x {picture.height} pixels; at most {MOST_PIXELS:,} are read here")
            return np.asarray(picture.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: cannot be read as a picture ({str(error).splitlines()[0][:120]}); write it again") from error
