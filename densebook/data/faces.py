"""Faces as point clouds with 68 landmarks: the ICT face model, a procedural toy, FaceScape's meshes and the author's files.

Landmarks are in the order of Multi-PIE: 0-16 jaw from the subject's right ear, 17-26 brows, 27-35 nose, 36-47 eyes, 48-67 mouth.
Clouds are y up, look towards +z, are centred on the mean of their points and have radius 1; `scale_mm` leads back to millimetres.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from densebook.core import settings
from densebook.core.errors import InputError, nearest
from densebook.core.seeds import generator as seeded
from densebook.geometry.mesh import Mesh

LANDMARKS = 68
GROUPS = {"jaw": (0, 17), "brows": (17, 27), "nose": (27, 36), "eyes": (36, 48), "mouth": (48, 68)}  # first, last + 1
TRAIN, TEST = 669, 167  # faces of the paper
REGIONS = {"narrow": 6706, "face": 9409}  # first vertices of the ICT mesh: without and with ears, forehead and neck
ICT_FILE = "faces_ict/ict_facekit_light.npz"
_ICT_KEYS = ("neutral", "identity_q", "identity_scale", "faces", "landmarks68")
_ICT_MM = 10.0  # the model is in centimetres

# Vertices of FaceScape's TU meshes (26,317 vertices, toolkit key v10); landmarks of the jaw and brows sit slightly off (their issue 114).
FACESCAPE_VERTICES = 26317
FACESCAPE_LANDMARKS = (
    23404, 4607, 4615, 4655, 20356, 4643, 5022, 5013, 1681, 1692, 11470, 10441, 1336, 1343, 1303, 1295, 2372,
    6143, 6141, 6126, 6113, 6109, 2844, 2762, 2765, 2774, 2789, 6053, 6041, 1870, 1855, 4728, 4870, 1807, 1551, 1419,
    3434, 3414, 3447, 3457, 3309, 3373, 3179, 151, 127, 143, 3236, 47, 21018, 4985, 4898, 6571, 1575, 1663, 1599, 1899,
    12138, 5231, 21978, 5101, 21067, 21239, 11378, 11369, 11553, 12048, 5212, 21892,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Faces:
    """Clouds of equal size with their landmarks; `faces[3]`, `faces[:10]` and `faces[index tensor]` give fewer."""

    points: Float[Tensor, "S N 3"]  # centred, radius 1
    landmarks: Float[Tensor, "S L 3"]  # in the same frame
    scale_mm: Float[Tensor, "S"]  # millimetres per unit

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index) -> Faces:
        if isinstance(index, int):
            index = slice(index, index + 1 or None)
        return Faces(self.points[index], self.landmarks[index], self.scale_mm[index])

    def to(self, *arguments) -> Faces:
        """On another device, or in another dtype, as `Tensor.to`."""
        return Faces(*(v.to(*arguments) for v in (self.points, self.landmarks, self.scale_mm)))


def load(data: str, train: int = TRAIN, test: int = TEST, count: int = 1024, seed: int = 0) -> tuple[Faces, Faces]:
    """`train` and `test` faces of `count` points: of the ICT model for data "real", procedural ones for "toy".

    All identities follow from `seed`, and no identity is in both. Raises InputError for another `data`, and as `ict` does.
    """
    makers = {"real": ict, "toy": toy}
    if data not in makers:
        raise InputError(f"data {data!r} is not one of this book's{nearest(str(data), makers)}")
    both = makers[data](train + test, count, seed)
    return both[:train], both[train:]


# Farthest points and scale


def farthest_points(clouds: Float[Tensor, "S N 3"], count: int, chunk: int = 32) -> Int[Tensor, "S count"]:
    """Indices of `count` points of each cloud, each the farthest from those before it; the first is farthest from the mean.

    Ties go to the lower index. All clouds advance together, `chunk` at a time so that their distances stay in the cache.
    Memory: 4 N numbers a cloud of the chunk. Raises InputError when a cloud has fewer than `count` points, or NaN.
    """
    _clouds("clouds", clouds)
    if not 1 <= count <= clouds.shape[1]:
        raise InputError(f"count is {count}; a cloud of {clouds.shape[1]} points gives 1 to {clouds.shape[1]} of them")
    return torch.cat([_farthest(part, count) for part in clouds.split(chunk)])


def _farthest(clouds: Tensor, count: int) -> Tensor:
    x, y, z = (clouds - clouds.mean(dim=1, keepdim=True)).unbind(-1)
    picked = torch.empty(len(clouds), count, dtype=torch.int64, device=clouds.device)
    picked[:, :1] = (x * x + y * y + z * z).argmax(dim=1, keepdim=True)
    nearest_yet = torch.full_like(x, torch.inf)
    for k in range(1, count):
        last = picked[:, k - 1 : k]
        dx, dy, dz = (v - v.gather(1, last) for v in (x, y, z))
        nearest_yet = torch.minimum(nearest_yet, dx * dx + dy * dy + dz * dz)
        picked[:, k] = nearest_yet.argmax(dim=1)
    return picked


def _clouds(name: str, x: Tensor) -> None:
    if not isinstance(x, Tensor) or not x.is_floating_point() or x.ndim != 3 or x.shape[-1] != 3 or x.numel() == 0:
        what = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise InputError(f"{name} is {what}; give float clouds of shape (S, N, 3)")
    if not x.isfinite().all():
        raise InputError(f"{name} holds NaN or infinity; remove these points")


def sample(vertices: Float[Tensor, "S V 3"], landmarks: Float[Tensor, "S L 3"], count: int, unit_mm: float = 1.0) -> Faces:
    """`count` farthest points of each set of vertices, centred and scaled to radius 1 as FaceScape's loader does.

    `unit_mm` is the length of the vertices' unit in millimetres. Raises InputError as `farthest_points`, and for a cloud without extent.
    """
    index = farthest_points(vertices, count)
    points = vertices.gather(1, index[..., None].expand(-1, -1, 3))
    center = points.mean(dim=1, keepdim=True)
    points, landmarks = points - center, landmarks - center
    radius = points.norm(dim=-1).amax(dim=1)
    if not (radius > 0).all():
        raise InputError(f"vertices of cloud {int((radius == 0).nonzero()[0])} all coincide; a face needs an extent")
    return Faces(points / radius[:, None, None], landmarks / radius[:, None, None], radius * unit_mm)


# The ICT face model


@dataclass(frozen=True, eq=False)
class IctModel:
    """The linear face model of ICT-FaceKit (Li et al. 2020), light version, MIT: neutral + sum of weights times modes."""

    neutral: Float[Tensor, "V 3"]  # millimetres, y up, looking to +z
    modes: Float[Tensor, "100 V 3"]  # millimetres for weight 1
    triangles: Int[Tensor, "F 3"]
    landmarks: Int[Tensor, "68"]  # vertices

    def vertices(self, weights: Float[Tensor, "S M"]) -> Float[Tensor, "S V 3"]:
        """Vertices of faces with these identity weights, each ~ N(0, 1) in people; M up to 100. Millimetres."""
        return self.neutral + torch.einsum("sm,mvc->svc", weights, self.modes[: weights.shape[1]])

    def mesh(self, weights: Float[Tensor, "M"]) -> Mesh:
        """One face as a mesh, in METRES as every mesh of the book."""
        return Mesh(self.vertices(weights[None])[0] / 1000, self.triangles)


def ict_path() -> Path:
    """Where the packed ICT model lies in the data folder; raises InputError, saying how to make it, when it is not there."""
    path = settings.data_folder() / ICT_FILE
    if not path.is_file():
        raise InputError(f"{path} is not there; run `python data_scripts/faces_ict.py`, or let DENSEBOOK_DATA name a folder that has it")
    return path


def ict_model(region: str = "narrow", path: str | Path | None = None) -> IctModel:
    """The model's skin from `path` (default: the data folder): region "narrow" or "face" (see REGIONS), float32.

    Raises InputError for an unknown region, and for a file that is missing or not the packed model.
    """
    if region not in REGIONS:
        raise InputError(f"region {region!r} is unknown{nearest(str(region), REGIONS)}")
    path, size = Path(path) if path else ict_path(), REGIONS[region]
    arrays = _arrays(path, _ICT_KEYS)
    if arrays["neutral"].ndim != 2 or len(arrays["neutral"]) < size or arrays["identity_q"].shape[1:] != arrays["neutral"].shape:
        raise InputError(f"{path} is not the packed ICT model (other shapes); make it with `python data_scripts/faces_ict.py`")
    modes = arrays["identity_q"][:, :size].astype(np.float32) * arrays["identity_scale"].astype(np.float32)[:, None, None]
    triangles = torch.from_numpy(arrays["faces"].astype(np.int64))
    return IctModel(
        neutral=torch.from_numpy(arrays["neutral"][:size].astype(np.float32)) * _ICT_MM,
        modes=torch.from_numpy(modes) * _ICT_MM,
        triangles=triangles[(triangles < size).all(dim=1)],
        landmarks=torch.from_numpy(arrays["landmarks68"].astype(np.int64)),
    )


def ict(faces: int, count: int = 1024, seed: int = 0, region: str = "narrow", path: str | Path | None = None) -> Faces:
    """`faces` neutral faces of the ICT model: identity weights ~ N(0, 1) by `seed`, `count` farthest points each, radius 1.

    836 faces of 1024 points take about half a minute on one core. Raises InputError as `ict_model`, and when `count` exceeds the vertices.
    """
    model, parts = ict_model(region, path), []
    weights = torch.randn(faces, len(model.modes), generator=seeded(seed))
    for some in weights.split(64):  # 5 MB of vertices at a time
        vertices = model.vertices(some)
        parts.append(sample(vertices, vertices[:, model.landmarks], count))
    return Faces(*(torch.cat([getattr(p, name) for p in parts]) for name in ("points", "landmarks", "scale_mm")))


# The toy: a star-shaped face


def _template(p: dict[str, Tensor]) -> Float[Tensor, "S 68 2"]:
    """Azimuth and elevation of the 68 landmarks in radians, from the identity."""
    t = torch.linspace(-1, 1, 17) * math.pi / 2
    jaw = torch.stack([1.15 * t.sin() * p["width"], 0.1 - p["chin"] * t.cos()], -1)
    t = torch.linspace(0, 1, 5)
    brow = torch.stack([p["eye_a"] - 0.2 + 0.42 * t, p["eye_e"] + 0.17 + 0.06 * torch.sin(math.pi * t)], -1)
    bridge = torch.stack([torch.zeros(4) * p["nose_e"], p["eye_e"] + (p["nose_e"] - p["eye_e"]) * torch.arange(4) / 3], -1)
    t = torch.linspace(-1, 1, 5)
    base = torch.stack([0.13 * p["nose_w"] * t, p["nose_e"] - 0.10 - 0.02 * (1 - t**2)], -1)
    t = torch.tensor([0.0, 60, 120, 180, 240, 300]) * math.pi / 180  # from the inner corner over the top
    eye = torch.stack([p["eye_a"] - 0.13 * t.cos(), p["eye_e"] + 0.055 * t.sin()], -1)
    t = math.pi - torch.arange(12) * math.pi / 6  # from the right corner over the upper lip
    outer = torch.stack([p["mouth_w"] * t.cos(), p["mouth_e"] + 0.085 * t.sin()], -1)
    t = math.pi - torch.arange(8) * math.pi / 4
    inner = torch.stack([0.75 * p["mouth_w"] * t.cos(), p["mouth_e"] + 0.03 * t.sin()], -1)
    mirror = torch.tensor([-1.0, 1.0])
    right_eye = (eye * mirror)[:, [3, 2, 1, 0, 5, 4]]  # outer corner first
    return torch.cat([jaw, (brow * mirror).flip(1), brow, bridge, base, right_eye, eye, outer, inner], dim=1)


def _identity(faces: int, seed: int) -> dict[str, Tensor]:
    """The numbers that make a toy face, each (S, 1): mean plus some per cent of normal noise."""
    means = {
        "width": 1.0, "height": 1.25, "depth": 1.05, "chin": 0.85, "eye_a": 0.34, "eye_e": 0.2, "socket": 0.05, "brow": 0.04,
        "nose_e": -0.1, "nose_w": 1.0, "nose_h": 0.2, "mouth_e": -0.4, "mouth_w": 0.26, "lips": 0.05, "chin_h": 0.06, "cheek": 0.03,
    }  # fmt: skip
    noise = torch.randn(len(means), faces, 1, generator=seeded(seed))
    return {name: mean * (1 + 0.06 * n) for (name, mean), n in zip(means.items(), noise)}


def _radius(a: Tensor, e: Tensor, p: dict[str, Tensor]) -> Tensor:
    """Distance of the toy's skin from its origin in direction azimuth `a`, elevation `e` (S, M): an ellipsoid with bumps."""

    def bump(height, a0, e0, wide, high):
        return height * torch.exp(-(((a - a0) / wide) ** 2 + ((e - e0) / high) ** 2) / 2)

    x, y, z = a.sin() * e.cos(), e.sin(), a.cos() * e.cos()
    r = 1 / ((x / p["width"]) ** 2 + (y / p["height"]) ** 2 + (z / p["depth"]) ** 2).sqrt()
    r = r + bump(p["nose_h"], 0, p["nose_e"], 0.08, 0.08) + bump(0.35 * p["nose_h"], 0, p["nose_e"] + 0.14, 0.06, 0.13)
    mouth, half = p["mouth_e"], p["mouth_w"]
    r = r + bump(p["lips"], 0, mouth + 0.045, 0.5 * half, 0.035) + bump(p["lips"], 0, mouth - 0.05, 0.4 * half, 0.04)
    r = r - bump(0.6 * p["lips"], 0, mouth, 0.6 * half, 0.015) + bump(p["chin_h"], 0, mouth - 0.35, 0.15, 0.1)
    for side in (-1, 1):
        eye = side * p["eye_a"]
        r = r - bump(p["socket"], eye, p["eye_e"], 0.14, 0.08) + bump(0.6 * p["socket"], eye, p["eye_e"], 0.06, 0.035)
        r = r + bump(p["brow"], eye, p["eye_e"] + 0.18, 0.16, 0.04) + bump(p["cheek"], 1.5 * eye, p["nose_e"], 0.18, 0.15)
        r = r + bump(0.25 * p["nose_h"], side * 0.1 * p["nose_w"], p["nose_e"] - 0.04, 0.05, 0.05)
    return r


