"""Eq. 8, peaks, the descriptor database, camera to robot, and the pinch: against closed forms, slow twins and made-up surfaces."""

import json
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from densebook.core.errors import InputError
from densebook.data import toy
from densebook.don import grasping
from densebook.don.grasping import DescriptorDatabase
from densebook.geometry.mesh import Mesh, is_watertight, join, sample_surface, transform
from densebook.geometry.poses import exp, inverse
from densebook.render.cameras import Camera, intrinsics, look_at, orbit
from densebook.render.rasterizer import rasterize
from densebook.testing import assert_close, assert_grad

both = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def hill(uv, size=(40, 60), width=2.0, height=1.0, dtype=torch.float64):
    v, u = torch.meshgrid(*(torch.arange(n, dtype=dtype) + 0.5 for n in size), indexing="ij")
    return height * torch.exp(-((u - uv[0]) ** 2 + (v - uv[1]) ** 2) / (2 * width**2))


# Eq. 8


@both
def test_heatmap_is_the_formula_pixel_by_pixel(dtype):
    query, features = draw(3, 5, dtype=dtype), draw(5, 6, 7, seed=1, dtype=dtype)
    heat = grasping.heatmap(query, features, 0.4)
    assert heat.shape == (3, 6, 7) and heat.dtype == dtype
    for k, v, u in ((0, 0, 0), (1, 5, 6), (2, 3, 2)):
        distance = math.dist(query[k].tolist(), features[:, v, u].tolist())
        assert_close(heat[k, v, u], math.exp(-(distance**2) / math.exp(0.4)), rtol=1e-5 if dtype == torch.float32 else 1e-12)


def test_heat_is_one_at_the_descriptor_itself_and_falls_to_a_third_at_the_distance_that_the_temperature_names():
    features = draw(4, 5, 6)
    heat = grasping.heatmap(features[:, 2, 3], features)
    assert_close(heat[2, 3], 1.0)
    assert heat.flatten().argmax() == 2 * 6 + 3
    away = torch.zeros(4, 1, 1, dtype=torch.float64)
    away[0] = 0.3
    assert_close(grasping.heatmap(torch.zeros(4, dtype=torch.float64), away, 2 * math.log(0.3))[0, 0], math.exp(-1))


@given(st.floats(-6, 4), st.integers(0, 1000))
@settings(deadline=None, max_examples=15)
def test_temperature_moves_no_peak(temperature, seed):
    features = draw(8, 9, 11, seed=seed) * 0.3
    squared = grasping.squared_distances(features[:, 4, 5] + 0.01, features)
    assert grasping.heatmap(features[:, 4, 5] + 0.01, features, temperature).argmax() == squared.argmin() == 4 * 11 + 5
    found = grasping.locate(squared, temperature, radius=0)
    assert found.uv.tolist() == [5.5, 4.5]
    rival = grasping.peaks(grasping.heatmap(features[:, 4, 5] + 0.01, features, temperature), 2)
    assert_close(found.heat * found.ratio, rival[1][1], rtol=1e-6)


def test_locate_still_answers_where_the_heatmap_has_underflowed():
    squared = 5 + (1 - hill((20.3, 10.7)))
    heat = torch.exp(-squared / math.exp(-6))
    assert (heat == 0).all(), "nothing to take the argmax of"
    found = grasping.locate(squared, -1.0, radius=4)
    assert math.dist(found.uv.tolist(), (20.3, 10.7)) < 0.1
    assert grasping.locate(squared, -6.0).uv[0] > 18


def test_heatmap_gradient():
    assert_grad(lambda q, f: grasping.heatmap(q, f, 1.1), draw(2, 3), draw(3, 4, 4, seed=1))


@pytest.mark.parametrize(
    "query, features, temperature, words",
    [
        (draw(4), draw(3, 5, 5), 1.0, "same D"),
        (draw(4), draw(4, 5, 5).float(), 1.0, "one type"),
        (draw(4), draw(4, 5, 5), math.inf, "temperature"),
        (draw(4), draw(4, 5, 5), "hot", "temperature"),
        (draw(4) * math.nan, draw(4, 5, 5), 1.0, "query holds NaN"),
        (draw(4), torch.zeros(4, 0, 5, dtype=torch.float64), 1.0, "features"),
        (torch.zeros(0, dtype=torch.float64), draw(4, 5, 5), 1.0, "query"),
        ([1.0], draw(4, 5, 5), 1.0, "query is list"),
    ],
)
def test_heatmap_refuses(query, features, temperature, words):
    with pytest.raises(InputError, match=words):
        grasping.heatmap(query, features, temperature)


