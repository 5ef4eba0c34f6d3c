"""Octree extraction: evaluations, CPU time and memory beside the dense grid, and beside libigl's octree when it is installed."""

from __future__ import annotations

from collections.abc import Callable

import torch

from densebook.book import bench
from densebook.book.bench import interleave
from densebook.core.optional import available, require
from densebook.geometry import sdf
from densebook.geometry.marching_cubes import marching_cubes
from densebook.geometry.octree import estimate_lipschitz, extract, extract_dense, same_triangles

BOX = ((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))
TORUS = sdf.Torus(major=0.6, minor=0.25)
CUT = sdf.Difference(
    sdf.Union(sdf.Box(half=(0.5, 0.4, 0.6)), sdf.Sphere(center=(0.35, 0.3, 0.0), radius=0.41)),
    sdf.Capsule(a=(-0.9, 0.0, 0.1), b=(0.9, 0.1, 0.0), radius=0.22),
)


def bumpy(points):
    """A ball with bumps; its slope is at most 1 + 9 * 0.12."""
    return points.norm(dim=-1) - 0.6 - 0.12 * (9 * points).sin().prod(dim=-1)


FIELDS = {"sphere": (sdf.Sphere(radius=0.7), 1.0), "torus": (TORUS, 1.0), "cut and joined": (CUT, 1.0), "bumpy": (bumpy, 2.1)}


def run(full: bool, say: Callable[[str], None]) -> list[dict]:
    """Rows for `densebook bench octree`: quick up to 256^3 on one field, full up to 512^3 on all."""
    if not available("igl"):
        say("libigl is not installed: row left out")
    cases = [("torus", 128), ("cut and joined", 128), ("torus", 256)]
    if full:
        cases = [(name, n) for n in (128, 256) for name in FIELDS] + [("torus", 512), ("cut and joined", 512)]
    rows = []
    for name, n in cases:
        say(f"{name} {n}^3")
        rows += _case(name, n, repeats=5 if full else 3)
    say("a network of 4 layers of 128")
    return rows + _network(128 if full else 64)


def _dense(f, n: int):
    return marching_cubes(sdf.dense_grid(f, BOX, n), spacing=2 / n, origin=-1.0)


def _case(name: str, n: int, repeats: int) -> list[dict]:
    """Ours, the dense grid, and libigl's octree with our field."""
    f, slope = FIELDS[name]
    mesh, stats = extract(f, BOX, n, slope)
    dense, dense_stats = extract_dense(f, BOX, n)
    ways = {"densebook": lambda: extract(f, BOX, n, slope), "dense grid": lambda: _dense(f, n)}
    more = {
        "densebook": {
            "evaluations": stats.evaluations,
            "fewer": round(stats.fewer, 1),
            "same_mesh": same_triangles(mesh, dense),
            "faces": len(mesh.faces),
            "peak_bytes": stats.peak_bytes,
            "resident_bytes": _resident(name, n, "extract"),
        },
        "dense grid": {
            "evaluations": dense_stats.evaluations,
            "fewer": 1.0,
            "same_mesh": True,
            "faces": len(dense.faces),
            "resident_bytes": _resident(name, n, "dense"),
        },
    }
    if available("igl"):
        faces, asked = _igl(f, n, slope)
        ways["libigl"] = lambda: _igl(f, n, slope)
        more["libigl"] = {"evaluations": asked, "fewer": round((n + 1) ** 3 / asked, 1), "faces": faces}
    return _rows(f"{name} {n}^3", interleave(ways, repeats), more)


def _rows(case: str, seconds: dict[str, float], more: dict[str, dict]) -> list[dict]:
    ours = seconds["densebook"]
    return [
        {"case": case, "implementation": k, "cpu_seconds": round(s, 4), "ratio": round(s / ours, 2)} | more[k] for k, s in seconds.items()
    ]


def _igl(f, n: int, slope: float) -> tuple[int, int]:
    """Faces and evaluations of libigl's octree, unique corners and marching cubes (whose table cuts some cells otherwise than ours)."""
    import numpy as np

    igl = require("igl")
    asked = 0

    def ask(points):
        nonlocal asked
        asked += len(points)
        return f(torch.from_numpy(np.ascontiguousarray(points)).float()).double().numpy()

    low, depth = np.full(3, -1.0), n.bit_length() - 1
    cells = igl.lipschitz_octree(low, 2.0, depth, lambda p: np.abs(ask(p)) / slope)
    _, index, corners = igl.unique_sparse_voxel_corners(low, 2.0, depth, cells)
    _, faces, _ = igl.marching_cubes(ask(corners), corners, index, 0.0)
    return len(faces), asked


def _resident(name: str, n: int, way: str) -> int | None:
    """Peak growth in bytes of one extraction; see `bench.peak_growth`."""
    prepare = f"f, slope = b.FIELDS[{name!r}]; b.extract(f, b.BOX, 32, slope); b._dense(f, 32)"
    return bench.peak_growth("octree", prepare, f"b.extract(f, b.BOX, {n}, slope)" if way == "extract" else f"b._dense(f, {n})")


def _network(n: int) -> list[dict]:
    """A network fitted to the torus for some seconds: here an evaluation costs."""
    net = _fitted()
    slope = estimate_lipschitz(net, BOX, generator=torch.Generator().manual_seed(0))
    mesh, stats = extract(net, BOX, n, slope, chunk=4096)
    dense, dense_stats = extract_dense(net, BOX, n, chunk=4096)
    ways = {"densebook": lambda: extract(net, BOX, n, slope, chunk=4096), "dense grid": lambda: extract_dense(net, BOX, n, chunk=4096)}
    more = {
        "densebook": {
            "evaluations": stats.evaluations,
            "fewer": round(stats.fewer, 1),
            "same_mesh": len(mesh.faces) == len(dense.faces) and not len(stats.leaks),
            "faces": len(mesh.faces),
            "peak_bytes": stats.peak_bytes,
        },
        "dense grid": {"evaluations": dense_stats.evaluations, "fewer": 1.0, "same_mesh": True, "faces": len(dense.faces)},
    }
    return _rows(f"network, L = {slope:.2f}, {n}^3", interleave(ways, repeats=1), more)


def _fitted(steps: int = 300):
    """4 layers of 128, fitted to the torus's distance; the caller's random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        widths = (3, 128, 128, 128, 128)
        layers = [m for a, b in zip(widths, widths[1:]) for m in (torch.nn.Linear(a, b), torch.nn.ReLU())]
        net = torch.nn.Sequential(*layers, torch.nn.Linear(128, 1), torch.nn.Flatten(0))
        optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
        for _ in range(steps):
            points = 2 * torch.rand(1024, 3) - 1
            loss = (net(points) - TORUS(points)).abs().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return net.requires_grad_(False)
