"""Rendering forward and backward against the number of vertices (the paper's Figure 3), and what OpenGL's channels cost.

A ball of 642 to 655,362 vertices fills half of the picture; vertex colours, mean squared error to a random picture, gradients
by positions and colours. PyTorch3D and Mitsuba run in processes of their own: PyTorch3D needs minutes, and Mitsuba ends the
process when it finds an LLVM that it cannot use (set DRJIT_LIBLLVM_PATH). Memory is what a fresh process grows by at the most.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from densebook.book import bench
from densebook.book.bench import interleave
from densebook.core.optional import available
from densebook.data import toy
from densebook.render import cameras, opengl
from densebook.render.differentiable import render
from densebook.render.rasterizer import _homogeneous, rasterize, visible_faces

PATIENCE = 1800  # wall seconds that a peer's process may take


def run(full: bool, say: Callable[[str], None]) -> list[dict]:
    """Rows for `densebook bench rasterizer`: quick 256 x 256 and two meshes, full 1024 x 1024 and six."""
    side, cuts = (1024, (3, 4, 5, 6, 7, 8)) if full else (256, (3, 4))
    missing = [] if opengl.available() else ["OpenGL"]
    missing += [name for name in ("pytorch3d", "mitsuba") if not available(name)]
    for name in missing:
        say(f"{name} is not there: rows left out")
    rows = []
    for k in cuts:
        say(f"{10 * 4**k + 2:,} vertices, {side} x {side}")
        peers = {"pytorch3d": k in ((3, 5) if full else (3,)), "mitsuba prb": full or k == 3, "mitsuba projective": full and k in (3, 5)}
        rows += _forward_backward(k, side, [p for p, wanted in peers.items() if wanted and p.split()[0] not in missing], full, say)
        if "OpenGL" not in missing:
            rows += _channels(k, side)
    return rows


def _scene(k: int, side: int):
    """Ball, camera and target picture."""
    mesh, generator = toy.icosphere(k), torch.Generator().manual_seed(0)
    colors = torch.rand(len(mesh.vertices), 3, generator=generator)
    camera = cameras.orbit(0.3, size=(side, side), fov=torch.pi / 3)
    return replace(mesh, colors=colors), camera, torch.rand(side, side, 3, generator=generator)


def _densebook(k: int, side: int, backend: str) -> tuple[Callable[[], object], Callable[[], object]]:
    """One step forward and backward, and the rasterising in it."""
    mesh, camera, target = _scene(k, side)
    leaves = [mesh.vertices.requires_grad_(), mesh.colors.requires_grad_()]

    def step():
        return torch.autograd.grad((render(mesh, camera, backend=backend).color - target).square().mean(), leaves)

    return step, lambda: visible_faces(mesh, camera, backend=backend)


def _pytorch3d(k: int, side: int) -> tuple[Callable[[], object], list[float]]:
    """The same picture: no light, one face a pixel, no blur. The list takes the seconds of each step's rasterising."""
    from pytorch3d.ops import interpolate_face_attributes
    from pytorch3d.renderer import MeshRasterizer, PerspectiveCameras, RasterizationSettings
    from pytorch3d.structures import Meshes

    mesh, camera, target = _scene(k, side)
    leaves = [mesh.vertices.requires_grad_(), mesh.colors.requires_grad_()]
    rasterizer = MeshRasterizer(PerspectiveCameras(**cameras.to_pytorch3d(camera)), RasterizationSettings(image_size=side))

    spent: list[float] = []

    def step():
        start = time.process_time()
        found = rasterizer(Meshes([leaves[0]], [mesh.faces]))
        spent.append(time.process_time() - start)
        image = interpolate_face_attributes(found.pix_to_face, found.bary_coords, leaves[1][mesh.faces])
        return torch.autograd.grad((image[0, :, :, 0] - target).square().mean(), leaves)

    return step, spent


def _mitsuba(k: int, side: int, integrator: str) -> tuple[Callable[[], object], list[float]]:
    """A diffuse ball under a white sky, one sample a pixel; prb has no gradient of visibility, projective has."""
    import drjit
    import mitsuba

    mitsuba.set_variant("llvm_ad_rgb")
    drjit.set_thread_count(1)
    mesh, camera, target = _scene(k, side)
    ball = mitsuba.Mesh("ball", len(mesh.vertices), len(mesh.faces))
    ball.add_attribute("vertex_color", 3, mesh.colors.flatten().tolist())
    shape = mitsuba.traverse(ball)
    shape["vertex_positions"] = mitsuba.Float(mesh.vertices.flatten().numpy())
    shape["faces"] = mitsuba.UInt32(mesh.faces.int().flatten().numpy())
    shape.update()
    with tempfile.TemporaryDirectory() as folder:
        ball.write_ply(f"{folder}/ball.ply")
        scene = mitsuba.load_dict(
            {
                "type": "scene",
                "integrator": {"prb": {"type": "prb", "max_depth": 2}, "projective": {"type": "direct_projective", "sppi": 0}}[integrator],
                "sensor": {
                    "type": "perspective",
                    "fov": 60,
                    "to_world": mitsuba.ScalarTransform4f().look_at(camera.center.tolist(), [0, 0, 0], [0, 1, 0]),
                    "film": {"type": "hdrfilm", "width": side, "height": side, "rfilter": {"type": "box"}, "pixel_format": "rgb"},
                },
                "light": {"type": "constant"},
                "ball": {
                    "type": "ply",
                    "filename": f"{folder}/ball.ply",
                    "bsdf": {"type": "diffuse", "reflectance": {"type": "mesh_attribute", "name": "vertex_color"}},
                },
            }
        )
    parameters, goal = mitsuba.traverse(scene), mitsuba.TensorXf(target.numpy())
    names = ["ball.vertex_positions", "ball.vertex_color"]

    def step():
        for name in names:
            drjit.enable_grad(parameters[name])
        parameters.update()
        drjit.backward(drjit.mean(drjit.square(mitsuba.render(scene, parameters, spp=1) - goal)))
        return [drjit.grad(parameters[name]).numpy() for name in names]

    return step, []


