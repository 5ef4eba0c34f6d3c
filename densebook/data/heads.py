"""Coloured heads and their pictures: procedural ones with an exact surface, and files of pictures with samples around them.

`toy_head` draws a head of smooth solids: skull, jaw, nose, ears, eyes, lips, hair, with a signed field and an albedo everywhere.
`make_heads` photographs heads and samples their surface and the space around them: what a network needs that learns heads from one picture.

Frame: y up, face towards +z, the head's height about 1.1 with the stump of its neck, all of it in [-0.9, 0.9]^3. A head of 1.1 stands
for 0.28 m. Distances are negative inside. `real_head` draws heads of MakeHuman's model, `read_scans` reads scans with textures.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from densebook.core.errors import InputError, nearest
from densebook.core.seeds import generator as seeded
from densebook.geometry.mesh import Mesh, sample_surface, vertex_normals
from densebook.geometry.sphere_tracing import to_srgb

HEIGHT = 1.1  # of a head with its neck's stump, in the frame's units
METRES = 0.28 / HEIGHT  # metres a unit
FACTORS = ("identity", "expression", "skin", "light")
SPLITS = ("train", "test", *FACTORS)  # a factor's name: only that one is held out
HAIRS = ("bald", "short", "long", "bun", "afro")
_CELLS = 8  # of every interval that is split: the first three quarters of a cell are trained on, the rest is held out


class _Dice:
    """Numbers from a generator, kept to the part of their interval that the split leaves them."""

    def __init__(self, generator: torch.Generator | None, split: str) -> None:
        if split not in SPLITS:
            raise InputError(f"split {split!r} is not known{nearest(str(split), SPLITS)}")
        self.draw = seeded(0) if generator is None else generator
        self.held = set(FACTORS) if split == "test" else {split} & set(FACTORS)

    def __call__(self, low: float = 0.0, high: float = 1.0, factor: str = "") -> float:
        u = float(torch.rand((), generator=self.draw, dtype=torch.float64, device=self.draw.device))
        if factor:
            cell, rest = divmod(u * _CELLS, 1.0)
            u = (cell + (0.75 + 0.25 * rest if factor in self.held else 0.75 * rest)) / _CELLS
        return low + (high - low) * u

    def choice(self, names: Sequence, factor: str = "", few: int = 0):
        """One of them; with a factor, one of the last `few` where it is held out, else one of the others."""
        if factor and few:
            names = names[-few:] if factor in self.held else names[:-few]
        return names[int(self(0, len(names))) % len(names)]


# Toy heads ----------------------------------------------------------------------------------------------------------


def _ellipsoid(p: Tensor, center: Sequence[float], radii: Sequence[float]) -> Tensor:
    """Nearly the distance to an ellipsoid, exact in sign (Quilez 2008): k (k - 1) / |p / r^2|, where k = |p / r|."""
    r = p.new_tensor(radii)
    q = (p - p.new_tensor(center)) / r
    k = q.square().sum(-1).clamp_min(1e-12).sqrt()
    return k * (k - 1) / (q / r).square().sum(-1).clamp_min(1e-12).sqrt()


def _rod(p: Tensor, a: Sequence[float], b: Sequence[float], ra: float, rb: float) -> Tensor:
    """A rod from a to b whose radius goes from ra to rb."""
    start, along = p.new_tensor(a), p.new_tensor(b) - p.new_tensor(a)
    t = ((p - start) @ along / along.square().sum()).clamp(0, 1)
    offset = p - start - t[..., None] * along
    return offset.square().sum(-1).clamp_min(1e-12).sqrt() - (ra + t * (rb - ra))


def _melt(a: Tensor, b: Tensor, k: float) -> Tensor:
    """The union of two fields, their seam rounded over the length k (Quilez 2013, quadratic)."""
    h = (k - (a - b).abs()).clamp_min(0) / k
    return torch.minimum(a, b) - h * h * (k / 4)


def _carve(a: Tensor, b: Tensor, k: float) -> Tensor:
    """`a` without `b`, the edge rounded."""
    return -_melt(-a, b, k)


@dataclass(frozen=True, eq=False)
class ToyHead:
    """A procedural head: its field's sign and zero are exact, everywhere; the value is a lower bound of the distance within some per cent.

    float32 and float64, any device, differentiable in the points. `shape` are lengths and factors, `paint` colours (linear RGB).
    """

    shape: dict[str, float]
    paint: dict[str, tuple[float, float, float]]
    hair: str = "short"  # one of HAIRS

    def sdf(self, points: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch"]:
        """Signed field at points: negative inside, zero on the surface."""
        q, s = self._local(_points(points)), self.shape
        solid = torch.minimum(_melt(self._skin(q), self._hair(q), 0.02), self._eyes(q))
        floor = -HEIGHT / 2 - 0.02 - q[..., 1]  # the neck is cut off here
        edge = torch.maximum(solid, floor)
        return edge * (s["size"] * min(s["wide"], s["tall"], s["deep"]))

    __call__ = sdf

    def _local(self, points: Tensor) -> Tensor:
        """Points in the frame in which the parts are described: one mean head."""
        s = self.shape
        return points / points.new_tensor([s["size"] * s["wide"], s["size"] * s["tall"], s["size"] * s["deep"]])

    def _sides(self, q: Tensor) -> Tensor:
        """The left half folded on the right: what comes in pairs is described once. Smooth at x = 0."""
        return torch.cat([(q[..., :1].square() + 1e-8).sqrt(), q[..., 1:]], dim=-1)

    def _skull(self, q: Tensor) -> Tensor:
        return _ellipsoid(q, (0.0, 0.17, -0.05), (0.30, 0.37, 0.37))

    def _skin(self, q: Tensor) -> Tensor:
        s, m = self.shape, self._sides(q)
        drop = s["open"]
        d = _melt(
            self._skull(q), _ellipsoid(q, (0.0, -0.07 - 0.3 * drop, 0.09), (0.235 * s["jaw"], 0.30 * s["long"] + 0.3 * drop, 0.25)), 0.12
        )
        d = _melt(d, _ellipsoid(m, (0.135, -0.01, 0.17), (0.085, 0.075, 0.085 * s["cheek"])), 0.10)
        d = _melt(d, _ellipsoid(q, (0.0, -0.315 * s["long"] - drop, 0.235 + s["chin"]), (0.085, 0.065, 0.07)), 0.10)
        d = _melt(d, _rod(q, (0.0, -0.20, -0.07), (0.0, -0.8, -0.13), 0.15 * s["neck"], 0.20 * s["neck"]), 0.08)
        d = _melt(d, _rod(m, (0.03, 0.175, 0.285 + s["brow"]), (0.16, 0.165, 0.225 + s["brow"]), 0.04, 0.03), 0.06)
        d = _carve(d, _ellipsoid(m, (0.115, 0.095, 0.385), (0.075, 0.048, 0.09)), 0.05)
        lids = _carve(self._eyes(q) - 0.009, _ellipsoid(m, (0.115, 0.093, 0.33), (0.047, 0.004 + 0.022 * s["awake"], 0.06)), 0.008)
        d = _melt(d, lids, 0.02)
        tip = (0.0, -0.025 + s["tip"], 0.365 + s["nose"])
        d = _melt(d, _rod(q, (0.0, 0.135, 0.30 + s["bridge"]), tip, 0.022, 0.045), 0.04)
        d = _melt(d, _ellipsoid(m, (0.042 * s["wings"], -0.045 + s["tip"], 0.335 + 0.6 * s["nose"]), (0.032, 0.028, 0.04)), 0.03)
        d = self._mouth(d, m)
        return torch.minimum(d, self._ears(m, d))

    def _mouth(self, d: Tensor, m: Tensor) -> Tensor:
        s = self.shape
        y, half, smile, drop = -0.155 * s["long"], 0.085 * s["mouth"], s["smile"], s["open"]
        full = 0.021 * s["lips"]
        d = _carve(d, _ellipsoid(m, (0.0, y - 0.5 * drop, 0.36), (half * 0.9, 0.008 + 0.45 * drop, 0.07 + 0.5 * drop)), 0.02)
        d = _melt(d, _rod(m, (0.0, y + 0.016, 0.325), (half, y + smile, 0.275), full, 0.4 * full), 0.02)
        return _melt(d, _rod(m, (0.0, y - 0.02 - drop, 0.325), (half, y + smile - 0.004, 0.272), 1.15 * full, 0.4 * full), 0.02)

    def _ears(self, m: Tensor, d: Tensor) -> Tensor:
        s = self.shape
        turn, size = s["stick"], s["ear"]
        x, y, z = (m - m.new_tensor([0.288, 0.045, -0.02])).unbind(-1)
        c, n = math.cos(turn), math.sin(turn)
        flat = torch.stack([c * x + n * z, y, c * z - n * x], dim=-1)  # the back edge stands off the head
        outer = _ellipsoid(flat, (0.02, 0.0, -0.01), (0.03, 0.105 * size, 0.065 * size))
        shell = _carve(outer, _ellipsoid(flat, (0.05, 0.005, 0.005), (0.03, 0.07 * size, 0.04 * size)), 0.02)
        return _melt(d, shell, 0.03)

    def _eyes(self, q: Tensor) -> Tensor:
        return _ellipsoid(self._sides(q), (0.115, 0.095, 0.262), (0.058, 0.052, 0.056))

    def _hair(self, q: Tensor) -> Tensor:
        """A shell on the skull above the hairline, and what the style hangs on it; far away where there is none."""
        s = self.shape
        if self.hair == "bald":
            return torch.full_like(q[..., 0], 9.0)
        thick = s["hair"] * (2.5 if self.hair == "afro" else 1.0)
        wave = (q * 34 + 6 * s["phase"]).sin().prod(-1) + 0.5 * (q[..., 0] * 60 + 9 * s["phase"] + 4 * (q[..., 1] * 17).sin()).sin()
        shell = _ellipsoid(q, (0.0, 0.17, -0.06), (0.305 + thick, 0.375 + thick, 0.38 + thick)) - 0.006 * s["curl"] * wave
        line = q[..., 2] - 0.85 * q[..., 1] - s["line"] + 0.4 * (q[..., 0].square())  # before it is face
        d = _carve(shell, -line, 0.05)
        if self.hair == "long":
            fall = _ellipsoid(q, (0.0, -0.08, -0.12), (0.33 + thick, 0.40, 0.27 + 0.5 * thick)) - 0.008 * s["curl"] * wave
            d = _melt(d, _carve(fall, -(q[..., 2] - 0.02 - s["line"]), 0.06), 0.06)
        if self.hair == "bun":
            d = _melt(d, _ellipsoid(q, (0.0, 0.42, -0.33), (0.14, 0.13, 0.14)) - 0.004 * wave, 0.04)
        return d

    def albedo(self, points: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
        """Linear RGB in [0, 1] that the head shows at points on or near its surface."""
        q, s = self._local(_points(points)), self.shape
        m = self._sides(q)
        x, y, z = m.unbind(-1)
        color = {name: q.new_tensor(value) for name, value in self.paint.items()}

        def over(below: Tensor, name: str, cover: Tensor) -> Tensor:
            return below + cover.clamp(0, 1)[..., None] * (color[name] - below)

        spots = (q * 23 + s["phase"]).sin().prod(-1) + (q.flip(-1) * 9 + 3 * s["phase"]).sin().prod(-1)
        skin = color["skin"] * (1 + 0.05 * spots)[..., None]
        blush = torch.exp(-((x - 0.14).square() + (y + 0.02).square()) / 0.006) * (z > 0)
        skin = over(skin, "blush", 0.35 * blush)
        brow = 0.017 - (y - 0.168 - 0.10 * x * (0.2 - x) * 5).abs()
        skin = over(skin, "hair", torch.minimum(brow, torch.minimum(x - 0.045, 0.185 - x)) * 120 * (z > 0.1))
        chin = torch.minimum(torch.minimum(-0.10 - y, y + 0.40), torch.minimum((z - 0.05) * 2, 1.2 * z - 0.17 - 0.3 * y)) * 14
        skin = over(skin, "hair", chin.clamp(0, 0.75) * s["beard"])
        skin = over(skin, "lips", self._lip_cover(m))
        skin = over(skin, "hair", (self._skin(q) - self._hair(q)) * 120 + 0.5)
        out = (x - 0.115 - 0.1 * s["gaze"]).square() + (y - 0.095).square()
        front = (z > 0.262) * 1.0
        eye = over(color["eye"].expand_as(q), "iris", (0.026 - out.clamp_min(1e-12).sqrt()) * 300 * front)
        eye = over(eye, "pupil", (0.011 - out.clamp_min(1e-12).sqrt()) * 300 * front)
        shown = ((self._skin(q) - self._eyes(q)) * 400 + 0.5).clamp(0, 1)[..., None]
        return (skin + shown * (eye - skin)).clamp(0, 1)

    def _lip_cover(self, m: Tensor) -> Tensor:
        s = self.shape
        y = -0.155 * s["long"]
        half, away = 0.085 * s["mouth"], (m[..., 1] - y + 0.5 * s["open"] - s["smile"] * (m[..., 0] / 0.085).square())
        inside = 1 - (m[..., 0] / half).square() - (away / (0.037 * s["lips"] + 0.5 * s["open"])).square()
        return inside * 4 * (m[..., 2] > 0.2)

    def mesh(self, resolution: int = 96) -> Mesh:
        """The surface with vertex colours and normals, watertight: vertices on the field's zero, cells of 2 / resolution.

        All of a grid around the head is evaluated, 60,000 points at 64. Raises InputError for a resolution below 16.
        """
        from densebook.geometry.marching_cubes import marching_cubes

        if not isinstance(resolution, int) or resolution < 16:
            raise InputError(f"resolution is {resolution!r}; give a whole number of cells along 2 units, from 16 up")
        scale = torch.tensor([self.shape["size"] * self.shape[n] for n in ("wide", "tall", "deep")])
        low, high, cell = scale * torch.tensor(_BOX[0]), scale * torch.tensor(_BOX[1]), 2 / resolution
        axes = [a + cell * torch.arange(math.ceil((b - a) / cell) + 1) for a, b in zip(low.tolist(), high.tolist())]
        grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
        field = torch.cat([self.sdf(part) for part in grid.split(max(1, 65536 // grid[0].shape[:2].numel()))])
        found = marching_cubes(field, spacing=cell, origin=low)
        on, normals = self.project(found.vertices)
        return Mesh(on, found.faces, colors=self.albedo(on), normals=normals)

    def project(self, points: Float[Tensor, "N 3"], steps: int = 2) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N 3"]]:
        """Points near the surface moved onto it by Newton's steps along the field's slope, and the unit normals there."""
        for _ in range(steps):
            d, g = self._slope(points)
            points = points - (d / g.square().sum(-1).clamp_min(1e-2)).clamp(-0.02, 0.02)[..., None] * g
        return points, torch.nn.functional.normalize(self._slope(points)[1], dim=-1)

    def _slope(self, points: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            x = points.detach().requires_grad_()
            d = self.sdf(x)
            return d.detach(), torch.autograd.grad(d.sum(), x)[0]


def _points(points: Tensor) -> Tensor:
    if not isinstance(points, Tensor) or not points.is_floating_point() or points.ndim < 1 or points.shape[-1] != 3:
        what = f"{points.dtype} {tuple(points.shape)}" if isinstance(points, Tensor) else type(points).__name__
        raise InputError(f"points is {what}; give a floating-point tensor of shape (..., 3)")
    return points


_BOX = ((-0.47, -0.60, -0.63), (0.47, 0.72, 0.53))  # around every head, in the frame of the parts
_SKINS = ((0.72, 0.46, 0.36), (0.55, 0.31, 0.20), (0.33, 0.17, 0.10), (0.12, 0.055, 0.035))  # linear RGB, light to dark
_HAIR_COLORS = ((0.02, 0.016, 0.014), (0.07, 0.035, 0.018), (0.22, 0.11, 0.04), (0.50, 0.33, 0.13), (0.33, 0.09, 0.03), (0.45, 0.45, 0.46))
_IRISES = ((0.10, 0.05, 0.02), (0.10, 0.19, 0.33), (0.10, 0.20, 0.09))


def toy_head(generator: torch.Generator | None = None, split: str = "train", expression: bool = True) -> ToyHead:
    """A head drawn by `generator` (None: always the same): shape, hair, colours and, with `expression`, mouth and lids.

    Width, height and depth vary by a tenth and more, depth with width: from the front alone one cannot see depth, and no network could
    learn what the picture does not tell. `split` "test" holds out identities, expressions and skins: their main numbers come from
    intervals that "train" never gives. Raises InputError for an unknown split.
    """
    u = _Dice(generator, split)
    wide = u(0.84, 1.18, "identity")
    shape = {
        "wide": wide, "tall": u(0.88, 1.06, "identity"), "deep": wide**0.8 * u(0.96, 1.05), "size": u(0.92, 1.04),
        "jaw": u(0.82, 1.18, "identity"), "long": u(0.88, 1.10), "cheek": u(0.7, 1.3), "chin": u(-0.03, 0.035), "neck": u(0.8, 1.2),
        "brow": u(-0.012, 0.015), "nose": u(-0.01, 0.06, "identity"), "bridge": u(-0.02, 0.03), "tip": u(-0.02, 0.02), "wings": u(0.7, 1.4),
        "mouth": u(0.8, 1.25), "lips": u(0.7, 1.35), "ear": u(0.75, 1.3), "stick": u(0.1, 0.7), "phase": u(0, 6.28), "curl": u(0.2, 1.4),
        "hair": u(0.015, 0.05), "line": u(-0.10, 0.02), "beard": max(0.0, u(-1.0, 1.0)),
        "gaze": 0.0, "open": 0.0, "smile": 0.0, "awake": 1.0,
    }  # fmt: skip
    face = {
        "open": max(0.0, u(-0.06, 0.06, "expression")),
        "smile": u(-0.015, 0.03, "expression"),
        "awake": u(0.3, 1.0),
        "gaze": u(-0.12, 0.12),
    }
    shape |= face if expression else {}
    tone = u(0, len(_SKINS) - 1, "skin")
    light, dark = _SKINS[int(tone)], _SKINS[int(tone) + 1]
    skin = tuple((a + (tone % 1) * (b - a)) * u(0.93, 1.07) for a, b in zip(light, dark))
    red, tint = u(0.5, 0.8), u(0.9, 1.1)
    paint = {
        "skin": skin, "blush": (skin[0] * 1.02, skin[1] * 0.75, skin[2] * 0.75), "lips": (skin[0] * 0.85, skin[1] * red, skin[2] * red),
        "hair": tuple(c * tint for c in u.choice(_HAIR_COLORS)), "eye": (0.72, 0.70, 0.68), "iris": u.choice(_IRISES),
        "pupil": (0.01, 0.01, 0.01),
    }  # fmt: skip
    return ToyHead(shape, paint, u.choice(HAIRS))


# Pictures and samples -----------------------------------------------------------------------------------------------


class HeadSet(NamedTuple):
    """Pictures of N heads of S x S pixels, with P samples on and Q around the surface of each; float32 on the CPU."""

    images: Float[Tensor, "N 3 S S"]  # sRGB in [0, 1]; on the head exactly to_srgb(albedo * shading)
    masks: Float[Tensor, "N S S"]  # 1 where a pixel's centre sees the head, else 0
    albedo_images: Float[Tensor, "N 3 S S"]  # linear RGB; 0 off the head
    shading_images: Float[Tensor, "N 3 S S"]  # linear: irradiance / pi, what a white head would show; 0 off the head
    K: Float[Tensor, "N 3 3"]
    cam_from_world: Float[Tensor, "N 4 4"]
    surface: Float[Tensor, "N P 3"]  # uniform by area
    normals: Float[Tensor, "N P 3"]  # unit, outward
    albedo: Float[Tensor, "N P 3"]  # linear RGB at `surface`
    points: Float[Tensor, "N Q 3"]  # three quarters near the surface, one quarter anywhere in [-1, 1]^3
    distances: Float[Tensor, "N Q"]  # of `points`, negative inside
    point_albedo: Float[Tensor, "N Q 3"]  # linear RGB of the surface nearest to `points`
    identity: Int[Tensor, "N"]

    def to(self, *arguments) -> HeadSet:
        """On another device, or in another float type, as `Tensor.to` (identities stay whole numbers)."""
        moved = [t.to(*arguments) for t in self[:-1]]
        return HeadSet(*moved, self.identity.to(moved[0].device))

    def take(self, which) -> HeadSet:
        """Some of the heads: a slice, a list or a tensor of indices."""
        return HeadSet(*(t[which] for t in self))


KINDS = ("toy", "real", "ict")
NEAR = (0.02, 0.08)  # standard deviations of the samples near the surface; half of them each


@torch.no_grad()
def make_heads(
    count: int,
    size: int = 64,  # pixels a side
    generator: torch.Generator | None = None,  # on the CPU; None: always the same heads
    kind: str | Sequence[Mesh] = "toy",  # "toy", "real", "ict", or meshes in the frame: head k shows kind[k % len(kind)]
    split: str = "train",  # "train", "test", or the one factor that is held out: see SPLITS
    samples: tuple[int, int] = (512, 512),  # P on the surface, Q around it
    lights: Sequence | None = None,  # head k is lit by lights[k % len(lights)], a light or a list of lights; None: drawn
    yaw: float = 0.35,  # the camera goes round the head by up to this, radians; 0: pictures from the front
) -> HeadSet:
    """`count` heads, one picture each, from a camera 3.2 units away; every number follows from the generator.

    Drawn lights are a soft sky and two lamps for toy heads, and radiance maps turned about y for real ones; no shadows. The background is
    one colour a picture. At 64 pixels a core makes some eight toy heads or five real ones a second.
    Raises InputError for a count or size below 1, an unknown kind or split, and where `real_head` does.
    """
    if isinstance(kind, str) and kind not in KINDS:
        raise InputError(f"kind {kind!r} is not known{nearest(str(kind), KINDS)}")
    if not isinstance(kind, str) and not (len(kind) and all(isinstance(m, Mesh) for m in kind)):
        raise InputError("kind holds no mesh, or something that is none; give 'toy', 'real', 'ict' or a list of Mesh")
    for name, value in (("count", count), ("size", size), ("samples[0]", samples[0]), ("samples[1]", samples[1])):
        if not isinstance(value, int) or value < 1:
            raise InputError(f"{name} is {value!r}; give a whole number from 1 up")
    u = _Dice(generator, split)
    rows = [_one(u, k, size, kind, split, samples, lights, yaw) for k in range(count)]
    return HeadSet(*(torch.stack(column) for column in zip(*rows)), torch.arange(count))


def _mesh_head(draw: torch.Generator, kind: str, split: str, size: int) -> Mesh:
    return ict_head(draw, split) if kind == "ict" else real_head(draw, split, fine=size > 256)


def _one(u: _Dice, k: int, size: int, kind, split: str, samples: tuple[int, int], lights, yaw: float) -> list[Tensor]:
    """One row of a `HeadSet`, all but the identity."""
    if isinstance(kind, str):
        subject = (
            _Toy(toy_head(u.draw, split), 64 if size <= 128 else 128) if kind == "toy" else _Real(_mesh_head(u.draw, kind, split, size))
        )
    else:
        subject = _Real(kind[k % len(kind)])
    camera = _camera(u, size, yaw)
    lit = _lights(u, kind) if lights is None else lights[k % len(lights)]
    picture = photograph(subject.mesh, camera, lit, _behind(u), subject.paint)
    return [*(t.float() for t in picture), camera.K, camera.cam_from_world, *subject.samples(*samples, u.draw)]


def _camera(u: _Dice, size: int, yaw: float):
    """A camera that looks at about the middle of the head, which is about three quarters of the picture high."""
    from densebook.render.cameras import orbit

    target = (u(-0.02, 0.02), u(-0.02, 0.04), 0.0)
    return orbit(u(-yaw, yaw), u(-0.3, 0.3) * yaw + 0.02, u(3.1, 3.3), target, (size, size), 0.44)


def _behind(u: _Dice) -> list[float]:
    """A colour, not too loud."""
    grey = u(0.05, 0.7)
    return [grey * u(0.7, 1.3) for _ in range(3)]


def _lights(u: _Dice, kind) -> tuple:
    from densebook.render.shading import Ambient, Directional

    def tint(strength: float) -> list[float]:
        return [strength * u(0.88, 1.12) for _ in range(3)]

    if kind in ("real", "ict"):
        return _surroundings(u)
    lamps = [Ambient(tint(u(0.2, 0.5)))]
    for low, high in ((0.4, 0.8), (0.05, 0.25)):
        turn, up = u(-2.0, 2.0, "light"), u(-0.2, 1.2)
        lamps.append(Directional((math.cos(up) * math.sin(turn), math.sin(up), math.cos(up) * math.cos(turn)), tint(u(low, high))))
    return tuple(lamps)


@torch.no_grad()
def photograph(
    mesh: Mesh,
    camera,  # a `densebook.render.cameras.Camera`
    lights,  # one light or a list of them
    background: Sequence[float] = (0.5, 0.5, 0.5),  # linear RGB
    paint: Callable | None = None,  # (points, faces, barycentrics) -> albedo; None: the mesh's own
) -> tuple[Float[Tensor, "3 H W"], Float[Tensor, "H W"], Float[Tensor, "3 H W"], Float[Tensor, "3 H W"]]:
    """Image (sRGB), mask, albedo and shading (linear) of a mesh, each at the pixels' centres: on the mesh image = to_srgb(albedo shading).

    Lambert's law without shadows; normals are those at the vertices, interpolated. Memory: some 300 bytes a pixel.
    """
    from densebook.render import rasterizer, shading

    seen = rasterizer.rasterize(mesh, camera, backend="torch")
    at = seen.mask.reshape(-1).nonzero()[:, 0]
    face, weights = seen.face.reshape(-1)[at].long(), seen.barycentrics.reshape(-1, 3)[at].to(mesh.vertices)
    corners = mesh.faces[face]
    normals = vertex_normals(mesh) if mesh.normals is None else mesh.normals
    points, normals = ((table[corners] * weights[..., None]).sum(1) for table in (mesh.vertices, normals))
    if paint is not None:
        color = paint(points, face, weights)
    else:
        spread = shading.texture_footprint(mesh, camera, seen.face).reshape(-1)[at] if mesh.textures else None
        color = shading.albedo(mesh, face, weights, spread)
    light = shading.shade(torch.ones_like(points), normals, points, camera.center, lights)
    height, width = camera.size

    def image(values: Tensor, empty: Tensor) -> Tensor:
        return empty.repeat(height * width, 1).index_copy(0, at, values).view(height, width, 3).permute(2, 0, 1)

    none = points.new_zeros(3)
    shown = image(to_srgb(color * light), to_srgb(points.new_tensor(background)))
    return shown, seen.mask.to(points), image(color, none), image(light, none)


def _around(mesh: Mesh, count: int, draw: torch.Generator) -> Float[Tensor, "count 3"]:
    """Three quarters of the points near the surface, one quarter anywhere."""
    near = count * 3 // 4
    on = sample_surface(mesh, near, draw)[0]
    spread = torch.where(torch.arange(near) % 2 == 0, *NEAR)[:, None]
    return torch.cat([on + spread * torch.randn(near, 3, generator=draw), 2 * torch.rand(count - near, 3, generator=draw) - 1])


class _Toy:
    """A toy head before the camera."""

    def __init__(self, head: ToyHead, resolution: int = 64) -> None:
        self.head, self.mesh = head, head.mesh(resolution)

    def paint(self, points: Tensor, face: Tensor, weights: Tensor) -> Tensor:
        return self.head.albedo(points)

    def samples(self, on: int, around: int, draw: torch.Generator) -> list[Tensor]:
        """Surface, normals, albedo; points, distances, albedo: exact on the surface, distances to the mesh with the field's sign."""
        from densebook.geometry.sdf import MeshSDF

        head = self.head
        surface, normals = head.project(sample_surface(self.mesh, on, draw)[0])
        points = _around(self.mesh, around, draw)
        nearest, _, distance = MeshSDF(self.mesh, sign="winding").closest(points)
        signed = torch.where(head.sdf(points) < 0, -distance, distance)
        return [surface, normals, head.albedo(surface), points, signed, head.albedo(nearest)]


