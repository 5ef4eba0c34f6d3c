"""What the readers and writers of mesh files share: polygons, colour, pictures, and files that a file names.

Files named by another file are opened only inside its folder, pictures only up to `MOST_PIXELS`. Nothing is executed.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Hashable
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from .mesh import Mesh, merge_duplicates

MOST_PIXELS = 2**25  # of one mesh's textures together: 400 MB in float32
_LARGEST = 2**28  # bytes of a file that another names


class Bad(Exception):
    """What is wrong, and the line it is on; becomes the one InputError of a mesh file."""

    def __init__(self, what: str, line: int | None = None):
        super().__init__(what)
        self.line = line


def shown(token: bytes) -> str:
    """A word of a file as an error quotes it: short and in quotes."""
    return repr(token[:24].decode("latin-1"))


def parse(kind, token: bytes, line: int | None, what: str):
    """`kind(token)` for int or float; Python's own underscores in numbers are refused."""
    try:
        if b"_" in token:
            raise ValueError
        return kind(token)
    except ValueError:
        raise Bad(f"{what} {shown(token)} is no {'whole ' if kind is int else ''}number", line) from None


# --- polygons ---


def polygons(
    vertices, lengths, corners, colors=None, lines=None, vertex_lines=None, first: int = 0, seams: bool = False, uv=None, dress=None
) -> Mesh:
    """Polygons as a mesh of fans, after the checks that know a line.

    The polygons are runs of `lengths` corners in `corners`; `lines` and `vertex_lines` say where each came from, `first`
    is how the file numbers its first vertex, and with `seams` equal vertices become one. `uv` has a row for each corner;
    `dress(polygon of each triangle)` gives more fields of the mesh.
    """

    def at(numbers, index: int) -> int | None:
        return None if numbers is None else int(numbers[index])

    if len(bad := np.flatnonzero(~np.isfinite(vertices).all(axis=1))):
        what = f"vertex {bad[0] + first} is {vertices[bad[0]].tolist()}; coordinates must be finite"
        raise Bad(what, at(vertex_lines, bad[0]))
    if len(bad := np.flatnonzero(lengths < 3)):
        raise Bad(f"a face has {lengths[bad[0]]} corners; it needs at least 3", at(lines, bad[0]))
    ends = np.cumsum(lengths)
    if len(bad := np.flatnonzero((corners < 0) | (corners >= len(vertices)))):
        span = f"{first} to {len(vertices) - 1 + first}" if len(vertices) else "nothing: there are no vertices"
        what = f"a face names vertex {corners[bad[0]] + first}; vertices run from {span}"
        raise Bad(what, at(lines, np.searchsorted(ends, bad[0], side="right")))
    polygon = np.repeat(np.arange(len(lengths)), lengths - 2)
    step = np.arange(len(polygon)) - np.repeat(np.cumsum(lengths - 2) - (lengths - 2), lengths - 2)
    start = (ends - lengths)[polygon]
    triangles = np.stack([start, start + step + 1, start + step + 2], axis=1)  # places in `corners`
    more = {} if dress is None else dress(polygon)
    mesh = tensors(vertices, corners[triangles], colors, uv=None if uv is None else uv[triangles], **more)
    return merge_duplicates(mesh) if seams else mesh


def tensors(vertices: np.ndarray, faces: np.ndarray, colors: np.ndarray | None = None, textures=None, **rows: np.ndarray | None) -> Mesh:
    """A mesh of arrays, float64 but for its pictures."""
    arrays = {"vertices": vertices, "faces": faces, "colors": colors, **rows}
    kinds = {"faces": "i8", "face_textures": "i8"}
    found = {n: torch.from_numpy(np.ascontiguousarray(a, dtype=kinds.get(n, "f8"))) for n, a in arrays.items() if a is not None}
    return Mesh(**found, textures=tuple(map(torch.from_numpy, textures)) if textures else None)


def materials(number: np.ndarray, colors: list, textures: list[int], pictures: list[np.ndarray]) -> dict:
    """Fields of a mesh whose faces have the materials `number` (-1: white) of these `colors` and `textures` (-1: none)."""
    color = np.array([*colors, (1.0, 1.0, 1.0)], dtype=np.float64)[number]
    texture = np.array([*textures, -1], dtype=np.int64)[number]
    fields = {"face_colors": color} if (color != 1).any() else {}
    if (texture >= 0).any():
        fields |= {"textures": pictures, "face_textures": texture if texture.any() else None}
    return fields


