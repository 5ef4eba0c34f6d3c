"""Shapes are written in signatures with jaxtyping and checked here."""

import subprocess
import sys


def test_shapes_in_signatures_hold(root):
    done = subprocess.run([sys.executable, "tests/contract/shapes.py"], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0 and "every shape holds" in done.stdout, done.stderr[-3000:]
