"""Shading: closed forms of lamps and skies, slow twins of the environment's light, textures, gradients, refusals."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from densebook.core.errors import InputError
from densebook.data import toy
from densebook.geometry import poses
from densebook.geometry.mesh import Mesh, face_normals
from densebook.render.cameras import Camera, intrinsics, look_at, sample_environment, sample_texture, uv_to_directions
from densebook.render.rasterizer import rasterize
from densebook.render.shading import (
    Ambient,
    Directional,
    Environment,
    Point,
    albedo,
    blinn_phong,
    convolve,
    extract_lamps,
    irradiance,
    irradiance_map,
    mip_pyramid,
    prefilter,
    sample_mips,
    sh_basis,
    sh_project,
    shade,
    texture_footprint,
)
from densebook.testing import assert_close, assert_grad

dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
few = settings(max_examples=15, deadline=None)
EYE = (0.0, 0.0, 5.0)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def directions(count, seed=0, dtype=torch.float64):
    return F.normalize(torch.randn(count, 3, generator=rng(seed), dtype=dtype), dim=1)


def texels(height, width, dtype=torch.float64):
    """Directions and solid angles of an environment map's texels, written down a second time."""
    rows, columns = (torch.arange(n, dtype=torch.float64) + 0.5 for n in (height, width))
    v, u = torch.meshgrid(1 - rows / height, columns / width, indexing="ij")
    top = torch.arange(height, dtype=torch.float64) * math.pi / height
    area = (top.cos() - (top + math.pi / height).cos()) * 2 * math.pi / width
    return uv_to_directions(torch.stack([u, v], -1).to(dtype)), area[:, None].expand(height, width).to(dtype)


def brute(environment, normals):
    """Irradiance by the sum over all texels."""
    toward, area = texels(*environment.shape[:2], environment.dtype)
    return (normals @ toward.reshape(-1, 3).T).clamp_min(0) @ (environment * area[..., None]).reshape(-1, 3)


def lit(normals, lights, **options):
    """White points at the origin."""
    return shade(torch.ones_like(normals), normals, torch.zeros_like(normals), EYE, lights, **options)


# Lamps


@dtypes
def test_directional_is_the_cosine_and_facing_white_shows_the_colour(dtype):
    angle = torch.linspace(0, math.pi, 19, dtype=dtype)
    normals = torch.stack([angle.sin(), torch.zeros_like(angle), angle.cos()], 1)
    found = lit(normals, Directional((0.0, 0.0, 7.0), (0.5, 1.0, 2.0)))
    assert found.dtype == dtype
    assert_close(found, angle.cos().clamp_min(0)[:, None] * angle.new_tensor([0.5, 1.0, 2.0]), atol=1e-6)


def test_white_ball_sends_back_what_it_catches_and_shows_the_phases_of_the_moon():
    ball = toy.icosphere(5).to(torch.float64)
    a, b, c = ball.triangles.unbind(1)
    area, normals = 0.5 * torch.linalg.cross(b - a, c - a).norm(dim=1), face_normals(ball)
    sent = shade(torch.ones_like(a), normals, a, EYE, Directional((1.0, 2.0, -0.5), 1.0))[:, 0] * area
    assert abs(math.pi * float(sent.sum()) / math.pi**2 - 1) < 5e-4
    sun = F.normalize(torch.tensor([1.0, 2.0, -0.5], dtype=torch.float64), dim=0)
    aside = F.normalize(torch.linalg.cross(sun, torch.tensor([0.0, 0.0, 1.0]).double()), dim=0)
    for phase in (0.0, 0.7, math.pi / 2, 2.5):
        toward = math.cos(phase) * sun + math.sin(phase) * aside
        seen = float(((normals @ toward).clamp_min(0) * sent).sum())
        assert abs(seen - 2 / 3 * (math.sin(phase) + (math.pi - phase) * math.cos(phase))) < 2e-3


