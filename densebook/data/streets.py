"""Streets of the SSZ chapter: objects of nine classes around a camera at eye height, toy or real, and files of image and fruxels.

A toy street is made on the spot, of closed boxes, capsules, balls and wheels. A real one is laid out in the same way from
the street meshes of the registry, most of which are torn or open; streets.json holds what stands them upright in metres.
Objects are y up, their front (where they have one) towards +z, standing on y = 0; the street runs along -z.
"""

from __future__ import annotations

import functools
import json
import math
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor

from densebook.core.errors import InputError, nearest
from densebook.core.files import atomic_path, write_text
from densebook.core.seeds import generator as seeded
from densebook.geometry import poses
from densebook.geometry.mesh import Mesh, bounds, join, load, transform
from densebook.render.cameras import Camera, look_at

from . import registry
from .images import read_image, write_image
from .toy import cube_mesh, icosphere, torus_mesh

CLASSES = ("air", "person", "car", "truck", "van", "bus", "building", "tree", "bicycle", "ground")
PALETTE = (  # sRGB; after Okabe and Ito, so that colour-blind readers tell them apart
    "#ffffff", "#d55e00", "#0072b2", "#cc79a7", "#56b4e9", "#e69f00", "#8c8c8c", "#009e73", "#f0e442", "#5b4a3a",
)  # fmt: skip
GROUND = len(CLASSES) - 1
EYE = 1.6  # height of the camera, metres
_ROOM = 0.15  # metres left between objects
_TRIES = 30  # places tried for an object before it is left out


@dataclass(frozen=True, eq=False)
class Street:
    """Objects, where they stand, and the camera that looks at them; raises InputError where these do not fit together."""

    meshes: list[Mesh]  # each in its own frame, metres
    labels: list[int]  # the class of each, an index of CLASSES from 1 up
    poses: list[Float[Tensor, "4 4"]]  # world_from_object
    camera: Camera

    def __post_init__(self) -> None:
        if not len(self.meshes) == len(self.labels) == len(self.poses):
            raise InputError(f"there are {len(self.meshes)} meshes, {len(self.labels)} labels and {len(self.poses)} poses; give one each")
        for n in self.labels:
            if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= GROUND:
                raise InputError(f"label {n!r} is no class of an object; they run from 1 (person) to {GROUND} (ground), 0 is air")
        for n, pose in enumerate(self.poses):
            if tuple(pose.shape) != (4, 4):
                raise InputError(f"poses[{n}] has shape {tuple(pose.shape)}; it must be (4, 4)")

    def scene(self) -> Mesh:
        """All objects in one mesh in the world's frame; its `objects` are their places in the lists. Raises InputError without any."""
        if not self.meshes:
            raise InputError("the street is empty; give at least one object, e.g. the ground")
        return join([transform(m, T) for m, T in zip(self.meshes, self.poses)])


class Instances(NamedTuple):
    """The boxes of a street's objects in the camera's frame (x right, y down, z forward), metres."""

    centers: Float[Tensor, "N 3"]  # middles of the boxes
    rotations: Float[Tensor, "N 3 3"]  # camera_from_object: columns are the object's left, up and front
    sizes: Float[Tensor, "N 3"]  # extents along the object's own axes: width, height, length
    labels: Int[Tensor, "N"]


def instances(street: Street) -> Instances:
    """The boxes of all objects of a street but the ground, in its order; also those out of sight or behind the camera.

    A box is the smallest in the object's own axes; its centre may lie outside any frustum.
    """
    found = [(*bounds(m), T, n) for m, n, T in zip(street.meshes, street.labels, street.poses) if n != GROUND]
    if not found:
        return Instances(torch.zeros(0, 3), torch.zeros(0, 3, 3), torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))
    low, high, pose, labels = zip(*found)
    low, high = torch.stack(low).detach(), torch.stack(high).detach()
    pose = street.camera.cam_from_world.to(low) @ torch.stack(pose).to(low)
    middle = (low + high) / 2
    centers = (pose[:, :3, :3] @ middle[..., None])[..., 0] + pose[:, :3, 3]
    return Instances(centers, pose[:, :3, :3], high - low, torch.tensor(labels, device=low.device))


# Shapes


def _colored(mesh: Mesh, color: Sequence[float]) -> Mesh:
    return replace(mesh, colors=None, face_colors=torch.tensor(color).expand(len(mesh.faces), 3))


def _box(size: Sequence[float], at: Sequence[float], color: Sequence[float], taper: Sequence[float] = (1.0, 1.0)) -> Mesh:
    """A box whose base has its middle `at`; `taper` narrows the top in x and z."""
    vertices = cube_mesh().vertices + torch.tensor([0.0, 0.5, 0.0])
    top = torch.tensor([taper[0], 1.0, taper[1]])
    vertices = torch.where(vertices[:, 1:2] > 0.5, vertices * top, vertices)
    return _colored(Mesh(vertices * torch.tensor(size) + torch.tensor(at), cube_mesh().faces), color)


