"""Pictures of caps for Dense Object Nets: rendered in parallel shards, resumable, in the layout of the released data.

    python data_scripts/caps.py --out FOLDER                        # 200 pictures of 20 procedural caps, 640 x 480
    python data_scripts/caps.py --out FOLDER --objects real         # of the eight real hats in the data folder
    python data_scripts/caps.py --out FOLDER --objects /ShapeNetCore.v2
    python data_scripts/caps.py --out FOLDER --blender /venv/bin/python  # photoreal, by the python of a venv with bpy
    python data_scripts/caps.py --out FOLDER --check                # verify the sha256 of what is there

A run that was stopped (Ctrl-C, a kill, a full disk) goes on where it was: give the same command again. Every file is written whole
or not at all, and the pictures do not depend on the number of jobs. In FOLDER, for each picture N:

| file | what |
|---|---|
| rgbs/N_rgb.png | sRGB |
| masks/N_mask.png | above 0 on the object |
| depths/N_depth.npy | float32 metres along the line of sight, 10000 on the background |
| cam_to_world_trafo/N_pose.txt | 4 x 4, world from camera; camera axes down, right, forward (so the determinant is -1) |
| intrinsics.txt | K of all pictures |
| index.json | the settings, the instance of each picture, sha256 of every file |

`densebook.data.caps.read_blenderproc(FOLDER)` reads it. With --blender, mask, depth and pose come from this book's rasteriser, and
Blender (Cycles, light from one of its own skies) draws the colours from the same meshes and cameras; bpy is GPL, needs its own
virtual environment (it pins another NumPy), and is run there as a separate process: `python -m venv V; V/bin/pip install bpy==4.5.*`.
The procedural caps are made here and belong to nobody; the licences of the real hats are in data_scripts/objects.py; ShapeNet's terms do
not allow passing its models on.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

PARTS = ("rgbs", "masks", "depths", "cam_to_world_trafo")
BACKGROUNDS = ("noise", "image", "plain")
SETTINGS = ("objects", "caps", "views", "height", "width", "seed", "background", "shard", "samples")


def meshes(objects: str, caps: int, seed: int) -> list:
    """What is drawn."""
    from densebook.data import caps as C

    if objects == "toy":
        made = C.toy_caps(caps, seed, detail=2)
        return [made.mesh(i) for i in range(len(made))]
    return C.real_caps() if objects == "real" else C.read_shapenet_caps(objects)


def draw(job: tuple[dict, str, int, str]) -> str:
    """Render one shard into the folder and note its files; returns the name of the note."""
    import torch

    from densebook.core.seeds import generator
    from densebook.data import caps as C
    from densebook.data import shards

    settings, folder, shard, blender = job
    torch.set_num_threads(1)
    start = shard * settings["shard"]
    count = min(settings["shard"], settings["views"] - start)
    things = meshes(settings["objects"], settings["caps"], settings["seed"])
    turned = [things[(start + k) % len(things)] for k in range(min(count, len(things)))]
    size = (settings["height"], settings["width"])
    views = C.render_views(turned, count, size, generator(settings["seed"] * 1_000_003 + shard), settings["background"])
    if blender:
        views = photograph(views, turned, blender, settings, shard)
    files = C.write_blenderproc(folder, views, start)
    return shards.finish(Path(folder), shard, files, instances=[(start + int(i)) % len(things) for i in views.instance])


def photograph(views, things: list, blender: str, settings: dict, shard: int):
    """The views with colours by Blender: meshes as GLB, cameras and lights as JSON, one process a shard."""
    from dataclasses import replace

    import numpy as np
    import torch
    from PIL import Image

    from densebook.core.errors import InputError
    from densebook.geometry.mesh import save, vertex_normals
    from densebook.render.cameras import to_blender

    with tempfile.TemporaryDirectory(prefix="densebook-") as scratch:
        for i, mesh in enumerate(things):
            save(replace(mesh, normals=vertex_normals(mesh)), Path(scratch) / f"{i}.glb")
        cameras = [to_blender(views.camera(k)) for k in range(len(views))]
        cameras = [c | {"matrix_world": c["matrix_world"].tolist(), "instance": int(i)} for c, i in zip(cameras, views.instance)]
        job = {"cameras": cameras, "samples": settings["samples"], "seed": settings["seed"] * 1_000_003 + shard}
        (Path(scratch) / "job.json").write_text(json.dumps(job))
        done = subprocess.run([blender, str(Path(__file__).resolve()), "--inside-blender", scratch], capture_output=True, text=True)
        found = [Path(scratch) / f"{k}.png" for k in range(len(views))]
        if done.returncode or not all(p.is_file() for p in found):
            said = (done.stderr.strip() or done.stdout.strip() or "nothing was said").splitlines()[-1]
            raise InputError(f"--blender {blender}: could not render ({said[:200]}); give the python of a virtual environment that has bpy")
        pixels = [np.asarray(Image.open(p).convert("RGB")) for p in found]
    rgb = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).to(views.rgb) / 255
    return replace(views, rgb=rgb)


def inside_blender(scratch: str) -> int:
    """Runs in Blender's own python: draws job.json with Cycles, light and background from a sky that ships with Blender."""
    import random

    try:
        import bpy
        import mathutils
    except ImportError:
        print("this python has no bpy", file=sys.stderr)
        return 3
    job = json.loads((Path(scratch) / "job.json").read_text())
    dice = random.Random(job["seed"])
    skies = sorted(Path(bpy.utils.system_resource("DATAFILES")).glob("studiolights/world/*.exr"))
    for k, camera in enumerate(job["cameras"]):
        bpy.ops.wm.read_factory_settings(use_empty=True)
        bpy.ops.import_scene.gltf(filepath=str(Path(scratch) / f"{camera['instance']}.glb"))
        scene = bpy.context.scene
        lens = bpy.data.cameras.new("camera")
        body = bpy.data.objects.new("camera", lens)
        scene.collection.objects.link(body)
        scene.camera = body
        body.matrix_world = mathutils.Matrix(camera["matrix_world"])
        lens.lens, lens.sensor_width, lens.sensor_height = camera["lens"], camera["sensor_width"], camera["sensor_height"]
        lens.sensor_fit, lens.clip_start = camera["sensor_fit"], camera["near"]
        lens.shift_x, lens.shift_y = camera["shift"]
        scene.world = bpy.data.worlds.new("world")
        scene.world.use_nodes = True
        nodes, links = scene.world.node_tree.nodes, scene.world.node_tree.links
        place, turn, sky = (nodes.new(f"ShaderNode{n}") for n in ("TexCoord", "Mapping", "TexEnvironment"))
        sky.image = bpy.data.images.load(str(dice.choice(skies)))
        turn.inputs["Rotation"].default_value[2] = dice.uniform(0, 2 * math.pi)
        links.new(place.outputs["Generated"], turn.inputs["Vector"])
        links.new(turn.outputs["Vector"], sky.inputs["Vector"])
        links.new(sky.outputs["Color"], nodes["Background"].inputs["Color"])
        render = scene.render
        render.engine, render.film_transparent = "CYCLES", False
        render.resolution_y, render.resolution_x = camera["size"]
        render.resolution_percentage = 100
        render.pixel_aspect_x, render.pixel_aspect_y = camera["pixel_aspect"]
        scene.cycles.samples, scene.cycles.use_denoising, scene.cycles.seed = job["samples"], True, k
        scene.view_settings.view_transform = "Standard"
        render.image_settings.file_format = "PNG"
        render.filepath = str(Path(scratch) / f"{k}.png")
        bpy.ops.render.render(write_still=True)
    return 0


