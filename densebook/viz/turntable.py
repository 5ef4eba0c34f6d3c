"""Frames of a turning scene: angles, and a contact sheet for paper."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from densebook.core.errors import InputError


def angles(count: int = 9, start: float = 0.0, stop: float = 2 * math.pi) -> tuple[float, ...]:
    """`count` angles in radians from `start`, evenly spaced, without `stop` itself (a whole turn ends where it began)."""
    if not isinstance(count, int) or count < 1:
        raise InputError(f"count is {count!r}; give a whole number of frames from 1 up")
    return tuple(start + (stop - start) * i / count for i in range(count))


def to_bytes(frame) -> np.ndarray:
    """A frame (H, W, 3) as uint8: floats are sRGB in [0, 1], cut there; uint8 passes through; tensors of any device will do.

    Raises InputError for another shape or type and for NaN.
    """
    if hasattr(frame, "detach"):
        frame = frame.detach().cpu().numpy()
    frame = np.asarray(frame)
    if frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
        raise InputError(f"a frame has shape {frame.shape}; give (H, W, 3)")
    if frame.dtype == np.uint8:
        return frame
    if not np.issubdtype(frame.dtype, np.floating) or np.isnan(frame).any():
        raise InputError(f"a frame of {frame.dtype} holds NaN or is no picture; give sRGB floats in [0, 1] or uint8")
    return (np.clip(frame, 0, 1) * 255 + 0.5).astype(np.uint8)


def strip(frames: Sequence, labels: Sequence[str] | None = None, columns: int = 5, width: float = 8.0):
    """A contact sheet: a matplotlib figure, `width` inches wide, with the frames (H, W, 3) in reading order and a label under each.

    Raises InputError without frames, for frames of different sizes, or when there are not as many labels as frames.
    """
    import matplotlib.pyplot as plt

    pictures = same_size(frames)
    if labels is not None and len(labels) != len(pictures):
        raise InputError(f"there are {len(labels)} labels for {len(pictures)} frames; give one each")
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    height = width / columns * pictures[0].shape[0] / pictures[0].shape[1] + (0.25 if labels else 0.05)
    figure, axes = plt.subplots(rows, columns, figsize=(width, rows * height), squeeze=False)
    for cell in axes.flat:
        cell.set_axis_off()
    for i, (cell, picture) in enumerate(zip(axes.flat, pictures)):
        cell.imshow(picture)
        if labels is not None:
            cell.set_title(labels[i], fontsize=8, y=-0.16)
    return figure


def same_size(frames: Sequence) -> list[np.ndarray]:
    """The frames as uint8, all of one size; raises InputError otherwise."""
    pictures = [to_bytes(f) for f in frames]
    if not pictures:
        raise InputError("frames is empty; give at least one picture")
    odd = next((p.shape for p in pictures if p.shape != pictures[0].shape), None)
    if odd is not None:
        raise InputError(f"frames differ in size: {pictures[0].shape} and {odd}; render all at one size")
    return pictures