@dtypes
def test_point_lamp_over_a_floor(dtype):
    x = torch.linspace(-5, 5, 21, dtype=dtype)
    floor = torch.stack([x, torch.zeros_like(x), torch.zeros_like(x)], 1)
    up = floor.new_tensor([0.0, 1.0, 0.0]).expand_as(floor)
    for height in (0.5, 2.0):
        found = shade(torch.ones_like(floor), up, floor, EYE, Point((0.0, height, 0.0), 3.0))
        assert_close(found[:, 0], 3 * height / (height**2 + x**2) ** 1.5, rtol=1e-5)


@few
@given(st.integers(0, 10**6))
def test_light_is_linear(seed):
    draw = rng(seed)
    color, normals, points = (torch.rand(7, 3, generator=draw, dtype=torch.float64) for _ in range(3))
    normals = normals - 0.5
    a, b = (torch.rand(3, generator=draw, dtype=torch.float64) for _ in range(2))
    one, two, three = Directional(a - 0.5, b), Point(a + 2, b), Environment(torch.rand(8, 16, 3, generator=draw, dtype=torch.float64))
    options = {"specular": 0.2, "shininess": 10.0}
    parts = [shade(color, normals, points, EYE, light, **options) for light in (one, two, three)]
    assert_close(shade(color, normals, points, EYE, [one, two, three], **options), sum(parts))
    assert_close(shade(color, normals, points, EYE, replace(one, color=3 * b), **options), 3 * parts[0])
    assert_close(shade(color, normals, points, EYE, replace(three, strength=3.0), **options), 3 * parts[2])
    dull = shade(color, normals, points, EYE, one)
    assert_close(shade(color / 2, normals, points, EYE, one), dull / 2)
    assert_close(shade(color, 5 * normals, points, EYE, one), dull)


@few
@given(st.integers(0, 10**6))
def test_turning_everything_changes_nothing(seed):
    draw = rng(seed)
    T = poses.exp(torch.randn(6, generator=draw, dtype=torch.float64))
    R = T[:3, :3]
    color, normals, points = (torch.rand(9, 3, generator=draw, dtype=torch.float64) for _ in range(3))
    eye, toward, place = (torch.randn(3, generator=draw, dtype=torch.float64) * 2 for _ in range(3))
    normals = normals - 0.5
    before = shade(color, normals, points, eye, [Directional(toward, 1.0), Point(place, 0.5)], specular=0.3)
    eye, place = poses.transform(T, torch.stack([eye, place]))
    moved = [Directional(R @ toward, 1.0), Point(place, 0.5)]
    after = shade(color, normals @ R.T, poses.transform(T, points), eye, moved, specular=0.3)
    assert_close(after, before, rtol=1e-7, atol=1e-9)


@dtypes
@pytest.mark.parametrize("harmonics", [False, True])
def test_a_constant_environment_is_ambient_light(dtype, harmonics):
    normals = directions(50, dtype=dtype)
    sky = Environment(torch.full((64, 128, 3), 2.0, dtype=dtype), strength=0.25, harmonics=harmonics)
    for options in ({}, {"specular": 0.4, "shininess": 30.0}):
        assert_close(lit(normals, sky, **options), lit(normals, Ambient(0.5), **options), rtol=0, atol=5e-4)
    assert_close(lit(normals, Ambient((0.1, 0.2, 0.3))), normals.new_tensor([0.1, 0.2, 0.3]).expand_as(normals))


def test_batches_of_any_shape_and_none():
    normals, lights = directions(12), [Directional((0.0, 1.0, 1.0), 1.0), Environment(toy.environment((16, 32)))]
    flat = lit(normals, lights, specular=0.1)
    assert_close(lit(normals.reshape(3, 4, 3), lights, specular=0.1), flat.reshape(3, 4, 3))
    assert lit(normals[:0], lights, specular=0.1).shape == (0, 3)
    assert_close(lit(normals, []), torch.zeros_like(normals))


# Highlights


