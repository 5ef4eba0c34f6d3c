"""Streets: closed toy objects of the right sizes, layouts that repeat and do not overlap, real meshes upright in metres, pair files."""

import json
import os
import pickle

import numpy as np
import pytest
import torch

from densebook.core.errors import InputError
from densebook.data import streets
from densebook.data.streets import CLASSES, GROUND, PALETTE, Street, toy_object, toy_street
from densebook.geometry.mesh import bounds, is_watertight, merge_duplicates, transform

NAMES = CLASSES[1:-1]
HEIGHTS = {
    "person": (1.4, 2.0), "car": (1.2, 2.0), "truck": (2.5, 4.2), "van": (1.9, 2.8), "bus": (2.6, 3.8),
    "building": (5.0, 14.0), "tree": (2.5, 13.0), "bicycle": (0.7, 1.2),
}  # fmt: skip


def test_classes():
    assert len(CLASSES) == len(PALETTE) == 10 and CLASSES[0] == "air" and CLASSES[GROUND] == "ground"
    assert len(set(PALETTE)) == 10


@pytest.mark.parametrize("name", NAMES)
def test_toys_are_closed_and_stand(name):
    for seed in range(2):
        mesh = toy_object(name, torch.Generator().manual_seed(seed))
        assert is_watertight(merge_duplicates(mesh))
        low, high = bounds(mesh)
        assert abs(float(low[1])) < 0.02 and HEIGHTS[name][0] < float(high[1]) < HEIGHTS[name][1]
        assert torch.equal(mesh.vertices, toy_object(name, torch.Generator().manual_seed(seed)).vertices)
    other = toy_object(name, torch.Generator().manual_seed(9))  # a bicycle varies in colour only
    assert not torch.equal(mesh.face_colors[: len(other.faces)], other.face_colors[: len(mesh.faces)])
    assert mesh.face_colors.min() >= 0 and mesh.face_colors.max() <= 1


def test_ground_is_closed_and_below():
    mesh = streets.ground()
    assert is_watertight(merge_duplicates(mesh)) or len(mesh.faces) == 36  # strips touch
    assert float(bounds(mesh)[1][1]) == 0


@pytest.mark.parametrize("seed", range(5))
def test_a_street_repeats_and_nothing_overlaps(seed):
    street = toy_street(torch.Generator().manual_seed(seed), objects=8)
    again = toy_street(torch.Generator().manual_seed(seed), objects=8)
    assert street.labels == again.labels and street.labels[-1] == GROUND
    assert all(torch.equal(a, b) for a, b in zip(street.poses, again.poses))
    assert torch.equal(street.camera.cam_from_world, again.camera.cam_from_world)
    assert float(street.camera.center[1]) == pytest.approx(1.6, abs=1e-5)
    plans = []
    for mesh, pose in list(zip(street.meshes, street.poses))[:-1]:
        (x0, _, z0), (x1, _, z1) = bounds(mesh)
        corners = torch.stack([torch.stack([x, torch.zeros(()), z]) for x, z in ((x0, z0), (x1, z0), (x1, z1), (x0, z1))])
        plans.append((corners @ pose[:3, :3].T + pose[:3, 3])[:, [0, 2]].numpy())
    cv2 = pytest.importorskip("cv2")
    for n, one in enumerate(plans):
        for other in plans[:n]:
            assert cv2.intersectConvexConvex(one.astype(np.float32), other.astype(np.float32))[0] == 0


def test_objects_by_name_and_scene():
    street = toy_street(torch.Generator().manual_seed(0), size=(40, 60), fov=1.0, objects=["car", "person"])
    assert set(street.labels) <= {1, 2, GROUND} and street.camera.size == (40, 60)
    assert float(street.camera.K[0, 0]) == pytest.approx(30 / np.tan(0.5), rel=1e-5)
    scene = street.scene()
    assert len(scene.faces) == sum(len(m.faces) for m in street.meshes)
    for n, (mesh, pose) in enumerate(zip(street.meshes, street.poses)):
        part = scene.vertices[scene.faces[scene.objects == n]]
        assert torch.equal(part, transform(mesh, pose).triangles)