# peaks


def test_peaks_finds_hills_in_order_and_not_the_slope_of_the_first():
    heat = hill((12.5, 10.5)) + hill((40.5, 30.5), height=0.6) + hill((50.5, 5.5), height=0.3)
    uv, value = grasping.peaks(heat, 4, apart=3.0)
    assert_close(uv[:3], torch.tensor([[12.5, 10.5], [40.5, 30.5], [50.5, 5.5]], dtype=torch.float64))
    assert_close(value, torch.tensor([1.0, 0.6, 0.3, 0.0], dtype=torch.float64), atol=1e-9)
    assert uv[3].isnan().all()


def test_peaks_batches_and_keeps_its_distance():
    heat = torch.stack([hill((20.5, 20.5)) + hill((26.5, 20.5), height=0.9), hill((5.5, 5.5))])
    uv, value = grasping.peaks(heat[:, None], 2, apart=10.0)
    assert uv.shape == (2, 1, 2, 2) and value.shape == (2, 1, 2)
    assert value[0, 0, 1] == 0 and uv[1, 0, 0].tolist() == [5.5, 5.5]
    near, _ = grasping.peaks(heat, 2, apart=4.0)
    assert near[0, 1, 0] > 25


def test_a_flat_map_is_all_rivals():
    assert grasping.locate(torch.ones(20, 30)).ratio == 1
    bowl = -torch.log(hill((20.5, 20.5)))
    assert grasping.locate(bowl).ratio == 0, "one hill has no rival"
    assert grasping.locate(bowl).rival.isnan().all()


@given(st.floats(8, 50), st.floats(8, 30))
@settings(deadline=None, max_examples=25)
def test_expectation_finds_the_middle_of_a_hill_between_pixels(u, v):
    pixel, _ = grasping.peaks(hill((u, v), width=1.2), 1)
    assert math.dist(pixel[0].tolist(), (u, v)) <= math.sqrt(0.5) + 1e-9
    squared = -2 * torch.log(hill((u, v), width=1.2) + 1e-12)
    found = grasping.locate(squared, math.log(2), radius=4)
    assert math.dist(found.uv.tolist(), (u, v)) < 0.02


def test_expectation_over_a_floor_needs_the_floor_taken_off():
    heat = hill((30.25, 20.75), width=1.2) + 3
    assert_close(grasping.refine(heat, torch.tensor([30.5, 20.5], dtype=torch.float64), 4), [30.25, 20.75], atol=0.02)


def test_expectation_at_the_corner_stays_inside_and_flat_heat_moves_nothing():
    uv = grasping.refine(hill((0.5, 0.5)), torch.tensor([0.5, 0.5], dtype=torch.float64), 3)
    assert 0 <= uv.min() and uv.max() < 2
    place = torch.tensor([7.2, 3.9], dtype=torch.float64)
    assert_close(grasping.refine(torch.ones(10, 10, dtype=torch.float64), place, 2), place)


def test_expectation_gradient():
    heat = hill((10.3, 8.6), size=(16, 20)) + 0.01 * draw(16, 20).abs()
    assert_grad(lambda h: grasping.refine(h, torch.tensor([10.5, 8.5], dtype=torch.float64), 3), heat)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda h: grasping.peaks(h, 0), "count"),
        (lambda h: grasping.peaks(h * math.nan), "NaN"),
        (lambda h: grasping.refine(h, torch.tensor([60.0, 3.0], dtype=torch.float64)), "leaves the picture"),
        (lambda h: grasping.refine(h, torch.tensor([[6.0, 3.0]], dtype=torch.float64)), "one \\(u, v\\) a map"),
        (lambda h: grasping.refine(h, torch.tensor([6.0, 3.0], dtype=torch.float64), -1), "radius"),
        (lambda h: grasping.median_depth(h, torch.tensor([6.0, 40.0])), "inside the picture"),
        (lambda h: grasping.median_depth(h[0], torch.tensor([6.0, 4.0])), "depth is"),
    ],
)
def test_pictures_are_checked(call, words):
    with pytest.raises(InputError, match=words):
        call(hill((3.5, 3.5)))