def sky_nodes(count=200):
    """Directions of the upper hemisphere (about z) and their solid angles; midpoints in azimuth, Gauss in the cosine."""
    import numpy as np

    nodes, weights = (torch.from_numpy(v) for v in np.polynomial.legendre.leggauss(count))
    z, turn = torch.meshgrid(nodes / 2 + 0.5, (torch.arange(count) + 0.5).double() * 2 * math.pi / count, indexing="ij")
    toward = torch.stack([(1 - z * z).sqrt() * turn.cos(), (1 - z * z).sqrt() * turn.sin(), z], -1)
    return toward, (weights[:, None] * math.pi / count).expand_as(z)


@pytest.mark.parametrize("shininess", [0.0, 1.0, 10.0, 32.0, 300.0])
def test_highlight_sends_back_everything_straight_on_and_never_more(shininess):
    toward, area = sky_nodes()
    up = toward.new_tensor([0.0, 0.0, 1.0]).expand_as(toward)
    for degrees in (0, 20, 50, 85):
        view = toward.new_tensor([math.sin(math.radians(degrees)), 0.0, math.cos(math.radians(degrees))]).expand_as(toward)
        share = float((blinn_phong(up, view, toward, shininess)[..., 0] * area).sum() / math.pi)
        assert share <= 1 + 1e-6
        if degrees == 0:
            assert abs(share - 1) < 1e-6


def test_highlight_is_brightest_near_the_mirror_direction_and_absent_behind():
    toward, _ = sky_nodes(100)
    up, view = toward.new_tensor([0.0, 0.0, 1.0]), F.normalize(toward.new_tensor([0.5, 0.0, 1.0]), dim=0)
    lobe = blinn_phong(up.expand_as(toward), view.expand_as(toward), toward, 500.0)[..., 0]
    best = toward.reshape(-1, 3)[lobe.argmax()]
    assert float(best @ (view * view.new_tensor([-1.0, -1.0, 1.0]))) > math.cos(math.radians(3))
    assert (blinn_phong(up.expand_as(toward), view.expand_as(toward), -toward, 4.0) == 0).all()


# Environments


def test_harmonics_obey_the_addition_theorem():
    a, b = directions(40, 1), directions(40, 2)
    cosine, parts = (a * b).sum(1), sh_basis(a) * sh_basis(b)
    legendre = (torch.ones_like(cosine), cosine, (3 * cosine**2 - 1) / 2)
    for degree, (low, high) in enumerate(((0, 1), (1, 4), (4, 9))):
        assert_close(parts[:, low:high].sum(1), (2 * degree + 1) / (4 * math.pi) * legendre[degree])


def test_harmonics_come_in_the_order_that_the_docstring_says():
    x, y, z = directions(10).unbind(1)
    signs = sh_basis(torch.stack([x, y, z], 1)).sign()
    assert torch.equal(signs[:, 1:], torch.stack([y, z, x, x * y, y * z, 3 * z * z - 1, x * z, x * x - y * y], 1).sign())


def test_harmonics_are_orthonormal():
    toward, area = texels(128, 256)
    basis = sh_basis(toward).reshape(-1, 9)
    assert_close(basis.T @ (basis * area.reshape(-1, 1)), torch.eye(9, dtype=torch.float64), rtol=0, atol=2e-4)


def test_irradiance_of_a_gradient_and_of_half_a_sky():
    toward, _ = texels(128, 256)
    axis, normals = F.normalize(torch.tensor([1.0, -2.0, 0.5]).double(), dim=0), directions(60)
    slope = (1 + toward @ axis)[..., None].expand(-1, -1, 3)
    half = (toward[..., 1:2] > 0).double().expand(-1, -1, 3)
    for environment, closed in ((slope, math.pi + 2 * math.pi / 3 * normals @ axis), (half, math.pi * (1 + normals[:, 1]) / 2)):
        assert_close(irradiance(sh_project(environment), normals)[:, 0], closed, rtol=0, atol=2e-3)
        assert_close(sample_environment(irradiance_map(environment), normals)[:, 0], closed, rtol=0, atol=3e-3)