class _Real:
    """A mesh with its own colours before the camera."""

    paint = None

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh

    def samples(self, on: int, around: int, draw: torch.Generator) -> list[Tensor]:
        """Surface, normals, albedo; points, distances, albedo: signs by the winding number, distances to the faces that are outside."""
        from densebook.geometry import bvh
        from densebook.geometry.sdf import MeshSDF
        from densebook.render.shading import albedo

        tree = bvh.build(self.mesh.triangles)
        outer = _outer(self.mesh)
        surface, face, weights = sample_surface(outer, on, draw)
        normals = torch.nn.functional.normalize((outer.normals[outer.faces[face]] * weights[..., None]).sum(1), dim=-1)
        points = _around(outer, around, draw)
        nearest, owner, distance = MeshSDF(outer, sign="winding").closest(points)
        signed = torch.where(bvh.is_inside(tree, points), -distance, distance)
        color, nearby = (albedo(outer, f, w).clamp(0, 1) for f, w in ((face, weights), (owner, _weights(outer, nearest, owner))))
        return [surface, normals, color, points, signed, nearby]


def _outer(mesh: Mesh) -> Mesh:
    """The mesh with normals, and without the faces of a MakeHuman head that lie inside it: backs of the eyes."""
    from .makehuman import PARTS

    mesh = mesh if mesh.normals is not None else replace(mesh, normals=vertex_normals(mesh))
    if mesh.objects is None:
        return mesh
    kept = mesh.objects != PARTS.index("inside")
    per_face = {n: getattr(mesh, n) for n in ("faces", "uv", "face_textures", "face_colors", "objects")}
    return replace(mesh, **{n: None if t is None else t[kept] for n, t in per_face.items()})


