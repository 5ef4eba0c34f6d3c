"""MakeHuman's head (CC0): one base mesh, its targets for age, sex, ancestry, detail and expression, its skins.

`head(generator)` blends targets on the base mesh's head, closes it at neck, mouth and eyes, puts eyeballs in, and paints hair, brows and
beard on a skin. Frame and split as in `densebook.data.heads`; base.obj has 10 cm a unit. The mouth's inside, teeth and tongue are
left out: a shallow dark cone closes the lips.
"""

from __future__ import annotations

import functools
import gzip
import itertools
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from densebook.core import settings
from densebook.core.errors import InputError
from densebook.geometry.mesh import Mesh, vertex_normals

from . import registry

CUT = 6.0  # the height in base.obj above which it is head
PARTS = ("skin", "mouth", "neck", "eyes", "inside")  # object ids of the faces; inside: what closes the eyes, and their backs
ANCESTRY, SEX, AGES = ("african", "asian", "caucasian"), ("female", "male"), ("child", "young", "old")
SKINS = (  # the last three are held out
    "middleage_darkskinned_male", "young_lightskinned_female2", "old_darkskinned_female", "young_darkskinned_male",
    "middleage_lightskinned_male", "young_lightskinned_male", "middleage_darkskinned_female", "middleage_lightskinned_female2",
    "old_darkskinned_male",
)  # fmt: skip
HELD_SKINS = 3
HELD_UNITS = ("browDown", "cheekPuff", "jawLeft", "mouthFrown", "mouthPucker", "mouthStretch", "noseSneer")  # expressions kept for the test
_LIMITS = {  # the largest weight of a detail target
    "cheek": 0.7, "chin": 0.7, "ears": 0.7, "eyebrows": 0.6, "eyes": 0.45, "forehead": 0.8, "head": 0.6, "mouth": 0.4, "neck": 0.4,
    "nose": 0.7,
}  # fmt: skip
_LEFT_OUT = ("head-trans", "head-angle", "neck-trans", "measure-", "eye-push", "eye-trans", "ear-trans", "tongueOut")
_OPPOSITES = {"decr": "incr", "in": "out", "down": "up", "backward": "forward", "concave": "convex", "compress": "uncompress"}
_BROWS = ((261, 232, 231, 223, 208), (6983, 6997, 7004, 7005, 7030))  # base vertices, from the outer to the inner end and back
_SIZE = 2048  # pixels of a skin
_WINDOWS = ((1304, 364, 2044, 1752), (552, 44, 1004, 188))  # of it: face and scalp, and the neck; left, top, right, bottom


@dataclass(frozen=True, eq=False)
class _Model:
    """The head of the base mesh as it is used here: V vertices of skin and helper eyes, then caps and eyeballs are made from them."""

    base: Float[Tensor, "V 3"]
    names: dict[str, int]  # of the targets, "folder/name"
    targets: Float[Tensor, "T V*3"]
    faces: Int[Tensor, "F 3"]  # of the skin
    uv: Float[Tensor, "F 3 2"]  # in the window of its texture
    texture: Int[Tensor, "F"]  # 0: face, 1: neck
    loops: dict[str, list[Tensor]]  # vertices around "mouth", "neck" and each of the "eye caps"
    eyes: list[Tensor]  # vertices of the helper eyes, right and left
    masks: dict[str, Float[Tensor, "H W"]]  # of the face's texture: scalp, brows, beard
    scalp: Float[Tensor, "V"]  # how much hair stands off there


def _folder() -> Path:
    return _verified(settings.data_folder())


@functools.lru_cache(maxsize=4)
def _verified(folder: Path) -> Path:
    """MakeHuman's files in a data folder, their sha256 read once."""
    return registry.get("makehuman").parent


def _read_base(path: Path) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Vertices, texture coordinates, and by group the quads' corners (n, 4, 2) as (vertex, texture coordinate) from 0."""
    vertices, uv, groups, group = [], [], {}, ""
    with open(path, encoding="utf-8") as file:
        for line in file:
            kind, _, rest = line.partition(" ")
            if kind == "v":
                vertices.append(rest.split()[:3])
            elif kind == "vt":
                uv.append(rest.split()[:2])
            elif kind == "g":
                group = rest.strip()
            elif kind == "f":
                groups.setdefault(group, []).append([corner.split("/")[:2] for corner in rest.split()])
    wanted = {name: np.array(groups[name], dtype=np.int64) - 1 for name in ("body", "helper-l-eye", "helper-r-eye")}
    return np.array(vertices, dtype=np.float64), np.array(uv, dtype=np.float64), wanted