def sun_map(height=65, width=130):
    """All light from one texel on the horizon towards +x, of irradiance 1 where it is overhead; and the sun's direction."""
    toward, area = texels(height, width)
    index = (toward @ toward.new_tensor([1.0, 0.0, 0.0])).argmax()
    environment = torch.zeros(height * width, 3, dtype=torch.float64)
    environment[index] = 1 / area.reshape(-1)[index]
    return environment.reshape(height, width, 3), toward.reshape(-1, 3)[index]


def test_nine_harmonics_of_a_sun_ring_as_predicted_and_windowing_damps_them():
    environment, sun = sun_map()
    normals = directions(200)
    c = normals @ sun
    coefficients = sh_project(environment)
    assert_close(irradiance(coefficients, normals)[:, 0], 0.25 + c / 2 + 5 / 32 * (3 * c * c - 1))
    damped = 0.25 + c / 2 / (1 + 4 * 0.1) + 5 / 32 * (3 * c * c - 1) / (1 + 36 * 0.1)
    assert_close(irradiance(coefficients, normals, window=0.1)[:, 0], damped)
    assert irradiance(coefficients, normals).min() < -0.03
    assert lit(normals, Environment(environment, harmonics=True)).min() == 0
    assert_close(lit(normals, Environment(environment))[:, 0] * math.pi, c.clamp_min(0), rtol=0, atol=0.06)


@dtypes
@pytest.mark.parametrize("size", [(12, 24), (9, 14), (32, 64)])
def test_convolution_is_the_sum_over_all_texels(size, dtype):
    environment = torch.rand(*size, 3, generator=rng(), dtype=dtype)
    toward, area = (v.reshape(-1, *v.shape[2:]) for v in texels(*size, dtype))

    def lobe(cosine):
        return (1 + cosine) ** 3

    found, weight = convolve(environment, lobe, rows=64)
    kernel = lobe(toward @ toward.T) * area
    assert_close(found.reshape(-1, 3), kernel @ environment.reshape(-1, 3), rtol=1e-4 if dtype == torch.float32 else 1e-9)
    assert_close(weight, kernel.sum(1).reshape(size)[:, 0], rtol=1e-4 if dtype == torch.float32 else 1e-9)


def test_both_ways_of_diffuse_light_against_brute_force():
    environment, normals = toy.environment((128, 256)).double(), directions(200)
    true = brute(environment, normals)
    nine = (irradiance(sh_project(environment), normals) - true).abs() / true.mean()
    convolved = (sample_environment(irradiance_map(environment), normals) - true).abs() / true.mean()
    assert 0.01 < nine.mean() < 0.05, "the toy sun is too sharp for nine harmonics"
    assert convolved.mean() < 1e-3 and convolved.max() < 1e-2
    assert_close(lit(normals, Environment(environment)) * math.pi, sample_environment(irradiance_map(environment), normals))


def test_a_turned_map_lights_turned_normals():
    environment, normals = toy.environment((32, 64)).double(), directions(30)
    angle = torch.tensor(2 * math.pi * 5 / 64, dtype=torch.float64)  # five columns to the right: from -z towards +x
    R = torch.eye(3, dtype=torch.float64)
    R[0, 0] = R[2, 2] = angle.cos()
    R[0, 2], R[2, 0] = -angle.sin(), angle.sin()
    for harmonics in (False, True):
        before = shade(torch.ones_like(normals), normals, 0 * normals, EYE, Environment(environment, harmonics=harmonics), 0.2)
        eye = R @ normals.new_tensor(EYE)
        turned = Environment(environment.roll(5, 1), harmonics=harmonics)
        assert_close(shade(torch.ones_like(normals), normals @ R.T, 0 * normals, eye, turned, 0.2), before, rtol=1e-6)


