"""Caps: one topology, closed bodies, views whose pixels are where they say, files that come back, and the script that writes them."""

import importlib.util
import json
import math
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from densebook.core import settings
from densebook.core.errors import InputError
from densebook.data import caps as C
from densebook.geometry.mesh import Mesh, is_watertight, volume
from densebook.testing import assert_close
from tests.conftest import ROOT

real = pytest.mark.skipif(not (settings.data_folder() / "hats/casquette").is_dir(), reason="the hats are not in the data folder")


@pytest.fixture(scope="module")
def caps():
    return C.toy_caps(5, seed=3)


@pytest.fixture(scope="module")
def views(caps):
    return C.render_views(caps, 10, (96, 120), 1)


# Toy caps


def test_caps_are_closed_metric_and_upright(caps):
    low, high = caps.vertices.amin(1), caps.vertices.amax(1)
    wide, tall, long = (high - low).unbind(1)
    assert caps.vertices.dtype == torch.float32 and (low[:, 1].abs() < 1e-6).all()
    assert ((0.15 < wide) & (wide < 0.22)).all() and ((0.09 < tall) & (tall < 0.20)).all() and ((0.22 < long) & (long < 0.32)).all()
    assert (high[:, 2] > -low[:, 2] + 0.03).all()  # the visor reaches towards +z
    for i in range(len(caps)):
        mesh = caps.mesh(i)
        assert is_watertight(mesh) and len(mesh.textures) == 1
    assert 0 <= caps.uv.amin() and caps.uv.amax() <= 1
    assert 0 <= caps.textures.amin() and caps.textures.amax() <= 1


def test_each_body_has_its_normals_outward(caps):
    mesh = caps.mesh(0)
    body = torch.arange(len(mesh.vertices))
    for _ in range(200):  # smallest vertex index of each connected body
        low = body[mesh.faces].amin(1, keepdim=True).expand(-1, 3)
        body = body.scatter_reduce(0, mesh.faces.flatten(), low.flatten(), "amin")
    parts = body.unique()
    assert len(parts) == 3
    for part in parts:
        faces = mesh.faces[body[mesh.faces[:, 0]] == part]
        assert float(volume(Mesh(mesh.vertices, faces))) > 1e-7  # cubic metres


def test_instances_differ_in_shape_and_colour_but_share_places(caps):
    assert (caps.vertices[0] - caps.vertices[1]).norm(dim=1).amax() > 0.01
    assert (caps.textures[0] - caps.textures[1]).abs().mean() > 0.02
    tip = caps.vertices[..., 2].argmax(1)
    assert (caps.vertices[0, tip] - caps.vertices[0, tip[0]]).norm(dim=1).amax() < 0.03  # the foremost vertex is one place, or beside it
    seam, beside = caps.textures[:, 40, 0].mean(-1), caps.textures[:, 40, 8].mean(-1)  # the seam at the back of the picture's edge
    assert (seam < 0.7 * beside).all()


def test_a_seed_makes_the_same_caps_whatever_the_count(caps):
    again = C.toy_caps(2, seed=3)
    assert torch.equal(again.vertices, caps.vertices[:2]) and torch.equal(again.textures, caps.textures[:2])
    assert not torch.equal(C.toy_caps(1, seed=4).vertices, caps.vertices[:1])


def test_detail_refines():
    fine = C.toy_caps(1, detail=2)
    assert fine.textures.shape == (1, 512, 512, 3) and len(fine.faces) > 3.5 * len(C.toy_caps(1).faces)
    assert is_watertight(fine.mesh(0))


@pytest.mark.parametrize("arguments", [{"count": 0}, {"count": 1.5}, {"count": 1, "detail": 9}])
def test_wrong_numbers_are_refused(arguments):
    with pytest.raises(InputError, match="give"):
        C.toy_caps(**arguments)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_points_are_on_the_surface(caps, dtype):
    moved = caps.to(dtype)
    face = torch.tensor([0, 7, 100])
    at_corner = torch.eye(3, dtype=dtype)
    for instance in (0, 4):
        points = moved.points(torch.full((3,), instance), face, at_corner)
        assert_close(points, moved.vertices[instance, moved.faces[face].diagonal()])


