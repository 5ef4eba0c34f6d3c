"""Cameras: round trips, the laws of the programs converted to, textures and environment maps."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from densebook.core.errors import InputError
from densebook.geometry import poses
from densebook.geometry.sphere_tracing import pinhole_rays
from densebook.render.cameras import (
    Camera,
    clip_from_world,
    directions_to_uv,
    from_blender,
    from_opencv,
    from_opengl,
    from_pytorch3d,
    intrinsics,
    look_at,
    orbit,
    sample_environment,
    sample_texture,
    to_blender,
    to_opencv,
    to_opengl,
    to_pytorch3d,
    tone_map,
    uv_to_directions,
)
from densebook.testing import assert_close, assert_grad

few = settings(deadline=None, max_examples=25)
dtypes = st.sampled_from([torch.float32, torch.float64])
seeds = st.integers(0, 2**31)
UV_TOLERANCE = {torch.float32: 2e-2, torch.float64: 1e-9}  # pixels, of pictures up to 1000 wide


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_camera(seed: int, dtype=torch.float64, skew: bool = True) -> Camera:
    """Any pose, size, unequal focal lengths, principal point perhaps outside of the picture."""
    r = torch.rand(8, generator=draw(seed), dtype=torch.float64).tolist()
    height, width = 1 + int(1000 * r[0]), 1 + int(1000 * r[1])
    f = (0.3 + 3 * r[2]) * max(height, width)
    s = (r[7] - 0.5) * 0.2 * f if skew else 0.0
    K = torch.tensor([[f, s, width * (2 * r[4] - 0.5)], [0, f * (0.5 + r[3]), height * (2 * r[5] - 0.5)], [0, 0, 1]], dtype=dtype)
    xi = torch.randn(6, generator=draw(seed + 1), dtype=torch.float64)
    return Camera(K, poses.exp(xi).to(dtype), (height, width), near=0.02 + r[6])


def in_front(camera: Camera, seed: int, shape=(50,)):
    """Pixels, depths and the world points there, made with plain linear algebra in float64."""
    K, T = camera.K.double(), camera.cam_from_world.double()
    uv = torch.rand(*shape, 2, generator=draw(seed), dtype=torch.float64) * torch.tensor(camera.size[::-1])
    depth = torch.rand(shape, generator=draw(seed + 7), dtype=torch.float64) * 5 + 0.2
    local = F.pad(uv, (0, 1), value=1.0) @ torch.linalg.inv(K).T * depth[..., None]
    points = F.pad(local, (0, 1), value=1.0) @ torch.linalg.inv(T).T
    return uv.to(camera.K), depth.to(camera.K), points[..., :3].contiguous().to(camera.K)


def same_camera(a: Camera, b: Camera, atol=1e-9) -> None:
    assert a.size == b.size and a.near == pytest.approx(b.near, rel=1e-6)
    assert_close(a.K, b.K, atol=atol * 1e3)
    assert_close(a.cam_from_world, b.cam_from_world, atol=atol)


# The camera


@few
@given(seed=seeds, dtype=dtypes)
def test_project_is_the_projection_matrix(seed, dtype):
    camera = random_camera(seed, dtype)
    uv, depth, points = in_front(camera, seed, (2, 3, 20))
    found, z = camera.project(points)
    assert found.dtype == z.dtype == dtype and found.shape == (2, 3, 20, 2)
    tolerance = UV_TOLERANCE[dtype] * (1 if dtype == torch.float64 else 20)  # points near the plane lose digits
    assert_close(found, uv, rtol=0, atol=tolerance)
    assert_close(z, depth, atol=1e-5 if dtype == torch.float32 else 1e-10)
    P = camera.K.double() @ camera.cam_from_world.double()[:3]  # Hartley and Zisserman, Eq. 6.8
    h = F.pad(points.double(), (0, 1), value=1.0) @ P.T
    assert_close(found, (h[..., :2] / h[..., 2:]).to(dtype), rtol=0, atol=tolerance)


@few
@given(seed=seeds, dtype=dtypes)
def test_unproject_undoes_project(seed, dtype):
    camera = random_camera(seed, dtype)
    _, _, points = in_front(camera, seed, (4, 5))
    assert_close(camera.unproject(*camera.project(points)), points, atol=1e-5 if dtype == torch.float32 else 1e-11)
    one = points[1, 2]
    assert_close(camera.project(one)[0], camera.project(points)[0][1, 2], atol=1e-3)


def test_unproject_broadcasts():
    camera = orbit(0.3, size=(20, 30))
    uv, depth = torch.rand(4, 1, 2) * 20, torch.rand(5) + 1
    points = camera.unproject(uv, depth)
    assert points.shape == (4, 5, 3)
    assert_close(camera.project(points)[1], depth.expand(4, 5), atol=1e-5)
    assert_close(camera.project(points)[0], uv.expand(4, 5, 2), atol=1e-4)


@few
@given(seed=seeds, dtype=dtypes)
def test_rays_hit_what_project_says(seed, dtype):
    camera = random_camera(seed, dtype).resized((7, 11))
    origins, directions = camera.rays()
    assert origins.shape == directions.shape == (7, 11, 3) and origins.stride()[:2] == (0, 0)
    assert_close(directions.norm(dim=-1), torch.ones(7, 11, dtype=dtype))
    assert_close(origins[3, 4], camera.center)
    assert_close(camera.cam_from_world[:3, :3] @ camera.center + camera.cam_from_world[:3, 3], torch.zeros(3, dtype=dtype), atol=1e-5)
    length = torch.rand(7, 11, 1, generator=draw(seed), dtype=dtype) * 3 + 0.5
    uv, depth = camera.project(origins + length * directions)
    v, u = torch.meshgrid(torch.arange(7) + 0.5, torch.arange(11) + 0.5, indexing="ij")
    rounding = 50 * torch.finfo(dtype).eps * float(camera.K.abs().max())  # a narrow picture stretched has focal lengths of 1e4 pixels
    assert_close(uv, torch.stack((u, v), dim=-1).to(dtype), rtol=0, atol=rounding + 20 * torch.finfo(dtype).eps)
    assert (depth > 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rays_are_those_of_sphere_tracing(dtype):
    eye, target = torch.tensor([2.0, 1.0, -1.5], dtype=dtype), torch.tensor([0.1, 0.2, 0.3], dtype=dtype)
    fov = torch.tensor(0.9, dtype=dtype)
    camera = Camera(intrinsics((9, 14), fov), look_at(eye, target), (9, 14))
    assert_close(camera.rays(), pinhole_rays((9, 14), fov, eye, target))


def test_behind_the_camera_there_is_no_picture():
    camera = Camera(intrinsics((10, 20), 1.0), torch.eye(4), (10, 20))
    points = torch.tensor([[0.0, 0.0, 1.0], [0.1, 0.0, -1.0], [0.1, 0.0, 0.0], [1.0, 1.0, 1e-3]], requires_grad=True)
    uv, depth = camera.project(points)
    assert uv[0].tolist() == [10, 5] and uv[1:3].isnan().all() and uv[3].isfinite().all()
    assert depth.tolist() == pytest.approx([1, -1, 0, 1e-3])
    uv[depth > 0].sum().backward()
    assert points.grad.isfinite().all() and not points.grad[1:3].any()
    points.grad = None
    torch.where((depth > 0)[:, None], camera.project(points)[0], 0.0).sum().backward()
    assert points.grad.isfinite().all() and not points.grad[1:3].any()


@few
@given(seed=seeds, scale=st.floats(0.1, 5))
def test_resized_scales_the_picture(seed, scale):
    camera = random_camera(seed)
    size = tuple(max(1, round(n * scale)) for n in camera.size)
    uv, _, points = in_front(camera, seed)
    factor = torch.tensor([size[1] / camera.size[1], size[0] / camera.size[0]], dtype=torch.float64)
    assert_close(camera.resized(size).project(points)[0], uv * factor, atol=1e-9)
    same_camera(camera.resized(size).resized(camera.size), camera)


def test_a_camera_is_a_value():
    camera = orbit(0.2)
    wide = camera.to(torch.float64)
    assert wide.K.dtype == wide.cam_from_world.dtype == wide.center.dtype == torch.float64 and wide.size == camera.size
    with pytest.raises(AttributeError):
        camera.near = 1.0
    assert Camera(camera.K, camera.cam_from_world, [3, 4]).size == (3, 4)
    assert "256" in repr(camera)


# Constructors


@few
@given(fov=st.floats(0.05, 3.0), height=st.integers(1, 2000), width=st.integers(1, 2000))
def test_the_field_of_view_spans_the_picture(fov, height, width):
    fov = torch.tensor(fov, dtype=torch.float64)
    camera = Camera(intrinsics((height, width), fov), torch.eye(4, dtype=torch.float64), (height, width))
    middle = torch.tensor([[width / 2, 0.0], [width / 2, height]], dtype=torch.float64)
    top, bottom = F.normalize(camera.unproject(middle, torch.ones(2, dtype=torch.float64)), dim=1)
    assert_close(torch.atan2(torch.linalg.cross(top, bottom).norm(), top @ bottom), fov, rtol=1e-9)
    assert camera.K[0, 0] == camera.K[1, 1]


@few
@given(seed=seeds, dtype=dtypes)
def test_look_at_looks_at(seed, dtype):
    eye, target, up = torch.randn(3, 3, generator=draw(seed), dtype=dtype)
    camera = Camera(intrinsics((20, 30), torch.tensor(1.0, dtype=dtype)), look_at(eye, target, up), (20, 30))
    uv, depth = camera.project(target)
    assert_close(uv, torch.tensor([15.0, 10.0], dtype=dtype), atol=1e-4)
    assert_close(depth, (target - eye).norm(), atol=1e-5)
    assert_close(camera.center, eye, atol=1e-5)
    higher = camera.project(target + 1e-3 * up)[0]
    assert higher[1] < uv[1] and abs(higher[0] - uv[0]) < 1e-3  # up goes up in the picture, and not aside
    assert_close(look_at(eye, target, 10 * up), camera.cam_from_world, atol=1e-5)
    poses._poses("T", camera.cam_from_world)


def test_orbit_goes_round():
    assert_close(orbit(0.0, 0.0, distance=2.0).center, torch.tensor([0.0, 0, 2]), atol=1e-6)
    assert_close(orbit(math.pi / 2, 0.0, distance=2.0).center, torch.tensor([2.0, 0, 0]), atol=1e-6)
    assert_close(orbit(0.3, math.pi / 2, target=(1.0, 2.0, 3.0)).center, torch.tensor([1.0, 4.5, 3.0]), atol=1e-6)
    for azimuth in torch.linspace(-4, 4, 9, dtype=torch.float64):
        camera = orbit(azimuth, 0.7, distance=1.3, target=(0.1, 0.2, -0.3))
        assert camera.K.dtype == torch.float64
        assert_close(camera.cam_from_world, look_at(camera.center, (0.1, 0.2, -0.3)))
    top = orbit(torch.tensor(0.4, dtype=torch.float64), math.pi / 2)
    poses._poses("T", top.cam_from_world)
    assert_close(top.cam_from_world, orbit(torch.tensor(0.4, dtype=torch.float64), math.pi / 2 - 1e-9).cam_from_world, atol=1e-8)


# Gradients


def test_gradients():
    base = random_camera(3)
    uv, depth, points = in_front(base, 3, (4,))

    def camera(k, xi):
        fx, s, cx, fy, cy = k
        zero, one = torch.zeros_like(fx), torch.ones_like(fx)
        K = torch.stack([torch.stack(r) for r in ((fx, s, cx), (zero, fy, cy), (zero, zero, one))])
        return Camera(K, poses.exp(xi) @ base.cam_from_world, (3, 4))

    k = torch.stack([base.K[0, 0], base.K[0, 1], base.K[0, 2], base.K[1, 1], base.K[1, 2]])
    xi = torch.zeros(6, dtype=torch.float64)
    assert_grad(lambda k, xi, p: camera(k, xi).project(p), k, xi, points)
    assert_grad(lambda k, xi, uv, z: camera(k, xi).unproject(uv, z), k, xi, uv, depth)
    assert_grad(lambda k, xi: camera(k, xi).rays(), k, xi)
    assert_grad(lambda k, xi: clip_from_world(camera(k, xi)), k, xi)
    assert_grad(lambda k, xi: camera(k, xi).resized((7, 9)).center * 1.0, k, xi)
    numbers = torch.tensor([0.3, 0.2, 3.0, 0.8], dtype=torch.float64)
    assert_grad(lambda a, e, r, fov: orbit(a, e, r, fov=fov).project(points * 0.1), *numbers)
    assert_grad(look_at, *torch.randn(3, 3, generator=draw(0), dtype=torch.float64))


# The other systems


@few
@given(seed=seeds, far=st.floats(2.0, 1000.0))
def test_opengl(seed, far):
    camera = random_camera(seed)
    uv, depth, points = in_front(camera, seed)
    view, projection = to_opengl(camera, far)
    eye = F.pad(points, (0, 1), value=1.0) @ view.T
    assert_close(eye[:, 2], -depth, atol=1e-9)  # looks along -z
    clip = eye @ projection.T
    assert_close(clip, F.pad(points, (0, 1), value=1.0) @ clip_from_world(camera, far).T, atol=1e-8)
    assert_close(clip[:, 3], depth, atol=1e-9)
    ndc = clip[:, :3] / clip[:, 3:]
    height, width = camera.size
    assert_close(torch.stack(((ndc[:, 0] + 1) * width / 2, (1 - ndc[:, 1]) * height / 2), dim=1), uv, atol=1e-8)
    n = camera.near  # depth as glFrustum maps it
    assert_close(ndc[:, 2], (far + n) / (far - n) - 2 * far * n / (far - n) / depth, atol=1e-8)
    same_camera(from_opengl(view, projection, camera.size), camera)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_opengl_frustum_of_a_plain_camera(dtype):
    """gluPerspective's matrix, as its manual page has it."""
    fov, (height, width), n, f = 0.8, (300, 500), 0.01, 50.0
    camera = orbit(torch.tensor(0.0, dtype=dtype), size=(height, width), fov=fov)
    cot = 1 / math.tan(fov / 2)
    expected = [[cot * height / width, 0, 0, 0], [0, cot, 0, 0], [0, 0, (f + n) / (n - f), 2 * f * n / (n - f)], [0, 0, -1, 0]]
    assert_close(to_opengl(camera, f)[1], torch.tensor(expected, dtype=dtype))
    same_camera(from_opengl(*to_opengl(camera, f), camera.size), camera, atol=1e-6)


