"""Differentiable rendering: hand-written gradients, silhouettes by closed forms and brute force, and what reaches the inputs."""

import gc
import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from densebook.core.errors import InputError
from densebook.data import toy
from densebook.geometry import poses
from densebook.geometry.mesh import Mesh, join
from densebook.render import differentiable as D
from densebook.render import shading
from densebook.render.cameras import Camera, orbit
from densebook.render.rasterizer import perspective_barycentrics, rasterize
from densebook.testing import assert_close, assert_grad

dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
TORCH = {"backend": "torch"}


def pinhole(size=64, f=50.0, dtype=torch.float64, near=0.01):
    """A camera at the origin that looks along +z, one pixel a metre over f at depth 1."""
    K = torch.tensor([[f, 0, size / 2], [0, f, size / 2], [0, 0, 1]], dtype=dtype)
    return Camera(K, torch.eye(4, dtype=dtype), (size, size), near)


def white(mesh):
    return replace(mesh, colors=torch.ones_like(mesh.vertices))


def quad(x0, y0, x1, y1, z, dtype=torch.float64):
    return Mesh(torch.tensor([[x0, y0, z], [x1, y0, z], [x1, y1, z], [x0, y1, z]], dtype=dtype), torch.tensor([[0, 2, 1], [0, 3, 2]]))


def area_gradient(mesh, camera, channel="mask", weight=None):
    vertices = mesh.vertices.clone().requires_grad_()
    image = getattr(D.render(replace(mesh, vertices=vertices), camera, **TORCH), channel)
    return torch.autograd.grad((image if weight is None else image * weight).sum(), vertices)[0]


# ---------------------------------------------------------------- inside a face


@dtypes
@pytest.mark.parametrize("level", [1, 5])  # fewer and more faces than pixels
def test_meet_agrees_with_the_rasteriser(level, dtype):
    mesh, camera = toy.icosphere(level).to(dtype), orbit(0.4, 0.3, 2.5, size=(40, 50)).to(dtype)
    image = D.render(mesh, camera, **TORCH)
    weights, depth = perspective_barycentrics(mesh, camera, image.face)
    tolerance = 2e-3 if dtype == torch.float32 else 1e-9
    assert_close(image.barycentrics, weights, atol=tolerance)
    assert_close(image.depth, depth, atol=tolerance)


@pytest.mark.parametrize("repeat", [1, 3])  # gathered for each ray, or for each face
def test_meet_gradient(repeat):
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(4, 3, generator=generator, dtype=torch.float64) - 0.5 + torch.tensor([0.0, 0.0, 2.0])
    rays = torch.tensor([[0.05, 0.02, 1.0], [-0.03, 0.01, 1.0], [0.0, 0.1, 1.0]], dtype=torch.float64)[:repeat]
    faces, face = torch.tensor([[0, 1, 2], [0, 2, 3]]), torch.tensor([1, 0, 1])[:repeat]
    assert_grad(lambda p, r: D.meet(p, r, faces, face), points, rays)


def test_mix_is_interpolation_with_its_gradient():
    generator = torch.Generator().manual_seed(1)
    values, weights = (torch.rand(*s, generator=generator, dtype=torch.float64) for s in ((6, 4), (5, 3)))
    corners = torch.randint(6, (5, 3), generator=generator)
    assert_close(D.mix(values, weights, corners), (values[corners] * weights[..., None]).sum(1))
    assert_grad(lambda v, w: D.mix(v, w, corners), values, weights)
    assert D.mix(values, weights[:0], corners[:0]).shape == (0, 4)


# ---------------------------------------------------------------- edges


def brute_edges(faces):
    found = Counter()
    for face in faces.tolist():
        for k in range(3):
            found[tuple(sorted((face[k], face[(k + 1) % 3])))] += 1
    return found


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000))
def test_edges_and_silhouettes_by_brute_force(seed):
    generator = torch.Generator().manual_seed(seed)
    faces = torch.stack([torch.randperm(6, generator=generator)[:3] for _ in range(9)])  # many faces share an edge
    points = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    topology = D.edges(faces)
    counts = {tuple(e): int(n) for e, n in zip(topology.ends.tolist(), topology.start.diff())}
    assert counts == brute_edges(faces)
    a, b, c = points[faces].unbind(1)
    turn = torch.linalg.det(torch.stack([a, b, c], 1)).sign().to(torch.int8)
    found, side = D.silhouettes(topology, turn)
    expected = {}
    for x, y in counts:
        others = [next(v for v in f if v not in (x, y)) for f in faces.tolist() if x in f and y in f]
        signs = {float(torch.linalg.det(points[[x, y, o]]).sign()) for o in others}
        if len(signs) == 1:
            expected[x, y] = signs.pop()
    assert {tuple(e): float(s) for e, s in zip(topology.ends[found].tolist(), side)} == expected