def _weights(mesh: Mesh, points: Float[Tensor, "N 3"], face: Int[Tensor, "N"]) -> Float[Tensor, "N 3"]:
    """Barycentric coordinates of points on their faces."""
    corners = mesh.triangles[face].double()
    edges = (corners[:, 1:] - corners[:, :1]).mT  # (N, 3, 2)
    normal = edges.mT @ edges
    right = (edges.mT @ (points.double() - corners[:, 0])[..., None])[..., 0]
    a, b, c = normal[:, 0, 0], normal[:, 0, 1], normal[:, 1, 1]
    det = (a * c - b * b).clamp_min(1e-30)
    v, w = (c * right[:, 0] - b * right[:, 1]) / det, (a * right[:, 1] - b * right[:, 0]) / det
    found = torch.stack([1 - v - w, v, w], dim=1).clamp(0, 1)
    return (found / found.sum(1, keepdim=True)).to(mesh.vertices)


# Real heads ---------------------------------------------------------------------------------------------------------


def real_head(generator: torch.Generator | None = None, split: str = "train", expression: bool = True, fine: bool = False) -> Mesh:
    """A head of MakeHuman's model, drawn by `generator` (None: always the same): watertight shells, textures, `objects` by part.

    Ancestry, sex and age blend, details and one to four expressions are added, a skin is tinted, hair, brows and beards are painted on and
    hair stands off a little. `split` "test" holds out identities (ages, sexes and widths that "train" never gives), expressions and
    skins. `fine` keeps the skins at full size. 80 ms a head after two seconds for the first. Raises InputError, saying how to get them,
    where MakeHuman's files are not in the data folder.
    """
    from . import makehuman

    return makehuman.head(_Dice(generator, split), expression, fine)