# the database


@pytest.fixture
def filled():
    database = DescriptorDatabase(4)
    database.add("cap", "visor", draw(3, 4))
    database.add("cap", "button", draw(4, seed=1))
    database.add("hat", "brim", draw(2, 4, seed=2))
    return database


def test_database_answers_as_a_loop_would(filled):
    asked = draw(2, 5, 4, seed=3).float()
    index, distance = filled.query(asked)
    assert index.shape == distance.shape == (2, 5)
    slow = (asked[..., None, :] - filled.descriptors).norm(dim=-1)
    assert torch.equal(index, slow.argmin(-1))
    assert_close(distance, slow.amin(-1), atol=1e-5)
    assert filled.rows[int(filled.query(draw(4, seed=1))[0])] == ("cap", "button")
    assert filled.of("cap", "visor").shape == (3, 4) and filled.of("cap").shape == (4, 4) and filled.of("hat", "brim").shape == (2, 4)


def test_database_comes_back_as_it_was(filled, tmp_path):
    path = filled.save(tmp_path / "db")
    again = DescriptorDatabase.load(tmp_path / "db")
    assert torch.equal(again.descriptors, filled.descriptors) and again.rows == filled.rows and again.dim == 4
    assert json.loads(path.read_text())["rows"][0] == ["cap", "visor"]
    empty = DescriptorDatabase(7)
    empty.save(tmp_path / "empty")
    assert DescriptorDatabase.load(tmp_path / "empty").descriptors.shape == (0, 7)


def test_saving_again_leaves_one_pair_of_files_and_other_files_alone(filled, tmp_path):
    filled.save(tmp_path)
    (tmp_path / "descriptors-mine.safetensors").write_text("mine")
    filled.add("hat", "band", draw(4, seed=9))
    filled.save(tmp_path)
    assert len(list(tmp_path.iterdir())) == 3 and len(DescriptorDatabase.load(tmp_path).rows) == 7


def test_a_cut_between_the_two_files_leaves_the_old_database(filled, tmp_path, monkeypatch):
    filled.save(tmp_path)
    filled.add("hat", "band", draw(4, seed=9))

    def cut(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(grasping.files, "write_json", cut)
    with pytest.raises(KeyboardInterrupt):
        filled.save(tmp_path)
    assert len(DescriptorDatabase.load(tmp_path).rows) == 6


def damage(folder, what):
    path = folder / "database.json"
    about = json.loads(path.read_text())
    tensors = folder / about["file"]
    if what == "tensors cut":
        tensors.write_bytes(tensors.read_bytes()[:-3])
    elif what == "tensors gone":
        tensors.unlink()
    elif what == "bit turned":
        data = bytearray(tensors.read_bytes())
        data[-1] ^= 1
        tensors.write_bytes(bytes(data))
    elif what == "json cut":
        path.write_text(path.read_text()[:40])
    elif what == "no json":
        path.unlink()
    else:
        key, value = what
        path.write_text(json.dumps(about | {key: value}))


@pytest.mark.parametrize(
    "what, words",
    [
        ("tensors cut", "damaged"),
        ("tensors gone", "missing"),
        ("bit turned", "damaged"),
        ("json cut", "JSON"),
        ("no json", "not there"),
        (("format", "other"), "format"),
        (("file", "../secret.safetensors"), "format"),
        (("rows", [["cap"]]), "format"),
        (("rows", [["cap", "visor"]]), "one each"),
        (("dim", 5), "one each"),
    ],
)
def test_damaged_databases_are_refused(filled, tmp_path, what, words):
    filled.save(tmp_path)
    damage(tmp_path, what)
    with pytest.raises(InputError, match=words):
        DescriptorDatabase.load(tmp_path)


def test_files_of_a_right_sum_but_wrong_content_are_refused(filled, tmp_path):
    from densebook.core import files

    path = filled.save(tmp_path)
    about = json.loads(path.read_text())
    (tmp_path / about["file"]).write_bytes(b"not tensors")
    path.write_text(json.dumps(about | {"sha256": files.sha256(tmp_path / about["file"])}))
    with pytest.raises(InputError, match="no tensor 'descriptors'"):
        DescriptorDatabase.load(tmp_path)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda d: DescriptorDatabase(0), "dim"),
        (lambda d: d.add("cap", "visor", draw(5)), "another network"),
        (lambda d: d.add("cap", "visor", draw(4) * math.nan), "NaN"),
        (lambda d: d.of("cup"), "did you mean 'cap'"),
        (lambda d: d.of("cap", "visir"), "did you mean 'visor'"),
        (lambda d: d.query(draw(5)), "same D"),
        (lambda d: DescriptorDatabase(4).query(draw(4)), "empty"),
    ],
)
def test_database_refuses(filled, call, words):
    with pytest.raises(InputError, match=words):
        call(filled)