@few
@given(seed=seeds)
def test_opencv(seed):
    camera = random_camera(seed)
    R, t, K = to_opencv(camera)
    same_camera(from_opencv(R, t, K, camera.size, camera.near), camera)
    same_camera(from_opencv(poses.so3_log(R)[:, None].numpy(), t[:, None].numpy(), K.numpy(), camera.size, camera.near), camera)
    uv, _, points = in_front(camera, seed)
    p = (points @ R.T + t) @ K.T
    assert_close(p[:, :2] / p[:, 2:] + 0.5, uv, atol=1e-8)


def test_opencv_itself():
    cv2 = pytest.importorskip("cv2")
    for seed in range(20):
        camera = random_camera(seed, skew=False)
        uv, _, points = in_front(camera, seed)
        R, t, K = to_opencv(camera)
        theirs, _ = cv2.projectPoints(points.numpy(), poses.so3_log(R).numpy(), t.numpy(), K.numpy(), None)
        assert_close(torch.from_numpy(theirs[:, 0]) + 0.5, uv, atol=1e-8)


def test_opencv_resizes_as_the_book():
    """cv2.resize keeps the picture, so a spot of light must stay where the resized camera sees it."""
    cv2 = pytest.importorskip("cv2")
    camera = orbit(0.3, size=(40, 60))
    point = camera.unproject(torch.tensor([20.5, 12.5]), torch.tensor(2.0))
    picture = np.zeros((40, 60), np.float32)
    picture[12, 20] = 1
    large = cv2.resize(picture, (240, 160), interpolation=cv2.INTER_LINEAR)
    v, u = np.mgrid[:160, :240] + 0.5
    centroid = torch.tensor([(large * u).sum(), (large * v).sum()]) / large.sum()
    assert_close(camera.resized((160, 240)).project(point)[0], centroid.float(), atol=1e-3)