def test_prefilter_limits():
    environment = toy.environment((64, 128)).double()
    assert_close(prefilter(torch.full_like(environment, 3.0), 50.0), torch.full((32, 64, 3), 3.0, dtype=torch.float64))
    assert_close(prefilter(environment, 0.0) * math.pi, irradiance_map(environment, 32))
    assert_close(irradiance_map(torch.full_like(environment, 3.0)), torch.full((64, 128, 3), 3 * math.pi, dtype=torch.float64))
    toward, _ = texels(64, 128)
    smooth = (1 + 0.5 * toward).double()
    sharp = prefilter(smooth, 1e6)
    assert_close(sample_environment(sharp, directions(20)), 1 + 0.5 * directions(20), rtol=0, atol=5e-3)


@pytest.mark.parametrize("shininess", [4.0, 40.0])
def test_prefiltered_map_is_the_integral_of_the_highlight_straight_on(shininess):
    environment = F.avg_pool2d(toy.environment((128, 256)).double().permute(2, 0, 1)[None], 4)[0].permute(1, 2, 0).contiguous()
    toward, area = texels(*environment.shape[:2])
    for n in directions(8):
        straight = n.expand_as(toward)
        lobe = blinn_phong(straight, straight, toward, shininess)[..., 0] * area
        exact = (lobe[..., None] * environment).sum((0, 1)) / math.pi
        found = shade(n.new_zeros(3), n, 0 * n, 3 * n, Environment(environment), specular=1.0, shininess=shininess)
        assert_close(found, exact, rtol=0.03)


def test_extracted_lamps_keep_the_light_and_mend_the_harmonics():
    environment, sun = sun_map(64, 128)
    environment = 20 * environment + toy.environment((64, 128)).double() * 0.2 + 0.1
    _, area = texels(64, 128)
    rest, lamps = extract_lamps(environment, count=3)
    assert len(lamps) == 2, "the sun and the toy's own sun; nothing else exceeds the limit"
    before = (environment * area[..., None]).sum((0, 1))
    assert_close((rest * area[..., None]).sum((0, 1)) + math.pi * sum(lamp.color for lamp in lamps), before)
    assert float(F.normalize(lamps[0].direction, dim=0) @ sun) > math.cos(0.01)
    normals = directions(100)
    true = brute(environment, normals) / math.pi

    def worst(lights):
        return float((lit(normals, lights) - true).abs().max() / true.mean())

    assert worst((Environment(rest, harmonics=True), *lamps)) < 0.1 * worst(Environment(environment, harmonics=True))
    assert extract_lamps(torch.ones(16, 32, 3))[1] == extract_lamps(torch.zeros(16, 32, 3))[1] == ()


def test_environment_is_prepared_once_and_again_after_a_change():
    environment, normals = torch.rand(16, 32, 3, generator=rng(), dtype=torch.float64), directions(20)
    light = Environment(environment)
    first = lit(normals, light, specular=0.1)
    assert len(light._kept) == 2 and torch.equal(lit(normals, light, specular=0.1), first) and len(light._kept) == 2
    environment.mul_(2)
    assert_close(lit(normals, light, specular=0.1), 2 * first)
    assert lit(normals.float(), light).dtype == torch.float32
    learned = environment.clone().requires_grad_()
    light = Environment(learned)
    for _ in range(2):  # a graph that was kept would be gone the second time
        lit(normals, light, specular=0.1).sum().backward()
    assert not light._kept and learned.grad.abs().sum() > 0


# Textures


def painted_mesh():
    """A blob with vertex colours, face colours, and faces with no texture or one of two of different sizes."""
    blob = toy.textured_blob(2).to(torch.float64)
    draw = rng(3)
    textures = tuple(torch.rand(*size, 3, generator=draw, dtype=torch.float64) for size in ((8, 16), (5, 3)))
    return replace(
        blob,
        colors=torch.rand(len(blob.vertices), 3, generator=draw, dtype=torch.float64),
        face_colors=torch.rand(len(blob.faces), 3, generator=draw, dtype=torch.float64),
        textures=textures,
        face_textures=torch.arange(len(blob.faces)) % 3 - 1,
    )


