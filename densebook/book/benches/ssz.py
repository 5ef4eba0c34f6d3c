"""The SSZ generator: one picture to class scores, the fast decoder beside the paper's layout and Z-GAN, its predecessor.

Peak memory is the growth of resident memory of a fresh process over one call, the scores included, weights and picture not.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from densebook.book import bench
from densebook.book.bench import interleave
from densebook.ssz.generator import ZGAN, SSZGenerator, costs

NAMES = ("densebook", "paper's layout", "no IR2D3D", "Z-GAN")


def network(name: str, size: int) -> SSZGenerator | ZGAN:
    """One of NAMES, as it is for 128^3 or with fewer levels, ready for inference."""
    options = {"densebook": {}, "paper's layout": {"decoder": "paper"}, "no IR2D3D": {"ir2d": False, "ir3d": False}}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if name == "Z-GAN":
            return ZGAN(size=size).eval()
        return SSZGenerator(size=size, widths=(16, 32, 64, 128, 256)[: size.bit_length() - 3], **options[name]).eval()


def picture(size: int) -> torch.Tensor:
    """One picture (1, 3, size, size)."""
    return torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def infer(net: SSZGenerator | ZGAN, image: torch.Tensor) -> torch.Tensor:
    """The scores."""
    return net(image)


def run(full: bool, say: Callable[[str], None]) -> list[dict]:
    """Rows for `densebook bench ssz`: quick at 32^3 x 10, full at 128^3 x 10 with peak memory."""
    size = 128 if full else 32
    say(f"inference, {size}^3 x 10")
    nets, image = {name: network(name, size) for name in NAMES}, picture(size)
    seconds = interleave({name: lambda net=net: infer(net, image) for name, net in nets.items()}, 3)
    rows = []
    for name, net in nets.items():
        counted = costs(net)
        more = {"parameters": counted.parameters, "macs": counted.macs}
        if full:
            say(f"memory of {name}")
            prepare = f"net = b.network({name!r}, {size}); x = b.picture({size}); b.infer(b.network({name!r}, 8), b.picture(8))"
            more["resident_bytes"] = bench.peak_growth("ssz", prepare, "y = b.infer(net, x)")
        row = {"case": f"inference {size}^3 x 10", "implementation": name, "cpu_seconds": round(seconds[name], 4)}
        rows.append(row | {"ratio": round(seconds[name] / seconds["densebook"], 2)} | more)
    return rows