@few
@given(seed=seeds)
def test_pytorch3d_by_its_formula(seed):
    camera = random_camera(seed, skew=False)
    uv, _, points = in_front(camera, seed)
    there = to_pytorch3d(camera)
    p = points @ there["R"][0] + there["T"][0]
    assert_close(there["principal_point"] - there["focal_length"] * p[:, :2] / p[:, 2:], uv, atol=1e-8)
    same_camera(from_pytorch3d(**there, near=camera.near), camera)
    height, width = camera.size
    half = min(height, width) / 2
    ndc = there | {"focal_length": there["focal_length"] / half, "in_ndc": True, "image_size": camera.size}
    ndc["principal_point"] = (torch.tensor([[width / 2, height / 2]], dtype=torch.float64) - there["principal_point"]) / half
    same_camera(from_pytorch3d(**ndc, near=camera.near), camera)


def test_pytorch3d_itself():
    renderer = pytest.importorskip("pytorch3d.renderer")
    for seed in range(10):
        camera = random_camera(seed, torch.float32, skew=False)
        uv, depth, points = in_front(camera, seed)
        theirs = renderer.PerspectiveCameras(**to_pytorch3d(camera))
        assert_close(theirs.transform_points_screen(points)[:, :2], camera.project(points)[0], rtol=1e-4, atol=0.05)
        assert_close(theirs.get_camera_center()[0], camera.center, atol=1e-4)
        assert_close(theirs.get_world_to_view_transform().transform_points(points)[:, 2], depth, atol=1e-4)
    theirs = renderer.PerspectiveCameras(focal_length=2.0, principal_point=((0.1, -0.2),), image_size=((30, 50),))
    c = from_pytorch3d(theirs.R, theirs.T, theirs.focal_length, theirs.principal_point, theirs.image_size, in_ndc=theirs.in_ndc())
    points = torch.tensor([[0.2, 0.1, 2.0], [-0.3, 0.4, 3.0]])
    assert_close(c.project(points)[0], theirs.transform_points_screen(points)[:, :2], atol=1e-4)


