"""Faces: toys and the ICT model by seed, farthest points, readers that keep vertex order and run nothing."""

import importlib.util
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from densebook.core import settings
from densebook.core.errors import InputError
from densebook.data import faces
from tests.conftest import ROOT

real = pytest.mark.skipif(not (settings.data_folder() / faces.ICT_FILE).is_file(), reason="the ICT model is not in the data folder")


def tiny_ict(path: Path, modes: int = 3, **changed) -> Path:
    """A packed model of the right shape: 9500 vertices on a dome."""
    rng = np.random.default_rng(0)
    v = rng.normal(size=(9500, 3)).astype(np.float32)
    v[:, 2] = np.abs(v[:, 2])
    arrays = {
        "neutral": 8 * v / np.linalg.norm(v, axis=1, keepdims=True),
        "identity_q": rng.integers(-32767, 32768, (modes, 9500, 3)).astype(np.int16),
        "identity_scale": np.full(modes, 1e-5, np.float32),
        "faces": rng.integers(0, 9500, (500, 3)).astype(np.int32),
        "landmarks68": np.arange(68, dtype=np.int32) * 90,
    }
    np.savez(path, **(arrays | changed))
    return path


def check_cloud(f: faces.Faces, count: int):
    assert f.points.shape[1:] == (count, 3) and f.landmarks.shape == (len(f), 68, 3) and f.scale_mm.shape == (len(f),)
    assert f.points.dtype == torch.float32 and f.points.isfinite().all()
    assert f.points.mean(1).abs().max() < 1e-5
    assert (f.points.norm(dim=-1).amax(1) - 1).abs().max() < 1e-5


# Farthest points


def naive_farthest(points, count):
    first = (points - points.mean(0)).norm(dim=1).argmax()
    picked = [int(first)]
    for _ in range(count - 1):
        picked.append(int(torch.cdist(points, points[picked], compute_mode="donot_use_mm_for_euclid_dist").amin(1).argmax()))
    return picked


