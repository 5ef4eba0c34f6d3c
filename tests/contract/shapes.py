"""The shapes in the signatures hold: one walk through the geometry chapter with every call checked by jaxtyping and beartype.

Run by test_shapes.py in a process of its own: the hook must stand before densebook is imported, and the other tests, which
hand over wrong shapes on purpose, must meet the library's own errors.
"""

import math
import sys

import torch
from jaxtyping import install_import_hook

with install_import_hook("densebook.geometry", "beartype.beartype"):
    from densebook.data import toy
    from densebook.geometry import marching_cubes, mesh, octree, poses, sdf, sphere_tracing


def walk(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(4, 5, 3, generator=generator, dtype=dtype)
    xi = torch.randn(4, 6, generator=generator, dtype=dtype)

    T = poses.exp(xi)
    poses.log(poses.interpolate(T, poses.inverse(T), 0.5))
    poses.kabsch(points, poses.transform(T, points))

    shape = sdf.SmoothUnion(sdf.Box((0.5, 0.4, 0.3)), sdf.Transform(sdf.Torus(0.6, 0.15), T[0].float()), k=0.1)
    painted = sdf.Colored(shape, (0.8, 0.2, 0.1))
    painted(points), sdf.color(painted, points), sdf.normals(painted, points), sdf.lipschitz(painted, points)
    bounds = torch.tensor([[-1.2] * 3, [1.2] * 3], dtype=dtype)

    surface, _ = octree.extract(painted, bounds, 32, normals=True, colors=True)
    octree.estimate_lipschitz(shape, bounds, generator=generator)
    field = torch.randn(9, 8, 7, generator=generator, dtype=dtype)
    marching_cubes.marching_cubes(field, level=0.1, spacing=(0.1, 0.2, 0.3), origin=1.0)
    marching_cubes.marching_squares(field[0])

    origins, directions = sphere_tracing.pinhole_rays((16, 24), math.pi / 4, eye=torch.tensor([2.0, 1.0, 3.0], dtype=dtype))
    hits = sphere_tracing.trace(painted, origins, directions)
    sphere_tracing.trace(painted, origins, directions, surface="back")
    sphere_tracing.march(painted, origins, directions, far=5.0)
    sphere_tracing.to_srgb(sphere_tracing.shade(painted, hits, light=(1.0, 2.0, 3.0)))

    blob = toy.blob_mesh(2).to(dtype)
    mesh.vertex_normals(blob), mesh.face_normals(blob), mesh.volume(blob), mesh.sample_surface(blob, 10, generator=generator)
    distance = sdf.MeshSDF(blob)
    distance(points), distance.closest(points)
    assert surface.vertices.dtype == dtype and hits.mask.any()


if __name__ == "__main__":
    walk(torch.float32)
    walk(torch.float64)
    print("every shape holds", file=sys.stdout)