@few
@given(seed=seeds, fit=st.sampled_from(["AUTO", "HORIZONTAL", "VERTICAL"]), z_up=st.booleans())
def test_blender_round_trip_and_sensor_geometry(seed, fit, z_up):
    camera = random_camera(seed, skew=False)
    there = to_blender(camera, z_up)
    assert min(there["pixel_aspect"]) == 1  # Blender takes no less
    same_camera(from_blender(**there), camera)
    # any other fit: a sensor of that many millimetres behind a lens of that focal length, spread over the pixels
    r = torch.rand(6, generator=draw(seed), dtype=torch.float64).tolist()
    aspect = (1.0, 1 + r[0])
    there |= {
        "sensor_fit": fit,
        "sensor_width": 20 + 20 * r[1],
        "sensor_height": 15 + 10 * r[2],
        "shift": (r[3] - 0.5, r[4] - 0.5),
        "pixel_aspect": aspect,
    }
    found = from_blender(**there)
    height, width = camera.size
    wide, tall = width * aspect[0], height * aspect[1]  # the picture's shape as it is looked at
    horizontal = fit == "HORIZONTAL" or (fit == "AUTO" and wide >= tall)
    scale = (there["sensor_height"] if fit == "VERTICAL" else there["sensor_width"]) / (wide if horizontal else tall)  # mm a unit
    mm_wide, mm_tall = wide * scale, tall * scale
    across = max(wide, tall) if fit == "AUTO" else (wide if horizontal else tall)
    uv, depth, points = in_front(found, seed)
    local = points @ found.cam_from_world[:3, :3].T + found.cam_from_world[:3, 3]
    x, y = (there["lens"] * local[:, :2] / local[:, 2:]).unbind(1)  # millimetres right and down on the sensor
    x, y = x - there["shift"][0] * across * scale, y + there["shift"][1] * across * scale
    assert_close(torch.stack(((x / mm_wide + 0.5) * width, (y / mm_tall + 0.5) * height), dim=1), uv, atol=1e-8)


