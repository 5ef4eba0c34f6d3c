"""What the scripts that make data share: work in shards over processes, a note for each, resumed after any stop, checked by sha256.

A folder holds settings.json, the files, shards/NNNNN.json with the sha256 of what each shard wrote, and at the end index.json. A
shard counts as done when its note is there and the files it names are.
"""

from __future__ import annotations

import json
import math
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from densebook.core.errors import InputError
from densebook.core.files import sha256, write_json


def prepare(folder: Path, settings: dict, parts: Iterable[str], items: int) -> list[int]:
    """Sweep up after a kill and say which shards of `items` are still to do. Raises InputError for a folder begun with other settings.

    `parts` are the folders that files go to; settings["shard"] is the number of items a shard.
    """
    note = folder / "settings.json"
    if note.is_file():
        before = json.loads(note.read_text(encoding="utf-8"))
        if different := [k for k in settings if before.get(k) != settings[k]]:
            k = different[0]
            raise InputError(f"{folder} was begun with --{k} {before.get(k)}, not {settings[k]}; choose another --out or the same settings")
    write_json(note, settings)
    (folder / "index.json").unlink(missing_ok=True)  # it speaks of a finished run
    for part in (*parts, "shards"):
        for stray in (folder / part).glob(".*"):
            stray.unlink()
    return [shard for shard in range(math.ceil(items / settings["shard"])) if not done(folder, shard)]


def done(folder: Path, shard: int) -> bool:
    """Whether a shard was finished and its files are still there."""
    note = folder / "shards" / f"{shard:05d}.json"
    return note.is_file() and all((folder / name).is_file() for name in json.loads(note.read_text(encoding="utf-8"))["files"])


def finish(folder: Path, shard: int, written: Iterable[Path], **more) -> str:
    """Note that a shard is done: the sha256 of what it wrote below `folder`, and what else is to be known; returns the note's name."""
    note = folder / "shards" / f"{shard:05d}.json"
    write_json(note, more | {"files": {p.relative_to(folder).as_posix(): sha256(p) for p in written if p.is_relative_to(folder)}})
    return note.name


def notes(folder: Path) -> list[dict]:
    """The notes of all shards, in order."""
    return [json.loads(p.read_text(encoding="utf-8")) for p in sorted((folder / "shards").glob("*.json"))]


def work(draw: Callable, jobs: Sequence, total: int, processes: int) -> bool:
    """Call `draw` with each of `jobs` in that many processes and count aloud, up to `total` shards; False when stopped by Ctrl-C."""
    from joblib import Parallel, delayed

    warnings.filterwarnings("ignore", message=".*tasks which were still being processed")  # said below in our words
    ready = total - len(jobs)
    try:
        for _ in Parallel(min(processes, max(1, len(jobs))), return_as="generator_unordered")(delayed(draw)(job) for job in jobs):
            ready += 1
            print(f"shard {ready} of {total}", flush=True)
    except KeyboardInterrupt:
        print(f"stopped: {ready} of {total} shards are there; give the same command again to go on", file=sys.stderr)
        return False
    return True


def write_index(folder: Path, settings: dict, others: Iterable[Path] = (), **more) -> None:
    """index.json: the settings, the sha256 of every file of the shards and of `others`, and what else is to be known."""
    files = {name: digest for note in notes(folder) for name, digest in note["files"].items()}
    files |= {p.relative_to(folder).as_posix(): sha256(p) for p in others}
    write_json(folder / "index.json", {"settings": settings, **more, "files": files})


def check(folder: Path) -> int:
    """Exit status 0 when every file of the index is there and right, 1 otherwise. Raises InputError where there is no index."""
    if not (folder / "index.json").is_file():
        raise InputError(f"{folder}: has no index.json; the run was not finished, give the same command again")
    files = json.loads((folder / "index.json").read_text(encoding="utf-8"))["files"]
    wrong = [name for name, digest in files.items() if not (folder / name).is_file() or sha256(folder / name) != digest]
    for name in wrong:
        print(f"{name}: missing or changed")
    print(f"{len(files) - len(wrong)} of {len(files)} files are right")
    return 1 if wrong else 0