# depth and frames


def test_median_depth_takes_the_median_of_what_was_measured():
    depth = torch.full((6, 8), 2.0)
    depth[2, 3] = 100.0
    depth[2, 4], depth[3, 3] = 0.0, math.nan
    uv = torch.tensor([[3.5, 2.5], [0.1, 0.1], [7.9, 5.9]])
    assert grasping.median_depth(depth, uv).tolist() == [2.0, 2.0, 2.0]
    assert grasping.median_depth(depth, uv, radius=0).tolist() == [100.0, 2.0, 2.0]
    assert grasping.median_depth(torch.zeros(6, 8), uv).isnan().all()


@both
def test_camera_to_robot_goes_the_whole_way_round(dtype):
    camera = orbit(torch.tensor(0.7, dtype=torch.float64), 0.6, 1.2, size=(60, 80)).to(dtype)
    robot_from_world = exp(draw(6, dtype=dtype))
    robot_from_cam = robot_from_world @ inverse(camera.cam_from_world)
    points = 0.1 * draw(5, 3, seed=4, dtype=dtype)
    uv, depth = camera.project(points)
    found = grasping.camera_to_robot(uv, depth, camera, robot_from_cam)
    assert_close(found, points @ robot_from_world[:3, :3].mT + robot_from_world[:3, 3], atol=1e-5 if dtype == torch.float32 else 1e-12)
    with pytest.raises(InputError):
        grasping.camera_to_robot(uv, depth, camera, 2 * robot_from_cam)


@both
@given(seed=st.integers(0, 100))
@settings(deadline=None, max_examples=10)
def test_plane_is_not_moved_by_a_third_of_wrong_points(dtype, seed):
    T = exp(draw(6, seed=seed, dtype=dtype))
    flat = draw(90, 3, seed=seed + 1, dtype=dtype) * torch.tensor([0.01, 0.01, 1e-4], dtype=dtype)
    wrong = 0.01 * draw(30, 3, seed=seed + 2, dtype=dtype).abs() + torch.tensor([0, 0, 0.02], dtype=dtype)
    place, normal = grasping.fit_plane(torch.cat([flat, wrong]) @ T[:3, :3].mT + T[:3, 3])
    assert abs(float(normal @ T[:3, 2])) > math.cos(math.radians(1.5))
    assert abs(float((place - T[:3, 3]) @ T[:3, 2])) < 5e-4


# the pinch


def looking_down(mesh, uv=None, elevation=1.2, size=(160, 200), azimuth=0.3):
    camera = orbit(azimuth, elevation, 0.6, size=size, fov=0.6)
    seen = rasterize(mesh, camera, backend="torch")
    return camera, torch.where(seen.mask, seen.depth, 0.0)


def slab(size, at=(0.0, 0.0, 0.0), turn=0.0):
    """A box of `size`, its top face's middle at `at`, turned about y."""
    cube = toy.cube_mesh()
    c, s = math.cos(turn), math.sin(turn)
    T = torch.tensor([[c, 0, s, at[0]], [0, 1, 0, at[1] - size[1] / 2], [-s, 0, c, at[2]], [0, 0, 0, 1]])
    return transform(replace(cube, vertices=cube.vertices * torch.tensor(size)), T)


TABLE = Mesh([[-1.0, -0.1, -1], [-1, -0.1, 1], [1, -0.1, 1], [1, -0.1, -1]], [[0, 1, 2], [0, 2, 3]])