# fmt: off
BLENDER = [  # sensor_fit, size, pixel_aspect, lens, sensor, shift; matrix_world; P00, P02, P11, P12, a world point, its view coordinates
    ("AUTO", (480, 640), (1, 1), 28.061855, (36.948673, 26.456619), (-0.146959, -0.002739),
     [(0.817365, 1.205358, -1.370776, -0.303054), (-1.719233, 1.013005, -0.134383, 0.909558), (0.613312, 1.233262, 1.450143, 1.73234)],
     (1.518964, -0.293917, 2.025286, -0.007304), (2.442636, 0.459952, -1.230605), (0.760881, 0.402388, 4)),
    ("AUTO", (640, 480), (1, 1), 45.966022, (35.245602, 15.03159), (-0.032768, 0.132924),
     [(-0.927624, 0.322845, 0.187846, -1.627427), (-0.235355, -0.895721, 0.377215, 2.671624), (0.290039, 0.305703, 0.906875, 2.408565)],
     (3.477769, -0.08738, 2.608327, 0.265848), (-2.345974, 2.025732, 0.620685), (0.804523, 0.23666, 2)),
    ("HORIZONTAL", (300, 500), (1, 1), 76.348953, (27.624084, 18.248991), (-0.04673, -0.282576),
     [(0.010228, -0.293139, 1.978374, -1.66985), (0.087384, -1.976445, -0.293305, -0.372674), (1.998064, 0.087939, 0.0027, -0.025127)],
     (5.527709, -0.09346, 9.212848, -0.941918), (-5.564902, 0.635441, 0.551304), (0.961308, 0.510317, 4)),
    ("HORIZONTAL", (500, 300), (1, 1.25), 47.576206, (25.795631, 15.322346), (0.202547, 0.033873),
     [(-0.347579, -0.808999, -0.474035, 0.853766), (0.545908, 0.236439, -0.803791, -1.884562), (0.762347, -0.53816, 0.359458, 2.955261)],
     (3.688703, 0.405094, 1.770577, 0.032518), (1.859362, -0.160495, 2.57268), (0.574106, 0.395212, 2)),
    ("VERTICAL", (300, 500), (1, 1), 63.289066, (34.223835, 29.046608), (-0.046736, 0.198021),
     [(-0.969556, 1.351535, -1.110547, 1.021833), (-0.030748, -1.282694, -1.534194, -1.179789), (-1.749004, -0.72667, 0.6426, 0.525484)],
     (2.614655, -0.056083, 4.357759, 0.396043), (2.681753, 2.135914, -1.139084), (0.724141, 0.084091, 4)),
    ("VERTICAL", (500, 300), (1.5, 1), 55.340134, (20.690517, 18.6411), (0.178443, -0.051412),
     [(0.682031, -0.372995, -0.629053, -1.961956), (-0.261581, 0.678831, -0.686122, 0.292793), (0.682941, 0.632505, 0.365415, 1.218245)],
     (6.597147, 0.396539, 5.937432, -0.102823), (-0.424641, 1.450796, 0.565795), (0.796517, 0.25454, 2)),
    ("AUTO", (500, 520), (1, 1.5), 50.505589, (35.568851, 22.814075), (-0.064047, -0.006184),
     [(1.36154, -0.95242, -1.11315, -2.82255), (-1.010348, -1.710901, 0.228062, -2.739076), (-1.060851, 0.407077, -1.645869, 1.220293)],
     (4.095977, -0.184751, 2.839877, -0.012368), (0.002696, -3.156125, 4.11236), (0.899574, 0.36419, 4)),
    ("AUTO", (520, 500), (2, 1), 30.220951, (30.044771, 29.73115), (0.162314, 0.02377),
     [(0.866313, -0.040278, -0.497874, 2.161739), (-0.216791, -0.928291, -0.302123, -1.606943), (-0.450003, 0.369668, -0.812922, 0.08263)],
     (2.011728, 0.324628, 3.868708, 0.091425), (3.425437, -0.882076, 1.49954), (0.488566, 0.260852, 2)),
]
# fmt: on


@pytest.mark.parametrize("case", range(len(BLENDER)))
def test_blender_itself(case):
    """Settings, the projection matrix and `world_to_camera_view` of a point as Blender 4.5.15 (bpy) gave them; odd ones unscaled."""
    fit, size, aspect, lens, sensor, shift, matrix, (p00, p02, p11, p12), point, view = BLENDER[case]
    there = {
        "lens": lens,
        "size": size,
        "sensor_width": sensor[0],
        "sensor_height": sensor[1],
        "sensor_fit": fit,
        "shift": shift,
        "pixel_aspect": aspect,
    }
    matrix = torch.tensor([*matrix, (0, 0, 0, 1)], dtype=torch.float64)
    camera = from_blender(matrix, **there)
    (height, width), K = camera.size, camera.K
    expected = [[p00 * width / 2, 0, (1 - p02) * width / 2], [0, p11 * height / 2, (1 + p12) * height / 2], [0, 0, 1]]
    assert_close(K, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=2e-3)
    x, y, z = point
    uv, depth = camera.project(torch.tensor([x, z, -y], dtype=torch.float64))  # the book has y up
    assert_close(uv, torch.tensor([view[0] * width, (1 - view[1]) * height], dtype=torch.float64), atol=2e-3)
    assert float(depth) == pytest.approx(view[2], abs=1e-5)
    kept = from_blender(matrix, **there, z_up=False)
    assert_close(kept.project(torch.tensor(point, dtype=torch.float64))[0], uv, atol=1e-9)


# Textures


def four_fetches(texture, uv):
    """Bilinear look-up, written for one sample at a time in plain Python."""
    h, w, _ = texture.shape
    out = []
    for u, v in uv.reshape(-1, 2).tolist():
        x, y = u * w - 0.5, (1 - v) * h - 0.5
        j, i = math.floor(x), math.floor(y)
        a, b = x - j, y - i
        cell = [[texture[(i + di) % h, (j + dj) % w] for dj in (0, 1)] for di in (0, 1)]
        out.append((1 - b) * ((1 - a) * cell[0][0] + a * cell[0][1]) + b * ((1 - a) * cell[1][0] + a * cell[1][1]))
    return torch.stack(out).reshape(*uv.shape[:-1], -1)


@few
@given(seed=seeds, h=st.integers(1, 9), w=st.integers(1, 9), channels=st.integers(1, 4), dtype=dtypes)
def test_texture_is_four_fetches(seed, h, w, channels, dtype):
    texture = torch.rand(h, w, channels, generator=draw(seed), dtype=dtype)
    uv = torch.rand(3, 8, 2, generator=draw(seed + 1), dtype=dtype) * 6 - 3
    uv[0, 0], uv[1, 1], uv[2, 2] = torch.zeros(2), torch.ones(2), torch.tensor([0.5 / w, 1 - 0.5 / h])
    found = sample_texture(texture, uv)
    assert found.dtype == dtype and found.shape == (3, 8, channels)
    assert_close(found, four_fetches(texture, uv), atol=1e-5 if dtype == torch.float32 else 1e-12)
    assert_close(sample_texture(texture, uv[1, 2]), found[1, 2], atol=1e-6)


