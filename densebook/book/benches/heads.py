"""A head from a picture: the octree beside the dense grid, in evaluations and CPU time, and seconds from picture to mesh."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from densebook.book.bench import interleave
from densebook.core.optional import available
from densebook.data.heads import make_heads
from densebook.geometry import octree, sdf
from densebook.geometry.mesh import Mesh
from densebook.phorhum import heads, networks
from densebook.render.cameras import Camera


def run(full: bool, say: Callable[[str], None]) -> list[dict]:
    """Rows for `densebook bench heads`: quick at 64^3, full at 128^3 and 256^3, on a network of the cpu profile's size."""
    if not available("skimage"):
        say("scikit-image is not installed: row left out")
    say("a network, trained for some seconds on toy heads")
    net, image, camera = fitted(400 if full else 40)
    rows = []
    for n in (128, 256) if full else (64,):
        say(f"{n}^3")
        rows += _case(net, image, camera, n)
    return rows


def fitted(steps: int) -> tuple[networks.PhorhumNet, torch.Tensor, Camera]:
    """A network of the cpu profile's size that has seen a few toy heads, and a picture of another with its camera."""
    draw = torch.Generator().manual_seed(0)
    found = make_heads(9, 64, draw, samples=(512, 512))
    net = networks.PhorhumNet(0.125, 4, 0.25, torch.Generator().manual_seed(0))
    heads.train(net, found.take(slice(0, 8)), steps, draw)
    return net, heads.compose(found.images, found.masks)[8], Camera(found.K[8], found.cam_from_world[8], (64, 64))


def _skimage(field, n: int) -> int:
    """Faces of scikit-image's marching cubes on the dense grid of the same field."""
    from skimage.measure import marching_cubes

    values = sdf.dense_grid(field, heads.BOUNDS, n, chunk=4096)
    return len(marching_cubes(values.numpy(), 0.0)[1])


@torch.no_grad()
def _case(net: networks.PhorhumNet, image: torch.Tensor, camera: Camera, n: int) -> list[dict]:
    """Ours (U-net, bound and octree; a median), the dense grid with our marching cubes, and to 128^3 with scikit-image's, both once."""
    field = heads.encode_head(net, image, camera)
    with torch.enable_grad():
        bound = heads.slope(field)
    mesh, stats = octree.extract(field, heads.BOUNDS, n, bound, chunk=4096)
    ours = lambda: heads.extract_head(heads.encode_head(net, image, camera), n, colors=False)  # noqa: E731
    with torch.enable_grad():
        seconds = interleave({"densebook": ours}, repeats=3)
    start = time.process_time()
    dense, dense_stats = octree.extract_dense(field, heads.BOUNDS, n, chunk=4096)
    seconds["dense grid"] = time.process_time() - start
    more = {
        "densebook": _counts(stats, mesh, dense, len(stats.leaks)),
        "dense grid": {"evaluations": dense_stats.evaluations, "share": 1.0, "same_mesh": True, "faces": len(dense.faces)},
    }
    if available("skimage") and n <= 128:
        start = time.process_time()
        more["dense grid, scikit-image"] = {"evaluations": (n + 1) ** 3, "share": 1.0, "faces": _skimage(field, n)}
        seconds["dense grid, scikit-image"] = time.process_time() - start
    base = seconds["densebook"]
    return [
        {"case": f"picture to mesh, {n}^3", "implementation": k, "cpu_seconds": round(s, 3), "ratio": round(s / base, 2)} | more[k]
        for k, s in seconds.items()
    ]


def _counts(stats: octree.Stats, mesh: Mesh, dense: Mesh, leaks: int) -> dict:
    """Evaluations, and whether the mesh is the dense one: as many faces, every vertex within rounding of one of its, no leak."""
    same = len(mesh.faces) == len(dense.faces) and leaks == 0
    if same:
        low, high = (torch.stack(m.vertices.sort(0).values.unbind(1)).sort().values for m in (mesh, dense))
        same = bool(torch.allclose(low, high, atol=1e-4))
    return {
        "evaluations": stats.evaluations,
        "share": round(stats.evaluations / stats.dense_evaluations, 4),
        "same_mesh": same,
        "faces": len(mesh.faces),
        "bound": round(stats.lipschitz, 2),
    }
