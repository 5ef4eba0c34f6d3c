"""Farthest point sampling: ours beside the plain loop, and beside fpsample, Open3D and PyTorch3D when they are installed.

Every implementation starts from the point that ours takes first, so all have the same task. `covering` is the distance of the
worst served point from its nearest kept one; `same` the share of our points that the other one keeps too. fpsample's bucket
variants take another sequence of the same quality.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from densebook.book.bench import interleave
from densebook.core.optional import available, require
from densebook.se3.se3_unet import farthest_points

PEERS = {"fpsample": "fpsample", "open3d": "Open3D", "pytorch3d": "PyTorch3D"}


def run(full: bool, say: Callable[[str], None]) -> list[dict]:
    """Rows for `densebook bench sampling`: quick up to 8,192 points, full up to 100,000, all on a bumpy closed surface, float32."""
    for module, name in PEERS.items():
        if not available(module):
            say(f"{name} is not installed: row left out")
    cases = [(1024, 666), (8192, 1024)] + ([(100_000, 4096)] if full else [])
    rows = []
    for n, count in cases:
        say(f"{count:,} of {n:,} points")
        rows += _case(n, count, repeats=5 if full else 3)
    return rows


def surface(n: int) -> Tensor:
    """n points on an ellipsoid with bumps, about one unit in radius, by a fixed seed."""
    x = torch.randn(n, 3, generator=torch.Generator().manual_seed(0))
    x = x / x.norm(dim=1, keepdim=True)
    return x * (1 + 0.1 * torch.sin(7 * x).prod(dim=1, keepdim=True)) * torch.tensor([0.8, 1.0, 0.6])


def plain(points: Tensor, count: int, first: int) -> Tensor:
    """The loop that everybody writes, with coordinates in rows and buffers reused: as fast as plain PyTorch gets."""
    x = points.T.contiguous()
    d, new, apart = torch.full_like(x[0], torch.inf), torch.empty_like(x[0]), torch.empty_like(x)
    taken = torch.empty(count, dtype=torch.int64)
    i = torch.tensor(first)
    for number in range(count):
        taken[number] = i
        torch.sub(x, x.index_select(1, i), out=apart)
        torch.sum(apart.square_(), 0, out=new)
        i = torch.minimum(d, new, out=d).argmax()
    return taken


def _ways(points: Tensor, count: int, first: int) -> dict[str, Callable[[], Tensor]]:
    """What takes the points, by name; each gives their indices."""
    array = np.ascontiguousarray(points.numpy())
    ways = {"densebook": lambda: farthest_points(points, count), "plain loop in PyTorch": lambda: plain(points, count, first)}
    if available("fpsample"):
        fps = require("fpsample")
        ways["fpsample vanilla"] = lambda: _index(fps.fps_sampling(array, count, start_idx=first))
        ways["fpsample kd-tree"] = lambda: _index(fps.bucket_fps_kdtree_sampling(array, count, start_idx=first))
        ways["fpsample kd-line, h=7"] = lambda: _index(fps.bucket_fps_kdline_sampling(array, count, h=7, start_idx=first))
    if available("open3d"):
        o3d = require("open3d")
        cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(array.astype(np.float64)))
        ways["Open3D"] = lambda: cloud.farthest_point_down_sample(count, first)
    if available("pytorch3d"):
        sample = __import__("pytorch3d.ops", fromlist=["ops"]).sample_farthest_points
        order = torch.arange(len(points))
        order[[0, first]] = order[[first, 0]]  # it starts from number 0
        front = points[order][None]
        ways["PyTorch3D"] = lambda: order[sample(front, K=count)[1][0]]
    return ways


def _index(found) -> Tensor:
    return torch.from_numpy(np.asarray(found).astype(np.int64))


def _kept(found, points: Tensor) -> Tensor:
    """Indices, also from an implementation that gives back a cloud."""
    if isinstance(found, Tensor):
        return found
    return _index(_nearest(torch.from_numpy(np.asarray(found.points)).float(), points)[1])


def _nearest(points: Tensor, among: Tensor) -> tuple[np.ndarray, np.ndarray]:
    from scipy.spatial import cKDTree

    return cKDTree(among.numpy()).query(points.numpy())


def _case(n: int, count: int, repeats: int) -> list[dict]:
    points = surface(n)
    ours = farthest_points(points, count)
    ways = _ways(points, count, int(ours[0]))
    more = {}
    for name, way in ways.items():
        kept = _kept(way(), points)
        more[name] = {
            "covering": round(float(_nearest(points, points[kept])[0].max()), 5),
            "same": round(float(torch.isin(ours, kept).float().mean()), 4),
        }
    seconds = interleave(ways, repeats)
    case = f"{n:,} -> {count:,}"
    return [
        {"case": case, "implementation": k, "cpu_seconds": _digits(s), "ratio": round(s / seconds["densebook"], 2)} | more[k]
        for k, s in seconds.items()
    ]


def _digits(seconds: float) -> float:
    """Three figures that count."""
    return round(seconds, 2 - math.floor(math.log10(max(seconds, 1e-9))))