def _read_target(path: Path, kept: np.ndarray, size: int) -> np.ndarray:
    """Offsets of the kept vertices; `kept` gives the new number of each base vertex, -1 for none."""
    try:
        with gzip.open(path, "rt", encoding="ascii") as file:
            lines = [line for line in file if line.strip() and not line.startswith("#")]
        rows = np.array(" ".join(lines).split(), dtype=np.float64).reshape(-1, 4)
        found = np.zeros((size, 3), dtype=np.float32)
        place = kept[rows[:, 0].astype(np.int64)]
        found[place[place >= 0]] = rows[place >= 0, 1:]
    except (OSError, EOFError, ValueError, IndexError) as error:
        raise InputError(f"{path}: cannot be read as a target ({str(error)[:80]}); run `python data_scripts/makehuman.py`") from error
    return found


def _islands(corners: np.ndarray, count: int) -> np.ndarray:
    """A number for each quad, the same for those that hang together in the texture."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    a, b = corners.ravel(), np.roll(corners, -1, axis=1).ravel()
    label = connected_components(coo_matrix((np.ones(len(a)), (a, b)), shape=(count, count)), directed=False)[1]
    return label[corners[:, 0]]


def open_loops(polygons: np.ndarray) -> list[list[int]]:
    """Closed paths along the open edges, in the direction in which a cap's faces must run."""
    a, b = polygons.ravel(), np.roll(polygons, -1, axis=1).ravel()
    edges = set(zip(a.tolist(), b.tolist()))
    after = {v: u for u, v in edges if (v, u) not in edges}
    loops = []
    while after:
        start, here = next(iter(after.items()))
        loop = [start]
        del after[start]
        while here != start:
            loop.append(here)
            here = after.pop(here)
        loops.append(loop)
    return loops


@functools.lru_cache(maxsize=1)
def _model(folder: Path) -> _Model:
    """Read base mesh and targets: about two seconds and 30 MB kept."""
    vertices, uv, groups = _read_base(folder / "base.obj")
    body = groups["body"]
    head = body[(vertices[body[..., 0], 1] > CUT).all(axis=1)]
    island = _islands(head[..., 1], len(uv))
    shown = [i for i, n in zip(*np.unique(island, return_counts=True)) if _outside(uv[head[island == i][..., 1]])]
    head, island = head[np.isin(island, shown)], island[np.isin(island, shown)]
    helpers = [np.unique(groups[name][..., 0]) for name in ("helper-r-eye", "helper-l-eye")]
    used = np.unique(np.concatenate([head[..., 0].ravel(), *helpers]))
    kept = np.full(len(vertices), -1)
    kept[used] = np.arange(len(used))
    paths = sorted(p for p in (folder / "targets").glob("*/*.target.gz"))
    units = [p for p in paths if p.parent.name == "faceunits"]
    if len(units) < 51 or not (folder / "skins").is_dir():
        raise InputError(f"{folder} has no expressions or skins; run `python data_scripts/makehuman.py`")
    names = {f"{p.parent.name}/{p.name.removesuffix('.target.gz')}": k for k, p in enumerate(paths)}
    targets = np.stack([_read_target(p, kept, len(used)) for p in paths]).reshape(len(paths), -1)
    corners = torch.from_numpy(np.concatenate([head[:, [0, 1, 2]], head[:, [0, 2, 3]]]))
    small = torch.from_numpy(kept)[corners[..., 0]]
    texture = torch.from_numpy(np.tile((uv[head[:, 0, 1], 0] < 0.6).astype(np.int64), 2))
    places = torch.from_numpy(uv)[corners[..., 1]]
    model = _Model(
        base=torch.from_numpy(vertices[used]).float(),
        names=names,
        targets=torch.from_numpy(targets),
        faces=small,
        uv=torch.stack([_windowed(places, w) for w in _WINDOWS])[texture, torch.arange(len(texture))].float(),
        texture=texture,
        loops=_sorted_loops([torch.from_numpy(kept[loop]) for loop in open_loops(head[..., 0])], torch.from_numpy(vertices[used])),
        eyes=[torch.from_numpy(kept[h]) for h in helpers],
        masks={},
        scalp=torch.zeros(len(used)),
    )
    return _painted(model, kept)


