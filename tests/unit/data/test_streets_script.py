"""The script that makes streets: goes on after a stop, makes the same files, checks and refuses."""

import importlib.util
import json
import os
import signal
import subprocess
import sys

import pytest
import torch

from densebook.data.streets import read_nuscenes
from densebook.ssz.dataset import class_counts, read_examples
from tests.conftest import ROOT

SMALL = ("--scenes", "5", "--side", "16", "--shard", "2")


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("streets_script", ROOT / "data_scripts/streets.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    threads = torch.get_num_threads()
    yield module
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def whole(script, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    assert script.main(["--out", str(folder), *SMALL, "--jobs", "1"]) == 0
    return folder


def test_goes_on_after_ctrl_c_and_makes_the_same_files(script, whole, tmp_path):
    command = [sys.executable, str(ROOT / "data_scripts/streets.py"), "--out", str(tmp_path), *SMALL, "--jobs", "2"]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert "shard 1" in started.stdout.readline()
    os.kill(started.pid, signal.SIGINT)
    _, said = started.communicate(timeout=120)
    if started.returncode == 130:  # else it was done before the signal came
        assert "give the same command again" in said and not (tmp_path / "train/index.json").is_file()
    first = sorted((tmp_path / "train/shards").glob("*.json"))[0]
    lost = tmp_path / "train" / next(n for n in json.loads(first.read_text())["files"] if n.startswith("Depths"))
    lost.unlink()
    (tmp_path / "train/ColorImages/.0001-left.png").write_bytes(b"half")  # what a kill leaves behind
    assert script.main(["--out", str(tmp_path), *SMALL, "--jobs", "1"]) == 0
    assert json.loads((whole / "train/index.json").read_text()) == json.loads((tmp_path / "train/index.json").read_text())
    assert lost.is_file() and not list(tmp_path.glob("train/*/.*"))


def test_what_is_made_can_be_read(whole):
    examples, frustum = read_examples(whole)
    assert examples.labels.shape == (5, 16, 16, 16) and (frustum.near, frustum.far) == (2.0, 12.0)
    index = json.loads((whole / "train/index.json").read_text())
    assert index["counts"] == class_counts(examples.labels).tolist()
    samples = read_nuscenes(whole / "train")
    assert len(samples) == 5 and all(s.image.is_file() and s.camera.size == (16, 16) for s in samples)
    for sample, boxes in zip(samples, examples.instances):
        assert torch.allclose(sample.instances.centers, boxes.centers, atol=1e-4) and torch.equal(sample.instances.labels, boxes.labels)
        assert abs(float(sample.camera.center[2]) - 1.6) < 1e-3  # their z is up: the eye's height


def test_checks_and_refuses(script, whole, tmp_path, capsys):
    assert script.main(["--out", str(whole), "--check"]) == 0 and "of 3" in capsys.readouterr().out
    assert script.main(["--out", str(whole), "--check", "--phase", "test"]) == 2 and "no index.json" in capsys.readouterr().err
    model = whole / "train/FruxelModels/000003.npz"
    good = model.read_bytes()
    model.write_bytes(good[:-1])
    assert script.main(["--out", str(whole), "--check"]) == 1 and "FruxelModels/000003.npz" in capsys.readouterr().out
    model.write_bytes(good)
    assert script.main(["--out", str(whole), *SMALL, "--seed", "1"]) == 2 and "--seed 0, not 1" in capsys.readouterr().err
    for arguments, word in ((["--scenes", "0"], "at least 1"), (["--near", "5", "--far", "4"], "near"), (["--seed", "-1"], "at least 0")):
        assert script.main(["--out", str(tmp_path / "b"), *arguments]) == 2 and word in capsys.readouterr().err


def test_test_phase_and_plain_models(script, tmp_path):
    arguments = ["--out", str(tmp_path), "--scenes", "1", "--side", "16", "--jobs", "1"]
    assert script.main([*arguments, "--phase", "test", "--plain"]) == 0 and script.main(arguments) == 0
    assert (tmp_path / "test/FruxelModels/000000.npy").is_file()
    train, test = (read_examples(tmp_path, phase)[0] for phase in ("train", "test"))
    assert not torch.equal(train.labels, test.labels)
