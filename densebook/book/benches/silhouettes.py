"""Gradients at silhouettes: d image-area / d scale of a ball by each rule, over tessellations, as a share of the true value, and CPU time.

The truth is that of the polyhedron: it is convex, so that its picture is the convex hull of its vertices' pictures.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch

from densebook.book.bench import interleave
from densebook.data import toy
from densebook.geometry.mesh import Mesh
from densebook.render import differentiable as rules
from densebook.render.cameras import Camera, orbit
from densebook.render.rasterizer import Fragments, rasterize

DISTANCE = 2.5  # of the camera from the middle of the unit ball, metres
SOFT_PAIRS = 1 << 24  # most pixels x faces for the soft silhouette, which takes 100 bytes for each


def run(full: bool, say: Callable[[str], None]) -> list[dict]:
    """Rows of all rules: 642 to 655,362 vertices at 1024^2 when `full`, else 642 to 40,962 at 256^2; soft ones on small pictures."""
    size, levels = (1024, (3, 4, 5, 6, 7, 8)) if full else (256, (3, 5, 6))
    rows = []
    for level in levels:
        say(f"{10 * 4**level + 2:,} vertices, {size} x {size}")
        rows += _case(level, size, RULES | {"densebook": _scan}, 3 if level < 8 else 1)
    small = 64 if full else 32
    for level in (1, 2, 3):
        if 20 * 4**level * small**2 <= SOFT_PAIRS:
            rows += _case(level, small, {"SoftRas-style, sigma 1": _soft, "densebook": _scan}, 1)
    return rows


def _case(level: int, size: int, chosen: dict[str, Callable], repeats: int) -> list[dict]:
    """One row a rule. The pixels' faces are found once before: the rules need them alike."""
    ball, camera = toy.icosphere(level), orbit(0.3, 0.2, DISTANCE, size=(size, size), fov=math.pi / 3)
    seen = rasterize(ball, camera)
    truth, found = _growth(ball.to(torch.float64), camera.to(torch.float64)), {}

    def timed(name: str) -> Callable[[], None]:
        def work() -> None:
            scale = torch.ones((), requires_grad=True)
            moved = replace(ball, vertices=ball.vertices * scale)
            points = moved.vertices @ camera.cam_from_world[:3, :3].mT + camera.cam_from_world[:3, 3]
            area = chosen[name](moved, points, camera, seen).sum()
            found[name] = float(torch.autograd.grad(area, scale)[0]) / truth

        return work

    seconds = interleave({name: timed(name) for name in chosen}, repeats)
    ours = seconds["densebook"]
    return [
        {
            "case": f"{len(ball.vertices):,} vertices, {size}^2",
            "implementation": name,
            "cpu_seconds": spent,
            "ratio": spent / ours,
            "gradient_of_truth": round(found[name], 4),
        }
        for name, spent in sorted(seconds.items(), key=lambda item: item[0] != "densebook")
    ]


def _growth(ball: Mesh, camera: Camera, step: float = 1e-5) -> float:
    """d area / d scale of the convex hull in the image, pixels, by a central difference."""
    from scipy.spatial import ConvexHull

    areas = [ConvexHull(camera.project(ball.vertices * (1 + s * step))[0].numpy()).volume for s in (1, -1)]
    return float(areas[0] - areas[1]) / (2 * step)


def _interpolation(mesh, points, camera: Camera, seen: Fragments):
    """The paper's Eq. 3, put right: white vertices between which nothing can slide."""
    at = seen.mask.reshape(-1).nonzero()[:, 0]
    face = seen.face.reshape(-1)[at]
    weights, _ = rules.meet(points, rules._rays(camera, at, points), mesh.faces, face)
    return rules.mix(torch.ones_like(points[:, :1]), weights, mesh.faces[face])


def _sobel(mesh, points, camera: Camera, seen: Fragments):
    return rules.sobel(seen.mask[..., None].to(points), mesh, camera, seen)


def _sobel_grown(mesh, points, camera: Camera, seen: Fragments):
    return rules.sobel(seen.mask[..., None].to(points), mesh, camera, seen, grow=True)


def _visible(mesh, points, camera: Camera, seen: Fragments):
    return rules.antialias_visible(seen.mask[..., None].to(points), points, mesh.faces, camera, seen)


def _scan(mesh, points, camera: Camera, seen: Fragments):
    crossings = rules.scan(points, mesh.faces, camera)
    white = torch.ones_like(crossings.share)[:, None]
    return rules.blend(seen.mask[..., None].to(points), crossings, white, (crossings.outside >= 0)[:, None].to(white))


def _soft(mesh, points, camera: Camera, seen: Fragments):
    return rules.soft_silhouette(points, mesh.faces, camera, 1.0)


RULES = {
    "interpolation only (Eq. 3)": _interpolation,
    "Sobel rule (authors' code, vertices)": _sobel,
    "Sobel rule, mask grown (authors' code, poses)": _sobel_grown,
    "visible-face antialiasing (after nvdiffrast)": _visible,
}
