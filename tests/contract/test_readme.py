"""README: its example runs as printed, and every command, target, option and link that it names is there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def commands(program: str) -> list[str]:
    """What follows `program` in code: between backticks, or on a line of a shell block."""
    text = README + CONTRIBUTING
    lines = [line.split("#")[0].strip() for block in re.findall(r"```sh\n(.*?)```", text, re.S) for line in block.splitlines()]
    spans = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", re.sub(r"```.*?```", "", text, flags=re.S))
    return [s.split(" ", 1)[1] for s in lines + spans if s.startswith(program + " ")]


def examples() -> list[str]:
    found = re.findall(r"<!-- example: .*?-->\n```python\n(.*?)```\n<!-- /example -->", README, re.S)
    assert len(found) == 2, "README has two examples between their markers"
    return found


def test_the_examples_are_short():
    assert all(len([line for line in e.splitlines() if line.strip()]) <= 12 for e in examples())


def test_the_examples_run_as_printed(tmp_path: Path):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    printed = []
    for example in examples():  # the second reads the file that the first writes
        done = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        printed += done.stdout.splitlines()
    assert (tmp_path / "part.glb").stat().st_size > 10_000
    triangles, evaluations, dense = (int(n.replace(",", "")) for n in re.findall(r"\d[\d,]*", printed[0]))
    assert triangles > 10_000 and evaluations < dense / 5
    share = int(re.match(r"(\d+)%", printed[1])[1])
    assert 5 < share < 95, "the picture shows the shape and its surroundings"
    pixels, _, _, _, vertices = map(int, re.findall(r"\d+", printed[2]))
    assert 0.05 < pixels / 256**2 < 0.95 and vertices > 100, "the silhouette moves with the vertices on it"


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.M))
    named = {c.split()[0] for c in commands("make")}
    assert {"run", "test", "lab", "site", "bench", "clean"} <= named
    assert named <= targets, f"no such target: {sorted(named - targets)}"
    assert {w.split("=")[0] for c in commands("make") for w in c.split()[1:]} <= set(re.findall(r"^([A-Z]+) +\?=", makefile, re.M))


def test_commands_and_options_exist():
    import typer.main

    from densebook.book.cli import app

    command = typer.main.get_command(app)
    named = {tuple(c.split()) for c in commands("densebook")}
    assert {"run", "list", "check", "accept", "publish", "data", "bench", "site", "doctor"} <= {n[0] for n in named}
    for words in named:
        assert words[0] in command.commands, f"no command {words[0]!r}"
        sub = command.commands[words[0]]
        if words[0] == "data" and len(words) > 1:
            assert words[1] in sub.commands, f"no command data {words[1]!r}"
        options = {o for p in getattr(sub, "params", []) for o in p.opts}
        assert {w for w in words if w.startswith("-")} <= options, f"densebook {' '.join(words)}: no such option"


def test_workflows_call_the_same_commands():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        text = path.read_text(encoding="utf-8")
        assert re.search(r"run: make test\b", text), f"{path.name} does not run make test"
        for target in re.findall(r"run: make ([a-z]+)", text):
            assert re.search(rf"^{target}:", makefile, re.M)
        for action in re.findall(r"uses: (\S+)", text):
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action), f"{path.name}: pin {action} to a commit"


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_into_the_repository_lead_somewhere(name: str):
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / name).read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), f"{name} links {target}, which is not there"


def test_nothing_is_left_to_fill_in():
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        assert "TODO" not in (ROOT / name).read_text(encoding="utf-8"), f"{name} has something left to fill in"


def test_citation_is_whole():
    import yaml

    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    from densebook import __version__

    assert cited["cff-version"] == "1.2.0" and cited["version"] == __version__ and cited["license"] == "Apache-2.0"
    assert {"message", "title", "authors"} <= set(cited)
    assert all({"type", "title", "authors", "year"} <= set(r) for r in cited["references"])


def test_licence_is_the_whole_text():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Version 2.0, January 2004" in text and "END OF TERMS AND CONDITIONS" in text and "APPENDIX: How to apply" in text
    assert len(text) > 11_000


def test_changelog_names_the_version():
    from densebook import __version__

    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
