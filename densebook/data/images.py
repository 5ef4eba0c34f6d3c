"""Pictures: PNG and JPEG as linear colour, PNG written from it, and radiance maps from OpenEXR and Radiance files."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from densebook.core.errors import InputError
from densebook.core.files import atomic_path
from densebook.geometry.mesh_common import MOST_PIXELS, Bad, decode, encode


def read_image(path: str | Path) -> Float[Tensor, "H W 3"]:
    """A PNG or JPEG picture in linear RGB, float32 in [0, 1], row 0 at the top; transparency is dropped.

    Raises InputError for a file that is not there, is no such picture, is damaged, or has more than 2^25 pixels.
    """
    return _read(path, decode)


def write_image(path: str | Path, image: Float[Tensor, "H W 3"]) -> Path:
    """Write linear RGB as an 8-bit sRGB PNG, cut to [0, 1], whole or not at all; returns the path.

    Raises InputError for another shape, for values that are not finite, another suffix, and a place that cannot be written.
    """
    path, image = Path(path), torch.as_tensor(image).detach()
    if image.ndim != 3 or image.shape[2] != 3 or not image.numel() or not image.is_floating_point():
        raise InputError(f"image is {image.dtype} of shape {tuple(image.shape)}; it must be floating point (H, W, 3), not empty")
    if not bool(torch.isfinite(image).all()):
        raise InputError("image has values that are not finite; repair them first, e.g. image.nan_to_num()")
    if path.suffix.lower() != ".png":
        raise InputError(f"{path}: suffix {path.suffix!r} is not one that is written here; use .png")
    try:
        with atomic_path(path) as temporary:
            temporary.write_bytes(encode(image.cpu().double().numpy()))
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); check the folder") from error
    return path


def read_hdr(path: str | Path) -> Float[Tensor, "H W 3"]:
    """A radiance map in linear RGB, float32, row 0 at the top, from an OpenEXR (.exr) or Radiance (.hdr) file.

    Values below 0, which lossy compression leaves beside bright lamps, become 0: there is no negative light. (Of the maps
    that the registry names this touches at most 1.4 % of the values, but the park's sun gets brighter: 11 % more light in all.)
    Raises InputError for a file that is not there, is damaged, has no RGB, or has more than 2^25 pixels.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in (".exr", ".hdr"):
        raise InputError(f"{path}: suffix {suffix!r} is no radiance map; known: .exr, .hdr")
    return _read(path, _exr if suffix == ".exr" else _radiance)


def _read(path: str | Path, read) -> Tensor:
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: there is no such file; check the path")
    try:
        return torch.from_numpy(np.ascontiguousarray(read(path.read_bytes())))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    except Bad as error:
        raise InputError(f"{path}: {' '.join(str(error).split())[:400]}") from error


def _light(pixels: np.ndarray) -> np.ndarray:
    """float32 radiance that is finite and not negative."""
    pixels = pixels.astype(np.float32)
    if not np.isfinite(pixels).all():
        raise Bad("has values that are not finite; export it again")
    return pixels.clip(0)


def _size(height: int, width: int) -> tuple[int, int]:
    if not 0 < height * width <= MOST_PIXELS or min(height, width) < 1:
        raise Bad(f"has {width} x {height} pixels; from 1 to {MOST_PIXELS:,} are read here")
    return height, width


def _exr(data: bytes) -> np.ndarray:
    """OpenEXR, its first part, once its header says that it is small enough: https://openexr.com."""
    import io

    import OpenEXR

    try:
        if data[:4] != b"v/1\x01":
            raise Bad("does not begin like an OpenEXR file")
        with OpenEXR.File(io.BytesIO(data), header_only=True) as file:
            low, high = (np.asarray(corner, np.int64) for corner in file.header()["dataWindow"])
        height, width = _size(int(high[1] - low[1]) + 1, int(high[0] - low[0]) + 1)
        with OpenEXR.File(io.BytesIO(data)) as file:
            found = {name: channel.pixels for name, channel in file.channels().items()}
        pixels = found.get("RGB", found.get("RGBA"))
        if pixels is None or pixels.shape[:2] != (height, width):
            raise Bad(f"has channels {', '.join(found)[:60]} and not RGB")
        return _light(pixels[..., :3])
    except Bad:
        raise
    except Exception as error:  # whatever a foreign reader raises over a damaged file
        raise Bad(f"cannot be read as OpenEXR ({type(error).__name__}: {str(error)[:80]}); it is damaged or cut off") from error


def _radiance(data: bytes) -> np.ndarray:
    """Radiance RGBE, flat or with the newer run lengths: Ward 1991; https://radsite.lbl.gov/radiance/refer/filefmts.pdf."""
    head = re.match(rb"#\?(?:RADIANCE|RGBE)\n((?:[^\n]*\n){0,100}?)\n-Y (\d{1,9}) \+X (\d{1,9})\n", data)
    if not head or b"FORMAT=32-bit_rle_rgbe" not in head[1]:
        raise Bad("has no header of a Radiance picture in RGBE with rows from the top (-Y height +X width)")
    height, width = _size(int(head[2]), int(head[3]))
    body = np.frombuffer(data, np.uint8, offset=head.end())
    bytes_ = body.reshape(height, width, 4) if body.size == height * width * 4 else _runs(body, height, width)
    scale = np.ldexp(np.float32(1), bytes_[..., 3].astype(np.int32) - 136)  # 2^(e - 128) / 256
    return _light(np.where(bytes_[..., 3:] > 0, bytes_[..., :3] * scale[..., None], np.float32(0)))


def _runs(body: np.ndarray, height: int, width: int) -> np.ndarray:
    """Rows of four planes, each of runs (a count above 128, a value) and literals (a count, that many values)."""
    planes, data, at = np.empty((height, 4, width), np.uint8), body.tobytes(), 0
    for row in range(height):
        if data[at : at + 2] != b"\2\2" or int.from_bytes(data[at + 2 : at + 4]) != width:
            raise Bad(f"row {row} does not begin with its width; it is cut off, damaged, or uses the old run lengths")
        at, done = at + 4, 0
        line = planes[row].reshape(-1)
        while done < 4 * width:
            count = data[at] if at < len(data) else 0
            run, count = count > 128, count - 128 if count > 128 else count
            values = body[at + 1 : at + 2 + (0 if run else count - 1)]
            if not count or not len(values) or (not run and len(values) < count) or done % width + count > width:
                raise Bad(f"row {row} has a run that leaves it; the file is cut off or damaged")
            line[done : done + count] = values
            at, done = at + 1 + len(values), done + count
    return planes.transpose(0, 2, 1)
