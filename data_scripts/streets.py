"""Streets for SSZ: pictures, fruxels, depths and boxes, made in parallel shards, resumable.

    python data_scripts/streets.py --out FOLDER                          # 200 toy streets of 64 x 64 x 64
    python data_scripts/streets.py --out FOLDER --kind real --scenes 10000 --side 128
    python data_scripts/streets.py --out FOLDER --kind real --phase test # held-out meshes, beside the others
    python data_scripts/streets.py --out FOLDER --check                  # verify the sha256 of what is there

A run that was stopped (Ctrl-C, a kill, a full disk) goes on where it was: give the same command again. Every file is written whole
or not at all, and the files do not depend on the number of jobs. In FOLDER/PHASE, for each street N:

| file | what |
|---|---|
| ColorImages/N.png | sRGB |
| FruxelModels/N.npz | labels, uint8, axes (height, width, depth); with --plain N.npy, as Z-GAN and VoxelCity have it |
| Depths/N.npz | depth, float32 metres along z, inf where nothing is |
| Boxes/N.json | centers, rotations, sizes and labels of the objects, in the camera's frame |
| v1.0-streets/*.json | the same boxes and the cameras in nuScenes' tables, filenames relative to FOLDER/PHASE |
| index.json | the settings, the cells of each class, sha256 of every file |

and FOLDER/frustum.json. `densebook.ssz.dataset.read_examples(FOLDER, PHASE)` and `densebook.data.streets.read_nuscenes(FOLDER/PHASE)`
read them. Toy streets belong to nobody; the licences of the real meshes and skies are in data_scripts/street.py and hdri.py.
"""

import argparse
import json
import math
import os
import sys
import warnings
from pathlib import Path

PARTS = ("ColorImages", "FruxelModels", "Depths", "Boxes")
SETTINGS = ("kind", "phase", "scenes", "side", "near", "far", "fov", "seed", "shard", "plain")


def frustum(settings: dict):
    """The frustum that the settings ask for; as many slices as rows and columns."""
    from densebook.ssz.fruxels import Frustum

    side = settings["side"]
    return Frustum(settings["near"], settings["far"], side, math.radians(settings["fov"]), (side, side))


def draw(job: tuple[dict, str, int]) -> str:
    """Make one shard and note its files; returns the name of the note."""
    import torch

    from densebook.core.files import sha256, write_json
    from densebook.ssz import dataset

    settings, folder, shard = job
    torch.set_num_threads(1)
    place, lights = Path(folder) / settings["phase"], dataset.make_lights(settings["kind"])
    start = shard * settings["shard"]
    files, cameras, counts = {}, [], torch.zeros(len(dataset.CLASSES), dtype=torch.int64)
    for n in range(start, min(start + settings["shard"], settings["scenes"])):
        number = settings["seed"] * 10_000_000 + n
        street, generator = dataset.make_street(frustum(settings), number, settings["kind"], settings["phase"])
        example = dataset.make_example(street, frustum(settings), dataset.draw_light(lights, generator))
        written = dataset.write_examples(folder, example, frustum(settings), settings["phase"], n, not settings["plain"])
        files.update({p.relative_to(place).as_posix(): sha256(p) for p in written if p.is_relative_to(place)})
        cameras.append(street.camera.cam_from_world.tolist())
        counts += dataset.class_counts(example.labels)
    note = place / "shards" / f"{shard:05d}.json"
    write_json(note, {"files": files, "cameras": cameras, "counts": counts.tolist()})
    return note.name


def prepare(folder: Path, settings: dict) -> list[int]:
    """Check the folder against the settings, sweep up after a kill, and say which shards are still to do."""
    from densebook.core.errors import InputError
    from densebook.core.files import write_json

    place = folder / settings["phase"]
    note = place / "settings.json"
    if note.is_file():
        before = json.loads(note.read_text(encoding="utf-8"))
        if different := [k for k in settings if before.get(k) != settings[k]]:
            k = different[0]
            raise InputError(f"{place} was begun with --{k} {before.get(k)}, not {settings[k]}; choose another --out or the same settings")
    write_json(note, settings)
    (place / "index.json").unlink(missing_ok=True)  # it speaks of a finished run
    for part in (*PARTS, "shards"):
        for stray in (place / part).glob(".*"):
            stray.unlink()
    return [s for s in range(math.ceil(settings["scenes"] / settings["shard"])) if not whole(place, s)]


def whole(place: Path, shard: int) -> bool:
    """Whether a shard was finished and its files are still there."""
    note = place / "shards" / f"{shard:05d}.json"
    return note.is_file() and all((place / name).is_file() for name in json.loads(note.read_text(encoding="utf-8"))["files"])