def _skin(angles: Tensor, p: dict[str, Tensor]) -> Tensor:
    """Points (S, M, 3) of the toy in directions (S, M, 2)."""
    a, e = angles.unbind(-1)
    return torch.stack([a.sin() * e.cos(), e.sin(), a.cos() * e.cos()], -1) * _radius(a, e, p)[..., None]


def toy(faces: int, count: int = 1024, seed: int = 0) -> Faces:
    """`faces` procedural faces: an ellipsoid with bumps for nose, eyes, brows, lips and chin, 16 numbers of identity each.

    `count` farthest of 4096 points of the front; radius 1; the size in millimetres is like a person's. Needs no files.
    """
    if faces < 1 or not 1 <= count <= 4096:
        raise InputError(f"faces is {faces} and count {count}; a toy has at least one face and 1 to 4096 points")
    p = _identity(faces, seed)
    k = torch.arange(4096) + 0.5  # Fibonacci points of the cap around +z, 80 degrees wide
    height = 1 - k / 4096 * (1 - math.cos(math.radians(80)))
    turn = math.pi * (1 + 5**0.5) * k
    side = (1 - height**2).sqrt()
    x, y = side * turn.cos(), side * turn.sin()
    angles = torch.stack([torch.atan2(x, height), y.asin()], -1).expand(faces, -1, -1)
    return sample(_skin(angles, p), _skin(_template(p), p), count, unit_mm=75.0)


