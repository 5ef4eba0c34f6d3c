"""Devices and memory: chosen when asked, never at import."""

from __future__ import annotations

import resource
import sys

from .errors import InputError


def pick(device: str = "auto"):
    """The `torch.device` for `device`: "auto" is CUDA where there is one, else the CPU.

    Raises InputError for a name torch does not know and for CUDA on a machine without it.
    """
    import torch

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise InputError(f"device {device!r} is not one that torch knows; use auto, cpu or cuda") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise InputError("device 'cuda' was asked for but torch finds no GPU here; use device='auto' or 'cpu'")
    return chosen


def peak_host_bytes() -> int:
    """Largest resident set of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def peak_device_bytes() -> int:
    """Largest memory that torch has held on the GPU so far, in bytes; 0 without one or before torch is imported."""
    torch = sys.modules.get("torch")
    return int(torch.cuda.max_memory_allocated()) if torch is not None and torch.cuda.is_available() else 0