def write_index(folder: Path, settings: dict) -> list[int]:
    """nuScenes' tables and index.json from the notes of the shards; returns the cells of each class."""
    import torch

    from densebook.core.files import sha256, write_json
    from densebook.data.streets import write_nuscenes
    from densebook.ssz.dataset import read_boxes

    place = folder / settings["phase"]
    notes = [json.loads(p.read_text(encoding="utf-8")) for p in sorted((place / "shards").glob("*.json"))]
    files = {name: digest for note in notes for name, digest in note["files"].items()}
    names = sorted(n for n in files if n.startswith("ColorImages/"))
    cameras = [frustum(settings).camera(torch.tensor(T)) for note in notes for T in note["cameras"]]
    boxes = [read_boxes(place / "Boxes" / f"{Path(n).stem}.json") for n in names]
    tables = write_nuscenes(place, names, cameras, boxes)
    files.update({p.relative_to(place).as_posix(): sha256(p) for p in tables})
    counts = [sum(column) for column in zip(*(note["counts"] for note in notes))]
    write_json(place / "index.json", {"settings": settings, "counts": counts, "files": files})
    return counts


def check(folder: Path, phase: str) -> int:
    """Exit status 0 when every file of the index is there and right, 1 otherwise."""
    from densebook.core.errors import InputError
    from densebook.core.files import sha256

    place = folder / phase
    if not (place / "index.json").is_file():
        raise InputError(f"{place}: has no index.json; the run was not finished, give the same command again")
    files = json.loads((place / "index.json").read_text(encoding="utf-8"))["files"]
    wrong = [name for name, digest in files.items() if not (place / name).is_file() or sha256(place / name) != digest]
    for name in wrong:
        print(f"{name}: missing or changed")
    print(f"{len(files) - len(wrong)} of {len(files)} files are right")
    return 1 if wrong else 0


def run(folder: Path, settings: dict, jobs: int) -> int:
    """Make what is still to do. Exit status 0 when all is there, 130 when stopped."""
    from joblib import Parallel, delayed

    from densebook.data.streets import CLASSES

    warnings.filterwarnings("ignore", message=".*tasks which were still being processed")  # said below in our words
    work = [(settings, str(folder), shard) for shard in prepare(folder, settings)]
    shards = math.ceil(settings["scenes"] / settings["shard"])
    done = shards - len(work)
    try:
        for _ in Parallel(min(jobs, max(1, len(work))), return_as="generator_unordered")(delayed(draw)(job) for job in work):
            done += 1
            print(f"shard {done} of {shards}", flush=True)
    except KeyboardInterrupt:
        print(f"stopped: {done} of {shards} shards are there; give the same command again to go on", file=sys.stderr)
        return 130
    counts = write_index(folder, settings)
    shares = ", ".join(f"{name} {100 * n / sum(counts):.2f} %" for name, n in zip(CLASSES, counts))
    print(f"{settings['scenes']} streets in {folder / settings['phase']}: {shares}")
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Make streets with fruxels, or check those that are there.")
    parser.add_argument("--out", metavar="FOLDER", required=True, help="where the streets go")
    parser.add_argument("--kind", choices=("toy", "real"), default="toy", help="procedural objects, or the data folder's (default: toy)")
    parser.add_argument("--phase", choices=("train", "test"), default="train", help="test holds what train never shows (default: train)")
    parser.add_argument("--scenes", type=int, default=200, help="streets in all (default: %(default)s)")
    parser.add_argument("--side", type=int, default=64, help="rows, columns and slices (default: %(default)s)")
    parser.add_argument("--near", type=float, default=2.0, help="metres (default: %(default)s)")
    parser.add_argument("--far", type=float, default=12.0, help="metres (default: %(default)s)")
    parser.add_argument("--fov", type=float, default=40.0, help="degrees across (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plain", action="store_true", help="labels as .npy for other readers: a hundred times the bytes")
    parser.add_argument("--shard", type=int, default=20, help="streets that one process makes at a time (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="verify what is there; make nothing")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 when all is there and right, 1 when --check finds something, 2 for a wrong argument or file, 130 when stopped."""
    options = parse(arguments)
    from densebook.core.errors import InputError

    folder = Path(options.out).expanduser()
    try:
        if options.check:
            return check(folder, options.phase)
        if min(options.scenes, options.side, options.shard, options.jobs) < 1 or options.seed < 0:
            raise InputError("--scenes, --side, --shard and --jobs must be at least 1, and --seed at least 0")
        settings = {name: getattr(options, name) for name in SETTINGS}
        frustum(settings)
        return run(folder, settings, options.jobs)
    except (InputError, OSError) as error:
        print(f"streets: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
