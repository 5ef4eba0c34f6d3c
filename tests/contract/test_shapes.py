"""Shapes are written in signatures with jaxtyping and checked here."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("walk", ["shapes.py", "shapes_one_picture.py"])
def test_shapes_in_signatures_hold(root, walk):
    done = subprocess.run([sys.executable, f"tests/contract/{walk}"], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0 and "every shape holds" in done.stdout, done.stderr[-3000:]