# Views


def test_pixels_are_where_they_say(caps, views):
    assert views.rgb.shape == (10, 3, 96, 120) and 0 <= views.rgb.amin() and views.rgb.amax() <= 1
    assert torch.equal(views.mask, views.face >= 0) and torch.equal(views.mask, views.depth > 0)
    assert views.instance.tolist() == [k % 5 for k in range(10)]
    for k in range(len(views)):
        v, u = views.mask[k].nonzero().unbind(1)
        truth = caps.points(views.instance[k].expand(len(v)), views.face[k, v, u], views.barycentrics[k, v, u])
        found = views.camera(k).unproject(torch.stack([u, v], 1) + 0.5, views.depth[k, v, u])
        assert_close(found, truth, atol=2e-5)


def test_objects_fill_the_picture(caps):
    views = C.render_views(caps, 10, generator=2)
    wide = views.mask.any(1).sum(1).double()
    assert views.size == (128, 160) and 75 < float(wide.mean()) < 125
    assert (views.mask.double().mean((1, 2)) > 0.1).all()


def test_what_is_drawn_follows_from_the_generator(caps, views):
    again = C.render_views(caps, 10, (96, 120), torch.Generator().manual_seed(1))
    assert torch.equal(again.rgb, views.rgb)
    assert not torch.equal(C.render_views(caps, 1, (96, 120), 2).rgb, views.rgb[:1])


def test_cameras_differ_and_roll(caps):
    views = C.render_views(caps.mesh(0), 12, (16, 20), 0, elevation=(0.5, 0.5))
    up = views.cam_from_world[:, :2, 1]
    turn = torch.atan2(up[:, 0], -up[:, 1])
    assert turn.abs().amax() <= 0.6 + 1e-5 and turn.amax() - turn.amin() > 0.5
    still = C.render_views(caps.mesh(0), 3, (16, 20), 0, roll=0.0)
    assert still.cam_from_world[:, 0, 1].abs().amax() < 1e-6


@pytest.mark.parametrize("background", C.BACKGROUNDS)
def test_backgrounds(caps, background):
    view = C.render_views(caps, 1, (40, 50), 5, background)
    behind = view.rgb[0][:, ~view.mask[0]]
    spread = behind.quantile(0.9, dim=1) - behind.quantile(0.1, dim=1)
    assert (spread < 1e-3).all() if background == "plain" else (spread > 0.05).any()


def test_a_double_precision_cap_gives_double_precision_views(caps):
    views = C.render_views(caps.to(torch.float64), 2, (32, 40))
    assert {views.rgb.dtype, views.depth.dtype, views.K.dtype, views.cam_from_world.dtype} == {torch.float64}
    assert_close(views.depth, C.render_views(caps, 2, (32, 40)).depth.double(), atol=1e-4)


def test_views_are_indexed_joined_and_moved(views):
    assert len(views[3]) == 1 and len(views[2:6]) == 4 and len(views[torch.tensor([1, 1])]) == 2
    assert torch.equal(C.join_views([views[:3], views[3:]]).rgb, views.rgb)
    moved = views.to(torch.float64)
    assert moved.depth.dtype == torch.float64 and moved.mask.dtype == torch.bool and moved.face.dtype == views.face.dtype
    with pytest.raises(InputError, match="one size"):
        C.join_views([])