@pytest.mark.parametrize("turn", [0.0, 0.5, 1.2])
def test_a_bar_is_taken_across_its_narrow_side(turn):
    bar = slab((0.04, 0.1, 0.3), turn=turn)
    camera, depth = looking_down(join([bar, TABLE]))
    uv, _ = camera.project(torch.tensor([0.005 * math.cos(turn), 0.0, -0.005 * math.sin(turn)]))
    grasp = grasping.pinch_grasp(depth, uv, camera)
    assert grasp.kind == "across"
    assert grasp.approach @ torch.tensor([0.0, -1, 0]) > math.cos(math.radians(1))
    narrow = torch.tensor([math.cos(turn), 0.0, -math.sin(turn)])
    assert abs(float(grasp.opening @ narrow)) > math.cos(math.radians(8)), "one of 32 directions"
    assert 0.039 < grasp.width < 0.052
    assert abs(float(grasp.point @ narrow)) < 0.004, "the middle of the bar, not of the place that was asked for"
    hit, held = grasping.grip(grasp, sample_surface(join([bar, TABLE]), 20000, torch.Generator().manual_seed(0))[0])
    assert not hit.any() and held.any()


def test_a_wide_board_is_taken_over_its_edge_and_its_middle_not_at_all():
    board = slab((0.3, 0.004, 0.3), at=(0, 0.1, 0))
    camera, depth = looking_down(join([board, TABLE]))
    uv, _ = camera.project(torch.tensor([[0.135, 0.1, 0.0], [0.0, 0.1, 0.0]]))
    grasp = grasping.pinch_grasp(depth, uv[0], camera)
    assert grasp.kind == "edge" and grasp.width < 0.03
    assert grasp.approach @ torch.tensor([-1.0, 0, 0]) > 0.95 and grasp.opening @ torch.tensor([0.0, 1, 0]) > 0.999
    hit, held = grasping.grip(grasp, sample_surface(join([board, TABLE]), 20000, torch.Generator().manual_seed(0))[0])
    assert not hit.any() and held.any()
    none = grasping.pinch_grasp(depth, uv[1], camera)
    assert none.kind == "none" and none.width == math.inf
    with pytest.raises(InputError, match="none"):
        grasping.grip(none, torch.zeros(1, 3))


def test_the_far_side_of_a_ball_is_no_edge():
    ball = toy.icosphere(4, 0.12)
    camera, depth = looking_down(ball)
    uv, _ = camera.project(torch.tensor([0.0, 0.12, 0.0]))
    assert grasping.pinch_grasp(depth, uv, camera).kind == "none"


def test_a_bent_rim_is_no_edge_for_flat_fingers():
    camera, depth = looking_down(toy.icosphere(4, 0.05))
    uv, _ = camera.project(torch.tensor([0.0, 0.05, 0.0]))
    assert grasping.pinch_grasp(depth, uv, camera, grasping.Gripper(opening=0.05, reach=0.05)).kind == "none"
    camera, depth = looking_down(toy.icosphere(4, 0.05), elevation=1.5)
    uv, _ = camera.project(torch.tensor([0.0, 0.05, 0.0]))
    assert grasping.pinch_grasp(depth, uv, camera).kind == "across"


def test_an_edge_with_a_neighbour_behind_the_gap_is_not_taken():
    board, neighbour = slab((0.3, 0.004, 0.3), at=(0, 0.1, 0)), slab((0.1, 0.004, 0.6), at=(0.23, 0.1, 0))
    camera, depth = looking_down(join([board, neighbour, TABLE]), elevation=1.4)
    uv, _ = camera.project(torch.tensor([0.135, 0.1, 0.0]))
    assert grasping.pinch_grasp(depth, uv, camera).kind == "none"


def test_what_the_camera_cannot_see_is_no_room_for_a_finger():
    ball = toy.icosphere(4, 0.1)
    camera, depth = looking_down(ball, elevation=0.1, azimuth=0.0)
    angle = math.radians(72)
    uv, _ = camera.project(0.1 * torch.tensor([0.0, math.sin(angle), math.cos(angle)]))
    assert grasping.pinch_grasp(depth, uv, camera).kind == "none"


def test_a_wall_beside_the_bar_is_in_the_way():
    bar, wall = slab((0.04, 0.1, 0.3)), slab((0.02, 0.2, 0.4), at=(0.035, 0.05, 0.0))
    camera, depth = looking_down(join([bar, wall, TABLE]), elevation=1.5)
    uv, _ = camera.project(torch.tensor([-0.005, 0.0, 0.0]))
    assert grasping.pinch_grasp(depth, uv, camera).kind != "across"


