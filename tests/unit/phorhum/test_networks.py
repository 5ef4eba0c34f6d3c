"""PHORHUM's networks: the log's shapes, laws of the pool, closed forms of the projection, derivatives twice, files."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from densebook.core.errors import InputError
from densebook.geometry import octree
from densebook.phorhum import networks as nets
from densebook.render import cameras
from densebook.testing import assert_close, assert_grad

quick = settings(deadline=None, max_examples=15, derandomize=True)


@pytest.fixture(params=[torch.float32, torch.float64])
def dtype(request):
    return request.param


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.rand(shape, generator=seeded(seed), dtype=dtype)


def count(module):
    return sum(p.numel() for p in module.parameters())


def small(dtype=torch.float64, seed=0, **more):
    return nets.PhorhumNet(1 / 16, 3, generator=seeded(seed), **more).to(dtype)


def camera_of(size=(16, 16), azimuth=0.4, dtype=torch.float64):
    return cameras.orbit(azimuth, 0.2, 3.0, size=size, fov=0.6).to(dtype)


# The log ------------------------------------------------------------------------------------------------------------

# kernels (height, width, in, out) and units (in, out) of the thesis's appendix
ENCODER = [(3, 64), (64, 128), (128, 256), (256, 512), (512, 512), (512, 512)]
DECODER = [(512, 512), (1024, 512), (1024, 512), (1024, 512), (768, 256), (384, 256), (320, 256)]
GEOMETRY = [(262, 512), (512, 512), (512, 512), (512, 512), (774, 512), (512, 512), (512, 512), (512, 512), (512, 4)]


@pytest.fixture(scope="module")
def paper():
    return nets.PhorhumNet(generator=seeded())


def kernel(layer):
    assert layer.bias.shape == (layer.weight.shape[0],)
    return tuple(layer.weight.permute(2, 3, 1, 0).shape) if layer.weight.ndim == 4 else tuple(layer.weight.mT.shape)


def test_every_shape_is_the_logs(paper):
    for blocks, log in ((paper.feature_net.encoder, ENCODER), (paper.feature_net.decoder, DECODER)):
        assert [kernel(b.conv_0) for b in blocks] == [(3, 3, i, o) for i, o in log]
        assert [kernel(b.conv_1) for b in blocks] == [(3, 3, o, o) for _, o in log]
    assert kernel(paper.feature_net.output) == (3, 3, 256, 256)
    assert [kernel(layer) for layer in paper.geometry_net.dense] == GEOMETRY
    assert [kernel(layer) for layer in paper.shading_net.light] == [(3, 3, 512, 128), (3, 3, 128, 64), (3, 3, 64, 32), (3, 3, 32, 16)]
    assert [kernel(layer) for layer in paper.shading_net.dense] == [(19, 256), (256, 256), (256, 256), (256, 3)]


def test_totals_are_the_logs(paper):
    assert count(paper.feature_net) == 45_833_536
    assert (count(paper.feature_net.encoder), count(paper.feature_net.decoder), count(paper.feature_net.output)) == (14_124_608, 31_118_848, 590_080)
    assert count(paper.geometry_net) == 2_109_444
    assert (count(paper.shading_net.light), count(paper.shading_net.dense)) == (686_832, 137_475)
    assert count(paper) == 48_767_287 + 1 and paper.log_k.exp().item() == pytest.approx(40)


def test_full_size_runs_and_its_features_vary(paper):
    with torch.no_grad():
        features, bottleneck = paper.feature_net(draw(1, 3, 64, 64, dtype=torch.float32))
    assert features.shape == (1, 256, 64, 64) and bottleneck.shape == (1, 512, 1, 1)
    assert 0.05 < features.std((2, 3)).mean() < 2


def test_the_weights_deviate_as_the_rules_say(paper):
    inner = paper.feature_net.encoder[4].conv_0.weight
    assert inner.std().item() == pytest.approx(math.sqrt(2 / (1 + 0.2**2) / (9 * 512)), rel=0.02)
    last = paper.shading_net.dense[1].weight
    assert last.std().item() == pytest.approx(math.sqrt(2 / 512), rel=0.03)


# Halving --------------------------------------------------------------------------------------------------------------


@quick
@given(st.integers(1, 6), st.integers(1, 6), st.sampled_from([(1, 1), (1, 2, 1), (1, 3, 3, 1), (1, 4, 6, 4, 1)]), st.integers(0, 9))
def test_pool_is_its_definition(h, w, taps, seed):
    x, total = draw(2, 2, 2 * h, 2 * w, seed=seed), sum(taps)
    before = (len(taps) - 1) // 2
    slow = torch.zeros(2, 2, h, w, dtype=x.dtype)
    for i in range(h):
        for j in range(w):
            for k, a in enumerate(taps):
                for m, b in enumerate(taps):
                    row, column = min(max(2 * i - before + k, 0), 2 * h - 1), min(max(2 * j - before + m, 0), 2 * w - 1)
                    slow[:, :, i, j] += a * b * x[:, :, row, column] / total**2
    assert_close(nets.blur_pool(x, taps), slow)


def test_pool_keeps_constants_mirrors_and_double_shifts(dtype):
    x = draw(1, 3, 16, 20, dtype=dtype)
    assert_close(nets.blur_pool(torch.full_like(x, 0.3)), torch.full((1, 3, 8, 10), 0.3, dtype=dtype))
    for axis in (-1, -2):
        assert_close(nets.blur_pool(x.flip(axis)), nets.blur_pool(x).flip(axis))
        whole, moved = nets.blur_pool(x), nets.blur_pool(x.roll(2, axis))
        assert_close(moved.narrow(axis, 2, 5), whole.narrow(axis, 1, 5))


@pytest.mark.parametrize(("taps", "drift"), [((1, 2, 1), 3.5), ((1, 3, 3, 1), 0.0), ((1, 1), 0.0)])
def test_three_taps_drift_and_four_do_not(taps, drift):
    x = torch.zeros(1, 1, 64, 64, dtype=torch.float64)
    x[..., 31:33, 31:33] = 1
    for _ in range(3):
        x = nets.blur_pool(x, taps)
    for _ in range(3):
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    at = (x.sum((0, 1, 2)) * (torch.arange(64) + 0.5)).sum() / x.sum()
    assert float(at) - 32 == pytest.approx(drift, abs=1e-9)


def test_pool_refuses_one_tap():
    with pytest.raises(InputError, match="taps"):
        nets.blur_pool(draw(1, 1, 4, 4), (1,))


# Points ---------------------------------------------------------------------------------------------------------------


def test_encoding_is_sine_and_cosine_of_period_two(dtype):
    x = 2 * draw(50, 3, dtype=dtype) - 1
    code = nets.encode_points(x)
    assert code.shape == (50, 6) and code.dtype == dtype
    assert_close(code[7], [f(math.pi * float(c)) for f in (math.sin, math.cos) for c in x[7]], atol=1e-6)
    assert_close(nets.encode_points(x + 2), code, atol=3e-6)
    assert torch.cdist(code, code).fill_diagonal_(1).min() > 1e-3, "points of the box are told apart"


def test_a_ramp_gives_the_projection(dtype):
    camera, points = camera_of((24, 32), dtype=dtype), 0.8 * draw(1, 60, 3, dtype=dtype) - 0.4
    v, u = (torch.arange(n, dtype=dtype) + 0.5 for n in (24, 32))
    ramp = torch.stack(torch.meshgrid(u, v, indexing="xy"))[None]
    assert_close(nets.pixel_features(ramp, camera.K, camera.cam_from_world, points)[0], camera.project(points[0])[0], atol=1e-4 if dtype == torch.float32 else 1e-10)


@quick
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 9))
def test_reading_is_bilinear_sampling_with_its_border(h, w, seed):
    maps, points = draw(2, 3, h, w, seed=seed), 4 * draw(2, 30, 3, seed=seed + 1) - 2
    camera = camera_of((h, w))
    uv = camera.project(points)[0]
    grid = 2 * uv / torch.tensor([w, h]) - 1
    expected = F.grid_sample(maps, grid[:, None], mode="bilinear", padding_mode="border", align_corners=False)[:, :, 0].mT
    assert_close(nets.pixel_features(maps, camera.K, camera.cam_from_world, points), expected)


def test_one_camera_for_all_or_one_a_picture():
    maps, points = draw(2, 3, 8, 8), draw(2, 5, 3) - 0.5
    two = [camera_of((8, 8), a) for a in (0.2, 0.9)]
    K, T = torch.stack([c.K for c in two]), torch.stack([c.cam_from_world for c in two])
    both = nets.pixel_features(maps, K, T, points)
    for k in range(2):
        alone = nets.pixel_features(maps[k : k + 1], two[k].K, two[k].cam_from_world, points[k : k + 1])
        assert_close(both[k : k + 1], alone)
    assert not torch.allclose(both[1], nets.pixel_features(maps, K[0], T[0], points)[1])


def test_points_behind_the_camera_stay_finite():
    camera = camera_of()
    behind = (camera.center * 2)[None, None].requires_grad_()
    found = nets.pixel_features(draw(1, 3, 16, 16), camera.K, camera.cam_from_world, behind)
    assert found.isfinite().all() and torch.autograd.grad(found.sum(), behind)[0].isfinite().all()


def test_reading_is_differentiable_twice():
    camera, maps, points = camera_of((6, 6)), draw(1, 2, 6, 6), 0.4 * draw(1, 3, 3) - 0.2

    def read(m, K, T, p):
        return nets.pixel_features(m, K, T, p)

    @torch.enable_grad()
    def slope(m, p):
        p = p if p.requires_grad else p.detach().requires_grad_()
        return torch.autograd.grad(nets.pixel_features(m, camera.K, camera.cam_from_world, p).square().sum(), p, create_graph=True)[0]

    assert_grad(read, maps, camera.K, camera.cam_from_world, points, rtol=1e-5)
    assert_grad(slope, maps, points, rtol=1e-5)


# The three networks -----------------------------------------------------------------------------------------------------


@quick
@given(st.integers(1, 5), st.sampled_from([1 / 32, 1 / 16, 0.1, 1 / 8]), st.integers(1, 2))
def test_feature_net_has_any_depth_and_width(levels, width, many):
    net = nets.FeatureNet(width, levels, seeded())
    side = many * 2**levels
    features, bottleneck = net(draw(2, 3, side, 2 * side, dtype=torch.float32))
    assert features.shape == (2, net.channels, side, 2 * side)
    assert bottleneck.shape == (2, net.bottleneck, many, 2 * many)
    assert net.channels % 4 == 0 and features.isfinite().all()


def test_u_net_is_its_formula():
    """Two levels by hand: which skip goes where, and that it is concatenated behind what comes from below."""
    net, x = nets.FeatureNet(1 / 16, 2, seeded()).double(), draw(1, 3, 8, 8)

    def conv(layer, y):
        return F.conv2d(y, layer.weight, layer.bias, padding=1)

    def block(b, y):
        return F.leaky_relu(conv(b.conv_1, F.leaky_relu(conv(b.conv_0, y), 0.2)), 0.2)

    def up(y):
        return F.interpolate(y, scale_factor=2, mode="bilinear", align_corners=False)

    e0 = block(net.encoder[0], 2 * x - 1)
    e1 = block(net.encoder[1], nets.blur_pool(e0))
    bottom = block(net.decoder[0], nets.blur_pool(e1))
    d1 = block(net.decoder[1], torch.cat([up(bottom), e1], 1))
    d2 = block(net.decoder[2], torch.cat([up(d1), e0], 1))
    features, bottleneck = net(x)
    assert_close(features, conv(net.output, d2))
    assert_close(bottleneck, bottom)


def test_geometry_net_is_its_formula(dtype):
    net = nets.GeometryNet(8, 1 / 16, seeded()).to(dtype)
    x, features = draw(4, 5, 3, dtype=dtype), draw(4, 5, 8, dtype=dtype, seed=1)
    inputs = torch.cat([features, nets.encode_points(x)], -1)
    h = inputs
    for k, layer in enumerate(net.dense[:-1]):
        h = torch.cat([h, inputs], -1) if k == 4 else h
        z = h @ layer.weight.T + layer.bias
        h = z / (1 + torch.exp(-z))
    out = h @ net.dense[-1].weight.T + net.dense[-1].bias
    distance, albedo = net(x, features)
    assert distance.dtype == dtype
    assert_close(distance, out[..., 0], atol=1e-5)
    assert_close(albedo, 1 / (1 + torch.exp(-out[..., 1:])), atol=1e-5)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("width", [1 / 8, 1 / 4])
def test_the_field_starts_near_a_sphere_whatever_the_picture(width, seed):
    net, camera = nets.PhorhumNet(width, 4, generator=seeded(seed)), camera_of((32, 32), dtype=torch.float32)
    points = 1.8 * draw(2, 3000, 3, dtype=torch.float32, seed=seed + 9) - 0.9
    images = torch.stack([draw(3, 32, 32, dtype=torch.float32, seed=seed), torch.full((3, 32, 32), 0.4)])
    with torch.no_grad():
        distance, _, gradient = net.field_and_gradient(net.encode(images), camera.K, camera.cam_from_world, points)
    truth = points.norm(dim=-1) - 0.45
    clear = truth.abs() > 0.1
    assert ((distance < 0) == (truth < 0))[clear].float().mean() > 0.98
    near = truth.abs() < 0.15
    assert (distance - truth)[near].abs().mean() < 0.06
    assert 0.7 < gradient.norm(dim=-1)[near].mean() < 1.3


def test_shading_net_takes_any_bottleneck_and_is_never_negative(dtype):
    net = nets.ShadingNet(16, 1 / 8, seeded()).to(dtype)
    normals = F.normalize(torch.randn(2, 50, 3, generator=seeded(4), dtype=dtype), dim=-1)
    for side in (1, 3, 8):
        code = net.code(draw(2, 16, side, side, dtype=dtype))
        shaded = net(normals, code)
        assert code.shape == (2, 16) and shaded.shape == (2, 50, 3) and (shaded >= 0).all()
    flat = net.code(torch.full((1, 16, 9, 9), 0.7, dtype=dtype))
    assert flat.dtype == dtype
    assert not torch.equal(net(normals, code)[0], net(normals, code.flip(0))[0]), "another light, another shading"


def test_first_weights_follow_from_the_generator():
    a, b, c = (small(torch.float32, seed=s) for s in (3, 3, 4))
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters()))
    assert not torch.equal(a.feature_net.output.weight, c.feature_net.output.weight)


# Together ---------------------------------------------------------------------------------------------------------------


def parts(dtype=torch.float64, B=2, N=6):
    net, camera = small(dtype), camera_of(dtype=dtype)
    points = 0.8 * draw(B, N, 3, dtype=dtype, seed=5) - 0.4
    return net, net.encode(draw(B, 3, 16, 16, dtype=dtype)), camera.K, camera.cam_from_world, points


def test_field_and_heads_agree(dtype):
    net, encoding, K, T, points = parts(dtype)
    assert encoding.features.is_contiguous(memory_format=torch.channels_last) and encoding.code.shape == (2, 16)
    distance, albedo = net.field(encoding, K, T, points)
    assert distance.shape == (2, 6) and albedo.shape == (2, 6, 3) and (0 < albedo).all() and (albedo < 1).all()
    for k in range(2):
        for camera in ((K, T), (K[None], T[None]), (K.expand(2, 3, 3), T.expand(2, 4, 4))):
            head = net.head(encoding, *camera, k)
            assert_close(head(points[k].view(2, 3, 3)), distance[k].view(2, 3), atol=1e-6)
            assert_close(head.color(points[k]), albedo[k], atol=1e-6)


def test_gradient_is_the_whole_derivative():
    net, encoding, K, T, points = parts()
    encoding = nets.Encoding(*(x.detach() for x in encoding))
    distance, albedo, gradient = net.field_and_gradient(encoding, K, T, points)
    assert_close(distance, net.field(encoding, K, T, points)[0])
    numeric = torch.zeros_like(points)
    for axis in range(3):
        step = 1e-6 * torch.eye(3, dtype=points.dtype)[axis]
        with torch.no_grad():
            numeric[..., axis] = (net.field(encoding, K, T, points + step)[0] - net.field(encoding, K, T, points - step)[0]) / 2e-6
    assert_close(gradient, numeric, atol=1e-6)
    fixed = net.field_and_gradient(encoding, K, T, points, fixed=True)[2]
    held = nets.pixel_features(encoding.features, K, T, points)
    for axis in range(3):
        step = 1e-6 * torch.eye(3, dtype=points.dtype)[axis]
        with torch.no_grad():
            numeric[..., axis] = (net.geometry_net(points + step, held)[0] - net.geometry_net(points - step, held)[0]) / 2e-6
    assert_close(fixed, numeric, atol=1e-6)
    assert (fixed - gradient).abs().max() > 1e-4
    assert_close(net.normals(encoding, K, T, points), gradient / gradient.norm(dim=-1, keepdim=True), atol=1e-9)
    assert albedo.requires_grad


def test_a_loss_on_the_gradient_reaches_picture_and_weights():
    net, camera = small(), camera_of()
    images, points = draw(1, 3, 16, 16).requires_grad_(), 0.8 * draw(1, 9, 3) - 0.4
    encoding = net.encode(images)
    distance, albedo, gradient = net.field_and_gradient(encoding, camera.K, camera.cam_from_world, points)
    shading = net.shading_net(F.normalize(gradient, dim=-1), encoding.code)
    ((gradient.norm(dim=-1) - 1).square().mean() + shading.mean() + albedo.mean()).backward()
    assert images.grad.abs().max() > 0
    for name, p in net.named_parameters():
        if name != "log_k" and name != "geometry_net.dense.8.bias":
            assert p.grad is not None and p.grad.isfinite().all() and p.grad.abs().max() > 0, name


def test_second_derivative_against_finite_differences():
    net, _, K, T, points = parts(B=1, N=3)
    images = draw(1, 3, 16, 16)

    def slope(weight, p):
        with torch.enable_grad():
            layer = net.geometry_net.dense[0]
            keep = layer.weight
            del layer.weight
            layer.weight = weight
            try:
                return net.field_and_gradient(net.encode(images), K, T, p)[2]
            finally:
                del layer.weight
                layer.weight = keep

    assert_grad(slope, net.geometry_net.dense[0].weight.detach()[:, :].clone(), points, rtol=1e-4)


def test_without_gradients_nothing_is_kept():
    net, encoding, K, T, points = parts()
    with torch.no_grad():
        for found in net.field_and_gradient(encoding, K, T, points):
            assert not found.requires_grad
        assert not net.normals(encoding, K, T, points).requires_grad


def test_the_octree_takes_a_head():
    net, camera = nets.PhorhumNet(1 / 8, 3, generator=seeded(1)), camera_of(dtype=torch.float32)
    with torch.no_grad():
        head = net.head(net.encode(draw(1, 3, 16, 16, dtype=torch.float32)), camera.K, camera.cam_from_world)
        mesh, stats = octree.extract(head, ((-0.95,) * 3, (0.95,) * 3), 24, lipschitz=8.0, colors=True)
    assert stats.evaluations > 0 and mesh.vertices.shape[1] == 3
    assert len(mesh.faces) > 100 and not stats.touches_border, "it starts as a sphere"
    assert 0.3 < mesh.vertices.norm(dim=1).mean() < 0.6 and 0 <= mesh.colors.min() and mesh.colors.max() <= 1


# Files and refusals -----------------------------------------------------------------------------------------------------


def test_save_and_load(tmp_path):
    net = small(torch.float32, field=1 / 8)
    net.trained_on = "nothing at all"
    nets.save(net, tmp_path / "net.safetensors")
    again = nets.load(tmp_path / "net.safetensors")
    assert again.settings == net.settings == {"width": 1 / 16, "levels": 3, "field": 1 / 8} and again.trained_on == "nothing at all"
    assert not again.training
    for (name, x), y in zip(net.state_dict().items(), again.state_dict().values()):
        assert torch.equal(x, y), name


@pytest.mark.parametrize("spoil", ["missing", "cut", "other", "text"])
def test_bad_files_are_one_sentence(tmp_path, spoil):
    from safetensors.torch import save_file

    path = tmp_path / "net.safetensors"
    if spoil == "cut":
        nets.save(small(torch.float32), path)
        path.write_bytes(path.read_bytes()[:999])
    elif spoil == "other":
        save_file({"a": torch.zeros(3)}, path)
    elif spoil == "text":
        path.write_text("hello")
    with pytest.raises(InputError, match="net.safetensors"):
        nets.load(path)


def test_other_settings_do_not_fit(tmp_path):
    net = small(torch.float32)
    net.settings = {**net.settings, "levels": 4}
    nets.save(net, tmp_path / "net.safetensors")
    with pytest.raises(InputError, match="not of a PhorhumNet"):
        nets.load(tmp_path / "net.safetensors")


@pytest.mark.parametrize("width", [0, -1.0, math.nan, math.inf, "wide", True])
def test_widths_are_positive_numbers(width):
    for make in (nets.FeatureNet, lambda w: nets.GeometryNet(8, w), lambda w: nets.ShadingNet(8, w), nets.PhorhumNet):
        with pytest.raises(InputError, match="width"):
            make(width)


@pytest.mark.parametrize("levels", [0, -2, 2.0, "six", True])
def test_levels_are_whole(levels):
    with pytest.raises(InputError, match="levels"):
        nets.FeatureNet(1 / 16, levels)


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 4, 16, 16), (1, 3, 12, 16), (1, 3, 16, 20), (0, 3, 16, 16)])
def test_pictures_of_another_shape(shape):
    with pytest.raises(InputError, match="images"):
        nets.FeatureNet(1 / 16, 3, seeded())(torch.zeros(shape))


def test_points_and_features_of_another_shape():
    net, encoding, K, T, points = parts()
    for wrong in (points[:1], points[0], points[..., :2]):
        with pytest.raises(InputError, match="points"):
            net.field(encoding, K, T, wrong)
    with pytest.raises(InputError, match="features has 9 channels"):
        net.geometry_net(points, draw(2, 6, 9))


# CUDA -------------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_cuda_agrees(dtype):
    net, _, K, T, points = parts(dtype)
    images = draw(2, 3, 16, 16, dtype=dtype)
    expected = net.field_and_gradient(net.encode(images), K, T, points)
    net = net.cuda()
    found = net.field_and_gradient(net.encode(images.cuda()), K.cuda(), T.cuda(), points.cuda())
    for a, b in zip(found, expected):
        assert_close(a.cpu(), b, rtol=1e-3, atol=1e-4)
