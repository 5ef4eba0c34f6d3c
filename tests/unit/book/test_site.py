"""The site: two toy notebooks become pages that work without a network."""

import json
import re
from pathlib import Path

import pytest

from densebook.book import site
from densebook.core.errors import InputError

pytest.importorskip("sphinx")
DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="  # a PNG of one pixel
SETTINGS = """[chapters]
start = index
geometry = 10_dots
[profiles]
smoke = 60
[data]
folder = data
[tolerances]
rel = 0.05
abs = 1e-9
"""


def markdown(text: str) -> dict:
    return {"cell_type": "markdown", "id": f"m{abs(hash(text)) % 10**6}", "metadata": {}, "source": text}


def code(text: str, outputs=(), tags=()) -> dict:
    cell = {"cell_type": "code", "id": f"c{abs(hash(text)) % 10**6}", "metadata": {"tags": list(tags)} if tags else {}, "source": text}
    return cell | {"execution_count": None, "outputs": list(outputs)}


def shown(data: dict, **metadata) -> dict:
    return {"output_type": "display_data", "data": data, "metadata": metadata}


def notebook(*cells: dict) -> str:
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return json.dumps({"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5})


PICTURE = shown({"image/png": DOT, "text/plain": "<Image>"}, **{"image/png": {"alt": 'A dot, "red" [1] on white'}})
CAPTION = shown({"text/markdown": "*One dot, $r = 1$ px.*", "text/plain": "<Markdown>"})
DOTS = (
    markdown("# Dots\n\nA dot has $x^2$.\n\nBack to [the start](../index.ipynb)."),
    code("#| default_exp geometry.dots"),
    code('profile: str = "smoke"  # kept', tags=["parameters"]),
    code("#| hide\nprint('never shown')"),
    code('profile = "cpu"  # injected', tags=["injected-parameters"]),
    code("#| export\ndef dot() -> int:\n    return 1", outputs=[PICTURE, CAPTION]),
    markdown("## Exercises"),
    code("answer = 42", tags=["hide-input"], outputs=[{"output_type": "stream", "name": "stdout", "text": ["42\n"]}]),
)


def toy(root: Path, *, dots=DOTS) -> Path:
    (root / "nbs" / "geometry").mkdir(parents=True)
    (root / "settings.ini").write_text(SETTINGS)
    (root / "nbs" / "index.ipynb").write_text(notebook(markdown("# Toy book\n\nRead [dots](geometry/10_dots.ipynb).")))
    (root / "nbs" / "geometry" / "10_dots.ipynb").write_text(notebook(*dots))
    return root


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    root = toy(folder / "book")
    before = {p: p.read_bytes() for p in root.rglob("*") if p.is_file()}
    index = site.build(root, folder / "pages")
    assert {p: p.read_bytes() for p in root.rglob("*") if p.is_file()} == before, "the checkout was written to"
    assert index == folder / "pages" / "index.html"
    return index.parent


@pytest.fixture(scope="module")
def page(built: Path) -> str:
    return (built / "geometry" / "10_dots.html").read_text(encoding="utf-8")


def test_index_links_the_chapter_page_and_there_is_a_search_box(built: Path):
    index = (built / "index.html").read_text(encoding="utf-8")
    assert 'href="geometry/10_dots.html"' in index
    assert 'class="sidebar-search"' in index and (built / "searchindex.js").is_file()


def test_maths_comes_from_a_local_file_with_its_fonts(built: Path, page: str):
    script = re.search(r'src="\.\./(_static/mathjax/[^"?]+)', page)
    assert script and (built / script[1]).stat().st_size > 1_000_000
    assert list((built / "_static" / "mathjax").rglob("*.woff"))


def test_pictures_carry_alt_text_and_caption(page: str):
    assert 'alt="A dot, &quot;red&quot; [1] on white"' in page
    assert re.search(r"<figcaption>.*One dot", page, re.S)


def test_cells_are_shown_as_a_reader_needs_them(page: str):
    text = re.sub(r"<[^>]+>", "", page)
    assert "default_exp" not in text and "#| export" not in text, "directives are for nbdev"
    assert "never shown" not in text and "injected" not in text
    assert "kept" in text and "def dot()" in text
    assert re.search(r"<details[^>]*>.*answer", page, re.S), "a solution is folded"


def test_the_notebook_can_be_downloaded(built: Path, page: str):
    link = re.search(r'href="\.\./(_downloads/[^"]+10_dots\.ipynb)"', page)
    assert link and (built / link[1]).is_file()


def test_nothing_is_loaded_from_the_network(built: Path):
    for path in built.rglob("*.html"):
        for tag in re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", path.read_text(encoding="utf-8")):
            assert not re.search(r'(?:src|href)="(?:https?:)?//', tag), f"{path.name}: {tag}"


def test_a_script_from_the_network_is_refused_and_leaves_nothing(tmp_path: Path):
    loads = shown({"text/html": '<script src="https://example.org/plot.js"></script>'})
    root = toy(tmp_path / "book", dots=(*DOTS, code("plot()", outputs=[loads])))
    with pytest.raises(InputError, match="10_dots.html loads https://example.org/plot.js"):
        site.build(root, tmp_path / "pages")
    assert not (tmp_path / "pages").exists()


def test_a_warning_is_an_error(tmp_path: Path):
    root = toy(tmp_path / "book", dots=(markdown("# Dots\n\n[nowhere](99_missing.ipynb)"),))
    with pytest.raises(InputError, match="10_dots"):
        site.build(root, tmp_path / "pages")


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path):
    root = toy(tmp_path / "book")
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "thesis.txt").write_text("dear")
    with pytest.raises(InputError, match="holds files but no site"):
        site.build(root, tmp_path / "pages")
    assert (tmp_path / "pages" / "thesis.txt").read_text() == "dear"


def test_a_missing_notebook_is_named(tmp_path: Path):
    root = toy(tmp_path / "book")
    (root / "nbs" / "geometry" / "10_dots.ipynb").unlink()
    with pytest.raises(InputError, match="geometry/10_dots"):
        site.build(root, tmp_path / "pages")


def test_docstrings_become_restructured_text_that_never_warns():
    plain = ["Norm |x| of `x`, `V 3` *batch times_ 2.", "", "    y = f(x)", "", "- one", "- two", "", "| a | b |", "|---|---|"]
    text = "\n".join(site.to_rst(plain))
    assert r"Norm \|x\| of ``x``, ``V 3`` \*batch times\_ 2." in text
    assert "::\n\n        y = f(x)" in text and "- one\n- two" in text and "    |---|---|" in text


def test_comments_beside_parameters_are_found():
    def scaled(
        x: float,  # a length in metres
        by: float = 2.0,
    ) -> float:  # metres too
        return x * by

    assert site.comments(scaled) == {"x": "a length in metres", "return": "metres too"}