@pytest.mark.parametrize(
    ("arguments", "word"),
    [({"objects": []}, "objects"), ({"count": 0}, "count"), ({"background": "nois"}, "did you mean 'noise'"), ({"objects": [3]}, "objects")],
)
def test_what_cannot_be_drawn_is_refused(caps, arguments, word):
    with pytest.raises(InputError, match=word):
        C.render_views(**({"objects": caps, "count": 1} | arguments))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_views_on_cuda(caps):
    here, there = C.render_views(caps, 2, (48, 60)), C.render_views(caps.to("cuda"), 2, (48, 60))
    assert there.rgb.is_cuda and (there.face.cpu() == here.face).double().mean() > 0.999
    assert (there.rgb.cpu() - here.rgb).abs().mean() < 1e-3


# Real ones


@real
def test_real_caps_stand_upright_at_their_size():
    hats = C.real_caps()
    assert len(hats) == 8
    for mesh, size in zip(hats, [(0.2372, 0.152, 0.327), (0.26, 0.3274, 0.3636), (0.2022, 0.1089, 0.2616)]):
        low, high = mesh.vertices.amin(0), mesh.vertices.amax(0)
        assert_close(high - low, torch.tensor(size), atol=2e-4)
        assert abs(float(low[1])) < 1e-4 and mesh.textures


@real
def test_fedoras_share_their_faces():
    hats = C.fedoras()
    assert len(hats) == 6 and hats.textures.shape == (6, 512, 512, 3)
    moved = (hats.vertices[0] - hats.vertices[3]).norm(dim=1)
    assert 0.001 < float(moved.amax()) < 0.08 and torch.equal(hats.vertices[0], hats.vertices[2])


# ShapeNet's layout

BOX = """mtllib model_normalized.mtl
v -0.2 -0.1 -0.4
v 0.2 -0.1 -0.4
v 0.2 -0.1 0.1
v -0.2 -0.1 0.1
v 0.0 0.2 0.0
g cap
usemtl a
f 2 1 5
f 3 2 5
f 4 3 5
f 1 4 5
f 1 2 3 4
l 1 2
"""


def test_shapenet_caps_are_scaled_stood_and_turned(tmp_path):
    for name in ("b", "a"):
        folder = tmp_path / "02954340" / name / "models"
        folder.mkdir(parents=True)
        (folder / "model_normalized.mtl").write_text("newmtl a\nKd 0.5 0.2 0.1\n")
        (folder / "model_normalized.obj").write_text(BOX if name == "a" else BOX.replace("0.2 0.0\n", "0.3 0.0\n"))
    first, second = C.read_shapenet_caps(tmp_path, length=0.25)
    low, high = first.vertices.amin(0), first.vertices.amax(0)
    assert_close(high - low, torch.tensor([0.2, 0.15, 0.25]), atol=1e-6)
    assert_close(low, torch.tensor([-0.1, 0.0, -0.125]), atol=1e-6)
    assert_close(first.vertices[4], torch.tensor([0.0, 0.15, -0.075]), atol=1e-6)  # was 0.15 / 0.5 in front of the middle, towards +z
    assert len(first.faces) == 6 and float(volume(first)) > 0
    assert second.vertices[4, 1] > first.vertices[4, 1]  # in the order of their ids
    with pytest.raises(InputError, match="02954340"):
        C.read_shapenet_caps(tmp_path / "02954340")


# BlenderProc's layout


def test_written_views_come_back(views, tmp_path):
    written = C.write_blenderproc(tmp_path, views[:3], start=7)
    assert len(written) == 12 and (tmp_path / "rgbs/9_rgb.png").is_file()
    again = C.read_blenderproc(tmp_path)
    assert_close(again.depth, views.depth[:3]) and torch.equal(again.mask, views.mask[:3])
    assert (again.rgb - views.rgb[:3]).abs().amax() <= 0.5 / 255 + 1e-6
    assert_close(again.cam_from_world, views.cam_from_world[:3], atol=1e-6)
    assert_close(again.K, views.K[:3])
    assert (again.face == -1).all()
    assert torch.equal(C.read_blenderproc(tmp_path, [8]).depth, views.depth[1:2])


