"""The core: files whole or not at all, records that hold finite numbers, errors that say what to do."""

import json
import stat

import pytest

from densebook.core import devices, files, optional, records, seeds, settings
from densebook.core.errors import InputError, MissingPackageError, nearest


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a" / "x.json"
    files.write_json(path, {"a": 1})
    assert json.loads(path.read_text()) == {"a": 1} and stat.S_IMODE(path.stat().st_mode) & 0o400
    with pytest.raises(ValueError, match="JSON compliant"):
        files.write_json(path, {"a": float("nan")})
    with pytest.raises(RuntimeError), files.atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert json.loads(path.read_text()) == {"a": 1} and [p.name for p in path.parent.iterdir()] == ["x.json"]


def test_sha256_of_a_known_text(tmp_path):
    (tmp_path / "abc").write_text("abc")
    assert files.sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_nearest_names_one_or_lists_all():
    assert nearest("sfere", ["sphere", "box"]) == "; did you mean 'sphere'?"
    assert nearest("zzz", ["sphere", "box"]) == "; known: box, sphere"


def test_record_keeps_metrics_inputs_and_versions(tmp_path):
    record = records.start("geometry/11_sdf", profile="smoke", seed=1, device="cpu", data="toy", out_dir=str(tmp_path))
    assert record.metric("error", 0.25, better="lower", abs=1e-3) == 0.25
    (tmp_path / "in.txt").write_text("x")
    record.input(tmp_path / "in.txt")
    written = record.close()
    assert json.loads((tmp_path / "record.json").read_text()) == written
    assert written["metrics"] == {"error": 0.25} and written["tolerances"] == {"error": {"better": "lower", "abs": 1e-3}}
    assert set(written) >= {"notebook_hash", "code_hash", "commit", "dirty", "seconds", "peak_host_bytes", "peak_device_bytes", "versions", "inputs", "weights"}
    assert len(written["inputs"]["in.txt"]) == 64 and "torch" in written["versions"]


def test_record_refuses_what_is_wrong(tmp_path):
    good = dict(profile="smoke", seed=0, device="cpu", data="toy", out_dir=str(tmp_path))
    for name, value in (("profile", "smok"), ("data", "reel"), ("device", "gpu9"), ("device", "cuda")):
        if (name, value) == ("device", "cuda") and devices.pick("auto").type == "cuda":
            continue
        with pytest.raises(InputError, match=value):
            records.start("x", **(good | {name: value}))
    record = records.start("x", **good)
    with pytest.raises(InputError, match="finite"):
        record.metric("m", float("nan"))
    with pytest.raises(InputError, match="did you mean 'lower'"):
        record.metric("m", 1, better="low")


def test_notebook_hash_counts_code_only(tmp_path):
    def write(name, source, outputs, prose):
        cells = [{"cell_type": "code", "source": source, "outputs": outputs, "metadata": {}}, {"cell_type": "markdown", "source": prose, "metadata": {}}]
        (tmp_path / name).write_text(json.dumps({"cells": cells}))
        return records.notebook_hash(tmp_path / name)

    assert write("a", "x = 1", [], "one") == write("b", "x = 1", [{"text": "2"}], "two") != write("c", "x = 2", [], "one")


def test_weights_are_safetensors(tmp_path):
    import torch
    from safetensors.torch import load_file

    record = records.start("x", profile="smoke", seed=0, device="cpu", data="toy", out_dir=str(tmp_path))
    path = record.save_weights({"w": torch.ones(2, 3).T})
    assert load_file(path)["w"].shape == (3, 2) and len(record.weights["weights.safetensors"]) == 64


def test_seeds_repeat():
    import torch

    assert torch.equal(torch.rand(3, generator=seeds.generator(5)), torch.rand(3, generator=seeds.generator(5)))


def test_a_missing_package_names_its_install_command(monkeypatch):
    def refuse(name):
        raise ImportError(name)

    monkeypatch.setattr(optional.importlib, "import_module", refuse)
    with pytest.raises(MissingPackageError, match=r"igl .* is not installed; run: pip install .*densebook\[bench\]"):
        optional.require("igl")


def test_settings_name_the_file_and_what_is_wrong(tmp_path, monkeypatch):
    (tmp_path / "nbs").mkdir()
    (tmp_path / "settings.ini").write_text("[chapters]\na = x\n[profiles]\nsmoke = soon\n")
    with pytest.raises(InputError, match="settings.ini"):
        settings.load(tmp_path)
    monkeypatch.setenv("DENSEBOOK_DATA", str(tmp_path))
    assert settings.data_folder() == tmp_path
