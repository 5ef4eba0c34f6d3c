"""Materials of mesh files: MTL text, PNG and JPEG pictures, and the way from sRGB to linear colour and back.

Files named by another file are opened only inside its folder, pictures only up to `MOST_PIXELS`. Nothing is executed.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path, PurePosixPath

import numpy as np

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


def number(kind, token: bytes, line: int | None, what: str):
    """`kind(token)` for int or float; Python's own underscores in numbers are refused."""
    try:
        if b"_" in token:
            raise ValueError
        return kind(token)
    except ValueError:
        raise Bad(f"{what} {shown(token)} is no {'whole ' if kind is int else ''}number", line) from None


# --- colour ---


def linear(srgb: np.ndarray) -> np.ndarray:
    """sRGB in [0, 1] to linear (IEC 61966-2-1)."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((np.maximum(srgb, 0.04045) + 0.055) / 1.055) ** 2.4)


def srgb(linear: np.ndarray) -> np.ndarray:
    """Linear to sRGB, clipped to [0, 1] (IEC 61966-2-1)."""
    linear = linear.clip(0, 1)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * np.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055)


_LINEAR = linear(np.arange(256) / 255).astype(np.float32)  # of each 8-bit value


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
            return _LINEAR[np.asarray(picture.convert("RGB"))]
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
    inside = plain and not {"\0", ":"} & set(plain) and not PurePosixPath(plain).is_absolute() and ".." not in PurePosixPath(plain).parts
    try:
        path = (folder / plain).resolve() if inside else folder
        if not inside or not path.is_relative_to(folder.resolve()):
            raise Bad(f"its {what} {name[:80]!r} lies outside the file's folder; it is not opened", line)
        if not path.is_file():
            raise Bad(f"its {what} {name[:80]!r} is not there; put it beside the file, or load with textures=False", line)
        if path.stat().st_size > _LARGEST:
            raise Bad(f"its {what} {name[:80]!r} has more than {_LARGEST:,} bytes; it is not opened", line)
        return path.read_bytes()
    except OSError as error:
        raise Bad(f"its {what} {name[:80]!r} cannot be read ({error.strerror}); load with textures=False", line) from error
