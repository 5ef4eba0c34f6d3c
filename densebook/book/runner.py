"""Run notebooks: copies executed into runs/, several at a time, one live line each, nothing half-written left behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from densebook.core import files, records

from . import plan as planning

LIMIT = 5  # a notebook is stopped after this many times its budget: budgets are goals, this is a brake


@dataclass
class Outcome:
    job: planning.Job
    status: str = "waiting"  # waiting, running, ok, skipped, failed, stopped
    seconds: float = 0.0
    message: str = ""  # what went wrong
    record: dict = field(default_factory=dict)


@dataclass
class _Running:
    outcome: Outcome
    process: subprocess.Popen
    folder: Path  # partial; becomes job.folder when done
    log: Path
    started: float


def _start(outcome: Outcome, threads: int) -> _Running:
    job = outcome.job
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{job.folder.name}-", dir=job.folder.parent))
    parameters = partial / "parameters.json"
    files.write_json(parameters, job.parameters | {"out_dir": str(partial)})
    log = partial / "log.txt"
    environment = os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",  # waiting threads sleep: spinning ones starve their neighbours
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "PYTHONHASHSEED": "0",
        "TQDM_DISABLE": "1",
    }
    command = [sys.executable, "-m", "densebook.book.execute", str(job.source), str(partial / "executed.ipynb"), str(parameters)]
    with open(log, "w", encoding="utf-8") as file:
        # A session of its own: Ctrl-C reaches the runner alone, which then stops the whole tree.
        process = subprocess.Popen(command, stdout=file, stderr=file, stdin=subprocess.DEVNULL, env=environment, start_new_session=True)
    outcome.status = "running"
    return _Running(outcome, process, partial, log, time.monotonic())


def _kill(process: subprocess.Popen) -> None:
    """Stop a worker and its kernel; the kernel is a session of its own, so the tree is walked."""
    import psutil

    try:
        tree = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    except psutil.NoSuchProcess:
        tree = []
    for member in tree:
        try:
            member.terminate()
        except psutil.NoSuchProcess:
            continue
    for member in psutil.wait_procs(tree, timeout=3)[1]:
        member.kill()
    process.wait()


def _last_word(running: _Running) -> str:
    """Why a worker failed, in one line."""
    if running.process.returncode == 0:
        return "the notebook ended without record.close() in its last cell"
    lines = running.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else f"the worker ended with exit status {running.process.returncode}"


def _finish(running: _Running) -> None:
    """Take over what a worker left: its record, or a record of its failure; then move the folder into place."""
    outcome, job = running.outcome, running.outcome.job
    outcome.seconds = time.monotonic() - running.started
    path = running.folder / "record.json"
    if running.process.returncode == 0 and path.is_file():
        outcome.record = json.loads(path.read_text(encoding="utf-8"))
        outcome.status = "ok"
    else:
        outcome.status = "failed"
        outcome.message = outcome.message or _last_word(running)
        outcome.record = {
            "notebook": job.notebook,
            "status": "failed",
            "message": outcome.message,
            "notebook_hash": records.notebook_hash(job.source),
            "code_hash": records.code_hash(),
            "parameters": job.parameters,
            "metrics": {},
        }
    outcome.record["parameters"] = job.parameters  # those that a notebook declares beyond the common ones too
    # The wall time as a reader feels it: the kernel's start and the imports included.
    outcome.record["wall_seconds"] = round(outcome.seconds, 1)
    outcome.record["budget_seconds"] = job.budget
    files.write_json(path, outcome.record)
    (running.folder / "parameters.json").unlink(missing_ok=True)
    _replace(running.folder, job.folder)


def _replace(new: Path, old: Path) -> None:
    """Move folder `new` onto `old`; the old one goes only once the new one is in place."""
    umask = os.umask(0)
    os.umask(umask)
    new.chmod(0o777 & ~umask)  # mkdtemp makes 0700
    if old.exists():
        aside = Path(tempfile.mkdtemp(prefix=f".{old.name}-old-", dir=old.parent))
        old.replace(aside / "old")
        new.replace(old)
        shutil.rmtree(aside)
    else:
        new.replace(old)


def run(
    jobs: list[planning.Job], workers: int = 1, resume: bool = False, tick: Callable[[list[Outcome]], None] = lambda outcomes: None
) -> list[Outcome]:
    """Run `jobs` in order, at most `workers` at a time; goes on after a failure; `tick` is called about four times a second.

    Ctrl-C stops every kernel, removes what was not finished, and is raised again.
    """
    outcomes = [Outcome(job) for job in jobs]
    waiting = []
    for outcome in outcomes:
        if resume and planning.done(outcome.job):
            outcome.status = "skipped"
            outcome.record = json.loads((outcome.job.folder / "record.json").read_text(encoding="utf-8"))
            outcome.seconds = outcome.record.get("wall_seconds", 0.0)
        else:
            waiting.append(outcome)
    threads = max(1, (os.cpu_count() or 1) // workers)
    active: list[_Running] = []
    try:
        while waiting or active:
            while waiting and len(active) < workers:
                active.append(_start(waiting.pop(0), threads))
            for running in list(active):
                running.outcome.seconds = time.monotonic() - running.started
                if running.process.poll() is None and running.outcome.seconds > LIMIT * running.outcome.job.budget:
                    _kill(running.process)
                    running.outcome.message = f"stopped after {running.outcome.seconds:.0f} s, {LIMIT} times its budget"
                if running.process.poll() is not None:
                    active.remove(running)
                    _finish(running)
            tick(outcomes)
            time.sleep(0.25)
    except BaseException:
        for running in active:
            _kill(running.process)
            running.outcome.status = "stopped"
        raise
    finally:
        for running in active:
            shutil.rmtree(running.folder, ignore_errors=True)
    tick(outcomes)
    return outcomes
