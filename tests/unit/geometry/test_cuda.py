"""The same code on CPU and CUDA: results agree. Skipped without a GPU; the self-hosted workflow runs it."""

import math

import pytest
import torch

from densebook.data import toy
from densebook.geometry import marching_cubes, octree, poses, sdf, sphere_tracing
from densebook.testing import assert_close

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
SHAPE = sdf.Difference(sdf.SmoothUnion(sdf.Box((0.6, 0.5, 0.4)), sdf.Sphere(0.7), k=0.1), sdf.Cylinder(0.3, 1.0))


@pytest.fixture(params=[torch.float32, torch.float64])
def dtype(request):
    return request.param


def test_poses(dtype):
    xi = torch.randn(100, 6, generator=torch.Generator().manual_seed(0), dtype=dtype)
    points = torch.randn(100, 20, 3, generator=torch.Generator().manual_seed(1), dtype=dtype)
    T = poses.exp(xi.cuda())
    assert_close(T.cpu(), poses.exp(xi))
    assert_close(poses.log(T).cpu(), poses.log(poses.exp(xi)))
    assert_close(poses.kabsch(points.cuda(), poses.transform(T, points.cuda())).cpu(), poses.exp(xi), atol=1e-4)


def test_marching_cubes(dtype):
    field = torch.randn(20, 18, 16, generator=torch.Generator().manual_seed(0), dtype=dtype)
    ours, theirs = marching_cubes.marching_cubes(field.cuda()), marching_cubes.marching_cubes(field)
    assert torch.equal(ours.faces.cpu(), theirs.faces)
    assert_close(ours.vertices.cpu(), theirs.vertices)


def test_octree(dtype):
    bounds = torch.tensor([[-1.0] * 3, [1.0] * 3], dtype=dtype)
    ours, stats = octree.extract(SHAPE, bounds.cuda(), 64)
    theirs, expected = octree.extract(SHAPE, bounds, 64)
    assert ours.faces.is_cuda and len(ours.faces) == len(theirs.faces)
    assert abs(stats.evaluations - expected.evaluations) <= 0.001 * expected.evaluations, "rounding may keep a cell more or less"


def test_sphere_tracing(dtype):
    eye = torch.tensor([2.0, 1.5, 3.0], dtype=dtype)
    rays = sphere_tracing.pinhole_rays((64, 64), math.pi / 4, eye=eye)
    ours, theirs = sphere_tracing.trace(SHAPE, *(r.cuda() for r in rays)), sphere_tracing.trace(SHAPE, *rays)
    assert (ours.mask.cpu() == theirs.mask).float().mean() > 0.999
    both = ours.mask.cpu() & theirs.mask
    assert (ours.depth.cpu()[both] - theirs.depth[both]).abs().median() < 1e-4


def test_mesh_sdf(dtype):
    mesh = toy.blob_mesh(3).to(dtype)
    points = torch.randn(500, 3, generator=torch.Generator().manual_seed(0), dtype=dtype)
    assert_close(sdf.MeshSDF(mesh.to("cuda"))(points.cuda()).cpu(), sdf.MeshSDF(mesh)(points), atol=1e-5)