TRAIN_LIGHTS, TEST_LIGHTS = ("studio", "park", "city", "forest", "night", "office"), ("lobby", "sunset")


@functools.lru_cache(maxsize=16)
def _radiance(name: str) -> Float[Tensor, "32 64 3"]:
    """A map of the registry, small, with mean brightness 1, its tint mostly taken out as a camera's white balance does."""
    from . import images, registry

    radiance = images.read_hdr(registry.get(name)).permute(2, 0, 1)[None]
    small = torch.nn.functional.adaptive_avg_pool2d(radiance, (32, 64))[0].permute(1, 2, 0)
    small = small / small.mean((0, 1)) ** 0.7
    return small / small.mean()


def _surroundings(u: _Dice) -> tuple:
    """A radiance map turned about y, as bright as a face needs it."""
    from densebook.render.shading import Ambient, Environment

    light = _radiance(u.choice((*TRAIN_LIGHTS, *TEST_LIGHTS), "light", len(TEST_LIGHTS))).roll(int(u(0, 64)), dims=1)
    return (Environment(light * u(0.35, 0.65)), Ambient(u(0.12, 0.3)))


# The ICT face model's heads -----------------------------------------------------------------------------------------

_ICT_CUT = -12.5  # centimetres: below this there are shoulders


@functools.lru_cache(maxsize=1)
def _ict(path) -> dict[str, Tensor]:
    """The packed model as tensors in centimetres: neutral, identity and expression modes, faces by part, loops: 40 MB."""
    import numpy as np

    from .faces import _arrays
    from .makehuman import open_loops

    keys = ("neutral", "identity_q", "identity_scale", "expression_q", "expression_scale", "faces", "face_part", "landmarks68")
    arrays = _arrays(path, keys)
    faces, part = arrays["faces"].astype(np.int64), arrays["face_part"]
    neutral = arrays["neutral"].astype(np.float32)
    skin = faces[(part <= 1) & (neutral[faces][..., 1] > _ICT_CUT).all(axis=1)]
    mouth, eyes, neck = [], [], []
    for loop in open_loops(skin):
        middle = neutral[loop].mean(axis=0)
        (neck if middle[1] < -8 else mouth if middle[1] < 0 else eyes).append(torch.tensor(loop))
    if (len(neck), len(mouth), len(eyes)) != (1, 1, 2):
        raise InputError(
            f"{path} is not the packed ICT model (its head has other openings); make it with `python data_scripts/faces_ict.py`"
        )
    balls = torch.from_numpy(faces[part == 4])
    right = torch.from_numpy(neutral)[balls][..., 0].mean(1) < 0
    scaled = {
        n: torch.from_numpy(arrays[f"{n}_q"].astype(np.float32) * arrays[f"{n}_scale"][:, None, None]) for n in ("identity", "expression")
    }
    return {
        "neutral": torch.from_numpy(neutral), **scaled, "skin": torch.from_numpy(skin), "neck": neck[0], "mouth": mouth[0],
        "eyes": sorted(eyes, key=lambda loop: float(neutral[loop, 0].mean())), "balls": [balls[right], balls[~right]],
        "landmarks": torch.from_numpy(arrays["landmarks68"].astype(np.int64)),
    }  # fmt: skip


