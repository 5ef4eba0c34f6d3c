"""Benchmarks: implementations side by side in one process, one thread, process CPU time, medians; ratios are what counts.

Wall time on a shared machine says little, and torch's threads spin while they wait, which costs CPU time and time both:
so one thread, CPU time, and every implementation measured in turn within each repeat.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable


def interleave(implementations: dict[str, Callable[[], object]], repeats: int = 5) -> dict[str, float]:
    """Median process CPU seconds of each implementation over `repeats` rounds, one warm-up before, all taking turns."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    times: dict[str, list[float]] = {name: [] for name in implementations}
    try:
        for run in implementations.values():
            run()
        gc.collect()
        gc.disable()
        for _ in range(repeats):
            for name, run in implementations.items():
                start = time.process_time()
                run()
                times[name].append(time.process_time() - start)
    finally:
        gc.enable()
        torch.set_num_threads(threads)
    return {name: statistics.median(values) for name, values in times.items()}