def arrays(mesh: Mesh) -> dict:
    """What a mesh has, as NumPy arrays on the CPU, float32 or float64; `textures` is a list."""

    def plain(rows: torch.Tensor) -> np.ndarray:
        rows = rows.detach().cpu()
        return (rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows).numpy()

    names = ("vertices", "faces", "colors", "uv", "face_textures", "face_colors")
    found = {n: plain(t) for n in names if (t := getattr(mesh, n)) is not None}
    return {**found, "textures": [plain(t) for t in mesh.textures or ()]}


def groups(rows: dict) -> tuple[np.ndarray | None, np.ndarray]:
    """Rows (texture, r, g, b), each once, and the row of every face; None where all faces are white and have no texture."""
    count = len(rows["faces"])
    color = rows.get("face_colors", np.ones((count, 3)))
    texture = rows.get("face_textures", np.full(count, 0 if rows["textures"] else -1))
    looks, look = np.unique(np.concatenate([texture[:, None], color], axis=1), axis=0, return_inverse=True)
    return (looks if rows["textures"] or "face_colors" in rows else None), look.reshape(-1)


# --- colour ---


def linear(srgb: np.ndarray) -> np.ndarray:
    """sRGB in [0, 1] to linear (IEC 61966-2-1)."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((np.maximum(srgb, 0.04045) + 0.055) / 1.055) ** 2.4)


def srgb(linear: np.ndarray) -> np.ndarray:
    """Linear to sRGB, clipped to [0, 1] (IEC 61966-2-1)."""
    linear = linear.clip(0, 1)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * np.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055)


_LEVELS = linear(np.arange(256) / 255).astype(np.float32)  # of each 8-bit value


# --- pictures ---


def decode(data: bytes, most: int = MOST_PIXELS) -> np.ndarray:
    """A PNG or JPEG picture as linear (h, w, 3) float32, row 0 at the top; grey becomes three channels, transparency is dropped.

    Raises Bad for another format, for one that is damaged or cut off, and, before its pixels are read, for one of more
    than `most` pixels.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as picture:
            warnings.simplefilter("ignore")  # PIL warns of large pictures; they are refused here
            width, height = picture.size
            if width * height > most:
                raise Bad(f"has {width} x {height} pixels; at most {most:,} are read here, make it smaller")
            if picture.mode.startswith("I"):  # 16-bit grey, which PIL would cut to 8
                return np.repeat(linear(np.asarray(picture) / 65535).astype(np.float32)[..., None], 3, axis=2)
            return _LEVELS[np.asarray(picture.convert("RGB"))]
    except Bad:
        raise
    except Image.DecompressionBombError:
        raise Bad(f"says that it has more pixels than the {most:,} that are read here; make it smaller") from None
    except Exception as error:  # whatever PIL raises over a damaged file
        raise Bad(f"is no PNG or JPEG picture that can be read ({type(error).__name__}: {str(error)[:80]})") from error


def encode(image: np.ndarray) -> bytes:
    """A linear (h, w, 3) picture as 8-bit sRGB PNG."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(np.round(srgb(image) * 255).astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def beside(folder: Path, name: str, what: str, line: int | None = None) -> bytes:
    """The content of the file `name`, in `folder` or below it; Bad when it lies elsewhere (through a link too) or is not there."""
    plain = name.replace("\\", "/")
    quoted, without = f"its {what} {name[:80]!r}", "" if what == "buffer" else ", or load with textures=False"
    try:
        path = (folder / plain).resolve() if plain and not {"\0", ":"} & set(plain) else None
        if path is None or PurePosixPath(plain).is_absolute() or not path.is_relative_to(folder.resolve()):
            raise Bad(f"{quoted} lies outside the file's folder; it is not opened", line)
        if not path.is_file():
            raise Bad(f"{quoted} is not there; put it beside the file{without}", line)
        if path.stat().st_size > _LARGEST:
            raise Bad(f"{quoted} has more than {_LARGEST:,} bytes; it is not opened", line)
        return path.read_bytes()
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        raise Bad(f"{quoted} cannot be read ({type(error).__name__}); repair it{without}", line) from error


class Pictures:
    """The pictures of one mesh, each decoded once, of at most `MOST_PIXELS` together."""

    def __init__(self) -> None:
        self.images: list[np.ndarray] = []
        self.numbers: dict[Hashable, int] = {}

    def number(self, key: Hashable, what: str, read: Callable[[], bytes]) -> int:
        """The place in `images` of the picture `key`, whose bytes `read` gives; Bad, naming `what`, where it is none."""
        if key not in self.numbers:
            data = read()
            try:
                self.images.append(decode(data, MOST_PIXELS - sum(i.shape[0] * i.shape[1] for i in self.images)))
            except Bad as error:
                raise Bad(f"its {what} {error}; or load with textures=False") from error
            self.numbers[key] = len(self.images) - 1
        return self.numbers[key]