def ict_head(generator: torch.Generator | None = None, split: str = "train", expression: bool = True) -> Mesh:
    """A head of the ICT face model (Li et al. 2020): identity weights ~ N(0, 1), one to four expressions, one of a range of skin tones.

    Watertight shells of skin and eyeballs, cut at the neck, colours at the vertices (the model has no textures), `objects` by part as
    MakeHuman's. `split` "test" holds out two of every eight expressions, skin tones, and values of the first three identity
    weights. Raises InputError, saying how to get it, where the packed model is not in the data folder.
    """
    from . import faces, makehuman

    u, model = _Dice(generator, split), _ict(faces.ict_path())
    weights = torch.randn(len(model["identity"]), generator=u.draw).clamp(-2, 2)
    weights[:3] = torch.tensor([u(-2, 2, "identity") for _ in range(3)])
    vertices = model["neutral"] + torch.einsum("m,mvc->vc", weights, model["identity"])
    units = [k for k in range(len(model["expression"])) if (k % 8 >= 6) == ("expression" in u.held)]
    for _ in range(1 + int(u(0, 3.999))):
        unit, amount = u.choice(units), u(0.3, 0.9)
        vertices = vertices + expression * amount * model["expression"][unit]
    used = model["skin"].unique()
    vertices[model["neck"], 1] = vertices[model["neck"], 1].mean()
    low, high = vertices[used].amin(0), vertices[used].amax(0)
    scale = HEIGHT * u(0.92, 1.04) / (high[1] - low[1])
    vertices = (vertices - (low + high) / 2 * torch.tensor([0.0, 1.0, 1.0])) * scale
    mesh = _ict_closed(model, vertices, _ict_colors(u, model, vertices))
    return makehuman.without_strays(mesh)


