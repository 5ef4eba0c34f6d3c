"""Seeds: every function that draws takes a `generator`, and these make one."""

from __future__ import annotations

import os
import random


def generator(seed: int = 0, device="cpu"):
    """A `torch.Generator` on `device`, seeded."""
    import torch

    return torch.Generator(device=device).manual_seed(seed)


def seed_all(seed: int) -> None:
    """Seed Python, NumPy and torch: for libraries that take no generator."""
    import numpy as np
    import torch

    os.environ["PYTHONHASHSEED"] = str(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - for libraries that draw from it
    torch.manual_seed(seed)