@few
@given(seed=seeds, shift=st.tuples(st.integers(-3, 3), st.integers(-3, 3)))
def test_texture_repeats_and_passes_through_its_texels(seed, shift):
    texture = torch.rand(4, 6, 3, generator=draw(seed), dtype=torch.float64)
    i, j = torch.meshgrid(torch.arange(4.0), torch.arange(6.0), indexing="ij")
    centres = torch.stack(((j + 0.5).double() / 6, 1 - (i + 0.5).double() / 4), dim=-1)
    assert_close(sample_texture(texture, centres + torch.tensor(shift)), texture, atol=1e-12)
    uv = torch.rand(20, 2, generator=draw(seed), dtype=torch.float64)
    assert_close(sample_texture(texture, uv + torch.tensor(shift)), sample_texture(texture, uv), atol=1e-12)
    # moving the texture by a texel is moving the coordinates by one
    assert_close(sample_texture(texture.roll(1, 1), uv), sample_texture(texture, uv - torch.tensor([1 / 6, 0])), atol=1e-6)


def test_far_tiles_keep_their_digits():
    texture, uv = torch.rand(61, 53, 3, generator=draw(0)), torch.rand(500, 2, generator=draw(1)) + torch.tensor([1000.0, -3000.0])
    assert_close(sample_texture(texture, uv), four_fetches(texture.double(), uv.double()).float(), atol=1e-4)


def test_texture_inside_is_grid_sample():
    texture, uv = torch.rand(32, 48, 3, generator=draw(0)), torch.rand(500, 2, generator=draw(1)) * 0.9 + 0.05
    theirs = F.grid_sample(texture.permute(2, 0, 1)[None], (uv * 2 - 1)[None, None] * torch.tensor([1.0, -1.0]), align_corners=False)
    assert_close(sample_texture(texture, uv), theirs[0, :, 0].T, atol=1e-5)


def test_texture_of_a_slope_is_the_slope():
    """Bilinear interpolation keeps linear functions between the outermost centres: u right, v up."""
    i, j = torch.meshgrid(torch.arange(8.0), torch.arange(10.0), indexing="ij")
    texture = torch.stack(((j + 0.5) / 10, 1 - (i + 0.5) / 8), dim=-1)
    uv = torch.rand(200, 2, generator=draw(0)) * 0.85 + 0.07
    assert_close(sample_texture(texture, uv), uv, atol=1e-6)


def test_texture_gradients_empty_and_strided():
    texture = torch.rand(3, 4, 2, generator=draw(0), dtype=torch.float64)
    uv = torch.rand(30, 2, generator=draw(1), dtype=torch.float64) * 4 - 2
    assert_grad(sample_texture, texture, uv)
    assert sample_texture(texture, uv[:0]).shape == (0, 2)
    assert_close(sample_texture(texture.mT.contiguous().mT, uv), sample_texture(texture, uv), atol=1e-12)
    one = torch.rand(1, 1, 3, requires_grad=True)
    sample_texture(one, uv.float()).sum().backward()
    assert_close(one.grad, torch.full((1, 1, 3), 30.0), rtol=1e-5)


# Environment maps


def self_map(h, dtype=torch.float64):
    """A map whose texels hold their own direction."""
    rows, columns = (torch.arange(h, dtype=dtype) + 0.5) / h, (torch.arange(2 * h, dtype=dtype) + 0.5) / (2 * h)
    return uv_to_directions(torch.stack(torch.meshgrid(columns, 1 - rows, indexing="xy"), dim=-1))


@few
@given(seed=seeds, dtype=dtypes, scale=st.sampled_from([1.0, 1e-30, 1e30]))
def test_directions_round_trip(seed, dtype, scale):
    d = F.normalize(torch.randn(4, 5, 3, generator=draw(seed), dtype=dtype), dim=-1)
    uv = directions_to_uv(d * scale)
    assert ((uv >= 0) & (uv <= 1)).all()
    assert_close(uv_to_directions(uv), d, atol=1e-5 if dtype == torch.float32 else 1e-11)


def test_directions_by_name():
    for d, uv in (
        ((0, 0, -1), (0.5, 0.5)),
        ((1, 0, 0), (0.75, 0.5)),
        ((-1, 0, 0), (0.25, 0.5)),
        ((0, 2, 0), (0.5, 1)),
        ((0, -3, 0), (0.5, 0)),
    ):
        assert_close(directions_to_uv(torch.tensor(d, dtype=torch.float64)), torch.tensor(uv, dtype=torch.float64))
    assert directions_to_uv(torch.tensor([0.0, 0.0, 1.0]))[0] in (0, 1)
    assert_close(directions_to_uv(torch.zeros(3)), torch.tensor([0.5, 0.5]))


def test_environment_converges_to_what_it_shows():
    d = F.normalize(torch.randn(5000, 3, generator=draw(0), dtype=torch.float64), dim=1)
    d = torch.cat((d, torch.tensor([[0.0, 1, 0], [0, -1, 0], [0, 0, 1], [1e-9, 1, 1e-9], [1e-9, 0, 1]], dtype=torch.float64)))
    errors = [float((sample_environment(self_map(h), d) - d).norm(dim=1).max()) for h in (8, 16, 32)]
    assert errors[0] < 0.05 and errors[1] < 0.3 * errors[0] and errors[2] < 0.3 * errors[1]  # second order, poles and seam included


