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
import math
import os
import sys
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

    from densebook.data import shards
    from densebook.ssz import dataset

    settings, folder, shard = job
    torch.set_num_threads(1)
    place, lights = Path(folder) / settings["phase"], dataset.make_lights(settings["kind"])
    start = shard * settings["shard"]
    files, cameras, counts = [], [], torch.zeros(len(dataset.CLASSES), dtype=torch.int64)
    for n in range(start, min(start + settings["shard"], settings["scenes"])):
        number = settings["seed"] * 10_000_000 + n
        street, generator = dataset.make_street(frustum(settings), number, settings["kind"], settings["phase"])
        example = dataset.make_example(street, frustum(settings), dataset.draw_light(lights, generator))
        written = dataset.write_examples(folder, example, frustum(settings), settings["phase"], n, not settings["plain"])
        files += written
        cameras.append(street.camera.cam_from_world.tolist())
        counts += dataset.class_counts(example.labels)
    return shards.finish(place, shard, files, cameras=cameras, counts=counts.tolist())


def write_index(folder: Path, settings: dict) -> list[int]:
    """nuScenes' tables and index.json from the notes of the shards; returns the cells of each class."""
    import torch

    from densebook.data import shards
    from densebook.data.streets import write_nuscenes
    from densebook.ssz.dataset import read_boxes

    place = folder / settings["phase"]
    notes = shards.notes(place)
    names = sorted(n for note in notes for n in note["files"] if n.startswith("ColorImages/"))
    cameras = [frustum(settings).camera(torch.tensor(T)) for note in notes for T in note["cameras"]]
    boxes = [read_boxes(place / "Boxes" / f"{Path(n).stem}.json") for n in names]
    counts = [sum(column) for column in zip(*(note["counts"] for note in notes))]
    shards.write_index(place, settings, write_nuscenes(place, names, cameras, boxes), counts=counts)
    return counts


def run(folder: Path, settings: dict, processes: int) -> int:
    """Make what is still to do. Exit status 0 when all is there, 130 when stopped."""
    from densebook.data import shards
    from densebook.data.streets import CLASSES

    waiting = shards.prepare(folder / settings["phase"], settings, PARTS, settings["scenes"])
    jobs = [(settings, str(folder), shard) for shard in waiting]
    if not shards.work(draw, jobs, math.ceil(settings["scenes"] / settings["shard"]), processes):
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
    from densebook.data import shards

    folder = Path(options.out).expanduser()
    try:
        if options.check:
            return shards.check(folder / options.phase)
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