def test_edges_are_kept_and_forgotten():
    faces = toy.cube_mesh().faces
    first = D.edges(faces)
    assert D.edges(faces) is first and D.edges(faces.clone()) is not first
    faces[0] = faces[0].flip(0)  # changed in place: another version
    assert D.edges(faces) is not first
    many = [faces.clone() for _ in range(20)]
    for f in many:
        D.edges(f)
    assert len(D._kept) <= 8
    del many, f
    gc.collect()
    assert len(D.edges(toy.icosphere(0).faces).ends) == 30


# ---------------------------------------------------------------- silhouettes by closed forms


@dtypes
@pytest.mark.parametrize("level", [3, 5])
@pytest.mark.parametrize("size", [32, 128])
def test_growth_of_a_ball_at_every_tessellation(level, size, dtype):
    camera, scale = orbit(0.3, 0.2, 2.5, size=(size, size), fov=math.pi / 3).to(dtype), torch.ones((), dtype=dtype, requires_grad=True)
    ball = toy.icosphere(level).to(dtype)
    image = D.render(replace(ball, vertices=ball.vertices * scale), camera, **TORCH)
    truth = 2 * math.pi * float(camera.K[0, 0]) ** 2 * 2.5**2 / (2.5**2 - 1) ** 2
    assert_close(torch.autograd.grad(image.mask.sum(), scale)[0], truth, rtol=0.012 if level == 3 else 2e-3)


@dtypes
@pytest.mark.parametrize("turn", [0.0, 0.3, math.pi / 4])
def test_each_vertex_of_a_triangle(turn, dtype):
    corners = torch.tensor([[-0.31, -0.22], [0.4, -0.1], [0.05, 0.37]], dtype=dtype)
    c, s = math.cos(turn), math.sin(turn)
    corners = corners @ torch.tensor([[c, s], [-s, c]], dtype=dtype)
    mesh, camera = Mesh(F.pad(corners, (0, 1), value=1.0), [[0, 1, 2]]), pinhole(dtype=dtype)
    a, b, c = corners
    sign = 1.0 if (b - a)[0] * (c - a)[1] - (b - a)[1] * (c - a)[0] > 0 else -1.0
    ahead, behind = corners.roll(-1, 0), corners.roll(1, 0)
    flat = sign * 0.5 * torch.stack([(ahead - behind)[:, 1], -(ahead - behind)[:, 0]], 1) * 2500  # d area / d corner, pixels a metre
    expected = torch.cat([flat, -(flat * corners).sum(1, keepdim=True)], 1)  # nearer is larger
    assert_close(area_gradient(mesh, camera), expected, rtol=1e-3, atol=1e-2 * float(flat.abs().max()) / 10)


def test_area_of_the_antialiased_mask():
    camera, errors = pinhole(128, 100.0), []
    for k in range(20):
        c, s = math.cos(0.1 + 0.07 * k), math.sin(0.1 + 0.07 * k)
        square = quad(-0.3, -0.3, 0.3, 0.3, 1.0)
        R = torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1]], dtype=torch.float64)
        image = D.render(replace(square, vertices=square.vertices @ R.T), camera, **TORCH)
        errors.append(abs(float(image.mask.sum()) - 3600))
        assert float(image.mask.min()) > -0.1 and float(image.mask.max()) < 1.1
    assert max(errors) < 6 and sum(errors) / 20 < 2  # pixels, of an outline of 240


def test_something_thinner_than_a_pixel():
    """A strip between two columns of pixel centres is seen by no pixel, and yet has an area and a gradient."""
    camera = pinhole(64, 50.0)
    strip = quad(0.611 / 50, -0.4, 0.811 / 50, 0.4, 1.0)
    assert not bool((rasterize(strip, camera, backend="torch").face >= 0).any())
    assert_close(D.render(strip, camera, **TORCH).mask.sum(), 0.2 * 40, rtol=0.05)
    gradient = area_gradient(strip, camera)
    assert_close(gradient[[1, 2], 0].sum(), 40 * 50.0, rtol=1e-6)
    assert_close(gradient[[0, 3], 0].sum(), -40 * 50.0, rtol=1e-6)