def test_every_class_finds_its_place():
    seen = {n for seed in range(40) for n in toy_street(torch.Generator().manual_seed(seed)).labels}
    assert seen == set(range(1, 10))


def test_streets_that_are_refused():
    street = toy_street(objects=1)
    for change, what in (
        ({"labels": [1]}, "give one each"), ({"labels": [0] * len(street.labels)}, "0 is air"), ({"labels": [10] * len(street.labels)}, "label 10"),
        ({"poses": [torch.eye(3)] * len(street.labels)}, "poses.0."),
    ):  # fmt: skip
        with pytest.raises(InputError, match=what):
            Street(**{"meshes": street.meshes, "labels": street.labels, "poses": street.poses, "camera": street.camera, **change})
    with pytest.raises(InputError, match="empty"):
        Street([], [], [], street.camera).scene()
    with pytest.raises(InputError, match="did you mean 'car'"):
        toy_street(objects=["carr"])
    with pytest.raises(InputError, match="no toy object"):
        toy_object("ground")


# --- real ---


def test_splits():
    for name in NAMES:
        every, train, test = (set(streets.real_names(name, split)) for split in ("all", "train", "test"))
        assert train | test == every and train and test
        assert not train & test or len(every) == 1
    for arguments, what in ((("ground",), "no real meshes"), (("car", "tests"), "did you mean 'test'")):
        with pytest.raises(InputError, match=what):
            streets.real_names(*arguments)
    with pytest.raises(InputError, match="no street mesh"):
        streets.real_object("spot")


@pytest.mark.skipif(not os.environ.get("DENSEBOOK_DATA"), reason="DENSEBOOK_DATA is not set")
def test_real_objects_stand_upright_in_metres():
    for name in NAMES:
        first = streets.real_names(name)[0]
        low, high = bounds(streets.real_object(first))
        assert abs(float(low[1])) < 0.01 and HEIGHTS[name][0] < float(high[1]) < HEIGHTS[name][1]
        assert torch.allclose((low + high)[[0, 2]], torch.zeros(2), atol=0.02)
        if name in ("car", "truck", "van", "bus", "bicycle"):
            assert float((high - low)[2]) > float((high - low)[0]), "they are longer than wide"


@pytest.mark.skipif(not os.environ.get("DENSEBOOK_DATA"), reason="DENSEBOOK_DATA is not set")
def test_a_real_street():
    street = streets.real_street(torch.Generator().manual_seed(1), objects=["car", "person", "van"], split="test")
    again = streets.real_street(torch.Generator().manual_seed(1), objects=["car", "person", "van"], split="test")
    assert street.labels == again.labels and len(street.labels) > 1
    assert all(a is b for a, b in zip(street.meshes[:-1], again.meshes[:-1]))


# --- pairs ---


def test_pairs_come_back(tmp_path):
    labels = torch.randint(0, 10, (4, 5, 6), generator=torch.Generator().manual_seed(0))
    image = torch.rand(5, 6, 3, generator=torch.Generator().manual_seed(0))
    for name in ("b", "a"):
        streets.write_pair(tmp_path, name, image, labels, phase="test")
    found = streets.pairs(tmp_path, "test")
    assert [p.stem for p, _ in found] == ["a", "b"]
    picture, volume = streets.read_pair(*found[0])
    assert torch.equal(volume, labels) and picture.shape == (5, 6, 3) and float((picture - image).abs().max()) < 0.01
    assert np.load(found[0][1]).shape == (5, 6, 4), "axes as the authors have them"


def test_float_models_are_cut_at_half(tmp_path):
    image, _ = streets.write_pair(tmp_path, "a", torch.rand(2, 2, 3), torch.zeros(2, 2, 2, dtype=torch.int64))
    np.save(tmp_path / "z.npy", np.array([[[0.2, 0.5]], [[1.0, -0.3]]], dtype=np.float32))
    _, labels = streets.read_pair(image, tmp_path / "z.npy")
    assert labels.tolist() == [[[0], [1]], [[1], [0]]]


