"""Sphere tracing: every ray every step, against active rays, bounding sphere and cones; evaluations, CPU time, hits lost."""

from __future__ import annotations

from collections.abc import Callable

import torch

from densebook.book.bench import interleave
from densebook.geometry import sdf as shapes
from densebook.geometry.sphere_tracing import march, pinhole_rays, trace

FAR = 4.0
BOUND = ((0.0, 0.0, 0.0), 0.9)
VARIANTS = {
    "densebook": {"bound": BOUND},
    "cones": {},
    "bounding sphere": {"bound": BOUND, "cone": 0},
    "active rays": {"cone": 0},
}


def _fields() -> dict[str, Callable]:
    drilled = shapes.Difference(shapes.Box((0.45, 0.45, 0.45)), shapes.Sphere(0.55))
    return {"torus": shapes.Torus(0.6, 0.25), "CSG": shapes.Union(drilled, shapes.Capsule((-0.7, 0.0, 0.0), (0.7, 0.0, 0.0), 0.1))}


def _naive(sdf: Callable, origins: torch.Tensor, directions: torch.Tensor, steps: int = 128):
    """Sphere tracing of every ray in every step: hit mask and evaluations."""
    depth = torch.zeros(origins.shape[:-1])
    with torch.no_grad():
        for _ in range(steps):
            value = sdf(origins + depth[..., None] * directions)
            depth = torch.where((value.abs() < 1e-4) | (depth > FAR), depth, depth + value)
    return value.abs() < 1e-4, steps * depth.numel()


def run(full: bool, say: Callable[[str], None]) -> list[dict]:
    """Rows for the torus and a CSG shape at 512^2 (`full`) or 128^2 rays; normals are part of every row but the naive one."""
    size = 512 if full else 128
    rays = pinhole_rays((size, size), 1.0, (0.0, -1.8, 1.4), up=(0.0, 0.0, 1.0))
    rows = []
    for name, sdf in _fields().items():
        case = f"{name} {size}^2"
        runs = {label: lambda o=options, f=sdf: trace(f, *rays, far=FAR, **o) for label, options in VARIANTS.items()}
        seconds = interleave({**runs, "naive": lambda f=sdf: _naive(f, *rays), "fixed steps": lambda f=sdf: march(f, *rays, far=FAR)})
        mask, count = _naive(sdf, *rays)
        fixed = march(sdf, *rays, far=FAR)
        found = {label: (h.mask, h.evaluations) for label, h in ((label, f()) for label, f in runs.items())}
        found |= {"naive": (mask, count), "fixed steps": (fixed.mask, fixed.evaluations)}
        for label, (hit, evaluations) in found.items():
            rows.append(
                {
                    "case": case,
                    "implementation": label,
                    "cpu_seconds": seconds[label],
                    "ratio": seconds[label] / seconds["densebook"],
                    "evaluations": evaluations,
                    "fewer_than_naive": count / evaluations,
                    "hits": int(mask.sum()),
                    "hits_lost": int((mask & ~hit).sum()),
                }
            )
        say(f"{case}: {count / found['densebook'][1]:.1f}x fewer evaluations than naive")
    return rows