def run(folder: Path, settings: dict, processes: int, blender: str) -> int:
    """Draw what is still to do. Exit status 0 when all is there, 130 when stopped."""
    from densebook.data import shards

    jobs = [(settings, str(folder), shard, blender) for shard in shards.prepare(folder, settings, PARTS, settings["views"])]
    if not shards.work(draw, jobs, math.ceil(settings["views"] / settings["shard"]), processes):
        return 130
    instances = [i for note in shards.notes(folder) for i in note["instances"]]
    shards.write_index(folder, settings, [folder / "intrinsics.txt"], instances=instances)
    print(f"{settings['views']} pictures in {folder}")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 when all is there and right, 1 when --check finds something, 2 for a wrong argument or file, 130 when stopped."""
    parser = argparse.ArgumentParser(description="Render pictures of caps, or check those that are there.")
    parser.add_argument("--out", metavar="FOLDER", help="where the pictures go")
    parser.add_argument("--objects", metavar="WHAT", default="toy", help="toy, real, or the folder of ShapeNetCore.v2 (default: toy)")
    parser.add_argument("--caps", type=int, default=20, help="how many procedural caps (default: %(default)s)")
    parser.add_argument("--views", type=int, default=200, help="pictures in all (default: %(default)s)")
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--background", choices=BACKGROUNDS, default="image")
    parser.add_argument("--shard", type=int, default=20, help="pictures that one process draws at a time (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: %(default)s)")
    parser.add_argument("--blender", metavar="PYTHON", default="", help="photoreal colours, by this python, which has bpy")
    parser.add_argument("--samples", type=int, default=16, help="of Cycles, a pixel (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="verify what is there; render nothing")
    parser.add_argument("--inside-blender", metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.inside_blender:
        return inside_blender(options.inside_blender)
    if not options.out:
        parser.error("--out is missing")
    from densebook.core.errors import InputError
    from densebook.data import shards

    folder = Path(options.out).expanduser()
    try:
        if options.check:
            return shards.check(folder)
        if min(options.caps, options.views, options.height, options.width, options.shard, options.jobs, options.samples) < 1:
            raise InputError("--caps, --views, --height, --width, --shard, --jobs and --samples must be at least 1")
        if options.objects not in ("toy", "real") and not Path(options.objects).is_dir():
            raise InputError(f"--objects {options.objects} is neither toy nor real nor a folder; give one of them")
        settings = {name: getattr(options, name) for name in SETTINGS} | {"photoreal": bool(options.blender)}
        return run(folder, settings, options.jobs, options.blender)
    except (InputError, OSError) as error:
        print(f"caps: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
