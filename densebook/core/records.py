"""Records: what one run of a notebook measured, with everything needed to trust the figure.

    record = start("geometry/11_sdf", profile=profile, seed=seed, device=device, data=data, out_dir=out_dir)
    record.metric("sphere_max_error", 1.2e-7, better="lower", abs=1e-6)
    record.close()

`densebook run` passes `out_dir`; a reader who runs the notebook by hand leaves it empty, and nothing is kept.
"""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import math
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from . import devices, files, seeds
from .errors import InputError, nearest
from .settings import find_root

PROFILES = ("smoke", "cpu", "gpu")
DATA = ("toy", "real")
BETTER = ("same", "lower", "higher")
_VERSIONS = ("torch", "torchvision", "numpy", "scipy", "trimesh", "scikit-image", "roma", "papermill", "nbdev")


@dataclass
class Record:
    notebook: str  # 'chapter/name'
    parameters: dict
    folder: Path  # where record.json, figures/ and weights go
    device: str
    started: float = field(default_factory=time.perf_counter)
    metrics: dict[str, float] = field(default_factory=dict)
    tolerances: dict[str, dict] = field(default_factory=dict)  # metric -> better, rel, abs for `densebook accept`
    inputs: dict[str, str] = field(default_factory=dict)  # file name -> sha256
    weights: dict[str, str] = field(default_factory=dict)

    def metric(self, name: str, value, better: str = "same", rel: float | None = None, abs: float | None = None) -> float:
        """Keep one finite number under `name`; returns it as a float, so that a cell can print what it keeps.

        `better`, `rel` and `abs` are what the regression check goes by once the value is accepted as a baseline: a metric
        of which "lower" (or "higher") is better may improve freely, one that stays the "same" may not move either way.
        """
        value = float(value)
        if not math.isfinite(value):
            raise InputError(f"metric {name!r} of {self.notebook} is {value}; a record holds finite numbers only")
        if better not in BETTER:
            raise InputError(f"better={better!r} of metric {name!r} is unknown{nearest(better, BETTER)}")
        self.metrics[name] = value
        self.tolerances[name] = {"better": better, **{k: v for k, v in (("rel", rel), ("abs", abs)) if v is not None}}
        return value

    def input(self, path: str | Path) -> Path:
        """Note that the file at `path` was read (its sha256); returns it."""
        self.inputs[Path(path).name] = files.sha256(path)
        return Path(path)

    def save_weights(self, state: dict, name: str = "weights") -> Path:
        """Keep tensors as safetensors beside the record."""
        from safetensors.torch import save_file

        path = self.folder / f"{name}.safetensors"
        with files.atomic_path(path) as temporary:
            save_file({k: v.detach().contiguous().cpu() for k, v in state.items()}, temporary)
        self.weights[path.name] = files.sha256(path)
        return path

    def close(self) -> dict:
        """Write record.json into the folder, whole or not at all; returns what was written."""
        root = find_root()
        source = root / "nbs" / f"{self.notebook}.ipynb" if root else None
        written = {
            "notebook": self.notebook,
            "status": "ok",
            "notebook_hash": notebook_hash(source) if source and source.is_file() else None,
            "code_hash": code_hash(),
            **commit(root),
            "parameters": self.parameters,
            "device": self.device,
            "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "seconds": round(time.perf_counter() - self.started, 3),
            "peak_host_bytes": devices.peak_host_bytes(),
            "peak_device_bytes": devices.peak_device_bytes(),
            "metrics": self.metrics,
            "tolerances": self.tolerances,
            "inputs": self.inputs,
            "weights": self.weights,
            "versions": versions(),
        }
        files.write_json(self.folder / "record.json", written)
        return written


def start(notebook: str, *, profile: str, seed: int, device: str, data: str, out_dir: str = "") -> Record:
    """Begin the record of `notebook` ('chapter/name'): checks the parameters, seeds everything, picks the device.

    Raises InputError for an unknown profile, data kind or device.
    """
    for name, value, known in (("profile", profile, PROFILES), ("data", data, DATA)):
        if value not in known:
            raise InputError(f"{name} {value!r} is not one of this book's{nearest(str(value), known)}")
    folder = Path(out_dir) if out_dir else Path(tempfile.mkdtemp(prefix="densebook-"))
    chosen = devices.pick(device)
    seeds.seed_all(seed)
    parameters = {"profile": profile, "seed": seed, "device": device, "data": data}
    return Record(notebook=notebook, parameters=parameters, folder=folder, device=str(chosen))


def notebook_hash(path: str | Path) -> str:
    """sha256 over the code cells of a notebook: outputs and prose do not count, nor does the cell papermill injects."""
    import json

    cells = json.loads(Path(path).read_text(encoding="utf-8"))["cells"]
    digest = hashlib.sha256()
    for cell in cells:
        if cell["cell_type"] == "code" and "injected-parameters" not in cell["metadata"].get("tags", []):
            digest.update("".join(cell["source"]).encode() + b"\0")
    return digest.hexdigest()


def code_hash() -> str:
    """sha256 over the library's sources: every .py of densebook but `book` (the runner changes no result)."""
    package = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).as_posix()
        if not name.startswith("book/") and name != "_modidx.py":
            digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Versions of Python, the platform and the packages that results depend on."""
    from densebook import __version__

    found = {"densebook": __version__, "python": platform.python_version(), "platform": f"{sys.platform}-{platform.machine()}"}
    for name in _VERSIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit(root: Path | None) -> dict:
    """Commit and dirty flag of the checkout; both None outside git."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}