def test_farthest_points_are_the_greedy_choice():
    clouds = torch.randn(5, 60, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ours = faces.farthest_points(clouds, 20, chunk=2)
    assert ours.tolist() == [naive_farthest(c, 20) for c in clouds]
    assert torch.equal(faces.farthest_points(clouds + 1e3, 20), ours)
    assert faces.farthest_points(clouds, 60).sort().values.tolist() == [list(range(60))] * 5


def test_farthest_points_cover():
    cloud = torch.rand(1, 2000, 3, generator=torch.Generator().manual_seed(0))
    picked = cloud[0, faces.farthest_points(cloud, 100)[0]]
    apart = torch.cdist(picked, picked) + torch.eye(100) * 9
    assert torch.cdist(cloud[0], picked).amin(1).max() <= apart.min() + 1e-6  # a packing covers


# Toys


def test_toy_faces():
    f = faces.toy(6, 300, seed=1)
    check_cloud(f, 300)
    again, other = faces.toy(6, 300, seed=1), faces.toy(6, 300, seed=2)
    assert torch.equal(f.points, again.points) and torch.equal(f.landmarks, again.landmarks)
    assert not torch.allclose(f.landmarks, other.landmarks, atol=1e-3)
    variation = f.landmarks.std(0).norm(dim=-1)
    assert 0.005 < variation.mean() < 0.2, "identities differ, but are faces all the same"
    assert (f.scale_mm > 60).all() and (f.scale_mm < 150).all()


def test_toy_landmarks_lie_on_the_face_in_order():
    f = faces.toy(4, 4096)
    near = torch.cdist(f.landmarks, f.points).amin(2)
    assert near.max() < 0.05
    L = f.landmarks.mean(0)
    assert L[0, 0] < 0 < L[16, 0] and L[8, 1] == L[:, 1].min(), "jaw from the subject's right over the chin"
    assert L[30, 2] > L[[0, 8, 16, 36, 45, 48]][:, 2].max(), "the nose sticks out"
    assert L[36, 0] < L[39, 0] < 0 < L[42, 0] < L[45, 0], "right eye, left eye, corners outside in"
    assert L[48, 0] < 0 < L[54, 0] and L[51, 1] > L[57, 1], "mouth from the right corner over the upper lip"
    assert L[19, 1] > L[37, 1] > L[33, 1] > L[51, 1] > L[8, 1], "brow, eye, nose, lip, chin"
    mirrored = L * torch.tensor([-1.0, 1, 1])
    for a, b in ((0, 16), (17, 26), (36, 45), (37, 44), (40, 47), (41, 46), (48, 54), (60, 64), (31, 35)):
        assert (mirrored[a] - L[b]).norm() < 0.02


def test_groups_cover_the_landmarks():
    ranges = list(faces.GROUPS.values())
    assert ranges[0][0] == 0 and ranges[-1][1] == faces.LANDMARKS
    assert all(a[1] == b[0] for a, b in zip(ranges, ranges[1:]))


def test_load_splits_without_overlap():
    train, test = faces.load("toy", 5, 3, 100, seed=3)
    assert len(train) == 5 and len(test) == 3
    both = faces.toy(8, 100, seed=3)
    assert torch.equal(torch.cat([train.points, test.points]), both.points)
    assert torch.cdist(train.landmarks.flatten(1), test.landmarks.flatten(1)).min() > 1e-3
    with pytest.raises(InputError, match="did you mean 'real'"):
        faces.load("reel", 1, 1, 10)


def test_indexing_and_moving():
    f = faces.toy(5, 50)
    assert len(f[2]) == 1 and torch.equal(f[2].points[0], f.points[2]) and torch.equal(f[-1].points[0], f.points[-1])
    assert len(f[1:3]) == 2 and torch.equal(f[torch.tensor([4, 0])].scale_mm, f.scale_mm[[4, 0]])
    wide = f.to(torch.float64)
    assert wide.points.dtype == wide.landmarks.dtype == wide.scale_mm.dtype == torch.float64


def test_sample_keeps_lengths():
    vertices = torch.rand(2, 200, 3, generator=torch.Generator().manual_seed(0)) * 50 + 7
    f = faces.sample(vertices, vertices[:, :68], 80, unit_mm=10.0)
    apart = (f.landmarks[:, 1] - f.landmarks[:, 0]).norm(dim=-1) * f.scale_mm
    assert torch.allclose(apart, (vertices[:, 1] - vertices[:, 0]).norm(dim=-1) * 10, rtol=1e-4)


# ICT


def test_ict_model_is_linear(tmp_path):
    model = faces.ict_model(path=tiny_ict(tmp_path / "m.npz"))
    assert model.neutral.shape == (6706, 3) and (model.triangles < 6706).all() and len(model.triangles)
    a, b = torch.randn(2, 1, 3, generator=torch.Generator().manual_seed(0))
    sum_of = model.vertices(a) + model.vertices(b) - model.neutral
    assert torch.allclose(model.vertices(a + b), sum_of, atol=1e-4)
    assert torch.allclose(model.vertices(torch.zeros(1, 3))[0], model.neutral)
    assert model.neutral.norm(dim=1).mean() == pytest.approx(80, rel=1e-3), "centimetres became millimetres"
    assert model.mesh(a[0]).vertices.norm(dim=1).max() < 0.1, "a mesh is in metres"


def test_ict_faces(tmp_path):
    path = tiny_ict(tmp_path / "m.npz")
    f = faces.ict(3, 100, seed=4, path=path)
    check_cloud(f, 100)
    assert torch.equal(f.points, faces.ict(3, 100, seed=4, path=path).points)
    assert faces.ict(1, 100, region="face", path=path).points.shape == (1, 100, 3)


@real
def test_real_ict_faces():
    f = faces.ict(3, 256)
    check_cloud(f, 256)
    assert (f.scale_mm - 115).abs().max() < 30
    L = f.landmarks.mean(0)
    assert L[0, 0] < 0 < L[16, 0] and L[30, 2] == L[:, 2].max() and L[8, 1] == L[:, 1].min()
    assert torch.cdist(f.landmarks, f.points).amin(2).max() < 0.1
    eyes = (f.landmarks[:, 36] - f.landmarks[:, 45]).norm(dim=-1) * f.scale_mm
    assert ((eyes > 75) & (eyes < 110)).all(), "outer corners of the eyes are about 9 cm apart"


@pytest.mark.parametrize(
    "changed,words",
    [
        ({"neutral": np.zeros((100, 3), np.float32)}, "other shapes"),
        ({"neutral": np.full((9500, 3), np.nan, np.float32)}, "neutral holds NaN"),
        ({"identity_q": np.array(["x"])}, "not numbers"),
    ],
)
def test_wrong_ict_files(tmp_path, changed, words):
    with pytest.raises(InputError, match=words):
        faces.ict_model(path=tiny_ict(tmp_path / "m.npz", **changed))


def test_missing_ict(tmp_path, monkeypatch):
    monkeypatch.setenv("DENSEBOOK_DATA", str(tmp_path))
    with pytest.raises(InputError, match="faces_ict.py"):
        faces.ict(1, 10)
    with pytest.raises(InputError, match="region"):
        faces.ict_model("nose")
    np.savez(tmp_path / "other.npz", neutral=np.zeros(3))
    with pytest.raises(InputError, match="identity_q"):
        faces.ict_model(path=tmp_path / "other.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "other.npz").read_bytes()[:60])
    with pytest.raises(InputError, match="cut.npz"):
        faces.ict_model(path=tmp_path / "cut.npz")


# FaceScape


def write_obj(path: Path, vertices, shuffle=False):
    lines = ["# FaceScape", "mtllib x.mtl"] + [f"v {x} {y} {z}" for x, y, z in vertices.tolist()]
    lines += ["vt 0 0", "vt 0.5 1", "f 1/1 2/2 3/1", "f 1/2 2/1 3/2"]  # seams: each vertex with two texture coordinates
    path.write_text("\n".join(lines))
    return path


def test_facescape_keeps_vertex_order(tmp_path):
    vertices = torch.rand(2, 500, 3, generator=torch.Generator().manual_seed(0))
    vertices[:, 7] = vertices[:, 8]  # doubled vertices stay two
    paths = [write_obj(tmp_path / f"{k}_neutral.obj", v) for k, v in enumerate(vertices)]
    assert torch.allclose(faces.obj_vertices(paths[0]), vertices[0], atol=1e-6)
    index = list(range(0, 68 * 7, 7))
    f = faces.facescape(paths, 100, index, unit_mm=100.0)
    check_cloud(f, 100)
    expected = faces.sample(vertices, vertices[:, index], 100, 100.0)
    assert torch.allclose(f.landmarks, expected.landmarks, atol=1e-5) and torch.allclose(f.scale_mm, expected.scale_mm, rtol=1e-5)


def test_facescape_landmarks_are_68_vertices_of_the_old_topology():
    assert len(faces.FACESCAPE_LANDMARKS) == len(set(faces.FACESCAPE_LANDMARKS)) == 68
    assert 0 <= min(faces.FACESCAPE_LANDMARKS) and max(faces.FACESCAPE_LANDMARKS) < faces.FACESCAPE_VERTICES


def test_facescape_refuses(tmp_path):
    good = write_obj(tmp_path / "good.obj", torch.rand(100, 3))
    for paths, landmarks, words in (
        ([], [0], "paths"),
        ([good], faces.FACESCAPE_LANDMARKS, "100 vertices, not 26317"),
        ([good], [100], "beyond"),
        ([good, write_obj(tmp_path / "b.obj", torch.rand(99, 3))], [0], "one topology"),
        ([tmp_path / "none.obj"], [0], "cannot be read"),
    ):
        with pytest.raises(InputError, match=words):
            faces.facescape(paths, 10, landmarks)
    for text, words in (("f 1 2 3\n", "no vertices"), ("v 0 0 0\nv 1 2\n", "line 2"), ("v 0 0 nan\n", "line 1"), ("v 0 x 0\n", "line 1")):
        (tmp_path / "bad.obj").write_text(text)
        with pytest.raises(InputError, match=words):
            faces.obj_vertices(tmp_path / "bad.obj")


# The author's files

FIELDS = {"point_list": (8, 3), "landmark_list": (5, 3), "heatmaps_list": (8, 5), "scale_list": ()}


def author_arrays(count=4):
    rng = np.random.default_rng(0)
    return {name: rng.random((count, *shape)).astype(np.float32) for name, shape in FIELDS.items()}


@pytest.mark.parametrize("layout", ["npz", "rows", "whole"])
def test_author_layouts(tmp_path, layout):
    arrays, path = author_arrays(), tmp_path / "train_neutral.npy"
    if layout == "npz":
        with open(path, "wb") as file:
            np.savez(file, **arrays)
    elif layout == "rows":  # an array of 4 records
        table = np.zeros(4, dtype=[(n, np.float32, s) for n, s in FIELDS.items()])
        for name, value in arrays.items():
            table[name] = value
        np.save(path, table)
    else:  # one record that holds all
        table = np.zeros((), dtype=[(n, np.float32, (4, *s)) for n, s in FIELDS.items()])
        for name, value in arrays.items():
            table[name] = value
        np.save(path, table)
    f, maps = faces.author(path)
    assert np.array_equal(f.points.numpy(), arrays["point_list"]) and np.array_equal(maps.numpy(), arrays["heatmaps_list"])
    assert np.array_equal(f.landmarks.numpy(), arrays["landmark_list"]) and np.array_equal(f.scale_mm.numpy(), arrays["scale_list"])


class Trap:
    """Unpickling it would write a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_pickles_are_never_run(tmp_path):
    path, trap = tmp_path / "train_neutral.npy", tmp_path / "ran"
    np.save(path, np.array({"point_list": Trap(trap)}, dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="pickled objects"):
        faces.author(path)
    with open(path, "wb") as file:
        np.savez(file, **(author_arrays() | {"point_list": np.array([Trap(trap)], dtype=object)}))
    with pytest.raises(InputError, match="pickled objects"):
        faces.author(path)
    path.write_bytes(b"\x80\x04K\x01.")  # a bare pickle
    with pytest.raises(InputError, match="train_neutral.npy"):
        faces.author(path)
    assert not trap.exists()


def test_author_refuses(tmp_path):
    path, arrays = tmp_path / "a.npy", author_arrays()
    cases = (
        ({k: v for k, v in arrays.items() if k != "scale_list"}, "scale_list"),
        (arrays | {"heatmaps_list": arrays["heatmaps_list"][:, :7]}, "heatmaps_list"),
        (arrays | {"landmark_list": arrays["landmark_list"][:3]}, "heatmaps_list"),
        (arrays | {"point_list": arrays["point_list"][..., :2]}, "point_list"),
        (arrays | {"scale_list": np.array(["a"] * 4)}, "not numbers"),
        (arrays | {"point_list": arrays["point_list"] * np.nan}, "NaN"),
    )
    for changed, words in cases:
        with open(path, "wb") as file:
            np.savez(file, **changed)
        with pytest.raises(InputError, match=words):
            faces.author(path)
    np.save(path, np.zeros((3, 3)))
    with pytest.raises(InputError, match="one plain array"):
        faces.author(path)
    with pytest.raises(InputError, match="cannot be read"):
        faces.author(tmp_path / "none.npy")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("point_list.npy", b"nothing")
    with pytest.raises(InputError, match="a.npy"):
        faces.author(path)


@pytest.mark.parametrize(
    "call,words",
    [
        (lambda: faces.toy(0), "at least one face"),
        (lambda: faces.toy(1, 5000), "1 to 4096"),
        (lambda: faces.farthest_points(torch.zeros(2, 5, 3), 6), "1 to 5"),
        (lambda: faces.farthest_points(torch.zeros(5, 3), 2), r"\(S, N, 3\)"),
        (lambda: faces.farthest_points(torch.full((1, 5, 3), torch.nan), 2), "NaN"),
        (lambda: faces.sample(torch.zeros(1, 5, 3), torch.zeros(1, 1, 3), 2), "coincide"),
    ],
)
def test_wrong_input_is_named(call, words):
    with pytest.raises(InputError, match=words):
        call()


# The script that packs the model


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("faces_ict", ROOT / "data_scripts/faces_ict.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["faces_ict"] = module
    spec.loader.exec_module(module)
    return module


def test_script_packs_and_checks(script, tmp_path, monkeypatch, capsys):
    vertices = np.random.default_rng(0).normal(size=(script.VERTICES, 3))
    monkeypatch.setattr(script, "IDENTITIES", ["identity000", "identity001"])
    monkeypatch.setattr(script, "EXPRESSIONS", ["jawOpen"])
    monkeypatch.setattr(script, "PARTS", {"face": (0, 2), "eyeballs": (3, 4)})
    for k, name in enumerate([script.NEUTRAL, "identity000", "identity001", "jawOpen"]):
        moved = np.round(vertices + 0.1 * k * np.sin(vertices * (k + 1)), 6)
        lines = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in moved] + ["vt 0 0", "vt 1 0", "vt 1 1", "vt 9 9"]
        lines += ["f 1/1 2/2 3/3 4/1", "f 5/1 6/2 7/3", "f 20000/4 2/4 3/4", "f 21452/1 21453/2 21454/3"]
        (tmp_path / f"{name}.obj").write_text("\n".join(lines))
    arrays = script.pack(lambda name: tmp_path / f"{name}.obj")
    assert list(arrays) == list(script.SHA256)
    assert arrays["neutral"].shape == (17202, 3) and arrays["identity_q"].dtype == np.int16 and arrays["identity_q"].shape == (2, 17202, 3)
    assert arrays["faces"].tolist() == [[0, 1, 2], [0, 2, 3], [4, 5, 6], [14062, 14063, 14064]] and arrays["face_part"].tolist() == [
        0,
        0,
        0,
        1,
    ]
    assert arrays["uv"].tolist() == [[0, 0], [1, 0], [1, 1]], "texture coordinates that nothing uses are dropped"
    error = arrays["identity_q"][1] * arrays["identity_scale"][1] - 0.2 * np.sin(vertices * 3)[script.KEPT]
    assert np.abs(error).max() < 1e-5
    out = tmp_path / "data" / script.FILE
    script.write(out, arrays)
    again = out.read_bytes()
    script.write(out, arrays)
    assert out.read_bytes() == again, "the same bytes every time"
    assert script.main(["--check", "--out", str(tmp_path / "data")]) == 1, "it is not the real model"
    printed = capsys.readouterr().out
    assert "landmarks68: ok" in printed and "neutral: has sha256" in printed
    assert faces.ict(1, 50, path=out).points.shape == (1, 50, 3)


def test_script_names_what_is_wrong(script, tmp_path, capsys):
    assert script.main(["--check", "--out", str(tmp_path)]) == 2
    assert script.main(["--objs", str(tmp_path), "--out", str(tmp_path)]) == 2
    (tmp_path / f"{script.NEUTRAL}.obj").write_text("v 0 0 0\n")
    assert script.main(["--objs", str(tmp_path), "--out", str(tmp_path)]) == 2
    assert "(1, 3)" in capsys.readouterr().err
    assert not (tmp_path / "faces_ict").exists(), "nothing is left behind"


def test_script_and_module_name_the_same_file(script):
    assert script.FILE == faces.ICT_FILE and len(script.EXPRESSIONS) == 57 and len(script.LANDMARKS) == 68


@real
def test_the_packed_model_is_right(script):
    assert set(script.check(settings.data_folder() / script.FILE).values()) == {"ok"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_cuda():
    clouds = faces.toy(3, 500).points
    assert torch.equal(faces.farthest_points(clouds.cuda(), 50).cpu(), faces.farthest_points(clouds, 50))