def test_orientation_does_not_matter():
    mesh, camera = white(toy.icosphere(2).to(torch.float64)), orbit(0.3, torch.tensor(0.2, dtype=torch.float64), 2.5, size=(64, 64))
    wild = replace(mesh, faces=torch.where((torch.arange(len(mesh.faces)) % 3 == 0)[:, None], mesh.faces.flip(1), mesh.faces))
    assert_close(area_gradient(wild, camera), area_gradient(mesh, camera))


def test_near_plane_like_a_cut_by_hand():
    camera = pinhole(64, 50.0, near=0.5)
    floor = Mesh(torch.tensor([[-0.2, 0.2, -1.0], [0.2, 0.2, -1.0], [0.0, 0.2, 2.0]], dtype=torch.float64), [[0, 1, 2]])
    image = D.render(floor, camera, **TORCH)
    share = 0.5  # at z = 0.5 the triangle is half as wide as at z = -1
    cut = Mesh(torch.tensor([[-0.2 * share, 0.2, 0.5], [0.2 * share, 0.2, 0.5], [0.0, 0.2, 2.0]], dtype=torch.float64), [[0, 1, 2]])
    assert_close(image.mask, D.render(cut, replace(camera, near=0.4), **TORCH).mask, atol=1e-9)
    found, by_hand = area_gradient(floor, camera), area_gradient(cut, replace(camera, near=0.4))
    # a far corner's shift moves the cut corners by their share; shifts of all in y move the whole triangle
    assert_close(found[:, 0].sum(), by_hand[:, 0].sum(), atol=1e-6)
    assert_close(found[:2, 1].sum() + found[2, 1], by_hand[:, 1].sum(), rtol=1e-6)
    assert_close(found[0, 0], share * by_hand[0, 0], rtol=1e-6)


def test_a_box_on_a_floor_has_an_outline_where_it_stands():
    camera = pinhole(64, 50.0)
    floor = quad(-2, -2, 2, 2, 2.0)
    box = Mesh(torch.tensor([[-0.3, -0.3, 2.0], [0.3, -0.3, 2.0], [0.3, 0.3, 1.5], [-0.3, 0.3, 1.5]], dtype=torch.float64), floor.faces)
    colors = [torch.zeros(4, 3, dtype=torch.float64), torch.ones(4, 3, dtype=torch.float64)]
    pair = join([replace(floor, colors=colors[0]), replace(box, colors=colors[1])])
    gradient = area_gradient(pair, camera, "color")[4:]
    alone = area_gradient(replace(box, colors=colors[1]), camera, "color")
    assert_close(gradient, alone, rtol=1e-6, atol=1e-6)  # the upper edge touches the floor


def test_hidden_silhouettes_count_for_nothing_and_partly_hidden_ones_in_part():
    camera = pinhole(64, 50.0)
    behind, before = white(quad(-0.2, -0.213, 0.2, 0.213, 1.6)), quad(-0.5, -0.5, 0.5, 0.5, 1.0)
    before = replace(before, colors=torch.zeros_like(before.vertices))
    assert float(area_gradient(join([behind, before]), camera, "color").abs().max()) == 0
    half = replace(before, vertices=before.vertices + torch.tensor([0.5, 0.0, 0.0], dtype=torch.float64))  # covers x > 0
    gradient = area_gradient(join([behind, half]), camera, "color")[:, 0] / 3
    rows = 0.426 / 1.6 * 50  # of the square behind
    assert_close(gradient[[0, 3]].sum(), -rows * 50 / 1.6, rtol=1e-6)  # the left edge
    assert_close(gradient[[1, 2]].sum(), 0.0, atol=1e-9)  # the right edge is hidden
    assert_close(gradient[[4, 7]].sum(), rows * 50.0, rtol=0.003)  # the occluder's edge uncovers these rows, found to 1/64 at each end


