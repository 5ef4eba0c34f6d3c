"""Distance to a mesh: the tree in torch against libigl, Open3D and trimesh. Exact first, then fast.

Queries: half within about 2 % of the surface, half anywhere in the box. The oracle is brute force in float64: every query
against every face (a subset of the queries), with winding numbers summed over every face. Errors are in the mesh's unit
(the box has a side of 2), signs are compared where the distance exceeds 1e-6.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from densebook.book.bench import interleave
from densebook.core.optional import available
from densebook.core.seeds import generator
from densebook.data import toy
from densebook.geometry import bvh
from densebook.geometry.mesh import Mesh, sample_surface
from densebook.geometry.sdf import MeshSDF

ORACLE = 300  # queries that are checked against brute force
SLOW = 500  # queries for what would take minutes: times are compared by query


def run(full: bool, say: Callable[[str], None]) -> list[dict]:
    """Rows for watertight meshes of several sizes and for one with holes."""
    cases = {f"blob, {20 * 4**n} faces": (toy.blob_mesh(n), count) for n, count in (((5, 20_000), (6, 20_000)) if full else ((4, 2_000),))}
    closed = toy.blob_mesh(5 if full else 4)
    kept = torch.rand(len(closed.faces), generator=generator(0)) > 0.05
    cases[f"blob with holes, {int(kept.sum())} faces"] = (Mesh(closed.vertices, closed.faces[kept]), 20_000 if full else 2_000)
    return [row for name, (mesh, count) in cases.items() for row in _case(name, mesh, count, say)]


def _queries(mesh: Mesh, count: int) -> torch.Tensor:
    draws = generator(1)
    near = sample_surface(mesh, count // 2, draws)[0]
    near = near + 0.02 * torch.randn(near.shape, generator=draws)
    points = torch.cat([near, torch.rand(count - len(near), 3, generator=draws) * 2 - 1])
    return points[torch.randperm(count, generator=draws)]


def _case(case: str, mesh: Mesh, count: int, say: Callable[[str], None]) -> list[dict]:
    points = _queries(mesh, count)
    closed = "holes" not in case
    implementations = {name: make() for name, make in _makers(mesh, points, closed, say).items()}
    truth = oracle(mesh, points[:ORACLE])
    seconds = interleave(implementations)
    asked = {name: SLOW if name.startswith("trimesh") else count for name in implementations}
    ours = seconds["densebook"] / count
    rows = []
    for name, compute in implementations.items():
        found = np.asarray(compute(), dtype=np.float64)[:ORACLE]
        clear = np.abs(truth) > 1e-6
        rows.append(
            {
                "case": case,
                "implementation": name,
                "cpu_seconds": seconds[name],
                "ratio": seconds[name] / asked[name] / ours,
                "queries": asked[name],
                "queries_per_second": round(asked[name] / seconds[name]),
                "max_error": float(np.abs(np.abs(found) - np.abs(truth)).max()),
                "wrong_signs": int(((found < 0) != (truth < 0))[clear].sum()),
                "checked": len(truth),
            }
        )
        row = rows[-1]
        say(f"{case}: {name} {row['queries_per_second']} queries/s, error {row['max_error']:.1e}, wrong signs {row['wrong_signs']}")
    return rows


def oracle(mesh: Mesh, points: torch.Tensor) -> np.ndarray:
    """Signed distance in float64, each query against each face: shares no search with what it checks."""
    tree = bvh.build(mesh.triangles.double())
    corners = tree.corners.reshape(3, 3, -1).permute(2, 0, 1)  # faces, corners, coordinates
    exact = points.double()
    distance = torch.cat([_brute(part, corners) for part in exact.split(8)])
    return torch.where(bvh.winding_exact(tree, exact) > 0.5, -distance, distance).numpy()


def _brute(points: torch.Tensor, triangles: torch.Tensor) -> torch.Tensor:
    offset, sides = points[:, None, None] - triangles, triangles.roll(-1, dims=1) - triangles
    along = ((offset * sides).sum(-1) / sides.square().sum(-1)).clamp(0, 1)
    segments = (offset - along[..., None] * sides).norm(dim=-1).amin(dim=-1)
    normal = torch.nn.functional.normalize(torch.linalg.cross(sides[:, 0], sides[:, 1]), dim=1)
    within = (torch.linalg.cross(sides.expand_as(offset), offset) * normal[:, None]).sum(-1).amin(dim=-1) > 0
    return torch.where(within, (offset[:, :, 0] * normal).sum(-1).abs(), segments).amin(dim=1)


def _makers(mesh: Mesh, points: torch.Tensor, closed: bool, say: Callable[[str], None]) -> dict[str, Callable[[], Callable[[], object]]]:
    """By name, what prepares an implementation (its tree is not timed, except where the library builds it in each call)."""
    vertices, faces, exact = mesh.vertices.double().numpy(), mesh.faces.numpy(), points.double().numpy()

    def ours(backend: str):
        field = MeshSDF(mesh, backend=backend)
        return lambda: field(points)

    makers = {"densebook": lambda: ours("torch")}
    if available("igl"):
        import igl

        kinds = {
            "winding number": igl.SIGNED_DISTANCE_TYPE_WINDING_NUMBER,
            "fast winding number": igl.SIGNED_DISTANCE_TYPE_FAST_WINDING_NUMBER,
        }
        if closed:
            kinds["pseudonormal"] = igl.SIGNED_DISTANCE_TYPE_PSEUDONORMAL
        makers["densebook with libigl"] = lambda: ours("igl")
        for kind, number in kinds.items():
            makers[f"libigl, {kind}"] = lambda number=number: lambda: igl.signed_distance(exact, vertices, faces, sign_type=number)[0]
    else:
        say("libigl is not installed: rows left out")
    if available("open3d"):
        makers["Open3D RaycastingScene"] = lambda: _open3d(mesh, points)
    else:
        say("open3d is not installed: row left out")
    if available("rtree"):
        makers["trimesh.proximity"] = lambda: _trimesh(vertices, faces, exact[:SLOW])
    else:
        say("rtree, which trimesh.proximity needs, is not installed: row left out")
    return makers


def _open3d(mesh: Mesh, points: torch.Tensor) -> Callable[[], object]:
    import open3d

    scene = open3d.t.geometry.RaycastingScene(nthreads=1)
    scene.add_triangles(mesh.vertices.numpy(), mesh.faces.numpy().astype(np.uint32))
    given = points.numpy()
    return lambda: scene.compute_signed_distance(given, nthreads=1, nsamples=3).numpy()


def _trimesh(vertices: np.ndarray, faces: np.ndarray, points: np.ndarray) -> Callable[[], object]:
    import trimesh

    shape = trimesh.Trimesh(vertices, faces, process=False)
    return lambda: -trimesh.proximity.signed_distance(shape, points)  # positive inside there
