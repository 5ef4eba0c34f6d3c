"""The site: notebooks with their committed outputs and an API reference, as static pages that ask nothing of the network.

Sphinx and MyST-NB read working copies of the notebooks in a temporary folder; nothing under nbs/ is written, nothing is
executed. MathJax is copied from a package, so that formulae show without a connection. A warning of Sphinx is an error.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import importlib.util
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from densebook.core import settings as book_settings
from densebook.core.errors import InputError, MissingPackageError

# Chapters whose name in settings.ini is short for their title.
TITLES = {
    "render": "Rendering",
    "registration": "Registration",
    "don": "Dense Object Nets",
    "se3": "SE(3)-equivariant nets",
    "ssz": "Scenes from one image",
    "phorhum": "People from one image",
}
# What the pages can show without a kernel; widgets and plotly need one, or the network.
MIMES = ("text/html", "text/markdown", "text/latex", "image/svg+xml", "image/png", "image/jpeg", "text/plain")
PICTURES = (".png", ".jpg", ".svg", ".gif")
BRANDED = ("color-brand-primary", "color-brand-content", "color-admonition-title")

# The whole of Sphinx's configuration; conf.py in the working folder is two lines that import it.
CONF = {
    "project": "densebook",
    "author": "The densebook authors",
    "copyright": "The densebook authors, Apache-2.0",
    "html_title": "densebook",
    "html_theme": "furo",
    "html_static_path": ["_static"],
    "html_css_files": ["book.css"],
    "html_copy_source": False,
    "html_show_sourcelink": False,
    "html_show_sphinx": False,
    "html_theme_options": {
        "light_css_variables": {name: "#0072B2" for name in BRANDED} | {"color-admonition-title-background": "#0072B218"},
        "dark_css_variables": {name: "#56B4E9" for name in BRANDED} | {"color-admonition-title-background": "#56B4E918"},
        "navigation_with_keys": True,
    },
    "extensions": ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx_copybutton"],
    "mathjax_path": "mathjax/tex-mml-chtml.js",
    "nb_execution_mode": "off",
    "nb_ipywidgets_js": {},  # the default is two scripts from the network
    "nb_render_markdown_format": "myst",
    "nb_merge_streams": True,
    "nb_code_prompt_show": "Show the code",
    "nb_code_prompt_hide": "Hide the code",
    "myst_enable_extensions": ["amsmath", "colon_fence", "dollarmath"],
    "myst_heading_anchors": 3,
    "autodoc_member_order": "bysource",
    "autodoc_typehints": "signature",
    "autodoc_preserve_defaults": True,
    "suppress_warnings": ["ref.python"],  # Camera has two places: its module, and the package that names it again
    "exclude_patterns": ["downloads", "_static"],
    "default_role": "code",
    "python_maximum_signature_line_length": 88,
    "add_module_names": False,
}

CSS = """
/* Code lines are up to 140 characters: a wider column than the theme's, and a smaller code font. */
.content { width: auto; max-width: 60rem; flex: 1 1 46em; min-width: 0; }
.main { flex: 1 1 0; min-width: 0; }
.sidebar-drawer { width: calc(50% - 31em); }
div.highlight pre { font-size: 0.76rem; line-height: 1.45; }
div.cell { margin: 1.2rem 0; }
div.cell div.cell_input { border-left: 3px solid var(--color-brand-primary); }
div.cell_output { margin-top: 0.4rem; }
div.cell_output div.output pre { font-size: 0.76rem; background: transparent; padding: 0.2rem 0.9rem; }
div.cell_output div.text_html { overflow-x: auto; }
div.cell_output table.docutils { font-size: 0.82rem; margin-left: 0; }
div.cell_output .table-wrapper { overflow-x: auto; }
div.cell_output img { background: #fff; border-radius: 3px; }
div.cell_output figure { margin: 0.8rem 0; }
div.cell_output figcaption { font-size: 0.88rem; color: var(--color-foreground-secondary); }
.page-links { font-size: 0.85rem; }
.page-links .download, .page-links .download * { font-family: inherit; font-size: inherit; background: none; border: none; padding: 0; }
div.math { overflow-x: auto; }
h1 { overflow-wrap: normal; }
"""


def build(root: str | Path, out: str | Path) -> Path:
    """Build the site of the checkout at `root` into the folder `out`, from scratch; returns the path of its index page.

    `out` is replaced when it holds an earlier site; InputError when it holds anything else, when a notebook of
    settings.ini is missing, when Sphinx warns, or when a page would load a script, a style or a picture from the network.
    """
    settings, out = book_settings.load(root), Path(out).resolve()
    if importlib.util.find_spec("sphinx") is None or importlib.util.find_spec("mathjax") is None:
        raise MissingPackageError("the site is built by sphinx and its friends; run: pip install -c constraints.txt 'densebook[book]'")
    if out.exists() and any(out.iterdir()) and not (out / "objects.inv").is_file():
        raise InputError(f"{out} holds files but no site; name a new or an empty folder")
    if missing := [n for n in settings.notebooks if not settings.path(n).is_file()]:
        raise InputError(f"settings.ini names {missing[0]} but nbs/{missing[0]}.ipynb is not there; write it or take the name out")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="densebook-site-") as work:
        source, pages = Path(work) / "source", Path(work) / "pages"
        write_sources(settings, source)
        _sphinx(settings.root, source, pages, Path(work) / "doctrees")
        if loads := external_loads(pages):
            raise InputError(f"{loads[0][0]} loads {loads[0][1]} from the network; keep the file in the book or drop that output")
        if out.exists():
            shutil.rmtree(out)
        shutil.move(pages, out)
    return out / "index.html"


def write_sources(settings: book_settings.Settings, source: Path) -> None:
    """Write what Sphinx reads: working copies of the notebooks, pictures, API pages, MathJax, style, conf.py."""
    apis = modules(settings.root)
    for name in settings.notebooks:
        notebook = page(json.loads(settings.path(name).read_text(encoding="utf-8")), source / "figures")
        _insert_links(notebook, name, exported_module(settings.path(name)), set(apis))
        if name == "index":
            notebook["cells"].append(_markdown(_contents(settings, bool(apis))))
        target = source / f"{name}.ipynb"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(notebook), encoding="utf-8")
        download = source / "downloads" / f"{name}.ipynb"
        download.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(settings.path(name), download)
    for picture in (p for p in (settings.root / "nbs").rglob("*") if p.suffix in PICTURES and ".ipynb_checkpoints" not in p.parts):
        target = source / picture.relative_to(settings.root / "nbs")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(picture, target)
    _write_api(apis, source / "api", {m: n for n in settings.notebooks if (m := exported_module(settings.path(n)))})
    _copy_mathjax(source / "_static" / "mathjax")
    (source / "_static" / "book.css").write_text(CSS, encoding="utf-8")
    (source / "conf.py").write_text("from densebook.book.site import CONF, setup\n\nglobals().update(CONF)\n", encoding="utf-8")


# --- notebooks to pages


def page(notebook: dict, figures: Path) -> dict:
    """A notebook (nbformat 4, as a dict) as the site prints it: a changed copy; its pictures are written into `figures`.

    Directive lines (`#| export`) go, cells that held nothing else or are marked `#| hide` go, and so does the cell that
    papermill injects. A picture and its caption become one figure with the alt text.
    """
    cells = []
    for cell in copy.deepcopy(notebook["cells"]):
        cell["source"] = "".join(cell["source"])
        if cell["cell_type"] == "code":
            directives = re.findall(r"^#\s*\|\s*(\S+)", cell["source"], re.MULTILINE)
            cell["source"] = re.sub(r"^#\s*\|.*\n?", "", cell["source"], flags=re.MULTILINE).strip("\n")
            empty = not cell["source"].strip()
            if empty or "hide" in directives or "injected-parameters" in cell["metadata"].get("tags", []):
                continue
            cell["outputs"] = _join_captions([kept for o in cell["outputs"] if (kept := _output(o)) is not None], figures)
            cell["metadata"] = {"tags": cell["metadata"].get("tags", [])}
        cells.append(cell)
    kept = {k: v for k, v in notebook["metadata"].items() if k in ("kernelspec", "language_info")}
    return {**notebook, "cells": cells, "metadata": kept}


def exported_module(path: Path) -> str | None:
    """The module that the notebook at `path` exports ('densebook.geometry.sdf'), or None."""
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if found := re.search(r"^#\s*\|\s*default_exp\s+(\S+)", "".join(cell["source"]), re.MULTILINE):
            return f"densebook.{found[1]}"
    return None


def _output(output: dict) -> dict | None:
    """One output without the kinds a static page cannot show; None when nothing is left."""
    if "data" not in output:
        return output
    data = {m: d if isinstance(d, str) else "".join(d) for m, d in output["data"].items() if m in MIMES}
    widget = any("widget" in m or "plotly" in m for m in output["data"])
    if not data or (widget and set(data) == {"text/plain"}):
        return None
    return {**output, "data": data}


def _join_captions(outputs: list[dict], figures: Path) -> list[dict]:
    """Each picture that has an alt text, and the italic line after it, as one figure."""
    joined: list[dict] = []
    waiting = list(outputs)
    while waiting:
        output = waiting.pop(0)
        alt = output.get("metadata", {}).get("image/png", {}).get("alt")
        if alt is None or "image/png" not in output.get("data", {}):
            joined.append(output)
            continue
        caption = ""
        if waiting and (text := waiting[0].get("data", {}).get("text/markdown", "").strip()).startswith("*") and text.endswith("*"):
            caption = waiting.pop(0)["data"]["text/markdown"].strip().strip("*")
        joined.append({**output, "metadata": {}, "data": {"text/markdown": _figure(output["data"]["image/png"], alt, caption, figures)}})
    return joined


def _figure(encoded: str, alt: str, caption: str, figures: Path) -> str:
    data = base64.b64decode(encoded)
    name = f"{hashlib.sha256(data).hexdigest()[:16]}.png"
    figures.mkdir(parents=True, exist_ok=True)
    (figures / name).write_bytes(data)
    return f":::{{figure}} /figures/{name}\n:alt: {json.dumps(' '.join(alt.split()), ensure_ascii=False)}\n\n{caption}\n:::\n"


def _markdown(text: str) -> dict:
    return {"cell_type": "markdown", "metadata": {}, "source": text, "id": hashlib.sha256(text.encode()).hexdigest()[:8]}


def _insert_links(notebook: dict, name: str, module: str | None, apis: set[str]) -> None:
    """Under the title: the module that the notebook exports, and the notebook itself to download."""
    up = "../" * name.count("/")
    links = [f"[reference of `{module}`]({up}api/{module}.md)"] if module in apis else []
    links.append(f"{{download}}`this page as a notebook <{up}downloads/{name}.ipynb>`")
    cell = _markdown(":::{container} page-links\n" + " · ".join(links) + "\n:::")
    if name == "index":
        notebook["cells"].append(cell)
    else:
        notebook["cells"].insert(1, cell)


def _contents(settings: book_settings.Settings, api: bool) -> str:
    """The hidden table of contents at the end of the index page: chapters in the order of settings.ini."""
    blocks = []
    for chapter, names in settings.chapters.items():
        docs = [n for n in names if n != "index"] if chapter == "start" else [f"{chapter}/{n}" for n in names]
        if docs:
            caption = "Before you begin" if chapter == "start" else TITLES.get(chapter, chapter.capitalize())
            blocks.append(f"```{{toctree}}\n:hidden:\n:caption: {caption}\n\n" + "\n".join(docs) + "\n```")
    if api:
        blocks.append("```{toctree}\n:hidden:\n:caption: Reference\n\napi/index\n```")
    return "\n\n".join(blocks)


# --- API reference


def modules(root: Path) -> dict[str, Path]:
    """Every documented module of the package at `root`: dotted name -> file; empty where there is no package."""
    package = Path(root) / "densebook"
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        name = ".".join(("densebook", *(p for p in parts if p != "__init__")))
        public = not any(p.startswith("_") and p != "__init__" for p in parts)
        if public and path.stat().st_size and (path.name != "__init__.py" or "def " in path.read_text(encoding="utf-8")):
            found[name] = path
    return {name: path for name, path in found.items() if ".benches" not in name}


def _write_api(apis: dict[str, Path], folder: Path, notebooks: dict[str, str]) -> None:
    """One page a module, and an index grouped by package."""
    if not apis:
        return
    folder.mkdir(parents=True, exist_ok=True)
    groups: dict[str, list[str]] = {
        group: [] for group in ("geometry", "render", *TITLES, "viz", "data", "core")
    }  # what is taught first, then what serves it
    for name in apis:
        groups.setdefault(name.split(".")[1] if name.count(".") else "densebook", []).append(name)
        taught = f"Taught and tested in [its notebook](../{notebooks[name]}.ipynb).\n\n" if name in notebooks else ""
        text = f"# {name.removeprefix('densebook.')}\n\n{taught}```{{eval-rst}}\n.. automodule:: {name}\n   :members:\n```\n"
        (folder / f"{name}.md").write_text(text, encoding="utf-8")
    lines = ["# Reference of the library", "", "From the docstrings and comments of the code, one page a module.", ""]
    for group, names in ((g, n) for g, n in groups.items() if n):
        lines += [f"## {TITLES.get(group, group)}", "", "```{toctree}", ":maxdepth: 1", "", *names, "```", ""]
    (folder / "index.md").write_text("\n".join(lines), encoding="utf-8")


def to_rst(lines: list[str]) -> list[str]:
    """A docstring in this book's plain style as reStructuredText: backticks are code, nothing else is markup.

    Blocks that are indented throughout, drawn tables and blocks of ragged indentation are kept as they stand.
    """
    out: list[str] = []
    for block in re.split(r"\n\s*\n", "\n".join(lines).strip("\n")):
        rows = block.split("\n")
        indents = [len(r) - len(r.lstrip()) for r in rows]
        listed = re.match(r"(-|\d+\.) ", rows[0]) is not None
        ragged = not listed and len(set(indents)) > 1 and not (indents[0] == 0 and len(set(indents[1:])) == 1)
        if block.strip() and (min(indents) >= 2 or rows[0].startswith(("|", ">>>")) or ragged):
            out += ["::", "", *(f"    {r}" for r in rows), ""]
        else:
            out += [*(_escape(r) for r in rows), ""]
    return out


def _escape(row: str) -> str:
    parts = re.split(r"(`+[^`]+`+)", row)
    marks = [f"``{p.strip('`')}``" if p.startswith("`") else re.sub(r"([\\*|`]|_(?=\W|$))", r"\\\1", p) for p in parts]
    joined = ""
    for i, mark in enumerate(marks):  # code that touches a letter needs a separator in reStructuredText
        code = i % 2 == 1
        before = "\\ " if code and joined and (joined[-1].isalnum() or joined[-1] in "*|_") else ""
        after = "\\ " if code and i + 1 < len(marks) and marks[i + 1][:1].isalnum() else ""
        joined += before + mark + after
    return joined


def comments(what) -> dict[str, str]:
    """Comments beside the parameters or fields of a function or a class (docments): name -> text; 'return' for the result."""
    from fastcore.docments import docments

    try:
        found = docments(what, full=False, returns=True)
    except (OSError, TypeError, SyntaxError, ValueError, AttributeError, KeyError, IndexError):  # built-ins and classes without a source
        return {}
    return {name: " ".join(str(text).split()) for name, text in found.items() if text}


def _docments_hook(app, what, name, obj, options, lines) -> None:
    if what == "module":  # nbdev puts the address of a page that another tool would make
        lines[:] = [line for line in lines if not line.startswith("Docs: http")]
    lines[:] = to_rst(lines) if lines else []
    if what in ("function", "method", "class") and (inspect.isfunction(obj) or inspect.isclass(obj)):
        for parameter, text in comments(obj).items():
            lines.append(f":returns: {_escape(text)}" if parameter == "return" else f":param {parameter}: {_escape(text)}")
        lines.append("")


def setup(app) -> dict:
    """Called by Sphinx, which finds it through conf.py."""
    app.connect("autodoc-process-docstring", _docments_hook)
    return {"parallel_read_safe": True}


# --- Sphinx


def _copy_mathjax(target: Path) -> None:
    """MathJax and its fonts from the package that carries them: 1.7 MB."""
    package = Path(next(iter(importlib.util.find_spec("mathjax").submodule_search_locations)))
    es5 = package / "static" / "mathjax" / "es5"
    (target / "output" / "chtml").mkdir(parents=True)
    shutil.copyfile(es5 / "tex-mml-chtml.js", target / "tex-mml-chtml.js")
    shutil.copytree(es5 / "output" / "chtml" / "fonts", target / "output" / "chtml" / "fonts")


def _sphinx(root: Path, source: Path, pages: Path, doctrees: Path) -> None:
    """Run Sphinx in a process of its own; InputError with what it said when it fails or warns."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))}
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-N", "-b", "html", "-d", doctrees, source, pages]
    done = subprocess.run([str(c) for c in command], env=environment, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr or done.stdout).replace(f"{source}{os.sep}", "").strip()
        raise InputError(f"the site was not built, Sphinx said:\n{said}")


def external_loads(pages: Path) -> list[tuple[str, str]]:
    """What pages would load from the network: (page, address) of each script, style, picture or frame. Links are no loads."""
    address = r"""["']((?:https?:)?//[^"']+)"""
    tags = re.compile(rf"<(?:script|img|iframe|source|video|audio)\b[^>]*?\bsrc={address}|<link\b[^>]*?\bhref={address}")
    loads = []
    for path in sorted(Path(pages).rglob("*.html")):
        for found in tags.finditer(path.read_text(encoding="utf-8")):
            if 'rel="canonical"' not in found[0]:
                loads.append((path.relative_to(pages).as_posix(), found[1] or found[2]))
    return loads