def test_pairs_that_are_refused(tmp_path):
    with pytest.raises(InputError, match="ColorImages"):
        streets.pairs(tmp_path)
    image, model = streets.write_pair(tmp_path, "a", torch.rand(2, 2, 3), torch.zeros(2, 2, 2, dtype=torch.int64))
    model.rename(model.with_name("b.npy"))
    with pytest.raises(InputError, match="no partner"):
        streets.pairs(tmp_path)
    image.unlink()
    model.with_name("b.npy").unlink()
    with pytest.raises(InputError, match="no pairs"):
        streets.pairs(tmp_path)
    for labels in (torch.zeros(2, 2), torch.zeros(2, 2, 2), torch.full((2, 2, 2), 300)):
        with pytest.raises(InputError, match="labels"):
            streets.write_pair(tmp_path, "a", torch.rand(2, 2, 3), labels)


def test_models_that_are_refused(tmp_path):
    image, _ = streets.write_pair(tmp_path, "a", torch.rand(2, 2, 3), torch.zeros(2, 2, 2, dtype=torch.int64))
    path = tmp_path / "x.npy"
    for array, what in (
        (np.full((2, 2, 2), 10), "labels from 10 to 10"), (np.full((2, 2, 2), -1), "-1"), (np.zeros((2, 2)), "one array"), (np.array([["a"]] * 2)[None], "whole numbers"),
    ):  # fmt: skip
        np.save(path, array)
        with pytest.raises(InputError, match=what):
            streets.read_pair(image, path)
    for content in (b"", b"\x93NUMPY", pickle.dumps([1, 2])):
        path.write_bytes(content)
        with pytest.raises(InputError, match="x.npy"):
            streets.read_pair(image, path)
    with pytest.raises(InputError, match="none.npy"):
        streets.read_pair(image, tmp_path / "none.npy")


# --- boxes, and the tables of nuScenes ---


def boxed(count=2):
    made = [toy_street(torch.Generator().manual_seed(n), objects=4) for n in range(count)]
    return made, [streets.instances(s) for s in made]


def test_nuscenes_tables_come_back(tmp_path):
    made, boxes = boxed()
    written = streets.write_nuscenes(tmp_path, ["a/0.png", "a/1.png"], [s.camera for s in made], boxes)
    assert {p.stem for p in written} >= {"sample", "sample_data", "sample_annotation", "ego_pose", "calibrated_sensor", "category", "instance"}
    back = streets.read_nuscenes(tmp_path)
    assert [s.image for s in back] == [tmp_path / "a/0.png", tmp_path / "a/1.png"]
    for street, sample, found in zip(made, back, boxes):
        assert sample.camera.size == street.camera.size and torch.allclose(sample.camera.K.float(), street.camera.K)
        x, y, z = street.camera.center.tolist()
        assert sample.camera.center.tolist() == pytest.approx([z, x, y], abs=1e-5)
        for a, b in zip(sample.instances, found):
            assert torch.allclose(a.float(), b.float(), atol=1e-5)