@pytest.mark.parametrize("level", [2, 4])
def test_what_is_shown_at_any_place_by_brute_force(level):
    mesh = join([toy.icosphere(level), toy.cube_mesh(0.7)]).to(torch.float64)
    mesh = replace(mesh, vertices=mesh.vertices + torch.tensor([0.3, 0.1, 2.0], dtype=torch.float64))
    camera = pinhole(48, 40.0, near=1.4)  # the near plane cuts into the ball
    place = 48 * torch.rand(200, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found, weights, depth = D._shown(mesh.vertices, mesh.faces, D._boxes(mesh.vertices, mesh.faces, camera), camera, place)
    rays = F.pad(place, (0, 1), value=1.0) @ torch.linalg.inv(camera.K).T
    count = len(mesh.faces)
    b, z = D._meet(D._planes(mesh.triangles).repeat(len(rays), 1), rays.repeat_interleave(count, 0))
    z = z.where((b >= 0).all(1) & (z > camera.near), torch.inf).view(len(rays), count)
    assert_close(depth, z.amin(1))
    hit = found >= 0
    assert torch.equal(hit, z.amin(1).isfinite()) and bool(hit.any()) and not bool(hit.all())
    assert_close((weights[hit][..., None] * mesh.triangles[found[hit]]).sum(1), rays[hit] * depth[hit, None], atol=1e-9)


def test_creases_move_what_they_separate():
    """Two faces of one plane, black and white: the border between them has a gradient though the surface has no end there."""
    camera = pinhole(64, 50.0)
    vertices = torch.tensor([[-1.0, -1, 1], [0.013, -1, 1], [1, -1, 1], [1, 1, 1], [0.013, 1, 1], [-1, 1, 1]], dtype=torch.float64)
    faces = torch.tensor([[0, 4, 1], [0, 5, 4], [1, 4, 3], [1, 3, 2]])
    paint = torch.tensor([[1.0, 1, 1], [1, 1, 1], [0, 0, 0], [0, 0, 0]], dtype=torch.float64)
    mesh = Mesh(vertices, faces, face_colors=paint)
    assert int(D.creases(mesh).sum()) == 1 and D.creases(replace(mesh, face_colors=None)) is None
    assert int(D.creases(Mesh(vertices, faces), flat=True).sum()) == 0
    assert int(D.creases(toy.cube_mesh(), flat=True).sum()) == 12
    image = D.render(mesh, camera, **TORCH)
    assert_close(image.color[..., 0].sum(), 64 * (32 + 0.65), rtol=1e-6)
    assert_close(area_gradient(mesh, camera, "color")[[1, 4], 0].sum(), 3 * 64 * 50.0, rtol=1e-6)
    assert_close(area_gradient(mesh, camera), torch.zeros_like(vertices), atol=1e-9)  # the mask knows nothing of it


def test_seams_of_a_texture_are_creases():
    cube = toy.textured_cube()
    assert int(D.creases(cube).sum()) == 12
    tiled = replace(cube, uv=cube.uv + torch.randint(3, (12, 1, 2), generator=torch.Generator().manual_seed(0)))  # the same texels
    assert int(D.creases(tiled).sum()) == 12
    plain = Mesh(cube.vertices, cube.faces, uv=torch.zeros(12, 3, 2), textures=(torch.ones(2, 2, 3),))
    assert int(D.creases(plain).sum()) == 0


# ---------------------------------------------------------------- the call


@dtypes
def test_image_agrees_with_the_rasteriser(dtype):
    scene, camera = toy.scene().to(dtype), orbit(0.4, 0.4, 3.0, size=(48, 64)).to(dtype)
    image, seen = D.render(scene, camera, (shading.Ambient(0.3), shading.Directional((1.0, 1, 1))), **TORCH), rasterize(scene, camera, "torch")
    assert torch.equal(image.face, seen.face)
    assert torch.equal(image.object, torch.where(seen.mask, scene.objects[seen.face], -1))
    assert_close(image.depth, seen.depth, atol=1e-4)
    assert image.color.shape == image.normal.shape == image.albedo.shape == (48, 64, 3)
    assert {x.dtype for x in (image.color, image.mask, image.depth, image.normal, image.albedo)} == {dtype}
    away = (image.normal * camera.rays()[1]).sum(-1)[seen.mask]
    assert_close(image.normal.norm(dim=-1), seen.mask.to(dtype), atol=1e-5)
    assert float((away < 0.2).double().mean()) > 0.99  # towards the camera, but for interpolated ones at the rim
    hard = D.render(scene, camera, antialias=False, **TORCH)
    assert_close(hard.color, hard.albedo)
    assert torch.equal(hard.mask, seen.mask.to(dtype))


def test_backgrounds():
    camera = orbit(size=(20, 24))
    ball = white(toy.icosphere(1, 0.2))
    corner = [D.render(ball, camera, background=b, **TORCH).color[0, 0] for b in (0.25, (0.1, 0.2, 0.3), torch.full((20, 24, 3), 0.5))]
    assert_close(torch.stack(corner), torch.tensor([[0.25] * 3, [0.1, 0.2, 0.3], [0.5] * 3]))
    sky = shading.Environment(torch.full((4, 8, 3), 0.5), strength=0.5)
    assert_close(D.render(ball, camera, background=sky, **TORCH).color[0, 0], torch.full((3,), 0.25), atol=1e-5)
    with pytest.raises(InputError, match="background"):
        D.render(ball, camera, background=torch.zeros(3, 5), **TORCH)


@pytest.mark.parametrize("kind", ["nothing", "behind", "no area"])
def test_pictures_of_nothing(kind):
    mesh = {
        "nothing": Mesh(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64)),
        "behind": Mesh(toy.icosphere(1).vertices + torch.tensor([0.0, 0, 50]), toy.icosphere(1).faces),
        "no area": Mesh(torch.zeros(3, 3), [[0, 1, 2]]),
    }[kind]
    vertices = mesh.vertices.clone().requires_grad_()
    image = D.render(replace(white(mesh), vertices=vertices), orbit(size=(16, 16)), shading.Ambient(1.0), background=0.3, **TORCH)
    assert_close(image.color, torch.full((16, 16, 3), 0.3))
    assert float(image.mask.detach().sum()) == 0 and float(image.normal.detach().abs().sum()) == 0
    gradient = torch.autograd.grad(image.color.sum() + image.depth.sum(), vertices, allow_unused=True)[0]
    assert gradient is None or float(gradient.abs().sum()) == 0