def _ball(radii: float | Sequence[float], at: Sequence[float], color: Sequence[float]) -> Mesh:
    ball = icosphere(2)
    return _colored(replace(ball, vertices=ball.vertices * torch.tensor(radii) + torch.tensor(at)), color)


def _capsule(a: Sequence[float], b: Sequence[float], radius: float, color: Sequence[float]) -> Mesh:
    """All within `radius` of the line from a to b: a ball cut at its equator and drawn apart."""
    ball, a, b = icosphere(2, radius), torch.tensor(a), torch.tensor(b)
    axis = torch.nn.functional.normalize(b - a, dim=0)
    side = torch.linalg.cross(axis, torch.eye(3)[int(axis.abs().argmin())])
    side = side / side.norm()
    frame = torch.stack([side, axis, torch.linalg.cross(side, axis)], dim=1)
    upper = ball.vertices[:, 1:2] > 1e-6
    return _colored(replace(ball, vertices=ball.vertices @ frame.T + torch.where(upper, b, a)), color)


def _wheel(radius: float, width: float, at: Sequence[float], sides: int = 20) -> Mesh:
    """A disc that rolls along z, its middle `at`."""
    angle = torch.arange(sides) * (2 * math.pi / sides)
    rim = torch.stack([torch.zeros(sides), radius * angle.sin(), radius * angle.cos()], dim=1)
    half = torch.tensor([width / 2, 0.0, 0.0])
    vertices = torch.cat([rim - half, rim + half, -half[None], half[None]]) + torch.tensor(at)
    here = torch.arange(sides)
    after = (here + 1) % sides
    low, high = torch.full_like(here, 2 * sides), torch.full_like(here, 2 * sides + 1)
    faces = [(low, here, after), (high, after + sides, here + sides), (here, here + sides, after), (after, here + sides, after + sides)]
    mesh = Mesh(vertices, torch.cat([torch.stack(f, dim=1) for f in faces]))
    return _colored(mesh, (0.02, 0.02, 0.02))


class _Draw:
    """Numbers and colours from a generator."""

    def __init__(self, generator: torch.Generator | None):
        self.generator = seeded(0) if generator is None else generator

    def __call__(self, low: float = 0.0, high: float = 1.0) -> float:
        return low + (high - low) * float(torch.rand((), generator=self.generator, device=self.generator.device))

    def pick(self, items: Sequence):
        return items[min(int(self() * len(items)), len(items) - 1)]

    def color(self) -> tuple[float, float, float]:
        return tuple(0.03 + 0.6 * self() ** 2 for _ in range(3))


GLASS = (0.05, 0.08, 0.1)
DARK = (0.03, 0.03, 0.03)


def _person(draw: _Draw) -> list[Mesh]:
    s, coat, legs = draw(1.5, 1.9) / 1.75, draw.color(), draw.color()
    skin = tuple(x * draw(0.3, 1.0) for x in (0.7, 0.45, 0.33))
    stride = draw(0.0, 0.25)
    parts = [_capsule((x * 0.09, 0.08, z), (x * 0.09, 0.85, 0.0), 0.08, legs) for x, z in ((-1.0, stride), (1.0, -stride))]
    parts += [_capsule((x * 0.3, 0.85, -x * stride), (x * 0.22, 1.4, 0.0), 0.055, coat) for x in (-1.0, 1.0)]
    parts += [_capsule((0.0, 0.92, 0.0), (0.0, 1.34, 0.0), 0.17, coat), _ball((0.1, 0.13, 0.11), (0.0, 1.62, 0.0), skin)]
    return [replace(p, vertices=p.vertices * s) for p in parts]


def _wheels(length: float, width: float, radius: float, places: Sequence[float] = (-0.3, 0.3)) -> list[Mesh]:
    return [_wheel(radius, 0.2, (x * (width / 2 - 0.12), radius, z * length)) for x in (-1.0, 1.0) for z in places]


def _car(draw: _Draw) -> list[Mesh]:
    length, width, height, paint = draw(3.6, 4.6), draw(1.65, 1.85), draw(1.4, 1.6), draw.color()
    cabin = _box((width * 0.94, height * 0.46, length * 0.56), (0.0, height * 0.52, -0.05 * length), GLASS, (0.8, 0.65))
    roof = _box((width * 0.76, 0.06, length * 0.37), (0.0, height * 0.96, -0.05 * length), paint)
    return [_box((width, height * 0.4, length), (0.0, 0.25, 0.0), paint, (0.96, 0.96)), cabin, roof, *_wheels(length, width, 0.31)]


def _van(draw: _Draw) -> list[Mesh]:
    length, width, height, paint = draw(4.8, 5.8), draw(1.9, 2.1), draw(2.1, 2.5), draw.color()
    hold = _box((width, height - 0.35, length * 0.75), (0.0, 0.35, -0.125 * length), paint, (0.94, 0.98))
    nose = _box((width * 0.98, height * 0.45, length * 0.3), (0.0, 0.35, 0.35 * length), paint, (0.96, 0.8))
    pane = _box((width * 0.9, height * 0.3, 0.3), (0.0, height * 0.52, 0.25 * length), GLASS, (0.95, 0.3))
    return [hold, nose, pane, *_wheels(length, width, 0.34)]


