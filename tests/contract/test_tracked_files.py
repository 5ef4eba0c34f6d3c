"""What is committed: small files, no weights, no path of a machine, no host of a package index."""

import re
import subprocess
from pathlib import Path

LARGEST = 600_000
PRIVATE = re.compile(r"/work/|/root/|/home/(?!runner)\w|/tmp/bash|file://" + "|" + "|".join(["pypi" + r"\.org", "python" + "hosted", "registry" + r"\.npmjs", "deb" + r"\.debian"]))
FORBIDDEN = (".safetensors", ".pt", ".pth", ".ckpt", ".pkl", ".npz", ".npy", ".obj", ".glb", ".ply")


def tracked(root: Path) -> list[Path]:
    listed = subprocess.run(["git", "-C", str(root), "ls-files", "-z"], capture_output=True, text=True, check=True).stdout
    return [root / name for name in listed.split("\0") if name and (root / name).is_file()]


def test_files_are_small_and_no_data_or_weights(root: Path):
    for path in tracked(root):
        assert path.stat().st_size <= LARGEST, f"{path.relative_to(root)} has {path.stat().st_size:,} bytes"
        assert path.suffix not in FORBIDDEN, f"{path.relative_to(root)}: data and weights stay out of the project"


def test_no_path_of_a_machine_and_no_host_of_an_index(root: Path):
    for path in tracked(root):
        if path.suffix in (".png", ".jpg") or path == Path(__file__).resolve():
            continue
        found = PRIVATE.search(path.read_text(encoding="utf-8"))
        assert not found, f"{path.relative_to(root)} names {found.group()!r}"


def test_no_generated_junk(root: Path):
    names = [p.relative_to(root).as_posix() for p in tracked(root)]
    junk = [n for n in names if re.search(r"__pycache__|\.ipynb_checkpoints|^runs/|^_site/|\.egg-info|\.pyc$", n)]
    assert not junk, junk
