"""The form of a notebook, as the design has it: short cells, prose between them, pictures with alt texts, a record at the end."""

import ast
import json
import re
import statistics
from pathlib import Path

import pytest

from densebook.core import settings
from tests.conftest import ROOT, notebooks, read_cells

PARAMETERS = {"profile": ("str", "smoke"), "seed": ("int", 0), "device": ("str", "auto"), "data": ("str", "toy"), "out_dir": ("str", "")}
TAGS = {"parameters", "hide-input", "hide-output", "raises-exception"}
teaching = [p for p in notebooks() if p.parent.name not in ("nbs", "appendix")]
every = pytest.mark.parametrize("path", notebooks(), ids=lambda p: p.stem)
chapters = pytest.mark.parametrize("path", teaching, ids=lambda p: p.stem)


def code(path: Path) -> list[dict]:
    return [c for c in read_cells(path) if c["cell_type"] == "code"]


def body(cell: dict) -> str:
    """Source without nbdev's directives."""
    return "\n".join(line for line in cell["source"].splitlines() if not line.startswith("#|")).strip()


def statement_lines(source: str) -> int:
    """Lines that do something: docstrings (which an exported function must have), comments and blank lines left out."""
    nodes = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef | ast.ClassDef | ast.Module)]
    docs = [n.body[0] for n in nodes if n.body and isinstance(n.body[0], ast.Expr) and isinstance(n.body[0].value, ast.Constant)]
    skipped = {line for d in docs for line in range(d.lineno, d.end_lineno + 1)}
    lines = enumerate(source.splitlines(), start=1)
    return sum(bool(text.strip()) and not text.strip().startswith("#") and number not in skipped for number, text in lines)


def exported(cell: dict) -> bool:
    return bool(re.match(r"#\| ?exports?\b", cell["source"]))


def test_settings_and_folder_name_the_same_notebooks():
    named = {settings.load(ROOT).path(n) for n in settings.load(ROOT).notebooks}
    assert named == set(notebooks())


@every
def test_parameters_cell_is_the_same_everywhere(path: Path):
    tagged = [c for c in code(path) if "parameters" in c["tags"]]
    assert len(tagged) == 1, "exactly one cell is tagged 'parameters'"
    found = {s.target.id: (ast.unparse(s.annotation), ast.literal_eval(s.value)) for s in ast.parse(tagged[0]["source"]).body}
    assert found == PARAMETERS
    assert all("#" in line for line in tagged[0]["source"].splitlines() if ":" in line), "each parameter has its comment"


@every
def test_record_is_started_and_closed(path: Path):
    sources = [c["source"] for c in code(path)]
    name = path.relative_to(ROOT / "nbs").with_suffix("").as_posix()
    assert any(f'records.start("{name}"' in re.sub(r"\(\s+", "(", s) for s in sources), f'records.start("{name}", ...) is missing'
    assert "record.close()" in sources[-1], "the last code cell closes the record"


@every
def test_metadata_holds_no_gates(path: Path):
    raw = json.loads(path.read_text(encoding="utf-8"))
    assert raw["metadata"]["kernelspec"]["name"] == "python3"
    for cell in raw["cells"]:
        assert set(cell["metadata"]) <= {"tags"}
        assert set(cell["metadata"].get("tags", [])) <= TAGS


@every
def test_cells_are_short_with_prose_between(path: Path):
    cells = read_cells(path)
    lengths = [len(body(c).splitlines()) for c in code(path)]
    assert max(lengths) <= 40, f"a code cell has {max(lengths)} lines; 40 is the most"
    median = statistics.median(statement_lines(body(c)) for c in code(path))
    assert median <= 10, f"the median code cell has {median} lines of statements"
    run = 0
    for cell in cells:
        run = run + 1 if cell["cell_type"] == "code" else 0
        assert run <= 3, f"four code cells in a row before: {cell['source'][:60]!r}"


@every
def test_import_cells_hold_imports_only(path: Path):
    for cell in code(path):
        statements = ast.parse(body(cell)).body if not re.search(r"^[%!]", body(cell), re.M) else []
        imports = [s for s in statements if isinstance(s, ast.Import | ast.ImportFrom)]
        assert not imports or len(imports) == len(statements), f"imports among other code: {cell['source'][:80]!r}"
        assert "pip install" not in cell["source"] or "!" not in cell["source"]


@every
def test_outputs_are_small(path: Path):
    size = sum(len(json.dumps(c.get("outputs", []))) for c in code(path))
    assert size <= 500_000, f"{path.name} carries {size:,} bytes of outputs"


@every
def test_committed_outputs_are_whole(path: Path):
    for cell in code(path):
        if body(cell):
            assert not any(o["output_type"] == "error" for o in cell["outputs"]), f"an error is printed: {cell['source'][:60]!r}"
    assert any(c["outputs"] for c in code(path)), f"{path.name} was not printed: densebook run --profile cpu, densebook publish"


@every
def test_pictures_have_alt_texts(path: Path):
    for cell in code(path):
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                alt = output["metadata"].get("image/png", {}).get("alt", "")
                assert len(alt) >= 10, f"a picture has no alt text: {cell['source'][:60]!r}"


@chapters
def test_first_cell_says_what_it_is(path: Path):
    first = read_cells(path)[0]
    assert first["cell_type"] == "markdown" and first["source"].startswith("# ")
    for word in ("What you will build", "Needs", "Time", "Paper"):
        assert word in first["source"], f"the first cell does not say: {word}"


@chapters
def test_ends_with_differences_summary_exercises(path: Path):
    prose = [c["source"] for c in read_cells(path) if c["cell_type"] == "markdown"]
    places = [next((i for i, s in enumerate(prose) if re.search(rf"^## {title}", s, re.M)), -1) for title in ("Where the paper differs", "Summary", "Exercises")]
    assert -1 not in places and places == sorted(places), f"closing sections missing or out of order: {places}"
    assert sum("hide-input" in c["tags"] for c in code(path)) >= 3, "three exercises with folded, executed solutions"


@chapters
def test_shows_pictures_and_an_error(path: Path):
    text = "\n".join(c["source"] for c in code(path))
    assert text.count("plots.show(") >= 3, "a person would rather look than read"
    assert "InputError" in text, "an error is shown as an executed cell"


def definitions(path: Path) -> list[ast.FunctionDef | ast.ClassDef]:
    found = []
    for cell in code(path):
        if exported(cell):
            found += [s for s in ast.parse(body(cell)).body if isinstance(s, ast.FunctionDef | ast.ClassDef) and not s.name.startswith("_")]
    return found


@chapters
def test_exports_are_used_typed_and_explained(path: Path):
    visible = "\n".join(body(c) for c in code(path) if not re.match(r"#\| ?export\b", c["source"]) or "hide-input" in c["tags"])
    for made in definitions(path):
        assert ast.get_docstring(made), f"{made.name} has no docstring"
        assert re.search(rf"\b{made.name}\b", visible), f"{made.name} is exported but shown in no visible cell"
        if isinstance(made, ast.FunctionDef):
            arguments = [a for a in (*made.args.posonlyargs, *made.args.args, *made.args.kwonlyargs) if a.arg not in ("self", "cls")]
            untyped = [a.arg for a in arguments if a.annotation is None]
            assert not untyped and made.returns is not None, f"{made.name}: no type for {untyped or 'what it returns'}"
