"""A checkout of one's own: settings.ini and tiny notebooks, on which the runner is tried."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

PARAMETERS = '''profile: str = "smoke"
seed: int = 0
device: str = "auto"
data: str = "toy"
out_dir: str = ""
steps: int = 3'''

SETTINGS = """[chapters]
toy = {names}
[profiles]
smoke = {budget}
cpu = 60
[data]
folder = data
[tolerances]
rel = 0.05
abs = 1e-9
"""


class Checkout:
    """Notebooks by name in nbs/toy, and the command line to run them."""

    def __init__(self, root: Path):
        self.root = root
        (root / "nbs" / "toy").mkdir(parents=True)
        self.names: list[str] = []

    def notebook(self, name: str, *cells: str, close: bool = True) -> None:
        start = f'record = records.start("toy/{name}", profile=profile, seed=seed, device=device, data=data, out_dir=out_dir)'
        parameters = nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
        sources = ["from densebook.core import records", start, *cells, *(["record.close();"] if close else [])]
        made = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_markdown_cell(f"# {name}"), parameters, *(nbformat.v4.new_code_cell(s) for s in sources)],
            metadata={"kernelspec": {"name": "python3", "display_name": "python3", "language": "python"}, "language_info": {"name": "python"}},
        )
        nbformat.write(made, self.root / "nbs" / "toy" / f"{name}.ipynb")
        self.names += [name] if name not in self.names else []
        self.settings(60)

    def settings(self, budget: float) -> None:
        (self.root / "settings.ini").write_text(SETTINGS.format(names=" ".join(self.names), budget=budget))

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "densebook.book.cli", *arguments]

    def run(self, *arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(self.command(*arguments), cwd=self.root, capture_output=True, text=True, timeout=120)

    def folder(self, name: str, profile: str = "smoke") -> Path:
        return self.root / "runs" / "toy" / name / profile


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)