def test_albedo_is_the_product_of_what_is_there():
    mesh = painted_mesh()
    face = torch.randint(len(mesh.faces), (4, 10), generator=rng())
    weights = F.normalize(torch.rand(4, 10, 3, generator=rng(), dtype=torch.float64), p=1, dim=-1)
    found = albedo(mesh, face, weights)
    for i in range(4):
        for j in range(10):
            f, b = int(face[i, j]), weights[i, j]
            expected = (b @ mesh.colors[mesh.faces[f]]) * mesh.face_colors[f]
            if (which := int(mesh.face_textures[f])) >= 0:
                expected = expected * sample_texture(mesh.textures[which], b @ mesh.uv[f])
            assert_close(found[i, j], expected)
    plain = replace(mesh, colors=None, face_colors=None, textures=None, face_textures=None)
    assert (albedo(plain, face, weights) == 1).all()


def test_pyramid_keeps_the_mean_and_sampling_goes_through_its_levels():
    texture = torch.rand(16, 32, 3, generator=rng(), dtype=torch.float64)
    levels = mip_pyramid(texture)
    assert [tuple(level.shape[:2]) for level in levels] == [(16, 32), (8, 16), (4, 8), (2, 4), (1, 2), (1, 1)]
    for level in levels:
        assert_close(level.mean((0, 1)), texture.mean((0, 1)))
    assert_close(levels[1][3, 5], texture[6:8, 10:12].mean((0, 1)))
    uv = torch.rand(50, 2, generator=rng(1), dtype=torch.float64)
    assert_close(sample_mips(levels, uv, torch.zeros(50)), sample_texture(texture, uv))
    assert_close(sample_mips(levels, uv, torch.full((50,), 2 / 32)), sample_texture(levels[1], uv))
    between = sample_mips(levels, uv, torch.full((50,), 2**1.5 / 32, dtype=torch.float64))
    assert_close(between, (sample_texture(levels[1], uv) + sample_texture(levels[2], uv)) / 2)
    assert_close(sample_mips(levels, uv, torch.full((50,), 9.0)), texture.mean((0, 1)).expand(50, 3))
    assert mip_pyramid(torch.rand(7, 5, 3))[-1].shape == (1, 1, 3)


def board(depth):
    """A unit square that faces a camera `depth` metres away, and the camera: 64 x 64 pixels."""
    square = Mesh(
        torch.tensor([[-0.5, -0.5, 0], [0.5, -0.5, 0], [0.5, 0.5, 0], [-0.5, 0.5, 0]], dtype=torch.float64),
        [[0, 1, 2], [0, 2, 3]],
        uv=torch.tensor([[[0.0, 0], [1, 0], [1, 1]], [[0, 0], [1, 1], [0, 1]]], dtype=torch.float64),
        textures=(toy.textured_cube().textures[0].double(),),
    )
    camera = Camera(intrinsics((64, 64), 0.8), look_at((0.0, 0.0, depth)), (64, 64)).to(torch.float64)
    return square, camera


@pytest.mark.parametrize("depth", [1.5, 6.0])
def test_footprint_of_a_board_that_faces_the_camera(depth):
    square, camera = board(depth)
    face = rasterize(square, camera, backend="torch").face
    found = texture_footprint(square, camera, face)
    assert (found[face < 0] == 0).all()
    assert_close(found[face >= 0], torch.full_like(found[face >= 0], depth / float(camera.K[0, 0])), rtol=1e-6)


