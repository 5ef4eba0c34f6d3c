"""Non-rigid coherent point drift: ours beside pycpd, probreg, rustcpd, cpd-pytorch and biocpd, as far as they are installed.

All get the same sets (a bumpy surface, drawn twice, one of them bent; root mean square radius 1, so that nobody need normalise),
beta = 2 and lambda = 2, which is every program's default, w = 0.1, and the same number of iterations without an early stop.
Low-rank peers get as many columns as ours takes. "A fit" is ten iterations, set-up included; "an iteration" is the difference
to a fit of two, over eight. `off` is the root mean square distance of the moved points to the whole of G in float64 (above 2,000
points to our low rank in float64). "densebook", rustcpd and cpd-pytorch compute in float32, the others only know float64.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from densebook.book import bench
from densebook.core.optional import available
from densebook.registration.cpd import register

BETA, LAMBDA, W = 2.0, 2.0, 0.1
SHORT, LONG = 2, 10  # iterations
PEERS = {"pycpd": "pycpd", "probreg": "probreg", "rustcpd": "rustcpd", "cpd_pytorch": "cpd-pytorch", "biocpd": "biocpd"}
LARGE = 50_000


def run(full: bool, say: Callable[[str], None]) -> list[dict]:
    """Rows for `densebook bench cpd`: quick at 500 points, full at 1,000, 2,000 and 5,000; a fit of 5,000 or 50,000 with its memory."""
    for module, name in PEERS.items():
        if not available(module):
            say(f"{name} is not installed: row left out")
    rows = []
    with _one_thread():
        for count in (1000, 2000, 5000) if full else (500,):
            say(f"{count:,} points")
            rows += _case(count, rounds=3 if count < 5000 else 1)
        say(f"{LARGE if full else 5000:,} points, memory")
        return rows + _large(LARGE if full else 5000)


def clouds(count: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Source and target: `count` points each of a bumpy surface, by a fixed seed; the target's are others, and bent."""
    x = torch.randn(2, count, 3, generator=torch.Generator().manual_seed(count), dtype=torch.float64)
    x = x / x.norm(dim=-1, keepdim=True)
    x = x * (1 + 0.1 * torch.sin(7 * x).prod(dim=-1, keepdim=True)) * torch.tensor([0.8, 1.0, 0.6], dtype=torch.float64)
    source, target = x[0], x[1] + 0.15 * torch.sin(2 * x[1][:, [1, 2, 0]])
    source, target = source - source.mean(0), target - target.mean(0)
    size = ((source.square().sum() + target.square().sum()) / (2 * count)).sqrt()
    return (source / size).to(dtype), (target / size).to(dtype)


def ours(source: Tensor, target: Tensor, iterations: int, rank: int | str | None = "auto"):
    """Our fit with the settings of this benchmark."""
    return register(source, target, w=W, beta=BETA, lambda_=LAMBDA, normalize=False, rank=rank, max_iterations=iterations, tolerance=0)


@contextlib.contextmanager
def _one_thread():
    """numpy's and scipy's own threads held to one, where threadpoolctl is there to do it (scikit-learn brings it)."""
    if not available("threadpoolctl"):
        yield
        return
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield


def _ways(source: Tensor, target: Tensor, columns: int) -> dict[str, Callable[[int], np.ndarray]]:
    """Implementation -> a function of the number of iterations that gives the moved source."""
    small = source.float(), target.float()
    y, x = source.numpy(), target.numpy()
    ways = {
        "densebook": lambda n: ours(*small, n, 1000).points.numpy(),
        "densebook, float64": lambda n: ours(source, target, n, 1000).points.numpy(),
        "densebook, all of G, float64": lambda n: ours(source, target, n, None).points.numpy(),
        "pycpd": lambda n: _pycpd(y, x, n),
        "probreg": lambda n: _probreg(y, x, n),
        "rustcpd, low rank": lambda n: _rustcpd(y, x, n, columns),
        "cpd-pytorch, low rank": lambda n: _cpd_pytorch(*small, n, columns),
        "biocpd, low rank": lambda n: _biocpd(y, x, n, columns),
    }
    there = {k: k.split(",")[0].replace("-", "_") for k in ways}
    return {k: f for k, f in ways.items() if there[k] == "densebook" or available(there[k])}


def _pycpd(y: np.ndarray, x: np.ndarray, iterations: int) -> np.ndarray:
    from pycpd import DeformableRegistration

    return DeformableRegistration(X=x, Y=y, alpha=LAMBDA, beta=BETA, w=W, max_iterations=iterations, tolerance=1e-300).register()[0]