def _ict_closed(model: dict, vertices: Tensor, colors: Tensor) -> Mesh:
    """Skin with caps over neck, mouth and eyes, and the eyeballs."""
    from .makehuman import PARTS, fan, within_loop

    middles = [vertices[ball.unique()].mean(0) for ball in model["balls"]]
    mouth = vertices[model["mouth"]].mean(0) - torch.tensor([0.0, 0.0, 0.10])
    tips = torch.stack([mouth, vertices[model["neck"]].mean(0), *middles])
    loops = [model["mouth"], model["neck"], *model["eyes"]]
    shades = torch.stack([torch.tensor([0.10, 0.02, 0.02]), colors[model["neck"]].mean(0), *[torch.full((3,), 0.3)] * 2])
    faces, parts = [model["skin"]], [torch.zeros(len(model["skin"]), dtype=torch.int64)]
    for k, (loop, name) in enumerate(zip(loops, ("mouth", "neck", "inside", "inside"))):
        faces.append(fan(loop, len(vertices) + k))
        parts.append(torch.full((len(loop),), PARTS.index(name)))
    for ball, middle, loop in zip(model["balls"], middles, model["eyes"]):
        faces.append(ball)
        seen = within_loop(vertices[ball].mean(1) - middle, vertices[loop] - middle)
        parts.append(torch.where(seen, PARTS.index("eyes"), PARTS.index("inside")))
    return Mesh(torch.cat([vertices, tips]), torch.cat(faces), colors=torch.cat([colors, shades]), objects=torch.cat(parts))