def test_gradients_reach_every_input():
    generator = torch.Generator().manual_seed(0)
    cube = toy.textured_cube(0.9).to(torch.float64)
    T = poses.exp(torch.tensor([0.0, 0, 0, 0.4, 0.6, 0.1], dtype=torch.float64))
    texture = F.avg_pool2d(cube.textures[0].permute(2, 0, 1)[None], 8)[0].permute(1, 2, 0)
    base = orbit(0.2, torch.tensor(0.3, dtype=torch.float64), 2.5, size=(48, 48), fov=0.6)
    weight = torch.rand(48, 48, 3, generator=generator, dtype=torch.float64)
    weight = F.avg_pool2d(weight.permute(2, 0, 1)[None], 9, stride=1, padding=4)[0].permute(1, 2, 0)

    def total(xi, colors, lamp, back, texture=texture, over=1):
        mesh = replace(cube, vertices=cube.vertices @ T[:3, :3].T, colors=colors, textures=(texture,))
        camera = replace(base, cam_from_world=poses.exp(xi) @ base.cam_from_world).resized((48 * over, 48 * over))
        image = D.render(mesh, camera, (shading.Ambient(0.3), shading.Directional((0.5, 1.0, 0.8), lamp)), background=back, **TORCH).color
        return (F.avg_pool2d(image.permute(2, 0, 1)[None], over)[0].permute(1, 2, 0) * weight).sum()

    zero, colors = torch.zeros(6, dtype=torch.float64), 0.2 + 0.8 * torch.rand(8, 3, generator=generator, dtype=torch.float64)
    lamp, back = torch.tensor([0.8, 0.7, 0.6], dtype=torch.float64), torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    assert_grad(lambda c, l, b: total(zero, c, l, b), colors, lamp, back)
    assert_grad(lambda x: total(zero, colors, lamp, back, x), texture[:2, :2].expand(2, 2, 3).contiguous())
    xi = zero.clone().requires_grad_()
    found = torch.autograd.grad(total(xi, colors, lamp, back), xi)[0]
    along, step = found / found.norm(), 2e-3
    with torch.no_grad():
        ends = [total(s * step * along, colors, lamp, back, over=4) for s in (1, -1)]
    assert_close(found.norm(), (ends[0] - ends[1]) / (2 * step), rtol=0.02)


# ---------------------------------------------------------------- the other rules