def _probreg(y: np.ndarray, x: np.ndarray, iterations: int) -> np.ndarray:
    from probreg.cpd import registration_cpd

    result = registration_cpd(y, x, "nonrigid", w=W, maxiter=iterations, tol=0.0, beta=BETA**2, lmd=LAMBDA)  # exp(-d^2 / 2 beta)
    return result.transformation.transform(y)


def _rustcpd(y: np.ndarray, x: np.ndarray, iterations: int, columns: int) -> np.ndarray:
    import rustcpd

    given = {"alpha": LAMBDA, "beta": BETA, "outlier_weight": W, "max_iterations": iterations, "tolerance": 0.0}
    how = {"low_rank": columns, "low_rank_method": "pivoted_cholesky", "parallel": False, "single_precision": True}
    return np.asarray(rustcpd.register_deformable(x, y, **given, **how).points)


def _cpd_pytorch(y: Tensor, x: Tensor, iterations: int, columns: int) -> np.ndarray:
    from cpd_pytorch import DeformableRegistration

    given = {"alpha": LAMBDA, "beta": BETA, "w": W, "max_iterations": iterations, "tolerance": 0.0}
    return DeformableRegistration(x, y, low_rank=True, num_eig=columns, **given).register()[0].numpy()


def _biocpd(y: np.ndarray, x: np.ndarray, iterations: int, columns: int) -> np.ndarray:
    from biocpd import DeformableRegistration

    given = {"alpha": LAMBDA, "beta": BETA, "w": W, "max_iterations": iterations, "tolerance": 1e-300}
    how = {"num_eig": columns, "low_rank_method": "pivoted_cholesky", "use_kdtree": False}  # every pair, as the others
    return DeformableRegistration(X=x, Y=y, **given, **how).register()[0]


def _case(count: int, rounds: int) -> list[dict]:
    """Rows of an iteration and of a fit, for everyone; all take turns in each round."""
    source, target = clouds(count)
    ways = _ways(source, target, len(ours(source, target, 1, 1000).W))
    if count > 2000:
        ways.pop("densebook, all of G, float64")
    truth = ours(source, target, LONG, None if count <= 2000 else 1000).points.numpy()
    quick, slow, off = ({name: [] for name in ways} for _ in range(3))
    for way in ways.values():
        way(1)  # warm up
    for _ in range(rounds):
        for name, way in ways.items():
            quick[name].append(_timed(way, SHORT)[0])
            seconds, moved = _timed(way, LONG)
            slow[name].append(seconds)
            off[name].append(float(np.sqrt(np.mean(np.square(moved - truth)))))
    step = {name: statistics.median((b - a) / (LONG - SHORT) for a, b in zip(quick[name], slow[name])) for name in ways}
    fit = {name: statistics.median(slow[name]) for name in ways}
    errors = {name: float(f"{off[name][-1]:.1e}") for name in ways}
    return _rows(f"{count:,} points, an iteration", step, errors) + _rows(f"{count:,} points, a fit", fit, errors)


def _timed(way: Callable[[int], np.ndarray], iterations: int) -> tuple[float, np.ndarray]:
    start = time.process_time()
    moved = way(iterations)
    return time.process_time() - start, moved


def _rows(case: str, seconds: dict[str, float], off: dict[str, float]) -> list[dict]:
    own = seconds["densebook"]
    return [
        {"case": case, "implementation": name, "cpu_seconds": round(s, 5), "ratio": round(s / own, 2), "off": off[name]}
        for name, s in seconds.items()
    ]


def _large(count: int) -> list[dict]:
    """A fit to convergence in float32, with the growth of a fresh process's memory over its first three iterations."""
    source, target = clouds(count, torch.float32)
    start = time.process_time()
    found = register(source, target, w=W, beta=BETA, lambda_=LAMBDA, normalize=False)
    seconds = time.process_time() - start
    prepare = f"s, t = b.clouds({count}, torch.float32); small = b.clouds(600, torch.float32); b.ours(*small, 2)"
    row = {"case": f"{count:,} points, to convergence", "implementation": "densebook", "cpu_seconds": round(seconds, 3), "ratio": 1.0}
    more = {"iterations": found.iterations, "converged": found.converged, "columns": len(found.W)}
    return [row | more | {"resident_bytes": bench.peak_growth("cpd", prepare, "b.ours(s, t, 3)")}]