def _ict_colors(u: _Dice, model: dict, vertices: Tensor) -> Float[Tensor, "V 3"]:
    """Skin, cropped hair, brows, lips and irises by place and landmark."""
    tone = u(0, len(_SKINS) - 1, "skin")
    light, dark = (torch.tensor(_SKINS[int(tone) + k]) for k in (0, 1))
    skin, hair, iris = torch.lerp(light, dark, tone % 1), torch.tensor(u.choice(_HAIR_COLORS)), torch.tensor(u.choice(_IRISES))
    x, y, z = vertices.unbind(-1)
    marks = vertices[model["landmarks"]]

    def near(line: Tensor, half: float) -> Tensor:
        """1 close to a polyline, seen from the front, 0 from `half` on."""
        a, b = line[:-1, :2], line[1:, :2]
        to = vertices[:, None, :2] - a
        t = ((to * (b - a)).sum(-1) / (b - a).square().sum(-1)).clamp(0, 1)
        return ((half - (to - t[..., None] * (b - a)).norm(dim=-1).amin(1)) * 3 / half).clamp(0, 1) * (z > 0.1)

    spots = 1 + 0.05 * (vertices * 23).sin().prod(-1, keepdim=True)
    color = (skin * spots).clamp(0, 1)
    scalp = ((0.02 - (z - 0.95 * y + 0.17)) * 14).clamp(0, 1) * ((y + 0.12) * 8).clamp(0, 1)
    brows = near(marks[17:22], 0.016).maximum(near(marks[22:27], 0.016))
    color = torch.lerp(color, hair.expand_as(color), (scalp * (u() < 0.75)).maximum(brows)[:, None])
    lips = near(torch.cat([marks[48:60], marks[48:49]]), 0.02).maximum(near(torch.cat([marks[60:68], marks[60:61]]), 0.02))
    color = torch.lerp(color, skin * torch.tensor([0.85, 0.55, 0.55]), lips[:, None])
    for ball in model["balls"]:
        rows = ball.unique()
        out = torch.nn.functional.normalize(vertices[rows] - vertices[rows].mean(0), dim=-1)[:, 2]
        white = torch.where((out > 0.90)[:, None], iris, torch.tensor([0.68, 0.63, 0.61]))
        color[rows] = torch.where((out > 0.985)[:, None], torch.full((3,), 0.008), white)
    return color


# Files --------------------------------------------------------------------------------------------------------------

PICTURES = ("images", "masks", "albedo")  # folders of N.png; shading/N.npz and samples/N.npz lie beside
_SAMPLES = ("K", "cam_from_world", "surface", "normals", "albedo", "points", "distances", "point_albedo", "identity")


