"""Benchmarks: implementations side by side in one process, one thread, process CPU time, medians; ratios are what counts.

Wall time on a shared machine says little, and torch's threads spin while they wait, which costs CPU time and time both:
so one thread, CPU time, and every implementation measured in turn within each repeat.
"""

from __future__ import annotations

import datetime
import gc
import importlib
import importlib.metadata
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from densebook.core import files, records
from densebook.core.errors import InputError, nearest
from densebook.core.settings import Settings

TOPICS = (
    "marching_cubes",
    "octree",
    "sphere_tracing",
    "mesh_sdf",
    "rasterizer",
    "silhouettes",
    "se3_transformer",
    "sampling",
    "cpd",
    "descriptors",
    "voxelize",
    "ssz",
    "heads",
)
PRINTED = Path("tests") / "regression" / "bench"  # the last full run that its authors looked at


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


def memory(field: str) -> int | None:
    """VmRSS (now) or VmHWM (the most so far) of this process in bytes; None where there is no /proc, which only Linux has.

    Not `getrusage`: its maximum is inherited from the parent process.
    """
    path = Path("/proc/self/status")
    return 1024 * int(re.search(rf"{field}:\s+(\d+)", path.read_text())[1]) if path.exists() else None


def peak_growth(topic: str, prepare: str, work: str) -> int | None:
    """How far the resident memory of a fresh process grows over `work` at the most: what the system sees, scratch memory included.

    `prepare` (imports, tables, a small warm-up) and `work` are statements in which `b` is the module of the benchmark `topic`.
    """
    if memory("VmHWM") is None:
        return None
    code = (
        f"import torch; torch.set_num_threads(1); from densebook.book import bench; from densebook.book.benches import {topic} as b; "
        f"{prepare}; before = bench.memory('VmHWM'); {work}; print(); print(bench.memory('VmHWM') - before)"
    )
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()[-1])


def check_topic(topic: str) -> None:
    """Raises InputError with the nearest right name for a topic that is not in TOPICS."""
    if topic not in TOPICS:
        raise InputError(f"no benchmark is called {topic!r}{nearest(topic, TOPICS)}")


def run_topic(settings: Settings, topic: str, full: bool, say: Callable[[str], None]) -> dict:
    """Measure one topic and write runs/bench/<topic>.json; returns what was written.

    Raises InputError for a topic that is not in TOPICS.
    """
    check_topic(topic)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    rows = importlib.import_module(f"densebook.book.benches.{topic}").run(full, say)
    result = {
        "topic": topic,
        "full": full,
        "commit": records.commit(settings.root)["commit"],
        "processor": platform.processor() or platform.machine(),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": records.versions() | _peer_versions(),
        "rows": rows,
    }
    files.write_json(settings.root / "runs" / "bench" / f"{topic}.json", result)
    return result


def load_results(root: Path) -> tuple[dict[str, dict], str]:
    """Results by topic, and whether they were 'measured here' (runs/bench, all topics there) or are the 'printed' ones."""
    for folder, origin in ((root / "runs" / "bench", "measured here"), (root / PRINTED, "printed")):
        found = {t: folder / f"{t}.json" for t in TOPICS if (folder / f"{t}.json").is_file()}
        if len(found) == len(TOPICS):
            return {t: json.loads(p.read_text(encoding="utf-8")) for t, p in found.items()}, origin
    return {}, "none"


def _peer_versions() -> dict[str, str]:
    found = {}
    for name in ("PyMCubes", "vtk", "libigl", "open3d-cpu", "easypytorch3d", "pycpd", "probreg", "rustcpd", "cpd-pytorch", "biocpd"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