def _outside(uv: np.ndarray) -> bool:
    """Whether an island of the texture is skin that is seen: the face, or the ring of the neck; not mouth and sockets."""
    low, high = uv.reshape(-1, 2).min(axis=0), uv.reshape(-1, 2).max(axis=0)
    return bool(high[1] - low[1] > 0.5 or low[1] > 0.9)


def _windowed(uv: Tensor, window: tuple[int, int, int, int]) -> Tensor:
    left, top, right, bottom = window
    u = (uv[..., 0] * _SIZE - left) / (right - left)
    v = 1 - ((1 - uv[..., 1]) * _SIZE - top) / (bottom - top)
    return torch.stack([u, v], dim=-1)


def _sorted_loops(loops: list[Tensor], vertices: Tensor) -> dict[str, list[Tensor]]:
    """Which loop closes what: the lowest the neck, the next the mouth, the upper two the eyes, right (x < 0) first."""
    if len(loops) != 4:
        raise InputError(f"base.obj: its head has {len(loops)} openings and not 4; run `python data_scripts/makehuman.py`")
    neck, mouth, *eyes = sorted(loops, key=lambda loop: float(vertices[loop, 1].mean()))
    return {"neck": [neck], "mouth": [mouth], "eye caps": sorted(eyes, key=lambda loop: float(vertices[loop, 0].mean()))}


def _mean_adult(model: _Model) -> Float[Tensor, "V 3"]:
    """The middle of the young adults, in the frame of the heads."""
    weights = {f"macrodetails/{a}-{s}-young": 1 / 6 for a, s in itertools.product(ANCESTRY, SEX)}
    return _framed(_blended(model, weights), model, 1.1)


def _blended(model: _Model, weights: dict[str, float]) -> Float[Tensor, "V 3"]:
    """The base mesh moved by targets: vertices = base + sum of weight times target."""
    rows = torch.tensor([model.names[name] for name in weights])
    amounts = torch.tensor(list(weights.values()), dtype=torch.float32)
    return model.base + (amounts @ model.targets[rows]).view(-1, 3)


def _framed(vertices: Tensor, model: _Model, height: float) -> Tensor:
    """Scaled to the height, the middle of the skin's box at the origin."""
    skin = vertices[model.faces.unique()]
    low, high = skin.amin(0), skin.amax(0)
    middle = (low + high) / 2 * torch.tensor([0.0, 1.0, 1.0])
    return (vertices - middle) * (height / (high[1] - low[1]))


def _with_neck(vertices: Tensor, model: _Model) -> Tensor:
    """The neck's edge put level, below the chin."""
    ring, low = model.loops["neck"][0], vertices[model.faces.unique(), 1].amin()
    vertices = vertices.clone()
    vertices[ring, 1] = torch.minimum(vertices[ring, 1].mean(), low) - 0.1
    return vertices


def _painted(model: _Model, kept: np.ndarray) -> _Model:
    """Where hair, brows and beard grow: on vertices from their place on the mean head, then as pictures over the face's texture."""
    x, y, z = _mean_adult(model).unbind(-1)
    ears = [model.targets[k].view(-1, 3).norm(dim=-1) for name, k in model.names.items() if "ear-scale-" in name or "ear-wing" in name]
    off_ear = 1 - ((torch.stack(ears).amax(0) - 0.02) * 60).clamp(0, 1)
    scalp = ((0.02 - (z - 0.95 * y + 0.19) + 0.5 * x.square()) * 14).clamp(0, 1) * ((y + 0.22) * 8).clamp(0, 1) * off_ear
    jaw = torch.minimum(-0.10 - y, y + 0.40).minimum(1.2 * z - 0.10 - 0.2 * y) * 14
    beard = jaw.clamp(0, 1) * off_ear
    face = model.texture == 0
    left, top, right, bottom = _WINDOWS[0]
    size = (bottom - top) // 2, (right - left) // 2
    pictures = _on_texture(model, torch.stack([scalp, beard], dim=-1), face, size)
    brows = _brow_mask(model, kept, size)
    return replace(model, masks={"scalp": pictures[..., 0], "beard": pictures[..., 1] * 0.8, "brows": brows}, scalp=scalp)


