"""Shards: what is noted is done, what is lost is made again, what was begun otherwise is refused, and no byte changes unseen."""

import json
from pathlib import Path

import pytest

from densebook.core.errors import InputError
from densebook.data import shards

SETTINGS = {"items": 5, "shard": 2, "seed": 0}


def draw(job):
    """A shard of a script: files with numbers."""
    folder, shard = Path(job[0]), job[1]
    (folder / "parts").mkdir(exist_ok=True)
    written = [folder / "parts" / f"{n}.txt" for n in range(2 * shard, min(2 * shard + 2, 5))]
    for path in written:
        path.write_text(path.stem)
    return shards.finish(folder, shard, written, sum=sum(int(p.stem) for p in written))


def made(folder, jobs=None):
    waiting = shards.prepare(folder, SETTINGS, ["parts"], 5) if jobs is None else jobs
    assert shards.work(draw, [(str(folder), n) for n in waiting], 3, 1)
    return waiting


def test_made_in_shards_and_indexed(tmp_path, capsys):
    assert made(tmp_path) == [0, 1, 2] and "shard 3 of 3" in capsys.readouterr().out
    assert [n["sum"] for n in shards.notes(tmp_path)] == [1, 5, 4]
    (tmp_path / "K.txt").write_text("1")
    shards.write_index(tmp_path, SETTINGS, [tmp_path / "K.txt"], total=10)
    index = json.loads((tmp_path / "index.json").read_text())
    assert index["settings"] == SETTINGS and index["total"] == 10 and len(index["files"]) == 6
    assert shards.check(tmp_path) == 0 and "6 of 6" in capsys.readouterr().out
    (tmp_path / "parts" / "3.txt").write_text("4")
    (tmp_path / "K.txt").unlink()
    said = shards.check(tmp_path), capsys.readouterr().out
    assert said[0] == 1 and "parts/3.txt: missing or changed\nK.txt: missing or changed\n4 of 6" in said[1]


def test_goes_on_where_it_was(tmp_path):
    made(tmp_path, [0, 2])
    shards.write_index(tmp_path, SETTINGS)
    (tmp_path / "parts" / ".half-written").write_text("x")
    assert shards.prepare(tmp_path, SETTINGS, ["parts"], 5) == [1]
    assert not (tmp_path / "index.json").exists() and not (tmp_path / "parts" / ".half-written").exists()
    (tmp_path / "parts" / "0.txt").unlink()
    assert shards.prepare(tmp_path, SETTINGS, ["parts"], 5) == [0, 1]
    with pytest.raises(InputError, match="no index.json"):
        shards.check(tmp_path)


def test_other_settings_are_refused(tmp_path):
    made(tmp_path)
    with pytest.raises(InputError, match="--seed 0, not 1"):
        shards.prepare(tmp_path, SETTINGS | {"seed": 1}, ["parts"], 5)


def test_ctrl_c_is_no_error(tmp_path, capsys):
    def stopped(job):
        raise KeyboardInterrupt

    assert not shards.work(stopped, [(str(tmp_path), 1)], 3, 1)
    assert "stopped: 2 of 3 shards are there" in capsys.readouterr().err