def write_heads(folder: str | Path, heads: HeadSet, start: int = 0) -> list[Path]:
    """Write heads in the layout that `read_heads` reads, numbered from `start`; returns the files, each written whole.

    images/N.png and albedo/N.png (sRGB, 8 bits), masks/N.png (255 on the head), shading/N.npz (float16, linear: `shading`),
    samples/N.npz (float32: camera, samples on and around the surface; `identity`). N has six digits.
    """
    import numpy as np
    from PIL import Image

    from densebook.core.files import atomic_path

    folder, written = Path(folder), []

    def put(part: str, number: int, suffix: str, save: Callable) -> None:
        path = folder / part / f"{number:06d}.{suffix}"
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            save(file)
        written.append(path)

    def bytes_of(picture: Tensor):
        return (picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()

    for k in range(len(heads.images)):
        pictures = {"images": heads.images[k], "masks": heads.masks[k][None].expand(3, -1, -1), "albedo": to_srgb(heads.albedo_images[k])}
        for part, picture in pictures.items():
            image = Image.fromarray(bytes_of(picture))
            put(
                part,
                start + k,
                "png",
                lambda file, image=image, part=part: (image.convert("L") if part == "masks" else image).save(file, "PNG"),
            )
        shading = heads.shading_images[k].half().cpu().numpy()
        put("shading", start + k, "npz", lambda file, shading=shading: np.savez_compressed(file, shading=shading))
        arrays = {name: getattr(heads, name)[k].cpu().numpy() for name in _SAMPLES}
        put("samples", start + k, "npz", lambda file, arrays=arrays: np.savez_compressed(file, **arrays))
    return written


def read_heads(folder: str | Path, numbers: Sequence[int] | None = None) -> HeadSet:
    """Heads from a folder that `write_heads` or `data_scripts/heads.py` wrote; pictures have 8 bits, shading float16's precision.

    `numbers`: which; None: all, in order. Nothing pickled is read. Raises InputError, naming the file, for what is missing, damaged or of
    another size.
    """
    folder = Path(folder)
    if numbers is None:
        numbers = sorted(int(p.stem) for p in folder.glob("samples/*.npz") if p.stem.isdigit())
    if not len(numbers):
        raise InputError(f"{folder}: holds no samples/N.npz; give the folder that has images, masks and samples in it")
    rows = [_read_head(folder, int(n)) for n in numbers]
    for k, row in enumerate(rows):
        for name in HeadSet._fields:
            if row[name].shape != rows[0][name].shape:
                one, other = tuple(row[name].shape), tuple(rows[0][name].shape)
                raise InputError(
                    f"{folder}: {name} of head {numbers[k]} has shape {one}, but of head {numbers[0]} {other}; read those alike"
                )
    return HeadSet(*(torch.stack([row[name] for row in rows]) for name in HeadSet._fields))


def _read_head(folder: Path, number: int) -> dict[str, Tensor]:
    name = f"{number:06d}"
    image, mask, albedo = (_picture(folder / part / f"{name}.png") for part in PICTURES)
    found = {
        "images": image,
        "masks": (mask[0] > 0.5).float(),
        "albedo_images": torch.where(albedo <= 0.04045, albedo / 12.92, ((albedo + 0.055) / 1.055) ** 2.4),
    }
    found["shading_images"] = _npz(folder / "shading" / f"{name}.npz", ("shading",))["shading"].float()
    found |= _npz(folder / "samples" / f"{name}.npz", _SAMPLES)
    if len({found[n].shape[-2:] for n in ("images", "masks", "albedo_images", "shading_images")}) > 1:
        raise InputError(f"{folder}: the pictures of head {name} have several sizes; write them again")
    return found


def _npz(path: Path, names: Sequence[str]) -> dict[str, Tensor]:
    import zipfile

    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(np.array(arrays[name])) for name in names}
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: cannot be read ({type(error).__name__}: {str(error)[:80]}); write it again") from error


def _picture(path: Path) -> Float[Tensor, "3 H W"]:
    """A PNG's bytes as they are, 0 to 1."""
    from .caps import _pixels

    return torch.from_numpy(_pixels(path).astype("float32") / 255).permute(2, 0, 1)


class Scan(NamedTuple):
    """A scanned head in a folder: one OBJ file and one texture for each subject and expression."""

    subject: str
    expression: str
    path: Path
    texture: Path | None  # the picture of the same name beside it; None: the OBJ's material says which

    def mesh(self, size: float = HEIGHT) -> Mesh:
        """The scan in the frame of the heads, y up as in its file: `size` high, the middle of its box at the origin."""
        from densebook.geometry.mesh import bounds, load

        from . import images

        mesh = load(self.path, textures=self.texture is None)
        if self.texture is not None and mesh.uv is not None:
            mesh = replace(mesh, textures=(images.read_image(self.texture),), face_textures=None, face_colors=None)
        low, high = bounds(mesh)
        if not float(high[1] - low[1]) > 0:
            raise InputError(f"{self.path}: has no height; a head scan is y up")
        return replace(mesh, vertices=(mesh.vertices - (low + high) / 2) * (size / (high[1] - low[1])))


def read_scans(folder: str | Path) -> list[Scan]:
    """The scans of a folder in the thesis's layout, subjects x expressions: SUBJECT/EXPRESSION.obj, with EXPRESSION.png or .jpg beside it.

    A folder SUBJECT/EXPRESSION/ with one OBJ file in it does as well. Meshes are read by `Scan.mesh`, one at a time; give a list of them to
    `make_heads` as `kind`. Raises InputError for a folder without scans.
    """
    folder, found = Path(folder), []
    paths = [*folder.glob("*/*.obj"), *folder.glob("*/*/*.obj")]
    for path in sorted(paths):
        parts = path.relative_to(folder).parts
        pictures = [p for suffix in (".png", ".jpg", ".jpeg") if (p := path.with_suffix(suffix)).is_file()]
        found.append(Scan(parts[0], path.stem if len(parts) == 2 else parts[1], path, pictures[0] if pictures else None))
    if not found:
        raise InputError(f"{folder}: holds no SUBJECT/EXPRESSION.obj; give the folder with one folder for each subject")
    return found