def _on_texture(model: _Model, values: Tensor, which: Tensor, size: tuple[int, int]) -> Float[Tensor, "H W C"]:
    """Values at vertices as a picture over the texture: the mesh is laid out by its uv and rasterised."""
    from densebook.render.cameras import Camera
    from densebook.render.rasterizer import interpolate, rasterize

    uv, faces = model.uv[which], model.faces[which]
    flat = torch.stack([uv[..., 0] * size[1], (1 - uv[..., 1]) * size[0], torch.ones_like(uv[..., 0])], dim=-1).reshape(-1, 3)
    sheet = Mesh(flat, torch.arange(len(flat)).view(-1, 3))
    seen = rasterize(sheet, Camera(torch.eye(3), torch.eye(4), size), backend="torch")
    return interpolate(seen, values[faces])


def _brow_mask(model: _Model, kept: np.ndarray, size: tuple[int, int]) -> Float[Tensor, "H W"]:
    """Soft strips along the brows' landmarks, thinner at the ends."""
    v, u = torch.meshgrid(1 - (torch.arange(size[0]) + 0.5) / size[0], (torch.arange(size[1]) + 0.5) / size[1], indexing="ij")
    texel = torch.stack([u * size[1], v * size[0]], dim=-1)
    where = torch.zeros(len(model.base), 2).index_copy_(0, model.faces.reshape(-1), model.uv.reshape(-1, 2))
    mask = torch.zeros(size)
    for brow in _BROWS:
        line = where[torch.from_numpy(kept[list(brow)])] * torch.tensor([size[1], size[0]])
        for k, (a, b) in enumerate(itertools.pairwise(line)):
            t = ((texel - a) @ (b - a) / (b - a).square().sum()).clamp(0, 1)
            along = (k + t) / (len(brow) - 1)
            half = 2.6 * (1 - along.sub(0.5).mul(2).abs() ** 3) + 0.6
            away = (texel - a - t[..., None] * (b - a)).norm(dim=-1)
            mask = torch.maximum(mask, ((half - away) / 2.5 + 0.5).clamp(0, 1))
    return mask


# Numbers ------------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1)
def _details(names: tuple[str, ...]) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """Detail targets in pairs: what they do -> (those that do the opposite, those that do it), both sides of the face together."""
    found: dict[str, tuple[list, list]] = {}
    for name in names:
        folder, _, rest = name.partition("/")
        if folder not in _LIMITS or any(part in rest for part in _LEFT_OUT):
            continue
        stem, _, end = rest[2 * rest.startswith(("l-", "r-")) :].rpartition("-")
        positive = end not in _OPPOSITES
        key = f"{folder}/{stem}-{end if positive else _OPPOSITES[end]}"
        found.setdefault(key, ([], []))[positive].append(name)
    return {key: (tuple(low), tuple(high)) for key, (low, high) in sorted(found.items())}


def identity(u, names: tuple[str, ...]) -> dict[str, float]:
    """Weights of targets of a drawn person: one blend of ancestry, sex and age, then some of the details; `u` are dice of `heads`."""
    sex, age = u(0, 1, "identity"), u(0, 1, "identity")
    sex = min(1.0, max(0.0, 1.6 * sex - 0.3))  # most are clearly one or the other
    parts = [u(0.02, 1) ** 3 for _ in ANCESTRY]
    ages = (max(0.0, 1 - age / 0.3), min(age / 0.3, (1 - age) / 0.7), max(0.0, (age - 0.3) / 0.7))
    weights = {
        f"macrodetails/{a}-{s}-{g}": p / sum(parts) * q * r
        for (a, p), (s, q), (g, r) in itertools.product(zip(ANCESTRY, parts), zip(SEX, (1 - sex, sex)), zip(AGES, ages))
        if p * q * r > 0
    }
    wide = u(-0.8, 0.8, "identity")
    fixed = {
        "head/head-scale-horiz-incr": wide,
        "head/head-scale-depth-incr": 0.8 * wide + u(-0.2, 0.2),
        "head/head-fat-incr": u(-0.8, 0.9),
    }
    for key, (low, high) in _details(names).items():
        limit, chosen = _LIMITS[key.partition("/")[0]], u() < 0.4
        amount = fixed.get(key, u(-limit, limit) * chosen)
        for name in high if amount > 0 else low:
            weights[name] = abs(amount)
    return {name: weight for name, weight in weights.items() if weight}