def test_a_car_of_nuscenes_by_hand(tmp_path):
    """A car 10 m ahead of a camera that looks along the ego's x axis, 1.5 m up; it drives to the left."""
    half = 2**-0.5
    level = [0.5, -0.5, 0.5, -0.5]  # camera x right, y down, z forward to ego x forward, y left, z up
    tables = {
        "category": [{"token": "c", "name": "vehicle.bus.rigid"}, {"token": "m", "name": "vehicle.motorcycle"}],
        "instance": [{"token": "i", "category_token": "c"}, {"token": "j", "category_token": "m"}],
        "sensor": [{"token": "s", "channel": "CAM_FRONT"}, {"token": "t", "channel": "CAM_BACK"}],
        "calibrated_sensor": [
            {"token": k, "sensor_token": v, "translation": [0, 0, 1.5], "rotation": level, "camera_intrinsic": [[500, 0, 400], [0, 500, 225], [0, 0, 1]]}
            for k, v in (("k", "s"), ("l", "t"))
        ],
        "ego_pose": [{"token": "e", "translation": [1000, 2000, 0], "rotation": [1, 0, 0, 0]}],
        "sample_data": [
            {"token": str(n), "sample_token": "x", "ego_pose_token": "e", "calibrated_sensor_token": k, "filename": f"samples/{n}.jpg", "width": 800,
             "height": 450, "is_key_frame": key}
            for n, (k, key) in enumerate((("k", True), ("l", True), ("k", False)))
        ],
        "sample_annotation": [
            {"token": o, "sample_token": "x", "instance_token": o, "translation": [1010, 2000, 1], "size": [2.5, 9, 3], "rotation": [half, 0, 0, half]}
            for o in ("i", "j")
        ],
    }  # fmt: skip
    folder = tmp_path / "v1.0-mini"
    folder.mkdir()
    write = lambda: [(folder / f"{name}.json").write_text(json.dumps(rows)) for name, rows in tables.items()]  # noqa: E731
    write()
    (sample,) = streets.read_nuscenes(tmp_path)
    assert sample.image == tmp_path / "samples/0.jpg" and sample.camera.size == (450, 800)
    boxes = sample.instances
    assert boxes.labels.tolist() == [CLASSES.index("bus")] and boxes.sizes.tolist() == [[2.5, 3.0, 9.0]]
    assert torch.allclose(boxes.centers, torch.tensor([[0.0, 0.5, 10.0]]), atol=1e-4)
    assert torch.allclose(boxes.rotations[0], torch.tensor([[0.0, 0, -1], [0, -1, 0], [-1, 0, 0]]), atol=1e-5)  # left is nearer, up is -y, front is -x
    assert len(streets.read_nuscenes(tmp_path, "CAM_BACK")) == 1
    with pytest.raises(InputError, match="did you mean 'CAM_FRONT'"):
        streets.read_nuscenes(tmp_path, "CAM_FROND")
    for table, column, value, what in (
        ("sample_data", "filename", "../../secret", "leaves the folder"), ("sample_data", "ego_pose_token", "none", "in no table"),
        ("ego_pose", "rotation", [0, 0, 0, 0], "is zero"), ("sample_annotation", "size", [1, 2], "shape"),
        ("sample_annotation", "translation", None, "finite numbers"), ("sample_annotation", "instance_token", "none", "in no table"),
    ):  # fmt: skip
        kept, tables[table][0][column] = tables[table][0][column], value
        write()
        with pytest.raises(InputError, match=what):
            streets.read_nuscenes(tmp_path)
        tables[table][0][column] = kept
    write()
    for text, what in (("{", "cannot be read"), ("{}", "no list"), ("[{}]", "has no 'token'")):
        (folder / "sensor.json").write_text(text)
        with pytest.raises(InputError, match=what):
            streets.read_nuscenes(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        streets.read_nuscenes(tmp_path / "nowhere")


def test_nuscenes_lists_must_fit(tmp_path):
    made, boxes = boxed(1)
    with pytest.raises(InputError, match="one each"):
        streets.write_nuscenes(tmp_path, ["a.png", "b.png"], [made[0].camera], boxes)
    with pytest.raises(InputError, match="at least one"):
        streets.write_nuscenes(tmp_path, [], [], [])
    empty = streets.Instances(*(x[:0] for x in boxes[0]))
    streets.write_nuscenes(tmp_path, ["a.png"], [made[0].camera], [empty])
    assert len(streets.read_nuscenes(tmp_path)[0].instances.labels) == 0


def test_compressed_pairs(tmp_path):
    labels = torch.arange(2 * 3 * 4).view(2, 3, 4) % 10
    streets.write_pair(tmp_path, "a", torch.rand(3, 4, 3), labels, compressed=True)
    ((image, model),) = streets.pairs(tmp_path)
    assert model.name == "a.npz" and torch.equal(streets.read_pair(image, model)[1], labels)
    np.savez_compressed(model, other=np.zeros(3))
    with pytest.raises(InputError, match="cannot be read as a .npy array"):
        streets.read_pair(image, model)
