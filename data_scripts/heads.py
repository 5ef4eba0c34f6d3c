"""Pictures of heads with samples around their surface: made in parallel shards, resumable, for PHORHUM on heads.

    python data_scripts/heads.py --out FOLDER                        # 200 procedural heads, 512 x 512
    python data_scripts/heads.py --out FOLDER --kind real            # of MakeHuman's model (data_scripts/makehuman.py fetches it)
    python data_scripts/heads.py --out FOLDER --kind ict             # of the ICT face model (data_scripts/faces_ict.py packs it)
    python data_scripts/heads.py --out FOLDER --kind SCANS           # of a folder of scans: SUBJECT/EXPRESSION.obj, .png or .jpg beside
    python data_scripts/heads.py --out FOLDER --split test           # held-out identities, expressions, skins and lights
    python data_scripts/heads.py --out FOLDER --blender /venv/bin/python  # photoreal, by the python of a venv with bpy
    python data_scripts/heads.py --out FOLDER --check                # verify the sha256 of what is there

A run that was stopped (Ctrl-C, a kill, a full disk) goes on where it was: give the same command again. Every file is written whole
or not at all, and the heads do not depend on the number of jobs. In FOLDER, for each head N (six digits):

| file | what |
|---|---|
| images/N.png | sRGB |
| masks/N.png | 255 on the head |
| albedo/N.png | the colour without light, sRGB |
| shading/N.npz | `shading` (3, S, S) float16, linear: what a white head would show |
| samples/N.npz | K, cam_from_world, surface, normals, albedo, points, distances (negative inside), point_albedo (linear RGB), identity |
| index.json | the settings, sha256 of every file |

`densebook.data.heads.read_heads(FOLDER)` reads it. Normals, albedo and distances are exact (`densebook.data.heads` says how); signs are
those of the field or of the winding number. Light comes without shadows: on the head a picture is albedo times shading. With --blender,
mask, albedo, shading and samples stay those, and Blender (Cycles, light from one of its own skies, with shadows) draws the pictures from
the same meshes and cameras, as the thesis did; bpy is GPL, needs its own virtual environment, and runs there as a separate process:
`python -m venv V; V/bin/pip install bpy==4.5.*`. The procedural heads belong to nobody; MakeHuman's files are CC0, ICT-FaceKit MIT.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

PARTS = ("images", "masks", "albedo", "shading", "samples")
SETTINGS = ("kind", "split", "heads", "size", "seed", "surface", "around", "shard", "samples")


def subjects(settings: dict, start: int, count: int, generator, blender: str):
    """What `make_heads` is asked for: a kind by name, or meshes where they are scans or Blender needs them."""
    from densebook.data import heads as H

    kind, split = settings["kind"], settings["split"]
    if kind not in H.KINDS:
        scans = H.read_scans(kind)
        return [scans[(start + k) % len(scans)].mesh() for k in range(count)]
    if not blender:
        return kind
    make = {"toy": lambda: H.toy_head(generator, split).mesh(160), "real": lambda: H.real_head(generator, split, fine=True)}
    make["ict"] = lambda: H.ict_head(generator, split)
    return [make[kind]() for _ in range(count)]


def draw(job: tuple[dict, str, int, str]) -> str:
    """Make one shard in the folder and note its files; returns the name of the note."""
    import torch

    from densebook.core.seeds import generator
    from densebook.data import heads as H
    from densebook.data import shards

    settings, folder, shard, blender = job
    torch.set_num_threads(1)
    start = shard * settings["shard"]
    count = min(settings["shard"], settings["heads"] - start)
    dice = generator(settings["seed"] * 1_000_003 + shard)
    kind = subjects(settings, start, count, dice, blender)
    made = H.make_heads(count, settings["size"], dice, kind, settings["split"], (settings["surface"], settings["around"]))
    if blender:
        made = made._replace(images=photograph(made, kind, blender, settings, shard))
    files = H.write_heads(folder, made._replace(identity=made.identity + start), start)
    return shards.finish(Path(folder), shard, files)


def photograph(made, meshes: list, blender: str, settings: dict, shard: int):
    """The pictures by Blender: meshes as GLB, cameras as JSON, one process a shard; that process is data_scripts/caps.py's."""
    import numpy as np
    import torch
    from PIL import Image

    from densebook.core.errors import InputError
    from densebook.geometry.mesh import save
    from densebook.render.cameras import Camera, to_blender

    script, size = Path(__file__).resolve().with_name("caps.py"), (settings["size"], settings["size"])
    with tempfile.TemporaryDirectory(prefix="densebook-") as scratch:
        for i, mesh in enumerate(meshes):
            save(mesh, Path(scratch) / f"{i}.glb")
        cameras = [to_blender(Camera(K, T, size)) for K, T in zip(made.K, made.cam_from_world)]
        cameras = [c | {"matrix_world": c["matrix_world"].tolist(), "instance": i} for i, c in enumerate(cameras)]
        job = {"cameras": cameras, "samples": settings["samples"], "seed": settings["seed"] * 1_000_003 + shard}
        (Path(scratch) / "job.json").write_text(json.dumps(job))
        done = subprocess.run([blender, str(script), "--inside-blender", scratch], capture_output=True, text=True)
        found = [Path(scratch) / f"{k}.png" for k in range(len(meshes))]
        if done.returncode or not all(p.is_file() for p in found):
            said = (done.stderr.strip() or done.stdout.strip() or "nothing was said").splitlines()[-1]
            raise InputError(f"--blender {blender}: could not render ({said[:200]}); give the python of a virtual environment that has bpy")
        pixels = [np.asarray(Image.open(p).convert("RGB")) for p in found]
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255