def authors_folder(tmp_path, blender):
    """One picture as the authors' script left it: background 10000, blended edges, masks that are not only 0 and 255."""
    for part in ("rgbs", "masks", "depths", "cam_to_world_trafo"):
        (tmp_path / part).mkdir()
    mask = np.zeros((6, 8), np.uint8)
    mask[2:4, 3:6] = [[255, 244, 3], [255, 1, 255]]
    depth = np.full((6, 8), 10000.0)
    depth[2:4, 3:6] = [[4.5, 4.4, 2554.0], [4.5, 4.5, 4.6]]
    Image.fromarray(np.full((6, 8, 3), 70, np.uint8)).save(tmp_path / "rgbs/0_rgb.png")
    Image.fromarray(mask).save(tmp_path / "masks/0_mask.png")
    np.save(tmp_path / "depths/0_depth.npy", depth)
    rebased = blender.copy()
    rebased[:, 0], rebased[:, 1], rebased[:, 2] = -blender[:, 1], blender[:, 0], -blender[:, 2]  # axes ["-Y", "X", "-Z"]
    np.savetxt(tmp_path / "cam_to_world_trafo/0_pose.txt", rebased)
    np.savetxt(tmp_path / "intrinsics.txt", np.array([[638.0, 0, 300], [0, 637, 295], [0, 0, 1]]))
    return tmp_path


def test_the_authors_files_are_understood(tmp_path):
    c, s = math.cos(0.3), math.sin(0.3)
    blender = np.array([[c, -s, 0, 0.1], [s, c, 0, -0.2], [0, 0, 1, 4.5], [0, 0, 0, 1.0]])  # Blender's camera: x right, y up, looks along -z
    views = C.read_blenderproc(authors_folder(tmp_path, blender))
    assert views.mask.sum() == 6 and (views.depth > 0).sum() == 5 and float(views.depth.amax()) < 5
    ours = np.linalg.inv(blender @ np.diag([1.0, -1, -1, 1]))
    assert_close(views.cam_from_world[0], torch.from_numpy(ours).float(), atol=1e-6)
    point = torch.tensor([0.0, 0.0, 0.0])  # below the camera: in front of it
    assert float((views.cam_from_world[0] @ torch.tensor([*point, 1.0]))[2]) == pytest.approx(4.5)


def spoil_pose(folder):
    np.savetxt(folder / "cam_to_world_trafo/0_pose.txt", np.eye(4))


