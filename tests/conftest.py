"""Shared fixtures: the checkout, its notebooks, and both float types."""

import json
import os
from pathlib import Path

import hypothesis
import pytest

# CI tries the same examples every time: a red run must mean that the change is wrong. At home new ones are drawn.
hypothesis.settings.register_profile("ci", derandomize=True, deadline=None)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("ci")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


def read_cells(path: Path) -> list[dict]:
    """Cells of a notebook with `source` joined and `tags` at hand."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [c | {"source": "".join(c["source"]), "tags": c["metadata"].get("tags", [])} for c in cells]


def notebooks() -> list[Path]:
    return sorted((ROOT / "nbs").rglob("*.ipynb"))