def _truck(draw: _Draw) -> list[Mesh]:
    length, width, height, paint = draw(6.0, 8.0), draw(2.2, 2.5), draw(2.9, 3.4), draw.color()
    cab = _box((width, height * 0.72, 1.8), (0.0, 0.5, length / 2 - 0.9), paint, (0.97, 0.9))
    pane = _box((width * 0.9, 0.7, 0.1), (0.0, height * 0.5, length / 2 - 0.04), GLASS)
    hold = _box((width, height - 1.0, length - 2.1), (0.0, 1.0, -1.05), draw.color())
    frame = _box((width * 0.5, 0.3, length - 0.4), (0.0, 0.72, 0.0), DARK)
    return [cab, pane, hold, frame, *_wheels(length, width, 0.46, (-0.33, -0.18, 0.37))]


def _bus(draw: _Draw) -> list[Mesh]:
    length, width, height, paint = draw(8.0, 11.0), draw(2.4, 2.6), draw(2.8, 3.2), draw.color()
    hull = _box((width, height - 0.35, length), (0.0, 0.35, 0.0), paint)
    band = _box((width + 0.04, height * 0.3, length * 0.94), (0.0, height * 0.52, 0.0), GLASS)
    pane = _box((width * 0.92, height * 0.42, 0.06), (0.0, height * 0.4, length / 2), GLASS)
    return [hull, band, pane, *_wheels(length, width, 0.48)]


def _building(draw: _Draw) -> list[Mesh]:
    width, depth, floors, wall = draw(5.0, 9.0), draw(4.0, 7.0), draw.pick((2, 3)), tuple(0.2 + 0.5 * draw() for _ in range(3))
    height, across = 2.9 * floors, int(width / 1.7)
    parts = [_box((width, height, depth), (0.0, 0.0, 0.0), wall)]
    parts.append(_box((width + 0.5, 1.8, depth + 0.5), (0.0, height, 0.0), (0.25, 0.06, 0.04), (0.9, 0.1)))
    for floor in range(floors):
        for n in range(across):
            x = (n + 0.5) * width / across - width / 2
            door = floor == 0 and n == across // 2
            size, base, color = ((0.95, 2.1), 0.0, (0.15, 0.07, 0.03)) if door else ((0.9, 1.2), 2.9 * floor + 0.95, GLASS)
            parts.append(_box((*size, depth + 0.12), (x, base, 0.0), color))
    return parts


def _tree(draw: _Draw) -> list[Mesh]:
    height, spread = draw(3.2, 5.5), draw(0.8, 1.4)
    green = (0.03 + 0.08 * draw(), 0.12 + 0.25 * draw(), 0.02)
    parts = [_capsule((0.0, 0.12, 0.0), (0.0, height * 0.6, 0.0), 0.12, (0.12, 0.06, 0.03))]
    for _ in range(5):
        angle, away = draw(0.0, 2 * math.pi), draw(0.0, 0.5) * spread
        at = (away * math.sin(angle), height * draw(0.62, 0.85), away * math.cos(angle))
        parts.append(_ball([spread * draw(0.5, 0.8) for _ in range(3)], at, green))
    return parts


def _bicycle(draw: _Draw) -> list[Mesh]:
    paint, up = draw.color(), (0.0, 0.34, 0.0)
    turn = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])  # a torus around y becomes one around x
    ring = torus_mesh(0.31, 0.03, 40, 10)
    wheels = [_colored(replace(ring, vertices=ring.vertices @ turn.T + torch.tensor([0.0, 0.34, z])), DARK) for z in (-0.52, 0.52)]
    hub, crank, seat, head = (0.0, 0.34, -0.52), (0.0, 0.3, -0.08), (0.0, 0.85, -0.22), (0.0, 0.82, 0.36)
    tubes = [(hub, crank), (hub, seat), (crank, seat), (crank, head), (seat, head), (head, (0.0, up[1], 0.52))]
    parts = [_capsule(a, b, 0.025, paint) for a, b in tubes]
    bar = _capsule((-0.27, 1.0, 0.34), (0.27, 1.0, 0.34), 0.02, DARK)
    post = _capsule(head, (0.0, 1.0, 0.34), 0.022, paint)
    return [*wheels, *parts, bar, post, _box((0.14, 0.06, 0.26), (0.0, 0.86, -0.22), DARK)]


_MAKERS = {
    "person": _person,
    "car": _car,
    "truck": _truck,
    "van": _van,
    "bus": _bus,
    "building": _building,
    "tree": _tree,
    "bicycle": _bicycle,
}


