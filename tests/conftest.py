"""Shared fixtures: the checkout, its notebooks, and both float types."""

import json
from pathlib import Path

import pytest

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