def run(folder: Path, settings: dict, processes: int, blender: str) -> int:
    """Make what is still to do. Exit status 0 when all is there, 130 when stopped."""
    from densebook.data import shards

    jobs = [(settings, str(folder), shard, blender) for shard in shards.prepare(folder, settings, PARTS, settings["heads"])]
    if not shards.work(draw, jobs, math.ceil(settings["heads"] / settings["shard"]), processes):
        return 130
    shards.write_index(folder, settings)
    print(f"{settings['heads']} heads in {folder}")
    return 0


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Make pictures of heads with samples around them, or check those that are there.")
    parser.add_argument("--out", metavar="FOLDER", required=True, help="where the heads go")
    parser.add_argument("--kind", metavar="WHAT", default="toy", help="toy, real, ict, or a folder of scans (default: toy)")
    parser.add_argument("--split", default="train", help="train, test, or the factor that is held out (default: train)")
    parser.add_argument("--heads", type=int, default=200, help="how many (default: %(default)s)")
    parser.add_argument("--size", type=int, default=512, help="pixels a side (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--surface", type=int, default=8192, help="samples on each surface (default: %(default)s)")
    parser.add_argument("--around", type=int, default=8192, help="samples around each (default: %(default)s)")
    parser.add_argument("--shard", type=int, default=10, help="heads that one process makes at a time (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: %(default)s)")
    parser.add_argument("--blender", metavar="PYTHON", default="", help="photoreal pictures, by this python, which has bpy")
    parser.add_argument("--samples", type=int, default=16, help="of Cycles, a pixel (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="verify what is there; make nothing")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 when all is there and right, 1 when --check finds something, 2 for a wrong argument or file, 130 when stopped."""
    options = parsed(arguments)
    from densebook.core.errors import InputError
    from densebook.data import shards

    folder = Path(options.out).expanduser()
    try:
        if options.check:
            return shards.check(folder)
        from densebook.data import heads as H

        numbers = ("heads", "size", "surface", "around", "shard", "jobs", "samples")
        if min(getattr(options, n) for n in numbers) < 1:
            raise InputError(f"{', '.join('--' + n for n in numbers)} must be at least 1")
        if options.kind not in H.KINDS and not Path(options.kind).is_dir():
            raise InputError(f"--kind {options.kind} is neither toy, real nor ict nor a folder; give one of them")
        if options.split not in H.SPLITS:
            raise InputError(f"--split {options.split} is not known; give one of {', '.join(H.SPLITS)}")
        settings = {name: getattr(options, name) for name in SETTINGS} | {"photoreal": bool(options.blender)}
        return run(folder, settings, options.jobs, options.blender)
    except (InputError, OSError) as error:
        print(f"heads: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