def toy_object(name: str, generator: torch.Generator | None = None) -> Mesh:
    """A closed object of one of the classes but air and ground, y up, its front towards +z, standing on y = 0, in metres.

    The generator (on the CPU) draws sizes and colours. Parts overlap, so a point may lie inside several of them.
    Raises InputError for a name that is none of these.
    """
    if name not in _MAKERS:
        raise InputError(f"class {name!r} has no toy object{nearest(str(name), _MAKERS)}")
    return replace(join(_MAKERS[name](_Draw(generator))), objects=None)


def ground(reach: float = 40.0, road: float = 2.2) -> Mesh:
    """A road with pavements as a block 12 m deep below y = 0, `reach` metres to every side; the road is `road` metres to either side."""
    side = (reach - road) / 2
    strips = [_box((2 * road, 12.0, 2 * reach), (0.0, -12.0, 0.0), (0.07, 0.07, 0.075))]
    strips += [_box((2 * side, 12.0, 2 * reach), (x * (road + side), -12.0, 0.0), (0.3, 0.28, 0.25)) for x in (-1.0, 1.0)]
    return replace(join(strips), objects=None)


# Real objects


@functools.cache
def _table() -> dict:
    return json.loads(Path(__file__).with_name("streets.json").read_text(encoding="utf-8"))


def real_names(name: str, split: str = "all") -> tuple[str, ...]:
    """The names in `densebook.data.available()` of the real meshes of one class; `split`: "all", "train" or "test".

    Of each class the last is held out for tests, where there are at least two; the one van is in both parts.
    Raises InputError for a class without meshes and for another split.
    """
    if name not in _MAKERS:
        raise InputError(f"class {name!r} has no real meshes{nearest(str(name), _MAKERS)}")
    if split not in ("all", "train", "test"):
        raise InputError(f"split {split!r} is not known{nearest(str(split), ('all', 'train', 'test'))}")
    found = [n for n, entry in _table().items() if entry["class"] == name]
    kept = [n for n in found if len(found) == 1 or split == "all" or _table()[n]["held_out"] == (split == "test")]
    return tuple(kept)


@functools.lru_cache(maxsize=64)
def real_object(name: str) -> Mesh:
    """The real mesh `name`, y up, its front towards +z, standing on y = 0 and centred, in metres, with its colours and textures.

    Kept, as streets ask for it again and again: do not change it in place. Raises InputError for a name that is not a street
    mesh and for a file that is not there.
    """
    if name not in _table():
        raise InputError(f"{name!r} is no street mesh{nearest(str(name), _table())}")
    mesh = load(registry.get(name), dtype=torch.float64)
    return transform(mesh, torch.tensor(_table()[name]["upright_from_file"], dtype=torch.float64)).to(torch.float32)


# Streets


def toy_street(
    generator: torch.Generator | None = None,
    size: tuple[int, int] = (128, 128),  # height and width of the picture, pixels
    fov: float = math.radians(40),  # horizontal, radians
    objects: int | Sequence[str] = 6,  # how many, or their classes; those that find no room in sight are left out
    reach: float = 12.0,  # depth up to which objects are placed, metres
) -> Street:
    """A street of closed toy objects on the ground, seen from eye height; the generator (on the CPU) draws all of it."""
    draw = _Draw(generator)
    return _street(draw, lambda name: toy_object(name, draw.generator), size, fov, objects, reach)


def real_street(
    generator: torch.Generator | None = None,
    size: tuple[int, int] = (128, 128),
    fov: float = math.radians(40),
    objects: int | Sequence[str] = 6,
    reach: float = 12.0,
    split: str = "all",  # "train" or "test": held-out meshes only in the one or the other
) -> Street:
    """Like `toy_street`, of the real meshes of the registry; raises InputError for a file that is not there."""
    draw = _Draw(generator)
    return _street(draw, lambda name: real_object(draw.pick(real_names(name, split))), size, fov, objects, reach)


def _street(draw: _Draw, make: Callable[[str], Mesh], size, fov: float, objects, reach: float) -> Street:
    names = [draw.pick(list(_MAKERS)) for _ in range(objects)] if isinstance(objects, int) else list(objects)
    for name in names:
        if name not in _MAKERS:
            raise InputError(f"objects has {name!r}, which is no class of an object{nearest(str(name), _MAKERS)}")
    yaw, across = draw(-0.25, 0.25), draw(-0.8, 0.8)
    camera = _camera(size, fov, (across, EYE, 0.0), yaw, draw(-0.1, 0.02))
    placed, taken = [], []
    for name in sorted(names, key=lambda n: n in ("person", "bicycle")):  # small ones find room last
        mesh = make(name)
        for _ in range(_TRIES):
            turn, x, z = _place(name, mesh, draw, reach)
            plan = _plan(mesh, turn, x, z)
            if _visible(plan, camera, fov, reach) and all(_apart(plan, other) for other in taken):
                placed.append((mesh, CLASSES.index(name), _pose(turn, x, z)))
                taken.append(plan)
                break
    meshes, labels, poses = ([p[n] for p in placed] for n in range(3))
    return Street([*meshes, ground()], [*labels, GROUND], [*poses, torch.eye(4)], camera)