@pytest.mark.parametrize("axis", [(0.0, 1.0, 0.0), (0.0, -1.0, 0.0)])
def test_environment_is_continuous_at_the_poles(axis):
    environment = torch.rand(5, 8, 3, generator=draw(0), dtype=torch.float64)
    pole = torch.tensor(axis, dtype=torch.float64)
    expected = environment[0 if axis[1] > 0 else -1].mean(dim=0)
    assert_close(sample_environment(environment, pole), expected)
    around = pole + 1e-7 * torch.randn(50, 3, generator=draw(1), dtype=torch.float64)
    assert_close(sample_environment(environment, around), expected.expand(50, 3), atol=1e-5)


def test_environment_is_continuous_over_the_seam():
    environment = torch.rand(5, 8, 3, generator=draw(0), dtype=torch.float64)
    y = torch.linspace(-2, 2, 21, dtype=torch.float64)
    left, right = (torch.stack((torch.full_like(y, x), y, torch.ones_like(y)), dim=1) for x in (-1e-9, 1e-9))
    assert_close(sample_environment(environment, left), sample_environment(environment, right), atol=1e-7)


@few
@given(seed=seeds, steps=st.integers(-8, 8))
def test_environment_turns_with_the_world(seed, steps):
    environment = torch.rand(6, 8, 3, generator=draw(seed), dtype=torch.float64)
    d = torch.randn(30, 3, generator=draw(seed + 1), dtype=torch.float64)
    turn = poses.so3_exp(torch.tensor([0.0, -steps * 2 * math.pi / 8, 0.0], dtype=torch.float64))  # clockwise from above: u grows
    assert_close(sample_environment(environment.roll(steps, 1), d @ turn.T), sample_environment(environment, d), atol=1e-9)
    upside_down = d * torch.tensor([1.0, -1.0, 1.0])
    assert_close(sample_environment(environment.flip(0), upside_down), sample_environment(environment, d), atol=1e-9)
    mirrored = d * torch.tensor([-1.0, 1.0, 1.0])
    assert_close(sample_environment(environment.flip(1), mirrored), sample_environment(environment, d), atol=1e-9)


def test_environment_gradients_and_shapes():
    environment, d = torch.rand(4, 6, 3, generator=draw(0), dtype=torch.float64), torch.randn(25, 3, generator=draw(1), dtype=torch.float64)
    assert_grad(sample_environment, environment, d)
    poles = torch.tensor([[0.0, 1, 0], [0, -1, 0], [0, 0, 0]], requires_grad=True)
    found = sample_environment(environment.float(), poles)
    found.sum().backward()
    assert found.isfinite().all() and poles.grad.isfinite().all()
    assert sample_environment(environment, d.reshape(5, 5, 3)).shape == (5, 5, 3)
    assert sample_environment(environment, d[0]).shape == (3,) and sample_environment(environment, d[:0]).shape == (0, 3)
    assert_close(sample_environment(torch.full((1, 1, 3), 0.7), d.float()), torch.full((25, 3), 0.7))


# To the screen


@few
@given(seed=seeds, scale=st.floats(1e-4, 1e4))
def test_tone_map(seed, scale):
    radiance = torch.randn(20, 20, 3, generator=draw(seed), dtype=torch.float64).mul(2).exp()
    shown = tone_map(radiance)
    assert shown.min() >= 0 and shown.max() <= 1
    assert_close(tone_map(radiance * scale), shown, rtol=1e-6)  # automatic exposure does not know the unit
    ratio, kept = radiance / radiance.amax(-1, keepdim=True), (shown < 1).all(-1)
    assert_close((shown / shown.amax(-1, keepdim=True))[kept], ratio[kept])  # hue


def test_tone_map_curve():
    grey = torch.linspace(0, 4, 50, dtype=torch.float64)
    shown = tone_map(grey[:, None].expand(50, 3), exposure=1.0, white=4.0)[:, 0]
    assert_close(shown, grey * (1 + grey / 16) / (1 + grey))
    assert shown[0] == 0 and float(shown[-1]) == pytest.approx(1) and (shown.diff() > 0).all()
    assert_close(tone_map(torch.full((4, 4, 3), 7.0), white=4.0), torch.full((4, 4, 3), 0.18 * (1 + 0.18 / 16) / 1.18), rtol=1e-3)
    assert not tone_map(torch.zeros(4, 4, 3)).any()
    assert_grad(tone_map, torch.rand(3, 4, 3, generator=draw(0), dtype=torch.float64) * 0.2)


# Errors