def test_footprint_of_a_slanted_board_is_the_larger_step_to_a_neighbour():
    square, camera = board(2.0)
    camera = replace(camera, cam_from_world=look_at(torch.tensor([0.6, 1.2, 0.9], dtype=torch.float64)))
    fragments = rasterize(square, camera, backend="torch")
    uv = (square.uv[fragments.face.clamp_min(0)] * fragments.barycentrics[..., None]).sum(-2)
    steps = torch.stack([(uv[:-1, 1:] - uv[:-1, :-1]).norm(dim=-1), (uv[1:, :-1] - uv[:-1, :-1]).norm(dim=-1)])
    same = fragments.mask[:-1, :-1] & fragments.mask[:-1, 1:] & fragments.mask[1:, :-1]
    assert (steps[0] > 1.2 * steps[1])[same].any() or (steps[1] > 1.2 * steps[0])[same].any()
    found = texture_footprint(square, camera, fragments.face)[:-1, :-1]
    assert_close(found[same], steps.amax(0)[same], rtol=1e-6)


def test_minified_textures_need_the_pyramid():
    square, camera = board(8.0)
    fragments = rasterize(square, camera, backend="torch")
    face, weights = fragments.face[fragments.mask], fragments.barycentrics[fragments.mask]
    step = texture_footprint(square, camera, fragments.face)[fragments.mask]
    mean = square.textures[0].mean((0, 1))
    error = [(albedo(square, face, weights, s) - mean).square().mean().sqrt() for s in (None, step, 10 * step)]
    assert error[0] > 2 * error[1] > 0 and error[2] < 0.5 * error[1]


# Gradients


def test_gradients_of_everything():
    draw = rng()

    def some(*shape):
        return torch.rand(*shape, generator=draw, dtype=torch.float64)

    def f(color, normals, points, eye, direction, sun, position, lamp, ambient, environment, strength):
        lights = [Directional(direction, sun), Point(position, lamp), Ambient(ambient)]
        lights += [Environment(environment, strength), Environment(environment, strength, harmonics=True)]
        return shade(color, normals, points, eye, lights, specular=0.3, shininess=20.0)

    unit = some(3, 3) + some(3, 3)
    assert_grad(f, some(3, 3), unit, some(3, 3) - 1, some(3) + 2, some(3), some(3), some(3) + 1, some(3), some(3), some(4, 8, 3), some(1)[0])


def test_gradients_of_maps_and_textures():
    environment = torch.rand(6, 12, 3, generator=rng(), dtype=torch.float64)
    assert_grad(lambda e: prefilter(e, 10.0), environment)
    assert_grad(lambda e: (lambda rest, lamps: (rest, lamps[0].direction, lamps[0].color))(*extract_lamps(e, limit=1.2)), environment)
    mesh = painted_mesh()
    face = torch.tensor([0, 1, 2, 7])
    mesh = replace(mesh, faces=mesh.faces[face], uv=mesh.uv[face], face_colors=mesh.face_colors[face], face_textures=mesh.face_textures[face])
    weights, step = F.normalize(torch.rand(4, 3, generator=rng(), dtype=torch.float64), p=1, dim=-1), torch.tensor([0.0, 0.2, 0.4, 0.1])
    used, faces = mesh.faces.unique(return_inverse=True)
    mesh = replace(mesh, vertices=mesh.vertices[used], faces=faces, colors=mesh.colors[used])

    def f(colors, face_colors, one, two, uv, b):
        changed = replace(mesh, colors=colors, face_colors=face_colors, textures=(one, two), uv=uv)
        return albedo(changed, torch.arange(4), b), albedo(changed, torch.arange(4), b, step)

    assert_grad(f, mesh.colors, mesh.face_colors, *mesh.textures, mesh.uv, weights)


def test_gradients_stay_finite_where_light_is_cut():
    normals = torch.tensor([[0.0, 0, 1], [0, 0, -1], [1, 0, 0], [0, 0, 0]], dtype=torch.float64, requires_grad=True)
    points = torch.zeros(4, 3, dtype=torch.float64, requires_grad=True)
    lights = [Directional((0.0, 0.0, 1.0), 1.0), Point((0.0, 0.0, 0.0), 1.0), Environment(torch.ones(4, 8, 3))]
    shade(torch.ones(4, 3, dtype=torch.float64), normals, points, (0.0, 0.0, -3.0), lights, specular=0.5).sum().backward()
    assert normals.grad.isfinite().all() and points.grad.isfinite().all()