def _camera(size, fov: float, eye: Sequence[float], yaw: float, pitch: float) -> Camera:
    """A camera at `eye` that looks down the street, turned by `yaw` to the right and `pitch` up."""
    forward = (math.sin(yaw) * math.cos(pitch), math.sin(pitch), -math.cos(yaw) * math.cos(pitch))
    pose = look_at(eye, tuple(e + f for e, f in zip(eye, forward)))
    height, width = size
    f = width / 2 / math.tan(fov / 2)
    return Camera(torch.tensor([[f, 0, width / 2], [0, f, height / 2], [0, 0, 1]]), pose, size)


def _place(name: str, mesh: Mesh, draw: _Draw, reach: float) -> tuple[float, float, float]:
    """Turn around y, x and z of an object: vehicles keep to their lane, houses stand at the side or across the end of the street."""
    side = draw.pick((-1.0, 1.0))
    if name == "building":
        half = float(mesh.vertices[:, 2].abs().max())
        if draw() < 0.4:
            return draw(-0.2, 0.2), draw(-3.0, 3.0), -(draw(0.75, 0.9) * reach + half)
        return -side * math.pi / 2 + draw(-0.1, 0.1), side * (draw(2.6, 3.4) + half), -draw(0.5, 1.2) * reach
    if name in ("car", "truck", "van", "bus"):
        half = float(mesh.vertices[:, 2].abs().max())
        turn = draw.pick((0.0, math.pi)) + draw(-0.35, 0.35)
        return turn, side * draw(0.9, 1.9), -(draw(0.3, 0.75) * reach + half)
    x = side * draw(1.6, 3.4) if name == "tree" else draw(-2.5, 2.5)
    return draw(0.0, 2 * math.pi), x, -draw(0.3, 0.9) * reach


def _pose(turn: float, x: float, z: float) -> Float[Tensor, "4 4"]:
    c, s = math.cos(turn), math.sin(turn)
    return torch.tensor([[c, 0.0, s, x], [0.0, 1.0, 0.0, 0.0], [-s, 0.0, c, z], [0.0, 0.0, 0.0, 1.0]])


def _plan(mesh: Mesh, turn: float, x: float, z: float) -> Float[Tensor, "4 2"]:
    """The corners of the object's bounding box on the ground, in world x and z."""
    (x0, _, z0), (x1, _, z1) = (b.tolist() for b in bounds(mesh))
    corners = torch.tensor([[x0, 0.0, z0, 1.0], [x1, 0.0, z0, 1.0], [x1, 0.0, z1, 1.0], [x0, 0.0, z1, 1.0]])
    return (corners @ _pose(turn, x, z).T)[:, [0, 2]]


def _apart(one: Tensor, other: Tensor) -> bool:
    """Whether a line between them parts two rectangles (separating axes), with some room."""
    for edge in (one[1] - one[0], one[2] - one[1], other[1] - other[0], other[2] - other[1]):
        axis = torch.stack([-edge[1], edge[0]]) / edge.norm()
        a, b = one @ axis, other @ axis
        if float(a.min() - b.max()) > _ROOM or float(b.min() - a.max()) > _ROOM:
            return True
    return False


def _visible(plan: Tensor, camera: Camera, fov: float, reach: float) -> bool:
    """Whether the middle or a corner of a plan is in sight before `reach`, and none of it within 1.5 m of the eye's height above ground."""
    ground = torch.cat([plan, plan.mean(dim=0, keepdim=True)])
    points = torch.stack([ground[:, 0], torch.zeros(5), ground[:, 1]], dim=1)
    local = points @ camera.cam_from_world[:3, :3].T + camera.cam_from_world[:3, 3]
    depth = local[:, 2]
    seen = (depth > 0) & (depth < reach) & (local[:, 0].abs() < depth * math.tan(fov / 2))
    return bool(seen.any()) and float(torch.where(local[:, 0].abs() < 1.2, depth, math.inf).min()) > 2.2


# Files: pairs of an image and a fruxel model, as Z-GAN and VoxelCity have them


def pairs(folder: str | Path, phase: str = "train") -> list[tuple[Path, Path]]:
    """Images and fruxel models of folder/phase/ColorImages and folder/phase/FruxelModels with the same name, sorted.

    Raises InputError where a folder is missing, nothing is in it, or one of a pair is missing.
    """
    folder = Path(folder) / phase
    images, models = folder / "ColorImages", folder / "FruxelModels"
    for place in (images, models):
        if not place.is_dir():
            raise InputError(f"{place} is not there; a data set has the folders ColorImages and FruxelModels below each phase")
    pictures = {p.stem: p for p in sorted(images.iterdir()) if p.suffix.lower() in (".png", ".jpg", ".jpeg")}
    volumes = {p.stem: p for p in sorted(models.iterdir()) if p.suffix.lower() in (".npy", ".npz")}
    if not pictures and not volumes:
        raise InputError(f"{folder} holds no pairs; put NAME.png into ColorImages and NAME.npy into FruxelModels")
    for name in sorted(pictures.keys() ^ volumes.keys()):
        there, other = (pictures[name], models) if name in pictures else (volumes[name], images)
        raise InputError(f"{there} has no partner in {other}; add it, or remove the file")
    return [(pictures[name], volumes[name]) for name in sorted(pictures)]


