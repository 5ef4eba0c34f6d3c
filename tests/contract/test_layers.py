"""Arrows run one way: book -> chapters -> {render, viz, data} -> geometry -> core; chapters never import each other."""

import ast
from pathlib import Path

import pytest

from tests.conftest import ROOT, notebooks, read_cells

CHAPTERS = {"don", "se3", "registration", "ssz", "phorhum"}
MIDDLE = {"render", "viz", "data"}
BELOW = {
    "core": set(),
    "testing": {"core"},
    "geometry": {"core"},
    **{m: {"core", "geometry"} | MIDDLE for m in MIDDLE},
    **{c: {"core", "geometry"} | MIDDLE for c in CHAPTERS},
    "book": {"core", "geometry", "testing"} | MIDDLE | CHAPTERS,
}
HEAVY = {"torch", "numpy", "scipy", "matplotlib", "trimesh", "skimage", "papermill", "IPython", "pooch"}


def imported(code: str, package: str = "") -> set[str]:
    """Dotted names that `code` imports, relative ones resolved within `package`."""
    found = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base]).rstrip(".")
            found.update({base} if base != "densebook" else {f"densebook.{a.name}" for a in node.names})
    return found


def layers(names: set[str]) -> set[str]:
    return {n.split(".")[1] for n in names if n.startswith("densebook.")}


def modules() -> list[Path]:
    return sorted(p for p in (ROOT / "densebook").rglob("*.py") if p.name != "_modidx.py" and p.parent.name != "densebook")


@pytest.mark.parametrize("path", modules(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_module_imports_only_what_lies_below(path: Path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    layer = parts[1]
    package = ".".join(parts[:-1])
    above = layers(imported(path.read_text(encoding="utf-8"), package)) - BELOW[layer] - {layer, "__version__"}
    assert not above, f"{path.name} of layer {layer} imports {sorted(above)}; what two layers need moves down"


def code_of(path: Path) -> str:
    return "\n".join("\n".join(line for line in c["source"].splitlines() if not line.lstrip().startswith(("%", "!"))) for c in read_cells(path) if c["cell_type"] == "code")


@pytest.mark.parametrize("path", notebooks(), ids=lambda p: p.stem)
def test_notebook_imports_no_other_chapter_and_no_machinery(path: Path):
    found = layers(imported(code_of(path)))
    own = {path.parent.name}
    # The appendix reports on the machinery itself (benchmarks, records): it alone may ask `book`.
    allowed = BELOW["don"] | own | {"testing", "__version__"} | ({"book"} if path.parent.name == "appendix" else set())
    assert not found - allowed, f"{path.name} imports {sorted(found - allowed)}"


def test_nothing_imports_data_scripts():
    for path in modules():
        assert "data_scripts" not in imported(path.read_text(encoding="utf-8"))


def test_the_package_and_core_import_nothing_heavy_at_the_top():
    for path in [ROOT / "densebook" / "__init__.py", *sorted((ROOT / "densebook" / "core").glob("*.py")), ROOT / "densebook" / "data" / "__init__.py"]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        top = {a.name.split(".")[0] for n in tree.body if isinstance(n, ast.Import) for a in n.names}
        top |= {(n.module or "").split(".")[0] for n in tree.body if isinstance(n, ast.ImportFrom) and not n.level}
        assert not top & HEAVY, f"{path.name} imports {sorted(top & HEAVY)} before it is used"