# FaceScape and the author's files


def facescape(
    paths: Sequence[str | Path], count: int = 1024, landmarks: Sequence[int] = FACESCAPE_LANDMARKS, unit_mm: float = 1.0
) -> Faces:
    """Registered FaceScape meshes (models_reg/<k>_<expression>.obj), all of one topology: vertex order is kept as in the file.

    The default landmarks are those of the 26,317-vertex topology; pass the indices of the toolkit's landmark_indices.npz for
    another. `unit_mm`: the files' unit in millimetres. Raises InputError naming file and line.
    """
    if not paths:
        raise InputError("paths is empty; give at least one .obj file")
    vertices = [obj_vertices(p) for p in paths]
    for path, v in zip(paths, vertices):
        if len(v) != len(vertices[0]):
            raise InputError(f"{path} has {len(v)} vertices and {paths[0]} {len(vertices[0])}; give meshes of one topology")
        if tuple(landmarks) == FACESCAPE_LANDMARKS and len(v) != FACESCAPE_VERTICES:
            raise InputError(f"{path} has {len(v)} vertices, not {FACESCAPE_VERTICES}; pass the landmark indices of its topology")
        if not all(0 <= i < len(v) for i in landmarks):
            raise InputError(f"landmarks reach beyond the {len(v)} vertices of {path}; pass the indices of its topology")
    stacked = torch.stack(vertices)
    return sample(stacked, stacked[:, list(landmarks)], count, unit_mm)