CAMERA = orbit(0.1)
EYE4 = torch.eye(4)
WRONG = {
    "K of float16": (lambda: Camera(CAMERA.K.half(), CAMERA.cam_from_world, (3, 4)), "K must be a float32"),
    "batched K": (lambda: Camera(CAMERA.K[None], CAMERA.cam_from_world, (3, 4)), "one camera"),
    "K and pose of two types": (lambda: Camera(CAMERA.K, CAMERA.cam_from_world.double(), (3, 4)), "cam_from_world"),
    "negative focal length": (lambda: Camera(-CAMERA.K, CAMERA.cam_from_world, (3, 4)), "K is"),
    "K with NaN": (lambda: Camera(CAMERA.K * math.nan, CAMERA.cam_from_world, (3, 4)), "K is"),
    "pose that scales": (lambda: Camera(CAMERA.K, 2 * EYE4, (3, 4)), "cam_from_world"),
    "mirrored pose": (lambda: Camera(CAMERA.K, torch.diag(torch.tensor([-1.0, 1, 1, 1])), (3, 4)), "rotation"),
    "empty picture": (lambda: Camera(CAMERA.K, EYE4, (0, 4)), "size"),
    "half a pixel": (lambda: Camera(CAMERA.K, EYE4, (1.5, 4)), "size"),
    "size of one number": (lambda: Camera(CAMERA.K, EYE4, 5), "size"),
    "near of zero": (lambda: Camera(CAMERA.K, EYE4, (3, 4), near=0.0), "near"),
    "points of whole numbers": (lambda: CAMERA.project(torch.ones(3, dtype=torch.int64)), "points"),
    "flat points": (lambda: CAMERA.project(torch.ones(5, 2)), "points"),
    "points of another type": (lambda: CAMERA.project(torch.ones(5, 3).double()), "points"),
    "depth as a number": (lambda: CAMERA.unproject(torch.ones(5, 2), 1.0), "depth"),
    "fov of pi": (lambda: intrinsics((3, 4), math.pi), "fov"),
    "two fovs": (lambda: intrinsics((3, 4), torch.ones(2)), "fov"),
    "fov in words": (lambda: intrinsics((3, 4), "wide"), "fov"),
    "eye on target": (lambda: look_at((1, 2, 3), (1, 2, 3)), "one point"),
    "looking up": (lambda: look_at((0, 0, 0), (0, 3, 0)), "along `up`"),
    "no up": (lambda: look_at((0, 0, 0), (0, 0, 1), (0, 0, 0)), "along `up`"),
    "eye of two numbers": (lambda: look_at((0, 0)), "eye"),
    "eye at infinity": (lambda: look_at((0, 0, math.inf)), "eye"),
    "orbit at no distance": (lambda: orbit(distance=0.0), "distance"),
    "far before near": (lambda: to_opengl(CAMERA, 0.001), "far"),
    "orthographic projection": (lambda: from_opengl(EYE4, EYE4, (3, 4)), "perspective"),
    "transposed projection": (lambda: from_opengl(to_opengl(CAMERA)[0], to_opengl(CAMERA)[1].T, (3, 4)), "perspective"),
    "OpenCV's t of two numbers": (lambda: from_opencv(torch.eye(3), torch.ones(2), CAMERA.K, (3, 4)), "shapes"),
    "skew for PyTorch3D": (lambda: to_pytorch3d(random_camera(1)), "skew"),
    "skew for Blender": (lambda: to_blender(random_camera(1)), "skew"),
    "two of PyTorch3D's cameras": (
        lambda: from_pytorch3d(torch.eye(3).expand(2, 3, 3), torch.ones(2, 3), torch.ones(1), torch.ones(2, 2), (3, 4)),
        "one",
    ),
    "Blender's unknown fit": (lambda: from_blender(EYE4, 50.0, (3, 4), sensor_fit="FILL"), "sensor_fit"),
    "Blender's lens of zero": (lambda: from_blender(EYE4, 0.0, (3, 4)), "lens"),
    "Blender's sheared object": (lambda: from_blender(EYE4 + torch.ones(4, 4).triu(1), 50.0, (3, 4)), "matrix_world"),
    "texture without channels": (lambda: sample_texture(torch.ones(4, 4), torch.ones(1, 2)), "texture"),
    "empty texture": (lambda: sample_texture(torch.ones(0, 4, 3), torch.ones(1, 2)), "texture"),
    "uv with NaN": (lambda: sample_texture(torch.ones(4, 4, 3), torch.full((1, 2), math.nan)), "uv"),
    "uv of another type": (lambda: sample_texture(torch.ones(4, 4, 3), torch.ones(1, 2).double()), "uv"),
    "directions with infinity": (lambda: sample_environment(torch.ones(4, 4, 3), torch.full((1, 3), math.inf)), "directions"),
    "directions of another type": (lambda: sample_environment(torch.ones(4, 4, 3), torch.ones(3).double()), "directions"),
    "exposure of zero": (lambda: tone_map(torch.ones(3), exposure=0.0), "exposure"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_named(name):
    call, word = WRONG[name]
    with pytest.raises(InputError, match=word):
        call()


# CUDA


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cuda_agrees(dtype):
    camera = random_camera(0, dtype, skew=False).resized((30, 40))
    there = camera.to("cuda")
    uv, depth, points = in_front(camera, 0)
    assert_close(there.project(points.cuda())[0].cpu(), camera.project(points)[0], atol=UV_TOLERANCE[dtype])
    assert_close(there.rays()[1].cpu(), camera.rays()[1], atol=1e-5)
    assert there.unproject(uv.cuda(), depth.cuda()).is_cuda and orbit(torch.tensor(0.3, device="cuda")).K.is_cuda
    same_camera(from_opengl(*to_opengl(there), there.size).to("cpu"), camera, atol=1e-4)
    same_camera(from_pytorch3d(**to_pytorch3d(there), near=camera.near).to("cpu"), camera, atol=1e-5)
    same_camera(from_blender(**to_blender(there)).to("cpu"), camera, atol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_cuda_look_ups_agree():
    image, uv, d = torch.rand(8, 16, 3), torch.rand(1000, 2) * 4 - 2, torch.randn(1000, 3)
    assert_close(sample_texture(image.cuda(), uv.cuda()).cpu(), sample_texture(image, uv), atol=1e-4)
    assert_close(sample_environment(image.cuda(), d.cuda()).cpu(), sample_environment(image, d), atol=1e-4)
    assert_close(tone_map(image.cuda()).cpu(), tone_map(image))
