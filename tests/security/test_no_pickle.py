"""Nothing that is read from a file is ever executed: no pickle, eval or shell in the library, the notebooks or the scripts."""

import ast
from pathlib import Path

import pytest

from tests.conftest import ROOT, notebooks, read_cells

# dotted ends of calls that are never right here
FORBIDDEN = {
    "eval", "exec", "os.system", "os.popen", "pickle.load", "pickle.loads", "pickle.Unpickler", "dill.load", "dill.loads", "cloudpickle.load",
    "cloudpickle.loads", "joblib.load", "pandas.read_pickle", "pd.read_pickle", "marshal.load", "marshal.loads", "shelve.open", "yaml.load",
    "yaml.unsafe_load", "yaml.full_load", "torch.hub.load", "builtins.eval", "builtins.exec", "tempfile.mktemp",
    "ZipFile.extractall", "extractall", "shutil.unpack_archive",
}  # fmt: skip
# calls that need this argument with this value
NEEDED = {
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
    "torch.load": ("weights_only", True),
    "load_from_checkpoint": ("weights_only", True),
}
# joblib only for its processes: joblib.load is above
MODULES = {"pickle", "dill", "cloudpickle", "marshal", "shelve"}


def aliases(tree: ast.AST) -> dict[str, str]:
    """Local name -> what it stands for, for `import a as b` and `from a import b as c`."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update({a.asname: a.name for a in node.names if a.asname})
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.update({a.asname or a.name: f"{node.module}.{a.name}" for a in node.names})
    return found


def dotted(node: ast.AST, names: dict[str, str]) -> str:
    """'a.b.c' of an expression of names and attributes; aliases undone; '' before what is neither."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    return f"{dotted(node.value, names)}.{node.attr}" if isinstance(node, ast.Attribute) else ""


def findings(code: str) -> list[str]:
    tree = ast.parse(code)
    names, found = aliases(tree), []
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [f"line {node.lineno}: imports {m}" for m in modules if m.split(".")[0] in MODULES]
        if not isinstance(node, ast.Call):
            continue
        called = dotted(node.func, names)
        given = {k.arg: k.value for k in node.keywords}
        # `model.eval()` is torch's; only the bare name is Python's
        if called in FORBIDDEN or any("." in f and called.endswith("." + f) for f in FORBIDDEN) or called.endswith(".extractall"):
            found.append(f"line {node.lineno}: calls {called}")
        for end, (argument, value) in NEEDED.items():
            if (called == end or called.endswith("." + end)) and not called.startswith("safetensors."):
                constant = given.get(argument)
                if not (isinstance(constant, ast.Constant) and constant.value is value):
                    found.append(f"line {node.lineno}: {called} without {argument}={value}")
        if isinstance(shell := given.get("shell"), ast.expr) and not (isinstance(shell, ast.Constant) and shell.value is False):
            found.append(f"line {node.lineno}: {called} with a shell")
        if isinstance(pickled := given.get("allow_pickle"), ast.Constant) and pickled.value is True:
            found.append(f"line {node.lineno}: {called} with allow_pickle")
    return found


def sources() -> list[Path]:
    return sorted([*(ROOT / "densebook").rglob("*.py"), *(ROOT / "data_scripts").rglob("*.py"), *notebooks()])


def plain(source: str) -> str:
    """A notebook cell without its magics."""
    return "\n".join("" if line.lstrip().startswith(("%", "!")) else line for line in source.splitlines())


@pytest.mark.parametrize("path", sources(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_nothing_read_is_executed(path):
    if path.suffix == ".ipynb":
        found = [f"cell {k}, {f}" for k, c in enumerate(read_cells(path)) if c["cell_type"] == "code" for f in findings(plain(c["source"]))]
    else:
        found = findings(path.read_text(encoding="utf-8"))
    assert not found, f"{path.relative_to(ROOT)}: {found}"


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import load",
        "import numpy as n; n.load('x')",
        "import numpy as np; np.load('x', allow_pickle=True)",
        "import numpy as np; np.load('x', allow_pickle=wanted)",
        "import torch; torch.load('x')",
        "import torch; torch.load('x', weights_only=False)",
        "from torch import load as read; read('x')",
        "Net.load_from_checkpoint('x')",
        "eval('1')",
        "exec('1')",
        "import os; os.system('ls')",
        "from os import system; system('ls')",
        "import subprocess; subprocess.run('ls', shell=True)",
        "import subprocess; subprocess.run('ls', shell=yes)",
        "import yaml; yaml.load(f)",
        "import yaml as y; y.load(f)",
        "archive.extractall()",
        "import torch; torch.hub.load('a', 'b')",
    ],
)
def test_the_scan_finds(code):
    assert findings(code)


@pytest.mark.parametrize(
    "code",
    [
        "model.eval()",
        "import numpy as np; np.load('x', allow_pickle=False)",
        "import torch; torch.load('x', weights_only=True)",
        "import yaml; yaml.safe_load(f)",
        "import subprocess; subprocess.run(['ls'])",
        "import json; json.load(f)",
        "from densebook.geometry.mesh import load; load('x')",
    ],
)
def test_the_scan_lets_pass(code):
    assert not findings(code)
