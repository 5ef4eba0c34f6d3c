"""Dense Object Nets: memory and time of a training step over the descriptor's length D, three ways to the same kind of loss.

One pair of pictures, ResNet-34 as the paper's code released it (no max-pool, stride 16), NT-Xent in both directions, forward and backward.
"released tile" repeats descriptors into (N, H, W, D), as that code does; "matrix product" computes the same number without the tile, from
maps upsampled to every pixel; "densebook" reads the low-resolution map at the matches. Two cases: few matches, so that the tile fits into
common machines, and the paper's 128 without it. The tile's published row needs 9 to 30 GB.

Peak memory: a fresh process per row makes one tiny step first (imports, code), then reads the kernel's VmHWM before and after one
full step, so weights are left out, scratch memory is not. Linux only. The time is process CPU time of that step, on one thread.
`memory_over_first` is the row's peak over the one of the same implementation at the smallest D of the case: 1 means flat in D.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from densebook.don.dense_object_nets import DenseObjectNet, nt_xent, sample

TEMPERATURE = 0.1


def run(full: bool, say: Callable[[str], None]) -> list[dict]:
    """Rows for `densebook bench descriptors`: D = 3 to 512 at 480 x 640; quick: D = 3 and 32 at 96 x 128. At most 4 GB."""
    if full:
        cases = [
            (16, (480, 640), {"densebook": (3, 8, 16), "matrix product": (3, 8, 16), "released tile": (3, 8, 16)}),
            (128, (480, 640), {"densebook": (3, 16, 64, 512), "matrix product": (3, 16, 64)}),
        ]
    else:
        cases = [(32, (96, 128), {"densebook": (3, 32), "released tile": (3, 32)})]
    rows = []
    for matches, size, ways in cases:
        found = {}
        for name, lengths in ways.items():
            say(f"{name}: {matches} matches at {size[0]} x {size[1]}, D = {', '.join(map(str, lengths))}")
            found |= {(name, D): measure(name, D, matches, size) for D in lengths}
        rows += _rows(f"N = {matches}, {size[0]} x {size[1]}", found)
    return rows


def _rows(case: str, found: dict[tuple[str, int], tuple[float, int | None]]) -> list[dict]:
    rows, first = [], {}
    for (name, D), (seconds, peak) in found.items():
        row = {"case": f"{case}, D = {D}", "implementation": name, "cpu_seconds": round(seconds, 3)}
        row["ratio"] = round(seconds / found["densebook", D][0], 2)
        if peak:
            row |= {
                "peak_mb": round(peak / 1e6, 1),
                "peak_ratio": round(peak / found["densebook", D][1], 2),
                "memory_over_first": round(peak / first.setdefault(name, peak), 3),
            }
        rows.append(row)
    return sorted(rows, key=lambda r: int(r["case"].rsplit(" ", 1)[1]))


def measure(name: str, D: int, matches: int, size: tuple[int, int]) -> tuple[float, int | None]:
    """CPU seconds and peak bytes of one step in a fresh process; bytes are None where there is no /proc."""
    code = (
        "import time, torch; torch.set_num_threads(1); from densebook.book import bench; "
        "from densebook.book.benches import descriptors as b; "
        f"b.prepare({name!r}, 3, 4, (32, 32))(); step = b.prepare({name!r}, {D}, {matches}, {size}); "
        "before, start = bench.memory('VmHWM'), time.process_time(); "
        "step(); print(); print(time.process_time() - start, (bench.memory('VmHWM') or 0) - (before or 0))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    return float(out[-2]), int(out[-1]) or None


def prepare(name: str, D: int, matches: int, size: tuple[int, int]) -> Callable[[], Tensor]:
    """A step of an implementation: forward of both pictures, loss, backward; gives the loss."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = DenseObjectNet(D, "resnet34", 16)
        images = torch.rand(2, 3, *size)
        uv = (torch.rand(2, matches, 2) * torch.tensor(size[::-1])).floor() + 0.5

    def step() -> Tensor:
        maps = net.features(images)
        loss = WAYS[name](maps, uv, size)
        loss.backward()
        return loss.detach()

    return step


def ours(maps: Tensor, uv: Tensor, size: tuple[int, int]) -> Tensor:
    """Read at the matches; negatives are the other matches and the cells."""
    a, b = F.normalize(sample(maps, uv, size), dim=-1).split(1)
    low = F.normalize(maps, dim=1)
    return (nt_xent(a, b, low[1:], uv[1:], size, TEMPERATURE) + nt_xent(b, a, low[:1], uv[:1], size, TEMPERATURE)) / 2


def _both(maps: Tensor, uv: Tensor, size: tuple[int, int], one: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
    """Upsampled to every pixel and looked up there, both directions."""
    full = F.interpolate(maps, size, mode="bilinear")
    u, v = uv.long().unbind(-1)
    a, b = (full[i][:, v[i], u[i]].T for i in (0, 1))
    return (one(a, b, full[1]) + one(b, a, full[0])) / 2


def _tile(a: Tensor, b: Tensor, image: Tensor) -> Tensor:
    """N descriptors against every pixel, both repeated into (N, H, W, D)."""
    N, (D, H, W) = len(a), image.shape
    query, other = a[:, None, None].expand(N, H, W, D).contiguous(), image.permute(1, 2, 0)[None].expand(N, H, W, D).contiguous()
    cosine = F.cosine_similarity(query, other, dim=-1)
    positive = F.cosine_similarity(a, b, dim=-1) / TEMPERATURE
    return (torch.logaddexp(positive, torch.logsumexp(cosine.flatten(1) / TEMPERATURE, 1)) - positive).mean()


def _product(a: Tensor, b: Tensor, image: Tensor) -> Tensor:
    """The same number from one product (N, H W)."""
    a, b, other = F.normalize(a, dim=-1), F.normalize(b, dim=-1), F.normalize(image.flatten(1), dim=0)
    positive = (a * b).sum(-1) / TEMPERATURE
    return (torch.logaddexp(positive, torch.logsumexp(a @ other / TEMPERATURE, 1)) - positive).mean()


WAYS = {
    "densebook": ours,
    "matrix product": lambda maps, uv, size: _both(maps, uv, size, _product),
    "released tile": lambda maps, uv, size: _both(maps, uv, size, _tile),
}