def obj_vertices(path: str | Path) -> Float[Tensor, "V 3"]:
    """The `v` lines of an OBJ file in their order: nothing is merged, split or dropped, so vertex indices stay true.

    Raises InputError naming file and line for a file that cannot be read, a line that is not three finite numbers, or no vertices.
    """
    path, rows = Path(path), []
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, start=1):
                if line.startswith(("v ", "v\t")):
                    rows.append(_three(path, number, line))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    if not rows:
        raise InputError(f"{path}: has no vertices; is it an OBJ file?")
    return torch.tensor(rows, dtype=torch.float32)


def _three(path: Path, number: int, line: str) -> list[float]:
    try:
        row = [float(word) for word in line.split()[1:4]]
    except ValueError:
        row = []
    if len(row) != 3 or not all(map(math.isfinite, row)):
        raise InputError(f"{path}, line {number}: {line.strip()[:60]!r} is not a vertex of three finite numbers; repair or remove the file")
    return row


def author(path: str | Path) -> tuple[Faces, Float[Tensor, "S N L"]]:
    """Faces and heatmaps from one of the author's files (Train/train_neutral.npy): point_list, landmark_list, heatmaps_list, scale_list.

    Read without pickle: a structured array, or an npz under another name. `scale_mm` is scale_list as it stands.
    Raises InputError for a pickled file, a missing array and shapes that do not fit together.
    """
    path = Path(path)
    arrays = _arrays(path, ("point_list", "landmark_list", "heatmaps_list", "scale_list"))
    points, landmarks, maps, scale = (torch.from_numpy(np.ascontiguousarray(v)).float() for v in arrays.values())
    if points.ndim != 3 or points.shape[-1] != 3 or landmarks.ndim != 3 or landmarks.shape[-1] != 3:
        shapes = f"point_list {tuple(points.shape)}, landmark_list {tuple(landmarks.shape)}"
        raise InputError(f"{path}: {shapes}; they must be (S, N, 3) and (S, L, 3)")
    wanted = (*points.shape[:2], landmarks.shape[1])
    if maps.shape != wanted or len(landmarks) != len(points) or scale.numel() != len(points):
        raise InputError(f"{path}: heatmaps_list is {tuple(maps.shape)} and scale_list {tuple(scale.shape)}, where points ask for {wanted}")
    return Faces(points, landmarks, scale.reshape(-1)), maps


def _arrays(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The named arrays of an npz file or a structured npy file, numbers only; nothing in the file is run."""
    try:
        with open(path, "rb") as file:
            whole = np.load(file, allow_pickle=False)
            found = _fields(path, whole, names)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        if isinstance(error, InputError):
            raise
        hint = "it holds pickled objects, which can run code" if "pickle" in str(error).lower() else str(error)[:80]
        raise InputError(f"{path}: {hint}; save its arrays with np.savez and give that file") from error
    for name, array in found.items():
        if array.dtype.kind not in "fiu":
            raise InputError(f"{path}: {name} has dtype {array.dtype}, not numbers; save it as an array of numbers")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InputError(f"{path}: {name} holds NaN or infinity; remove these faces")
    return found


def _fields(path: Path, whole, names: Sequence[str]) -> dict[str, np.ndarray]:
    known = whole.files if hasattr(whole, "files") else whole.dtype.names or ()
    missing = [n for n in names if n not in known]
    if missing:
        raise InputError(f"{path}: has no array {missing[0]!r}{nearest(missing[0], known) if known else ' (it is one plain array)'}")
    return {n: np.asarray(whole[n]) for n in names}