def read_pair(image: str | Path, model: str | Path, classes: int = len(CLASSES)) -> tuple[Float[Tensor, "H W 3"], Int[Tensor, "D H W"]]:
    """The picture in linear RGB, and the labels of its fruxels, from a file with axes (H, W, D), never unpickled.

    The file is .npy, or .npz with one array named labels. Of floating-point models, as Z-GAN has them, everything from 0.5 up
    is class 1. Raises InputError for files that are missing or damaged, for another number of axes, and for labels outside 0 to
    classes - 1.
    """
    picture, path = read_image(image), Path(model)
    volume = _volume(path)
    if not isinstance(volume, np.ndarray) or volume.ndim != 3 or not volume.size:
        raise InputError(f"{path}: holds {getattr(volume, 'shape', 'several arrays')}; it must be one array (height, width, depth)")
    if volume.dtype.kind not in "buif":
        raise InputError(f"{path}: holds {volume.dtype}; labels must be whole numbers, or floats from 0 to 1")
    if volume.dtype.kind == "f":
        volume = volume >= 0.5
    labels = torch.from_numpy(np.ascontiguousarray(volume.transpose(2, 0, 1)).astype(np.int64))
    low, high = (int(x) for x in labels.aminmax())
    if low < 0 or high >= classes:
        raise InputError(f"{path}: has labels from {low} to {high}; {classes} classes run from 0 to {classes - 1}")
    return picture, labels


def _volume(path: Path) -> np.ndarray:
    """The array of a .npy file, or the one named labels of a .npz file."""
    try:
        found = np.load(path, allow_pickle=False)
        return found["labels"] if path.suffix.lower() == ".npz" else found
    except (OSError, ValueError, EOFError, KeyError, IndexError, zipfile.BadZipFile, zlib.error) as error:
        what = f"{type(error).__name__}: {str(error)[:80]}"
        raise InputError(f"{path}: cannot be read as a .npy array ({what}); write it with numpy.save") from error


def write_pair(
    folder: str | Path,
    name: str,
    image: Float[Tensor, "H W 3"],
    labels: Integer[Tensor, "D H W"],
    phase: str = "train",
    compressed: bool = False,
) -> tuple[Path, Path]:
    """Write a picture (linear RGB) and labels (0 to 255) where `pairs` finds them, each whole or not at all; returns the paths.

    Labels go to NAME.npy, which Z-GAN's readers know; `compressed`, to NAME.npz, a hundredth of the bytes.
    Raises InputError for labels that are no whole numbers from 0 to 255 with three axes, and for what `write_image` refuses.
    """
    labels = torch.as_tensor(labels).detach().cpu()
    if labels.ndim != 3 or labels.is_floating_point() or not labels.numel() or int(labels.min()) < 0 or int(labels.max()) > 255:
        raise InputError(f"labels are {labels.dtype} of shape {tuple(labels.shape)}; give whole numbers from 0 to 255 as (D, H, W)")
    folder = Path(folder) / phase
    picture = folder / "ColorImages" / f"{name}.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    write_image(picture, image)
    path = folder / "FruxelModels" / f"{name}{'.npz' if compressed else '.npy'}"
    volume = labels.permute(1, 2, 0).to(torch.uint8).contiguous().numpy()
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, labels=volume) if compressed else np.save(temporary, volume)
    return picture, path


# Files: pictures with boxes, in the tables of nuScenes (Caesar et al. 2020)

NUSCENES = {  # category of nuScenes, or the beginning of one, and class here; the last three are not in nuScenes
    "human.pedestrian": "person", "vehicle.car": "car", "vehicle.truck": "truck", "vehicle.bus": "bus", "vehicle.bicycle": "bicycle",
    "vehicle.van": "van", "static_object.building": "building", "static_object.tree": "tree",
}  # fmt: skip
_TURN = torch.tensor([[0, 0, 1], [1, 0, 0], [0, 1, 0]], dtype=torch.float64)  # our left, up, front to their front, left, up


class Sample(NamedTuple):
    """A picture with its camera and the boxes of what it shows."""

    image: Path
    camera: Camera  # its world is that of the file, z up, metres
    instances: Instances


def _rows(folder: Path, name: str, columns: Sequence[str]) -> list[dict]:
    """The rows of one table, each known to have these columns."""
    path = folder / f"{name}.json"
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a table of nuScenes ({str(error)[:80]}); fetch it again") from error
    if not isinstance(rows, list):
        raise InputError(f"{path}: holds no list of rows; fetch it again")
    for n, row in enumerate(rows):
        if missing := [c for c in columns if not isinstance(row, dict) or c not in row]:
            raise InputError(f"{path}: row {n} has no {missing[0]!r}; fetch it again")
    return rows