def _made(name: str, k: int, side: int) -> tuple[Callable[[], object], Callable[[], object] | list[float]]:
    library, _, how = name.partition(" ")
    if library == "densebook":
        return _densebook(k, side, how)
    return _pytorch3d(k, side) if library == "pytorch3d" else _mitsuba(k, side, how)


def child(name: str, k: int, side: int, repeats: int) -> None:
    """Measure one implementation in this process and print JSON: median seconds of a step, of rasterising, and peak megabytes.

    With one repeat there is no warm-up but a tiny one. Memory counts from after that: scene, buffers and compiled code included.
    """
    torch.set_num_threads(1)
    _made(name, 1, 16)[0]()
    before = bench.memory("VmRSS")
    step, spent = _made(name, k, side)
    found = {"cpu_seconds": _seconds(step, repeats)}
    peak = bench.memory("VmHWM")
    found["peak_mb"] = None if peak is None else round((peak - before) / 1e6)
    if isinstance(spent, list) and spent:
        found["raster_seconds"] = sorted(spent)[len(spent) // 2]
    print(json.dumps(found))


def _seconds(work: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats + (repeats > 1)):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return sorted(times[-repeats:])[repeats // 2]


def _alone(name: str, k: int, side: int, repeats: int, say: Callable[[str], None]) -> dict | None:
    """`child` in a process of its own; None, and a word why, when it fails."""
    code = f"from densebook.book.benches.rasterizer import child; child({name!r}, {k}, {side}, {repeats})"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, env=environment)
        if done.returncode == 0:
            return json.loads(re.search(r"\{.*\}", done.stdout)[0])  # Mitsuba prints warnings too, and the colour of the next line
        why = next((line for line in done.stderr.splitlines()[::-1] if "Error" in line or "ERROR" in line), f"exit {done.returncode}")
    except subprocess.TimeoutExpired:
        why = f"more than {PATIENCE} seconds"
    say(f"{name}: row left out ({why[:160]})")
    return None


def _forward_backward(k: int, side: int, peers: list[str], full: bool, say: Callable[[str], None]) -> list[dict]:
    """The case's rows: ours in turn within one process, peers each in one of its own, memory of all from such processes."""
    ours = {"densebook": "torch"} | ({"densebook opengl": "opengl"} if opengl.available() else {})
    made = {name: _densebook(k, side, backend) for name, backend in ours.items()}
    repeats = 5 if full else 3
    seconds = interleave({name: step for name, (step, _) in made.items()}, repeats)
    raster = interleave({name: scan for name, (_, scan) in made.items()}, repeats)
    measured = {name: {"cpu_seconds": seconds[name], "raster_seconds": raster[name]} for name in ours}
    for name, backend in ours.items():
        if full or (k == 3 and backend == "torch"):
            measured[name]["peak_mb"] = (_alone(f"densebook {backend}", k, side, 1, say) or {}).get("peak_mb")
    names = {"pytorch3d": "PyTorch3D", "mitsuba prb": "Mitsuba 3 (prb)", "mitsuba projective": "Mitsuba 3 (direct_projective)"}
    for peer in peers:
        found = _alone(peer, k, side, 1 if peer == "pytorch3d" else 3, say)
        if found:
            measured[names[peer]] = found
    case, base = {"case": f"{10 * 4**k + 2:,} vertices, {side} x {side}"}, measured["densebook"]["cpu_seconds"]
    return [
        case
        | {"implementation": name, "cpu_seconds": round(m["cpu_seconds"], 4), "ratio": round(m["cpu_seconds"] / base, 2)}
        | {"raster_seconds": round(m["raster_seconds"], 4) if m.get("raster_seconds") else None, "peak_mb": m.get("peak_mb")}
        | {"vertices": 10 * 4**k + 2}
        for name, m in measured.items()
    ]


def _channels(k: int, side: int) -> list[dict]:
    """OpenGL: the index alone, with barycentrics and depth recomputed, and the paper's indices and barycentrics as channels."""
    mesh, camera, _ = _scene(k, side)
    points = _homogeneous(mesh.vertices, camera)
    ways = {
        "densebook": lambda: opengl.face_ids(points, mesh.faces, camera.size, camera.near),
        "index, the rest recomputed": lambda: rasterize(mesh, camera, backend="opengl"),
        "channels, as in the paper": lambda: opengl.channels(points, mesh.faces, camera.size, camera.near),
    }
    seconds = interleave(ways, 5)
    return [
        {"case": f"OpenGL alone, {10 * 4**k + 2:,} vertices, {side} x {side}", "implementation": name, "cpu_seconds": round(s, 4)}
        | {"ratio": round(s / seconds["densebook"], 2), "vertices": 10 * 4**k + 2}
        for name, s in seconds.items()
    ]