def ball_growth(rule, level, size=96):
    camera, scale = orbit(0.3, 0.2, 2.5, size=(size, size), fov=math.pi / 3), torch.ones((), requires_grad=True)
    ball = white(toy.icosphere(level))
    moved = replace(ball, vertices=ball.vertices * scale)
    points = moved.vertices @ camera.cam_from_world[:3, :3].T + camera.cam_from_world[:3, 3]
    image = rule(moved, points, camera, rasterize(ball, camera, backend="torch"))
    return float(torch.autograd.grad(image.sum(), scale)[0]) * (2.5**2 - 1) ** 2 / (2 * math.pi * float(camera.K[0, 0]) ** 2 * 2.5**2)


def test_sobel_rule_gives_half_at_an_outline():
    for grow, expected in ((False, 0.51), (True, 1.02)):
        found = ball_growth(lambda m, p, c, s, grow=grow: D.sobel(s.mask[..., None].float(), m, c, s, grow), 3)
        assert abs(found - expected) < 0.02


def test_sobel_rule_leaves_occluded_pixels_out():
    camera = pinhole(32, 25.0)
    behind, before = quad(-2, -2, 2, 2, 2.0), quad(-0.2, -0.2, 0.2, 0.2, 1.0)
    pair = join([behind, before])
    seen = rasterize(pair, camera, backend="torch")
    image = torch.where(seen.face >= 2, 1.0, 0.0)[..., None].double()
    vertices = pair.vertices.clone().requires_grad_()
    result = D.sobel(image, replace(pair, vertices=vertices), camera, seen)
    assert torch.equal(result.detach(), image)
    gradient = torch.autograd.grad((result[..., 0] * torch.rand(32, 32, generator=torch.Generator().manual_seed(0))).sum(), vertices)[0]
    assert float(gradient[:4].abs().max()) == 0 and float(gradient[4:].abs().max()) > 0


def test_visible_antialiasing_fades_and_the_scan_does_not():
    def visible(m, p, c, s):
        return D.antialias_visible(s.mask[..., None].float(), p, m.faces, c, s)

    assert ball_growth(visible, 2) > 0.3 and ball_growth(visible, 5) < 0.1
    triangle = Mesh(torch.tensor([[-0.31, -0.22, 1.0], [0.4, -0.1, 1.0], [0.05, 0.37, 1.0]], dtype=torch.float64), [[0, 1, 2]])
    camera = pinhole()
    vertices = triangle.vertices.clone().requires_grad_()
    seen = rasterize(triangle, camera, backend="torch")
    image = D.antialias_visible(seen.mask[..., None].double(), vertices, triangle.faces, camera, seen)
    assert_close(torch.autograd.grad(image.sum(), vertices)[0], area_gradient(triangle, camera), atol=60.0)  # of 1,000


def test_soft_silhouettes():
    found = ball_growth(lambda m, p, c, s: D.soft_silhouette(p, m.faces, c, 1.0), 1, size=32)
    assert 0.8 < found < 1.1
    with pytest.raises(InputError, match="near plane"):
        D.soft_silhouette(torch.zeros(3, 3), torch.tensor([[0, 1, 2]]), pinhole(8, dtype=torch.float32))


def test_diffusion_keeps_constants_and_smooths():
    mesh = toy.icosphere(2).to(torch.float64)
    factor = D.diffusion(mesh.faces, len(mesh.vertices), 10.0, like=mesh.vertices)
    one = torch.ones(len(mesh.vertices), 1, dtype=torch.float64)
    assert_close(torch.cholesky_solve(one, factor), one)
    spike = torch.zeros_like(one)
    spike[5] = 1
    spread = torch.cholesky_solve(spike, factor)
    assert_close(spread.sum(), 1.0)
    assert float(spread.min()) > 0 and float(spread.max()) < 0.2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@dtypes
def test_cuda_agrees(dtype):
    results = []
    for place in ("cpu", "cuda"):
        scene, camera = toy.scene().to(place, dtype), orbit(0.4, 0.4, 3.0, size=(64, 64)).to(place, dtype)
        vertices = scene.vertices.clone().requires_grad_()
        image = D.render(replace(scene, vertices=vertices), camera, shading.Directional((1.0, 1, 1)), background=0.2, **TORCH)
        v = torch.linspace(0, 1, 64, device=place, dtype=dtype)[:, None, None]
        results.append((image.color.detach().cpu(), torch.autograd.grad((image.color * v).sum() + image.mask.sum(), vertices)[0].cpu()))
    assert float(((results[0][0] - results[1][0]).abs() > 1e-3).double().mean()) < 1e-3
    assert float((results[0][1] - results[1][1]).norm() / results[0][1].norm()) < 1e-2
