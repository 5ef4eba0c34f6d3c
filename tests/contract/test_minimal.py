"""The minimal installation: no optional package, no torch at import. In a process of its own, since hiding packages is for good."""

import subprocess
import sys
from pathlib import Path


def test_core_installation_is_enough(root: Path, tmp_path: Path):
    done = subprocess.run([sys.executable, str(root / "tests" / "contract" / "minimal.py")], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "sphere tracing agree" in done.stdout


def test_hiding_hides(root: Path, tmp_path: Path):
    code = (
        f"import sys; sys.path.insert(0, {str(root / 'tests' / 'contract')!r}); import minimal; minimal.hide(); "
        "import importlib.util; print(importlib.util.find_spec('igl'), importlib.util.find_spec('json') is not None)\ntry:\n import igl\nexcept ImportError: print('absent')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.split() == ["None", "True", "absent"], done.stdout + done.stderr
