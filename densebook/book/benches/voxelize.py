"""Voxelising: a street and a closed mesh into fruxels, beside what answers the same question (which centres are inside) elsewhere.

Peers are asked about the very same points: trimesh by rays (`contains`), Open3D by its `compute_occupancy`, libigl by fast winding numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from densebook.book import bench
from densebook.book.bench import interleave
from densebook.core.optional import available, require
from densebook.data import streets, toy
from densebook.geometry.mesh import Mesh
from densebook.ssz.fruxels import Frustum, voxelize

MOST_TRIMESH = 2_000  # points that trimesh is asked about, at a millisecond for two of them; its time is scaled to all


def frustum(side: int) -> Frustum:
    """The paper's street frustum with `side` cells a side."""
    return Frustum(2.0, 12.0, side, math.radians(40), (side, side))


def blob(subdivisions: int) -> Mesh:
    """A closed bumpy ball within the frustum, in the camera's frame."""
    mesh = toy.blob_mesh(subdivisions)
    return Mesh(2 * mesh.vertices + torch.tensor([0.1, 0.0, 7.0]), mesh.faces)


def centres(model: Frustum) -> np.ndarray:
    """The cell centres (N, 3), made slice by slice: at no time in more memory than they take, which would hide what follows."""
    j, i = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) + 0.5 for n in model.size), indexing="ij")
    points = np.empty((*model.shape, 3))
    for k in range(model.depth):
        points[k] = model.at(torch.stack([torch.full_like(j, k + 0.5), j, i], dim=-1)).numpy()
    return points.reshape(-1, 3)


def run(full: bool, say: Callable[[str], None]) -> list[dict]:
    """Rows for `densebook bench voxelize`: quick at 32^3 and 64^3, full at 128^3, with the growth of resident memory in fresh processes."""
    for name, text in (("open3d", "Open3D"), ("rtree", "rtree, which trimesh needs,"), ("igl", "libigl")):
        if not available(name):
            say(f"{text} is not installed: row left out")
    side, level = (128, 5) if full else (32, 4)
    rows = _closed(side, level, full, say)
    for size in (64, 128) if full else (64,):
        say(f"street {size}^3")
        street = streets.toy_street(torch.Generator().manual_seed(1), objects=8)
        seconds = interleave({"densebook": lambda street=street, size=size: voxelize(street, frustum(size))}, 3)["densebook"]
        more = {"faces": sum(len(m.faces) for m in street.meshes)}
        if full:
            start = "s = b.streets.toy_street(torch.Generator().manual_seed(1), objects=8); b.voxelize(s, b.frustum(16))"
            more["resident_bytes"] = bench.peak_growth("voxelize", start, f"b.voxelize(s, b.frustum({size}))")
        rows.append({"case": f"toy street {size}^3", "implementation": "densebook", "cpu_seconds": round(seconds, 4), "ratio": 1.0} | more)
    return rows


def _closed(side: int, level: int, full: bool, say: Callable[[str], None]) -> list[dict]:
    """A closed mesh: ours and the peers, in how many cells they differ from ours, and in full how far memory grows."""
    mesh, model = blob(level), frustum(side)
    points = centres(model)
    say(f"blob of {len(mesh.faces):,} faces, {side}^3")
    ways = {"densebook": lambda: (voxelize([(mesh, 1)], model) > 0).reshape(-1).numpy()}
    if available("open3d"):
        ways["Open3D"] = lambda: open3d_occupancy(mesh, points)
    if available("igl"):
        ways["libigl"] = lambda: igl_winding(mesh, points)
    ours, seconds = ways["densebook"](), interleave(ways, 3)
    differ = {name: int((way() != ours).sum()) for name, way in ways.items()}
    if available("rtree"):
        chosen = np.random.default_rng(0).choice(len(points), MOST_TRIMESH, replace=False)
        few = interleave({"trimesh": lambda: trimesh_contains(mesh, points[chosen])}, 1)["trimesh"]
        seconds["trimesh"] = few * len(points) / len(chosen)
        differ["trimesh"] = int((trimesh_contains(mesh, points[chosen]) != ours[chosen]).sum())
    rows = []
    for name, s in seconds.items():
        row = {"case": f"blob {side}^3", "implementation": name, "cpu_seconds": round(s, 4), "ratio": round(s / seconds["densebook"], 2)}
        grown = {"resident_bytes": _grown(name, level, side)} if full else {}
        rows.append(row | {"faces": len(mesh.faces), "differ": differ[name]} | grown)
    return rows


def _grown(name: str, level: int, side: int) -> int | None:
    """How far the memory of a fresh process grows over one call; trimesh's is that of the points it is asked about."""
    call, warm = {
        "densebook": ("b.voxelize([(m, 1)], f)", "b.voxelize([(m, 1)], b.frustum(8))"),
        "Open3D": ("b.open3d_occupancy(m, p)", "b.open3d_occupancy(m, p[:64])"),
        "libigl": ("b.igl_winding(m, p)", "b.igl_winding(m, p[:64])"),
        "trimesh": ("b.trimesh_contains(m, p[:b.MOST_TRIMESH])", "b.trimesh_contains(m, p[:64])"),
    }[name]
    start = f"m, f = b.blob({level}), b.frustum({side}); " + ("" if name == "densebook" else "p = b.centres(f); ")
    return bench.peak_growth("voxelize", f"{start}{warm}", call)


def open3d_occupancy(mesh: Mesh, points: np.ndarray) -> np.ndarray:
    """Open3D's answer, with its Embree rays on one thread."""
    open3d = require("open3d")
    scene = open3d.t.geometry.RaycastingScene(nthreads=1)
    tensors = [open3d.core.Tensor(x) for x in (mesh.vertices.numpy(), mesh.faces.numpy().astype(np.uint32))]
    scene.add_triangles(*tensors)
    return scene.compute_occupancy(open3d.core.Tensor(points.astype(np.float32)), nthreads=1, nsamples=1).numpy() > 0.5


def igl_winding(mesh: Mesh, points: np.ndarray) -> np.ndarray:
    """libigl's fast winding numbers (Barill et al. 2018)."""
    return require("igl").fast_winding_number(mesh.vertices.double().numpy(), mesh.faces.numpy(), points) > 0.5


def trimesh_contains(mesh: Mesh, points: np.ndarray) -> np.ndarray:
    """trimesh's rays, through rtree."""
    import trimesh

    made = trimesh.Trimesh(mesh.vertices.numpy(), mesh.faces.numpy(), process=False)
    return trimesh.ray.ray_triangle.RayMeshIntersector(made).contains_points(points)