def expression(u, names: tuple[str, ...]) -> dict[str, float]:
    """Weights of one to four of the face units, most on both sides; one in five faces is at rest. Some units are held out."""
    units: dict[str, list[str]] = {}
    for name in names:
        if name.startswith("faceunits/") and not any(part in name for part in _LEFT_OUT):
            stem = name.removeprefix("faceunits/")
            stem = stem if stem in ("jawLeft", "jawRight", "mouthLeft", "mouthRight") else stem.removesuffix("Left").removesuffix("Right")
            units.setdefault(stem, []).append(name)
    free = sorted(k for k in units if k not in HELD_UNITS)
    known = [*free, *HELD_UNITS]
    weights: dict[str, float] = {}
    if u() < 0.2 and "expression" not in u.held:
        return weights
    many = 1 + int(u(0, 3.999))
    for _ in range(many):
        sides = units[u.choice(known, "expression", len(HELD_UNITS))]
        amount, both = u(0.25, 0.9) / many**0.5, u() < 0.75
        for name in sides if both or len(sides) == 1 else [u.choice(sides)]:
            weights[name] = amount
    return weights


# Skins --------------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=len(SKINS))
def _skin(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The two windows of a skin, sRGB bytes: 4 MB."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            if picture.size != (_SIZE, _SIZE):
                raise InputError(f"{path}: has {picture.size} pixels and not {_SIZE} x {_SIZE}; run `python data_scripts/makehuman.py`")
            pixels = np.asarray(picture.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: cannot be read as a picture ({str(error)[:80]}); run `python data_scripts/makehuman.py`") from error
    return tuple(np.ascontiguousarray(pixels[t:b, l:r]) for l, t, r, b in _WINDOWS)


def _linear(pixels: np.ndarray, fine: bool) -> Float[Tensor, "H W 3"]:
    """Linear RGB; at half the size unless `fine`."""
    table = torch.arange(256, dtype=torch.float32) / 255
    table = torch.where(table <= 0.04045, table / 12.92, ((table + 0.055) / 1.055) ** 2.4)
    picture = table[torch.from_numpy(pixels).long()].permute(2, 0, 1)[None]
    picture = picture if fine else torch.nn.functional.avg_pool2d(picture, 2)
    return picture[0].permute(1, 2, 0)


@functools.lru_cache(maxsize=2)
def _grain(size: tuple[int, int]) -> Float[Tensor, "H W 1"]:
    """Fixed noise for hair: spread 1 about 0, two scales."""
    from densebook.core.seeds import generator

    draw = generator(7)
    coarse = torch.randn(1, 1, size[0] // 6, size[1] // 6, generator=draw)
    coarse = torch.nn.functional.interpolate(coarse, size=size, mode="bilinear", align_corners=False)[0, 0]
    return (0.6 * torch.randn(size, generator=draw) + coarse)[..., None]


HAIR = ((0.012, 0.010, 0.009), (0.035, 0.018, 0.010), (0.10, 0.05, 0.022), (0.30, 0.19, 0.085), (0.20, 0.055, 0.02), (0.40, 0.40, 0.41))


def textures(u, model: _Model, folder: Path, hairy: float, bearded: float, fine: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Face, neck and eye of one person, linear RGB: a skin, tinted, with hair, brows and beard painted on, and an iris."""
    name = u.choice(SKINS, "skin", HELD_SKINS)
    face, neck = (_linear(w, fine) for w in _skin(folder / "skins" / f"{_FILES.get(name, name + '_diffuse')}_head.jpg"))
    bright, red = u(0.8, 1.1), u(-0.05, 0.05)
    tint = torch.tensor([bright * (1 + red), bright, bright * (1 - red)])
    face, neck = (face * tint).clamp(0, 1), (neck * tint).clamp(0, 1)
    hair = torch.tensor(u.choice([*HAIR[:3], HAIR[-1]] if "dark" in name else HAIR)) * u(0.8, 1.2)
    strands = (hair * (1 + 0.3 * _grain(tuple(face.shape[:2])))).clamp(0, 1)
    cover = (model.masks["scalp"] * hairy).maximum(model.masks["brows"] * u(0.4, 0.95)).maximum(model.masks["beard"] * bearded)
    if fine:
        cover = torch.nn.functional.interpolate(cover[None, None], size=face.shape[:2], mode="bilinear", align_corners=False)[0, 0]
    return torch.lerp(face, strands, cover[..., None]), neck, _iris(u)


_FILES = {
    "young_lightskinned_female2": "young_lightskinned_female_diffuse2",
    "middleage_lightskinned_female2": "middleage_lightskinned_female_diffuse2",
}


def _iris(u) -> Float[Tensor, "64 64 3"]:
    """An eye from the front: white, iris with a dark rim, pupil."""
    color = torch.tensor(u.choice(((0.09, 0.045, 0.02), (0.10, 0.19, 0.33), (0.10, 0.18, 0.08), (0.03, 0.015, 0.01))))
    y, x = torch.meshgrid((torch.arange(64) + 0.5) / 64 - 0.5, (torch.arange(64) + 0.5) / 64 - 0.5, indexing="ij")
    r = torch.hypot(x, y)[..., None]
    ring = color * (0.6 + 2.2 * r) * (1 - 0.5 * ((r - 0.19) * 30).clamp(0, 1))
    eye = torch.where(r < 0.225, ring, torch.tensor([0.68, 0.62, 0.60]))
    return torch.where(r < 0.09, torch.full((3,), 0.005), eye).contiguous()


# Heads --------------------------------------------------------------------------------------------------------------


def head(u, with_expression: bool = True, fine: bool = False) -> Mesh:
    """A drawn head as a mesh: watertight shells of skin and two eyeballs, `objects` by PARTS, three textures; `u` are dice of `heads`.

    `fine` keeps the skins at their full size (12 MB a head, else 3). Raises InputError, saying how to get them, where the files are not
    in the data folder.
    """
    folder = _folder()
    model = _model(folder)
    names = tuple(model.names)
    weights = identity(u, names)
    adult_man = sum(w for n, w in weights.items() if n.startswith("macrodetails/") and "-male-" in n and "child" not in n)
    style, thick = u(), u(0.0, 0.05)
    hairy, thick = (0.0, 0.0) if style < 0.2 else (1.0, thick) if style < 0.8 else (1.0, thick + u(0.03, 0.1))
    bearded = max(0.0, u(-1, 1)) * (adult_man > 0.6)
    face = expression(u, names)
    if with_expression:
        weights |= face
    vertices = _framed(_with_neck(_blended(model, weights), model), model, 1.1 * u(0.92, 1.04))
    paint = textures(u, model, folder, hairy, bearded, fine)
    skin = Mesh(vertices, model.faces)
    vertices = vertices + vertex_normals(skin) * (thick * hairy * model.scalp)[:, None]
    return _assembled(model, vertices, paint)


def _assembled(model: _Model, vertices: Tensor, paint: tuple[Tensor, Tensor, Tensor]) -> Mesh:
    """Skin, caps and eyeballs as one mesh."""
    ring = model.loops["neck"][0]
    eyeballs = [_eyeball(model.base[e], vertices[e]) for e in model.eyes]
    middles = [b[0].mean(0) for b in eyeballs]
    mouth, neck = vertices[model.loops["mouth"][0]].mean(0), vertices[ring].mean(0)
    tips = [("mouth", mouth - torch.tensor([0.0, 0.0, 0.10]), model.loops["mouth"][0]), ("neck", neck, ring)]
    tips += [("inside", middle, loop) for middle, loop in zip(middles, model.loops["eye caps"])]
    rows, faces = [vertices, torch.stack([tip for _, tip, _ in tips])], [model.faces]
    parts = [torch.zeros(len(model.faces), dtype=torch.int64)]
    for k, (name, _, loop) in enumerate(tips):
        faces.append(fan(loop, len(vertices) + k))
        parts.append(torch.full((len(loop),), PARTS.index(name)))
    uv = [model.uv, torch.zeros(sum(map(len, faces[1:])), 3, 2)]
    texture = [model.texture, torch.full((sum(map(len, faces[1:])),), -1)]
    start = len(vertices) + len(tips)
    for (ball, ball_faces, ball_uv), middle, loop in zip(eyeballs, middles, model.loops["eye caps"]):
        rows.append(ball)
        faces.append(ball_faces + start)
        seen = within_loop(ball[ball_faces].mean(1) - middle, vertices[loop] - middle)
        parts.append(torch.where(seen, PARTS.index("eyes"), PARTS.index("inside")))
        uv.append(ball_uv)
        texture.append(torch.full((len(ball_faces),), 2))
        start += len(ball)
    part, skin_color = torch.cat(parts), paint[1].reshape(-1, 3).mean(0)
    tones = torch.stack([torch.ones(3), torch.tensor([0.16, 0.03, 0.03]), skin_color, torch.ones(3), torch.ones(3)])
    whole = Mesh(
        torch.cat(rows), torch.cat(faces), uv=torch.cat(uv), textures=paint, face_textures=torch.cat(texture), face_colors=tones[part],
        objects=part,
    )  # fmt: skip
    return without_strays(whole)


def fan(loop: Int[Tensor, "L"], tip: int) -> Int[Tensor, "L 3"]:
    """Triangles from a loop of `open_loops` to a vertex."""
    return torch.stack([loop, loop.roll(-1), torch.full_like(loop, tip)], dim=1)


def within_loop(directions: Float[Tensor, "N 3"], loop: Float[Tensor, "L 3"]) -> Bool[Tensor, "N"]:
    """Whether directions pass through a loop before the eye (z > 0): crossings of a half line with the loop, both on the plane z = 1."""
    x, y = (directions[:, :2] / directions[:, 2:].clamp_min(1e-3)).unbind(-1)
    a = loop[:, :2] / loop[:, 2:].clamp_min(1e-3)
    b = a.roll(-1, dims=0)
    straddles = (a[:, 1] > y[:, None]) != (b[:, 1] > y[:, None])
    at = a[:, 0] + (y[:, None] - a[:, 1]) / (b[:, 1] - a[:, 1] + 1e-12) * (b[:, 0] - a[:, 0])
    return ((straddles & (x[:, None] < at)).sum(1) % 2 == 1) & (directions[:, 2] > 1e-3)


def without_strays(mesh: Mesh) -> Mesh:
    """The mesh without vertices that no face uses (the helper eyes)."""
    used, faces = torch.unique(mesh.faces, return_inverse=True)
    colors = None if mesh.colors is None else mesh.colors[used]
    mesh = replace(mesh, vertices=mesh.vertices[used], faces=faces.view(-1, 3), colors=colors)
    return replace(mesh, normals=vertex_normals(mesh))


@functools.lru_cache(maxsize=1)
def _ball() -> tuple[Tensor, Tensor, Tensor]:
    """Directions, faces and uv of an eyeball that looks along z; in uv the front half fills the picture's circle."""
    from .toy import icosphere

    ball = icosphere(3)
    d = ball.vertices
    across = torch.nn.functional.normalize(d[:, :2], dim=1) * torch.where(d[:, 2:] > 0, d[:, :2].norm(dim=1, keepdim=True), 1.0)
    return d, ball.faces, (0.5 + 0.49 * across)[ball.faces]


def _eyeball(rest: Float[Tensor, "E 3"], moved: Float[Tensor, "E 3"]) -> tuple[Tensor, Tensor, Tensor]:
    """A fine eyeball where the coarse helper eye went: its box at rest becomes a sphere, moved as the helper's vertices were (affinely)."""
    directions, faces, uv = _ball()
    low, high = rest.amin(0), rest.amax(0)
    local = torch.nn.functional.pad((rest - (low + high) / 2) / ((high - low) / 2), (0, 1), value=1.0)
    A = torch.linalg.lstsq(local.double(), moved.double()).solution.float()
    return torch.nn.functional.pad(directions, (0, 1), value=1.0) @ A, faces, uv