def test_grasp_turns_with_the_world():
    bar = join([slab((0.04, 0.1, 0.3), turn=0.4), TABLE])
    camera, depth = looking_down(bar)
    T = exp(draw(6, seed=5).float())
    elsewhere = replace(camera, cam_from_world=camera.cam_from_world @ inverse(T))
    uv, _ = camera.project(torch.zeros(3))
    one, two = grasping.pinch_grasp(depth, uv, camera), grasping.pinch_grasp(depth, uv, elsewhere)
    assert_close(two.point, T[:3, :3] @ one.point + T[:3, 3], atol=3e-3)
    assert two.approach @ (T[:3, :3] @ one.approach) > 0.999 and abs(two.width - one.width) < 0.009
    assert abs(two.opening @ (T[:3, :3] @ one.opening)) > math.cos(math.radians(14))
    frame = one.matrix()
    assert_close(frame[:3, :3] @ frame[:3, :3].mT, torch.eye(3), atol=1e-5)
    assert torch.linalg.det(frame[:3, :3]) > 0.999


def test_depth_noise_and_holes_do_not_throw_the_pinch():
    bar = join([slab((0.04, 0.1, 0.3)), TABLE])
    camera, depth = looking_down(bar)
    generator = torch.Generator().manual_seed(0)
    noisy = depth * (1 + 0.0005 * torch.randn(depth.shape, generator=generator))
    noisy = torch.where(torch.rand(depth.shape, generator=generator) < 0.1, 0.0, noisy)
    uv, _ = camera.project(torch.zeros(3))
    grasp = grasping.pinch_grasp(noisy, uv, camera)
    assert grasp.kind == "across" and grasp.approach @ torch.tensor([0.0, -1, 0]) > math.cos(math.radians(2))


def test_pinch_refuses_what_it_cannot_see():
    camera, depth = looking_down(slab((0.1, 0.1, 0.1)))
    with pytest.raises(InputError, match="no measurement near uv"):
        grasping.pinch_grasp(depth, torch.tensor([2.0, 2.0]), camera)
    with pytest.raises(InputError, match="one depth a pixel"):
        grasping.pinch_grasp(depth[1:], torch.tensor([100.0, 80.0]), camera)
    far = Camera(intrinsics((40, 40), 0.6), look_at((0.0, 0, 60)), (40, 40))
    with pytest.raises(InputError, match="closer"):
        grasping.pinch_grasp(torch.full((40, 40), 60.0), torch.tensor([20.0, 20.0]), far)


# scenes


def test_clutter_keeps_the_thing_and_touches_nothing():
    thing = toy.icosphere(2, 0.1)
    for seed in range(5):
        scene, T = grasping.clutter(thing, torch.Generator().manual_seed(seed), 6)
        own = scene.vertices[: len(thing.vertices)]
        assert_close(own, thing.vertices @ T[:3, :3].mT + T[:3, 3])
        assert abs(float(own[:, 1].min()) - 0.06) < 1e-6, "on the stand"
        assert is_watertight(Mesh(own, scene.faces[: len(thing.faces)]))
        assert (scene.objects[: len(thing.faces)] == 0).all() and int(scene.objects.max()) == 8
        for k in range(1, 7):
            other = scene.vertices[scene.faces[scene.objects == k]].reshape(-1, 3)
            assert other[:, [0, 2]].norm(dim=1).min() > 0.1 and abs(float(other[:, 1].min())) < 1e-6
    again, _ = grasping.clutter(thing, torch.Generator().manual_seed(4), 6)
    assert torch.equal(again.vertices, scene.vertices)
    with pytest.raises(InputError, match="count"):
        grasping.clutter(thing, torch.Generator(), -1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_cuda_agrees():
    query, features = draw(3, 16), draw(16, 30, 40, seed=1)
    ours, theirs = grasping.heatmap(query.cuda(), features.cuda()), grasping.heatmap(query, features)
    assert_close(ours.cpu(), theirs)
    squared = grasping.squared_distances(query, features)
    assert_close(grasping.locate(squared.cuda()).uv.cpu(), grasping.locate(squared).uv)
    camera, depth = looking_down(join([slab((0.04, 0.1, 0.3)), TABLE]))
    uv, _ = camera.project(torch.zeros(3))
    one, two = grasping.pinch_grasp(depth, uv, camera), grasping.pinch_grasp(depth.cuda(), uv.cuda(), camera.to("cuda"))
    assert_close(two.point.cpu(), one.point, atol=1e-3)
    assert one.kind == two.kind