def test_the_light_of_a_picture_can_be_found():
    normals, color = directions(400), torch.rand(400, 3, generator=rng(5), dtype=torch.float64)
    normals = normals[normals[:, 2] > 0]
    color = color[: len(normals)]
    true = F.normalize(torch.tensor([-0.5, 0.9, 0.6], dtype=torch.float64), dim=0)
    picture = shade(color, normals, 0 * normals, EYE, (Directional(true, (0.9, 0.7, 0.4)), Ambient(0.1)))
    start = [[0.0, 0.2, 1.0], [0.5] * 3, [0.3] * 3]
    unknown = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in start]
    search = torch.optim.LBFGS(unknown, max_iter=60, line_search_fn="strong_wolfe")

    def misfit():
        search.zero_grad()
        loss = (shade(color, normals, 0 * normals, EYE, (Directional(*unknown[:2]), Ambient(unknown[2]))) - picture).square().mean()
        loss.backward()
        return loss

    search.step(misfit)
    assert float(F.normalize(unknown[0].detach(), dim=0) @ true) > math.cos(math.radians(0.05))
    assert_close(unknown[1].detach(), true.new_tensor([0.9, 0.7, 0.4]), atol=1e-3)


# Refusals

THREE = torch.ones(2, 3)
CALLS = {
    "one shape": lambda: shade(THREE, torch.ones(3, 3), THREE, EYE, Ambient()),
    "lights holds a str": lambda: shade(THREE, THREE, THREE, EYE, ["sun"]),
    "direction is zero": lambda: shade(THREE, THREE, THREE, EYE, Directional((0.0, 0.0, 0.0))),
    "color is": lambda: shade(THREE, THREE, THREE, EYE, Directional((0.0, 0.0, 1.0), (1.0, 2.0))),
    "position is": lambda: shade(THREE, THREE, THREE, EYE, Point((0.0, math.nan, 1.0))),
    "eye is": lambda: shade(THREE, THREE, THREE, "here", Ambient()),
    "environment map is": lambda: Environment(torch.ones(3, 8, 16)),
    "holds NaN or infinity": lambda: Environment(torch.full((8, 16, 3), math.inf)),
    "shininess is -1": lambda: shade(THREE, THREE, THREE, EYE, Ambient(), specular=0.1, shininess=-1.0),
    "window is": lambda: irradiance(torch.ones(9, 3), THREE, window=-1.0),
    "no texture coordinates": lambda: texture_footprint(toy.icosphere(0), board(2.0)[1].to(torch.float32), torch.zeros(64, 64, dtype=torch.int64)),
}


@pytest.mark.parametrize("says", CALLS)
def test_refusals_name_what_is_wrong(says):
    with pytest.raises(InputError, match=says) as caught:
        CALLS[says]()
    assert "\n" not in str(caught.value) and "; " in str(caught.value)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@dtypes
def test_cuda_agrees(dtype):
    normals, environment = directions(100, dtype=dtype), toy.environment((32, 64)).to(dtype)

    def everything(device):
        n = normals.to(device)
        rest, lamps = extract_lamps(environment.to(device))
        lights = [Environment(rest), *lamps, Point((1.0, 2.0, 3.0), 1.0), Ambient(0.1), Environment(rest, harmonics=True)]
        return shade(torch.ones_like(n), n, torch.zeros_like(n), EYE, lights, specular=0.2)

    assert_close(everything("cuda").cpu(), everything("cpu"), rtol=1e-4, atol=1e-5)
    mesh, face = painted_mesh().to(dtype), torch.arange(30)
    weights = torch.full((30, 3), 1 / 3, dtype=dtype)
    assert_close(albedo(mesh.to("cuda"), face.cuda(), weights.cuda()).cpu(), albedo(mesh, face, weights), atol=1e-5)