def spoil_depth(folder):
    np.save(folder / "depths/0_depth.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)


def spoil_size(folder):
    np.save(folder / "depths/0_depth.npy", np.ones((6, 9)))


def spoil_mask(folder):
    (folder / "masks/0_mask.png").unlink()


def spoil_png(folder):
    whole = (folder / "rgbs/0_rgb.png").read_bytes()
    (folder / "rgbs/0_rgb.png").write_bytes(whole[: len(whole) // 2])


def spoil_table(folder):
    (folder / "intrinsics.txt").write_text("638 0 300\n0 six 295\n0 0 1\n")


def spoil_nan(folder):
    np.savetxt(folder / "intrinsics.txt", np.full((3, 3), np.nan))


def spoil_all(folder):
    (folder / "rgbs/0_rgb.png").unlink()


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (spoil_pose, "0_pose.txt.*right-handed"),
        (spoil_depth, "0_depth.npy.*cannot be read"),
        (spoil_size, r"0_depth.npy.*\(6, 9\)"),
        (spoil_mask, "0_mask.png.*cannot be read"),
        (spoil_png, "0_rgb.png.*cannot be read"),
        (spoil_table, "intrinsics.txt.*cannot be read"),
        (spoil_nan, "intrinsics.txt.*not finite"),
        (spoil_all, "holds no rgbs"),
    ],
)
def test_damaged_files_are_named(tmp_path, spoil, word):
    folder = authors_folder(tmp_path, np.diag([1.0, 1, 1, 1]))
    C.read_blenderproc(folder)
    spoil(folder)
    with pytest.raises(InputError, match=word) as caught:
        C.read_blenderproc(folder)
    assert "\n" not in str(caught.value)


def test_views_of_two_lenses_are_not_written(views, tmp_path):
    K = views.K[:2].clone()
    K[1, 0, 0] += 1
    with pytest.raises(InputError, match="several K"):
        C.write_blenderproc(tmp_path, C.Views(**{f: getattr(views[:2], f) if f != "K" else K for f in views.__dataclass_fields__}))
    assert not list(tmp_path.iterdir())


# The script

SMALL = ("--views", "8", "--caps", "2", "--shard", "1", "--height", "24", "--width", "32", "--background", "noise")


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("caps_script", ROOT / "data_scripts/caps.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    threads = torch.get_num_threads()
    yield module
    torch.set_num_threads(threads)


def test_script_goes_on_after_ctrl_c_and_makes_the_same_files(script, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    command = [sys.executable, str(ROOT / "data_scripts/caps.py"), "--out", str(cut), *SMALL, "--jobs", "2"]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert script.main(["--out", str(whole), *SMALL, "--jobs", "1"]) == 0
    assert "shard 1" in started.stdout.readline()
    os.kill(started.pid, signal.SIGINT)
    _, said = started.communicate(timeout=120)
    if started.returncode == 130:  # else it was done before the signal came
        assert "give the same command again" in said and not (cut / "index.json").is_file()
    first = sorted((cut / "shards").glob("*.json"))[0]
    kept, lost = (cut / f"{part}/{int(first.stem)}_{kind}" for part, kind in (("rgbs", "rgb.png"), ("depths", "depth.npy")))
    before = kept.stat().st_mtime_ns
    lost.unlink()
    (cut / "rgbs/.1_rgb-left.png").write_bytes(b"half")  # what a kill leaves behind
    assert script.main(["--out", str(cut), *SMALL, "--jobs", "1"]) == 0
    assert json.loads((whole / "index.json").read_text()) == json.loads((cut / "index.json").read_text())
    assert not list(cut.glob("rgbs/.*")) and kept.stat().st_mtime_ns > before
    views = C.read_blenderproc(cut)
    assert len(views) == 8 and views.size == (24, 32) and views.mask.flatten(1).any(1).all()


def test_script_checks_and_refuses(script, tmp_path, capsys):
    folder = str(tmp_path / "a")
    assert script.main(["--out", folder, "--check"]) == 2 and "no index.json" in capsys.readouterr().err
    small = ["--out", folder, *SMALL[2:], "--views", "2", "--jobs", "1"]
    assert script.main(small) == 0 and script.main(["--out", folder, "--check"]) == 0
    index = json.loads((tmp_path / "a/index.json").read_text())
    assert index["instances"] == [0, 1] and len(index["files"]) == 9
    second = C.render_views(C.toy_caps(2, detail=2).mesh(1), 1, (24, 32), torch.Generator().manual_seed(1))
    assert_close(C.read_blenderproc(tmp_path / "a", [1]).depth, second.depth)  # picture 1 shows cap 1, as the index says
    mask = tmp_path / "a/masks/1_mask.png"
    mask.write_bytes(mask.read_bytes()[:-1])
    assert script.main(["--out", folder, "--check"]) == 1 and "masks/1_mask.png" in capsys.readouterr().out
    assert script.main([*small, "--seed", "1"]) == 2 and "--seed 0, not 1" in capsys.readouterr().err
    for arguments, word in ((["--views", "0"], "at least 1"), (["--objects", "/nowhere"], "neither toy nor real")):
        assert script.main(["--out", str(tmp_path / "b"), *arguments]) == 2 and word in capsys.readouterr().err
    photoreal = ["--out", str(tmp_path / "c"), *SMALL[2:], "--views", "1", "--jobs", "1", "--blender", sys.executable]
    assert script.main(photoreal) == 2 and "no bpy" in capsys.readouterr().err