def _numbers(path: str, value, *shape: int) -> Tensor:
    try:
        found = torch.tensor(value, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        found = torch.empty(0)
    if tuple(found.shape) != shape or not bool(found.isfinite().all()):
        raise InputError(f"{path} is {str(value)[:60]}; it must be finite numbers of shape {shape}")
    return found


def _rigid(table: str, row: dict) -> Tensor:
    """Rotation (a quaternion wxyz) and translation of a row as 4 x 4."""
    q = _numbers(f"rotation of {table} {row['token']}", row["rotation"], 4)
    if not float(q.norm()) > 1e-6:
        raise InputError(f"rotation of {table} {row['token']} is zero; give a unit quaternion (w, x, y, z)")
    t = _numbers(f"translation of {table} {row['token']}", row["translation"], 3)
    return poses.pose(poses.rotation_from_quaternion(q / q.norm()), t)


def read_nuscenes(folder: str | Path, channel: str = "CAM_FRONT") -> list[Sample]:
    """The key frames of one camera with the boxes of their classes, from a folder with the JSON tables of nuScenes.

    The tables are in `folder`/v1.0-*, or in `folder` itself. Categories that are no class here (`NUSCENES`) are left out; boxes
    behind the camera are kept. Pictures are not opened. Raises InputError for tables that are missing, damaged or do not fit
    together, and for another channel.
    """
    folder = Path(folder)
    tables = next((p.parent for p in sorted(folder.glob("v1.0-*/sample_data.json"))), folder)
    sensors = {r["token"]: r["channel"] for r in _rows(tables, "sensor", ("token", "channel"))}
    if channel not in sensors.values():
        raise InputError(f"channel {channel!r} is not in {tables / 'sensor.json'}{nearest(channel, sensors.values())}")
    mounted = ("token", "sensor_token", "translation", "rotation", "camera_intrinsic")
    calibrations = {r["token"]: r for r in _rows(tables, "calibrated_sensor", mounted)}
    egos = {r["token"]: r for r in _rows(tables, "ego_pose", ("token", "translation", "rotation"))}
    boxes = _boxes(tables)
    columns = ("sample_token", "ego_pose_token", "calibrated_sensor_token", "filename", "width", "height", "is_key_frame")
    found = []
    for row in _rows(tables, "sample_data", columns):
        try:
            ego, mount = egos[row["ego_pose_token"]], calibrations[row["calibrated_sensor_token"]]
            shown = row["is_key_frame"] and sensors[mount["sensor_token"]] == channel
        except KeyError as error:
            raise InputError(f"{tables / 'sample_data.json'}: names {error}, which is in no table; fetch the tables again") from error
        if shown:
            found.append(_sample(folder, row, ego, mount, boxes.get(row["sample_token"], [])))
    return found


def _boxes(tables: Path) -> dict[str, list[tuple[Tensor, Tensor, int]]]:
    """Of each sample pose (world from object), extents and class of its boxes, in our axes."""
    names = {r["token"]: r["name"] for r in _rows(tables, "category", ("token", "name"))}
    owners = {r["token"]: r["category_token"] for r in _rows(tables, "instance", ("token", "category_token"))}
    boxes = {}
    for row in _rows(tables, "sample_annotation", ("token", "sample_token", "instance_token", "translation", "rotation", "size")):
        try:
            name = names[owners[row["instance_token"]]]
        except KeyError as error:
            raise InputError(f"{tables / 'sample_annotation.json'}: names {error}, which is in no table; fetch the tables again") from error
        known = next((c for prefix, c in NUSCENES.items() if name == prefix or name.startswith(prefix + ".")), None)
        if known is None:
            continue
        pose = _rigid("sample_annotation", row)
        pose[:3, :3] = pose[:3, :3] @ _TURN
        width, length, height = _numbers(f"size of sample_annotation {row['token']}", row["size"], 3)
        boxes.setdefault(row["sample_token"], []).append((pose, torch.stack([width, height, length]), CLASSES.index(known)))
    return boxes


def _sample(folder: Path, row: dict, ego: dict, mount: dict, boxes: list) -> Sample:
    name = Path(str(row["filename"]))
    if name.is_absolute() or ".." in name.parts:
        raise InputError(f"sample_data has the file name {str(name)!r}, which leaves the folder; it is not used")
    K = _numbers(f"camera_intrinsic of calibrated_sensor {mount['token']}", mount["camera_intrinsic"], 3, 3)
    camera = poses.inverse(_rigid("ego_pose", ego) @ _rigid("calibrated_sensor", mount))
    boxed = (torch.zeros(0, 4, 4, dtype=torch.float64), torch.zeros(0, 3, dtype=torch.float64), torch.zeros(0, dtype=torch.int64))
    if boxes:
        placed, sizes, labels = zip(*boxes)
        boxed = (torch.stack(placed), torch.stack(sizes), torch.tensor(labels))
    placed = (camera @ boxed[0]).float()
    found = Instances(placed[:, :3, 3], placed[:, :3, :3], boxed[1].float(), boxed[2])
    return Sample(folder / name, Camera(K, camera, (int(row["height"]), int(row["width"]))), found)


def write_nuscenes(
    folder: str | Path,
    names: Sequence[str],  # file names of the pictures, relative to the folder, with their suffix
    cameras: Sequence[Camera],  # their worlds are y up
    boxes: Sequence[Instances],  # in the cameras' frames
) -> list[Path]:
    """Write the tables that `read_nuscenes` and nuScenes' own devkit read, to `folder`/v1.0-streets; returns their paths.

    All pictures are key frames of one scene, seen by CAM_FRONT; the world turns to z up (x, y, z of a street become z, x, y).
    Each table is written whole or not at all. Raises InputError for lists that do not fit.
    """
    if not len(names) == len(cameras) == len(boxes) or not names:
        raise InputError(f"there are {len(names)} names, {len(cameras)} cameras and {len(boxes)} boxes; give one each, at least one")
    sights = list(dict.fromkeys((tuple(c.K.double().flatten().tolist()), c.size) for c in cameras))
    tables = _fixed_tables(sights, names)
    for n, (name, camera, found) in enumerate(zip(names, cameras, boxes)):
        world = poses.inverse(camera.cam_from_world.double())
        turned = torch.eye(4, dtype=torch.float64)
        turned[:3, :3] = _TURN
        world = turned @ world
        tables["ego_pose"].append({"token": f"ego{n:06d}", "timestamp": n, **_placed(world)})
        sight = sights.index((tuple(camera.K.double().flatten().tolist()), camera.size))
        tables["sample_data"].append(_picture_row(n, str(name), sight, camera.size))
        for k, (center, rotation, size, label) in enumerate(zip(*(x.cpu() for x in found))):
            pose = world @ poses.pose(rotation.double(), center.double())
            pose[:3, :3] = pose[:3, :3] @ _TURN.T
            width, height, length = size.double().tolist()
            token = f"box{n:06d}-{k:03d}"
            tables["instance"].append(_instance_row(token, CLASSES[int(label)]))
            links = {"sample_token": f"sample{n:06d}", "instance_token": token, "visibility_token": "", "attribute_tokens": []}
            counts = {"prev": "", "next": "", "num_lidar_pts": 0, "num_radar_pts": 0}
            tables["sample_annotation"].append({"token": token, **links, **_placed(pose), "size": [width, length, height], **counts})
    written = [Path(folder) / "v1.0-streets" / f"{name}.json" for name in tables]
    for path, rows in zip(written, tables.values()):
        write_text(path, json.dumps(rows, allow_nan=False) + "\n")
    return written


def _placed(T: Tensor) -> dict:
    return {"translation": T[:3, 3].tolist(), "rotation": poses.quaternion_from_rotation(T[:3, :3]).tolist()}


def _fixed_tables(sights: list[tuple], names: Sequence[str]) -> dict[str, list[dict]]:
    """The tables, with what does not depend on the boxes."""
    ends = {"first_sample_token": "sample000000", "last_sample_token": f"sample{len(names) - 1:06d}"}
    mounts = [
        {"token": f"mount{n}", "sensor_token": "front", **_placed(torch.eye(4, dtype=torch.float64)),
         "camera_intrinsic": torch.tensor(K, dtype=torch.float64).view(3, 3).tolist()}
        for n, (K, _) in enumerate(sights)
    ]  # fmt: skip
    links = [(f"sample{n - 1:06d}" if n else "", f"sample{n + 1:06d}" if n + 1 < len(names) else "") for n in range(len(names))]
    samples = [{"token": f"sample{n:06d}", "timestamp": n, "scene_token": "scene", "prev": a, "next": b} for n, (a, b) in enumerate(links)]
    return {
        "category": [{"token": c, "name": name, "description": ""} for name, c in NUSCENES.items()],
        "sensor": [{"token": "front", "channel": "CAM_FRONT", "modality": "camera"}],
        "calibrated_sensor": mounts,
        "scene": [{"token": "scene", "log_token": "log", "name": "streets", "description": "", "nbr_samples": len(names), **ends}],
        "log": [{"token": "log", "logfile": "", "vehicle": "", "date_captured": "", "location": ""}],
        "map": [], "attribute": [], "visibility": [],
        "sample": samples, "ego_pose": [], "sample_data": [], "instance": [], "sample_annotation": [],
    }  # fmt: skip


def _picture_row(n: int, name: str, sight: int, size: tuple[int, int]) -> dict:
    tokens = {"sample_token": f"sample{n:06d}", "ego_pose_token": f"ego{n:06d}", "calibrated_sensor_token": f"mount{sight}"}
    file = {"filename": name, "fileformat": Path(name).suffix.lstrip("."), "height": size[0], "width": size[1]}
    return {"token": f"picture{n:06d}", **tokens, **file, "timestamp": n, "is_key_frame": True, "prev": "", "next": ""}


def _instance_row(token: str, name: str) -> dict:
    ends = {"first_annotation_token": token, "last_annotation_token": token}
    return {"token": token, "category_token": name, "nbr_annotations": 1, **ends}
