"""Shape and pose from one picture: derivatives of pictures, the fit in its variants, the networks, the carried grasp."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from densebook.core.errors import InputError
from densebook.data import categories, toy
from densebook.geometry import poses
from densebook.geometry.sdf import MeshSDF
from densebook.registration import render_and_compare as rc
from densebook.registration.shape_space import ShapeSpace, surface_error
from densebook.render.cameras import orbit
from densebook.render.differentiable import render
from densebook.testing import assert_close, assert_grad

FRAME = (64, 64)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def make_space(dtype=torch.float32, name="drill"):
    found = categories.instances(name, "toy", resolution=14, dtype=dtype)
    canonical = found[0].mesh
    return ShapeSpace.from_fields(canonical, torch.stack([i.mesh.vertices - canonical.vertices for i in found if not i.held_out]), 4)


@pytest.fixture(scope="module")
def space():
    return make_space()


@pytest.fixture(scope="module")
def scene(space):
    """A shape of the space, a camera and its exact silhouette."""
    z = torch.tensor([0.9, -0.8, 0.5, 0.3])
    camera = rc.viewpoint(space.mesh(z), seeded(3), FRAME)
    return z, camera, render(space.mesh(z), camera, backend="torch").mask.detach()


# Derivatives of pictures


def test_jacobian_of_a_formula():
    x = torch.tensor([0.3, -1.2, 2.0], dtype=torch.float64, requires_grad=True)
    found = rc.jacobian(torch.stack([x.square().sum(), x[0] * x[1], x[2].sin(), torch.zeros_like(x[0]) * x[0]]).view(2, 2), x)
    a, b, c = x.tolist()
    expected = [[[2 * a, b], [0, 0]], [[2 * b, a], [0, 0]], [[2 * c, 0], [math.cos(c), 0]]]
    assert_close(found, torch.tensor(expected, dtype=torch.float64))
    assert not found.requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_jacobian_of_a_rendering_is_that_of_single_pixels_and_of_differences(dtype):
    space = make_space(dtype)
    camera = rc.viewpoint(space.mesh(torch.zeros(4)), seeded(1), (32, 32)).to(dtype)
    theta = torch.zeros(10, dtype=dtype, requires_grad=True)

    def mask(theta):
        return render(space.mesh(theta[:4]), rc.nudge(camera, theta[4:], rc.middle(space, camera)), backend="torch").mask

    image = mask(theta)
    J = rc.jacobian(image, theta)
    assert J.shape == (10, 32, 32) and J.dtype == dtype
    for place in (16 * 32 + 16, *image.detach().sub(0.5).abs().flatten().argsort()[:3].tolist()):
        v, u = divmod(place, 32)
        (single,) = torch.autograd.grad(image[v, u], theta, retain_graph=True)
        assert_close(J[:, v, u], single, rtol=1e-4, atol=1e-5)
    for k in (0, 1, 4, 5):  # a step of a fair part of a pixel, so that pixels change sides as they should
        step = torch.zeros_like(theta)
        step[k] = 0.1 if k < 4 else 0.01
        change = (mask(theta + step) - mask(theta - step)).detach() / (2 * step[k].detach())
        coarse, expected = (torch.nn.functional.avg_pool2d(x[None], 8) for x in (J[k], change))
        assert float((coarse - expected).norm()) < 0.2 * float(expected.norm())


# Poses


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10**6))
def test_nudge_turns_about_the_center_and_shifts(seed):
    camera = orbit(0.4, 0.3, 0.8, size=FRAME).to(torch.float64)
    xi = 0.5 * torch.randn(6, generator=seeded(seed), dtype=torch.float64)
    point, center = torch.randn(2, 3, generator=seeded(seed + 1), dtype=torch.float64)
    moved = rc.nudge(camera, xi, center)
    before = poses.transform(camera.cam_from_world, point[None])[0]
    assert_close(poses.transform(moved.cam_from_world, point[None])[0], poses.so3_exp(xi[3:]) @ (before - center) + center + xi[:3])
    assert_close(rc.nudge(camera, 0 * xi, center).cam_from_world, camera.cam_from_world)


def test_nudge_carries_gradients():
    camera = orbit(0.4, 0.3, 0.8, size=FRAME).to(torch.float64)
    center = torch.tensor([0.1, 0.0, 0.7], dtype=torch.float64)
    assert_grad(lambda xi: rc.nudge(camera, xi, center).cam_from_world, 0.3 * torch.randn(6, generator=seeded(), dtype=torch.float64))


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6))
def test_pose_noise_stays_within_its_bounds(seed):
    camera, center = orbit(0.4, 0.3, 0.8, size=FRAME), torch.tensor([0.01, 0.02, 0.8])
    change = rc.disturb(camera, center, seeded(seed)).cam_from_world @ poses.inverse(camera.cam_from_world)
    shift = poses.transform(change, center[None])[0] - center
    assert float(shift[:2].abs().max()) <= 0.05 + 1e-6 and abs(float(shift[2])) < 1e-6
    assert float(poses.so3_log(change[:3, :3]).norm()) <= math.radians(15) + 1e-3


def test_pose_noise_is_not_zero_and_follows_the_generator():
    camera, center = orbit(0.4, 0.3, 0.8, size=FRAME), torch.tensor([0.0, 0.0, 0.8])
    one, two, again = (rc.disturb(camera, center, seeded(s)).cam_from_world for s in (1, 2, 1))
    assert not torch.allclose(one, two) and torch.equal(one, again)


# Pictures


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 10**6))
def test_viewpoints_see_nearly_the_whole_object_from_above(seed):
    mesh = make_space().mesh(torch.zeros(4))
    camera = rc.viewpoint(mesh, seeded(seed), FRAME)
    uv, depth = camera.project(mesh.vertices)
    assert float(depth.min()) > 0 and float(uv.min()) > -13 and float(uv.max()) < 77  # 1.17 radii at 0.85 of the distance
    assert float(((uv > 0) & (uv < 64)).all(1).float().mean()) > 0.7
    assert float(camera.center[1]) > 0
    assert render(mesh, camera, backend="torch").mask.mean() > 0.03


def test_snapshots_are_pictures_and_follow_the_generator(space, scene):
    z, camera, mask = scene
    mesh = space.mesh(z)
    one, again, other = (rc.snapshot(mesh, camera, seeded(s)) for s in (1, 1, 2))
    assert torch.equal(one.color, again.color) and not torch.equal(one.color, other.color)
    assert one.color.shape == (*FRAME, 3) and one.color.min() >= 0 and one.color.max() <= 1
    assert_close(one.mask, mask.clamp(0, 1), atol=1e-5)
    black = rc.snapshot(mesh, camera, seeded(1), background=0.0)
    assert black.color[mask == 0].max() < 0.05 and black.color[mask > 0.99].mean() > 0.02
    assert not torch.allclose(rc.snapshot(mesh, camera, seeded(1), repaint=True).color, one.color, atol=0.05)


def test_backdrop_is_a_picture():
    found = rc.backdrop((24, 40), seeded())
    assert found.shape == (24, 40, 3) and found.min() >= 0 and found.max() <= 1 and found.std() > 0


# The fit


def shape_error_mm(space, z, truth):
    return 1e3 * float((space.decode(z) - space.decode(truth)).norm(dim=-1).mean())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fit_finds_the_shape_that_was_drawn(scene, dtype):
    z, camera, mask = scene
    space = make_space(dtype)
    found = rc.fit(space, mask.to(dtype), camera.to(dtype), noise=0.1)
    mean = shape_error_mm(space, torch.zeros(4), z.to(dtype))
    assert found.z.dtype == dtype and mean > 4
    assert shape_error_mm(space, found.z, z.to(dtype)) < 0.15 * mean
    assert torch.equal(found.T, camera.to(dtype).cam_from_world)
    assert found.path.shape == (len(found.history) + 1, 4) and torch.equal(found.path[-1], found.z) and not found.path[0].any()


def test_fit_repairs_a_pose_that_a_trusting_fit_suffers_from(space, scene):
    z, camera, mask = scene
    center = rc.middle(space, camera)
    ratios = []
    for seed in range(4):
        lost = rc.disturb(camera, center, seeded(seed))
        trusting, careful = (rc.fit(space, mask, lost, pose=p, noise=0.3) for p in (False, True))
        ratios.append(shape_error_mm(space, careful.z, z) / shape_error_mm(space, trusting.z, z))
        far = (careful.T @ poses.inverse(camera.cam_from_world)) @ torch.cat([center, torch.ones(1)]) - torch.cat([center, torch.ones(1)])
        assert float(far.norm()) < 0.02  # of up to 7 cm
        assert careful.path.shape[1] == 10
    assert sum(ratios) / len(ratios) < 0.6


def test_a_strong_prior_keeps_the_mean_shape(space, scene):
    _, camera, mask = scene
    assert rc.fit(space, mask, camera, prior=1e8).z.abs().max() < 1e-3


def test_fit_begins_where_it_is_told(space, scene):
    z, camera, mask = scene
    found = rc.fit(space, mask, camera, z=z, noise=0.1)
    assert torch.equal(found.path[0], z) and shape_error_mm(space, found.z, z) < 0.5


@pytest.mark.parametrize(("optimizer", "pose"), [("adam", False), ("sgd", False), ("adam", True), ("sgd", True)])
def test_gradient_descent_lowers_the_cost_and_the_error(space, scene, optimizer, pose):
    z, camera, mask = scene
    found = rc.fit(space, mask, camera, optimizer=optimizer, pose=pose, prior=0.0)
    assert len(found.history) <= 30 and min(found.history) < (0.9 if pose else 0.3) * found.history[0]
    assert shape_error_mm(space, found.z, z) < (1.0 if pose else 0.5) * shape_error_mm(space, torch.zeros(4), z)


def test_one_pose_step_follows_three_of_shape(space, scene):
    _, camera, mask = scene
    path = rc.fit(space, mask, rc.disturb(camera, rc.middle(space, camera), seeded()), optimizer="adam", pose=True, steps=8).path[:8]
    moved = path.diff(dim=0).abs()
    assert (moved[:, 4:].amax(1) > 0).tolist() == [False, False, False, True, False, False, False]
    assert (moved[:, :4].amax(1) > 0).tolist() == [True, True, True, False, True, True, True]


def test_the_middles_of_silhouettes_are_brought_together(space, scene):
    _, camera, mask = scene
    lost = rc.nudge(camera, torch.tensor([0.04, -0.03, 0, 0, 0, 0]), rc.middle(space, camera))
    problem = rc._Problem(space, None, "silhouette", lost, rc.middle(space, lost), mask[None], 1.0, 1.0)
    theta = torch.cat([scene[0], torch.zeros(6)])
    apart = [float((rc._middles(problem.maps(t)[0]) - rc._middles(mask)).norm()) for t in (theta, rc._recentered(problem, theta))]
    assert apart[0] > 4 and apart[1] < 0.3 * apart[0]


def test_pixels_become_finer():
    assert rc._levels(8, False) == [2, 2, 2, 1, 1, 1, 0, 0]
    assert rc._levels(12, True) == [3, 3, 3, 2, 2, 2, 1, 1, 1, 0, 0, 0]


def test_joined_pixels_keep_the_meaning_of_the_cost(space, scene):
    _, camera, mask = scene
    problem = rc._Problem(space, None, "silhouette", camera, rc.middle(space, camera), mask[None], 0.5, 1.0)
    flat = torch.full((1, 64, 64), 0.3)
    costs = [float(problem.residual(flat, level).square().sum()) for level in range(4)]
    assert_close(torch.tensor(costs), torch.full((4,), 64 * 64 * 0.09 / 0.25), rtol=1e-4)


# The networks


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return rc.SegmentationUNet(3, 4).eval()


def test_unet_gives_a_class_a_pixel(net):
    images = torch.rand(2, 24, 40, 3, generator=seeded())
    assert net(images).shape == (2, 3, 24, 40) and net.features(images).shape == (2, 4, 24, 40)
    found = net.silhouette(images[0])
    assert_close(found, net(images[:1]).softmax(1)[0, 1:].sum(0), atol=1e-5)
    for bad in (images[:, 1:], images[0], images[..., :2]):
        with pytest.raises(InputError, match="images"):
            net(bad)


def test_segmentation_loss_of_known_predictions():
    mask, label = torch.tensor([[[0.0, 1.0, 0.25]]]), torch.tensor([2])
    assert_close(rc.segmentation_loss(torch.zeros(1, 4, 1, 3), mask, label), math.log(4), rtol=1e-6)
    sure = torch.full((1, 4, 1, 3), -50.0)
    sure[0, 0, 0, 0] = sure[0, 2, 0, 1] = 50.0
    sure[0, 0, 0, 2] = sure[0, 2, 0, 2] = 0.0
    assert_close(rc.segmentation_loss(sure, mask, label), math.log(2) / 3, rtol=1e-5)


def test_training_learns_to_segment(space):
    generator = seeded()
    shots = []
    for _ in range(24):
        mesh = space.mesh(torch.randn(4, generator=generator))
        shots.append(rc.snapshot(mesh, rc.viewpoint(mesh, generator, (32, 32)), generator, background=0.0))
    torch.manual_seed(0)
    net = rc.SegmentationUNet(2, 6)
    losses = rc.train_segmentation(net, shots, [1] * 24, epochs=12, rate=1e-2, generator=seeded())
    assert losses[-1] < 0.6 * losses[0] and not net.training
    test = rc.snapshot(space.mesh(torch.zeros(4)), shots[0].camera, seeded(9))
    found = net.silhouette(test.color)
    assert found[test.mask > 0.9].mean() > found[test.mask < 0.1].mean() + 0.3


def test_feature_maps_are_normalised_and_differentiable(net):
    image = torch.rand(16, 24, 3, generator=seeded(), requires_grad=True)
    found = rc.feature_map(net, image)
    assert found.shape == (16, 24) and found.min() >= -1 and found.max() <= 1
    found.square().sum().backward()
    assert image.grad.isfinite().all() and image.grad.abs().max() > 0
    assert rc.feature_loss(found, found) == 0
    assert_close(rc.feature_loss(torch.zeros(2, 3), torch.full((2, 3), 0.5)), 0.25)


@pytest.mark.parametrize(("features", "optimizer"), [("unet", "sgd"), ("unet", "adam"), ("edges", "lm"), ("edges", "adam"), ("silhouette", "lm")])
def test_every_way_runs_on_a_picture(space, scene, net, features, optimizer):
    z, camera, _ = scene
    shot = rc.snapshot(space.mesh(z), camera, seeded())
    for pose in (False, True):
        found = rc.fit(space, shot.color, camera, net, features, optimizer, steps=3, pose=pose)
        assert found.z.isfinite().all() and found.T.isfinite().all() and 1 <= len(found.history) <= 3


def test_regressor_learns_latents(space):
    generator = seeded()
    z = torch.randn(24, 4, generator=generator)
    meshes = [space.mesh(one) for one in z]
    cameras = [rc.viewpoint(mesh, generator, (32, 32)) for mesh in meshes]
    shots = [rc.snapshot(mesh, camera, generator, background=0.0) for mesh, camera in zip(meshes, cameras)]
    hints = torch.stack([rc.hint(space, camera) for camera in cameras])
    torch.manual_seed(0)
    model = rc.LatentRegressor([4, 2], width=8)
    losses = rc.train_regressor(model, [shots], [hints], [z], epochs=25, generator=seeded())
    assert losses[-1] < 0.6 * losses[0] and not model.training
    images = torch.stack([s.color for s in shots])
    assert model(images, hints, 0).shape == (24, 4) and model(images, hints, 1).shape == (24, 2)


def test_hints_show_the_mean_shape_in_camera_axes(space, scene):
    _, camera, _ = scene
    found = rc.hint(space, camera)
    normals, mask = found[..., :3], found[..., 3]
    assert found.shape == (*FRAME, 4)
    inside = mask > 0.99
    assert_close(normals[inside].norm(dim=1), torch.ones(int(inside.sum())), atol=1e-3)
    assert normals[inside][:, 2].mean() < 0  # towards the camera


def test_visible_points_lie_on_the_object(space, scene):
    z, camera, _ = scene
    shot = rc.snapshot(space.mesh(z), camera, seeded())
    cloud = rc.visible_points(shot, camera, 200, seeded())
    assert cloud.shape == (200, 3)
    assert MeshSDF(space.mesh(z), backend="torch").closest(cloud)[2].max() < 1e-4
    uv, depth = camera.project(cloud)
    assert_close(depth, shot.depth[uv[:, 1].long(), uv[:, 0].long()], rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match="nothing"):
        rc.visible_points(replace(shot, depth=torch.zeros(FRAME)), camera)


# Grasps


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_grasp_of_a_ball(dtype):
    ball = toy.icosphere(3, 0.1).to(dtype)
    axis = torch.tensor([0.0, 0.3, 2.0], dtype=dtype)
    point = torch.tensor([0.02, 0.01, 0.0], dtype=dtype)
    grasp = rc.mark(ball, point, axis)
    center, found, opening = rc.carry(grasp, ball)
    unit = axis / axis.norm()
    apart = (point - (point @ unit) * unit).norm()
    assert_close(found, unit, atol=1e-3)
    assert_close(opening, float(2 * (0.01 - apart**2).sqrt()), rtol=0.01)
    assert float((center - (point - (point @ unit) * unit)).norm()) < 1e-3
    big = replace(ball, vertices=2 * ball.vertices + 1)
    assert_close(rc.carry(grasp, big)[2], float(2 * opening), rtol=1e-4)
    assert_close(rc.carry(grasp, big)[0], 2 * center + 1, rtol=1e-4)


def test_grasp_carries_gradients():
    ball = toy.icosphere(1, 0.1).to(torch.float64)
    grasp = rc.mark(ball, torch.zeros(3, dtype=torch.float64), torch.tensor([1.0, 0.2, 0.1], dtype=torch.float64))
    assert_grad(lambda v: rc.carry(grasp, replace(ball, vertices=v)), ball.vertices)


def test_grasp_needs_a_point_inside():
    with pytest.raises(InputError, match="both sides"):
        rc.mark(toy.icosphere(1, 0.1), torch.tensor([0.3, 0.0, 0.0]), torch.tensor([1.0, 0.0, 0.0]))


# Bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": "color"}, "features is 'color'"),
        ({"optimizer": "newton"}, "optimizer is 'newton'"),
        ({"image": torch.zeros(8, 8)}, "image is"),
        ({"image": "picture"}, "image is str"),
        ({"image": torch.full(FRAME, torch.nan)}, "NaN"),
        ({"image": torch.zeros(*FRAME, 3)}, "needs a SegmentationUNet"),
        ({"features": "edges"}, "net and image"),
        ({"z": torch.zeros(5)}, "z has shape"),
    ],
)
def test_fit_refuses(space, scene, change, message):
    _, camera, mask = scene
    with pytest.raises(InputError, match=message):
        rc.fit(**{"space": space, "image": mask, "camera": camera, **change})


def test_feature_loss_refuses_two_sizes():
    with pytest.raises(InputError, match="one size"):
        rc.feature_loss(torch.zeros(4, 4), torch.zeros(4, 5))


# End to end, held-out instances


def test_held_out_object_from_its_silhouette():
    found = categories.instances("drill", "toy", resolution=14)
    space = make_space()
    for k, held in enumerate(i for i in found if i.held_out):
        camera = rc.viewpoint(held.mesh, seeded(k), FRAME)
        mask = render(held.mesh, camera, backend="torch").mask.detach()
        error, mean = (surface_error(space.mesh(z), held.mesh, 300, seeded())[0] for z in (rc.fit(space, mask, camera).z, torch.zeros(4)))
        assert error < 0.7 * mean


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_fit_on_cuda(scene):
    z, camera, mask = scene
    space = make_space().to("cuda")
    found = rc.fit(space, mask.cuda(), camera.to("cuda"), pose=True, noise=0.3)
    assert found.z.is_cuda and found.T.is_cuda and shape_error_mm(space, found.z, z.cuda()) < 5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_networks_on_cuda(scene):
    _, camera, _ = scene
    net = rc.SegmentationUNet(2, 4).cuda()
    shot = rc.snapshot(make_space().to("cuda").mesh(torch.zeros(4).cuda()), camera.to("cuda"), seeded(), background=0.0)
    assert rc.train_segmentation(net, [shot] * 4, [1] * 4, epochs=1, generator=seeded())[0] > 0
    assert net.silhouette(shot.color).is_cuda
