"""The book runs: every notebook in the smoke profile on toy data, a few on real data where it is at hand."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from densebook.core import settings
from densebook.core.records import PROFILES
from tests.conftest import ROOT

BOOK = settings.load(ROOT)
REAL = (
    "geometry/11_sdf",
    "geometry/14_sphere_tracing",
    "render/43_shading",
    "se3/32_se3_unet",
    "registration/45_cpd",
    "don/20_correspondences",
    "ssz/50_fruxels",
    "ssz/53_dataset",
    "phorhum/62_heads",
)
real_data = os.environ.get("DENSEBOOK_DATA", "")


def densebook(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "densebook.book.cli", *arguments], cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def book() -> subprocess.CompletedProcess:
    return densebook("run", "--profile", "smoke", "--resume")


@pytest.fixture(scope="module")
def real() -> subprocess.CompletedProcess:
    return densebook("run", *REAL, "--profile", "smoke", "--data", "real", "--resume")


@pytest.mark.timeout(2400)
def test_the_book_runs_and_keeps_its_baselines(book):
    assert book.returncode == 0, book.stdout[-4000:] + book.stderr


@pytest.mark.timeout(2400)
@pytest.mark.parametrize("notebook", BOOK.notebooks)
def test_notebook_left_a_good_record(book, notebook: str):
    record = json.loads((ROOT / "runs" / notebook / "smoke" / "record.json").read_text(encoding="utf-8"))
    assert record["status"] == "ok", record.get("message")
    assert record["parameters"]["profile"] in PROFILES and record["parameters"]["data"] == "toy"
    assert (ROOT / "runs" / notebook / "smoke" / "executed.ipynb").is_file()
    if notebook.partition("/")[0] not in ("index", "conventions", "glossary", "appendix"):
        assert record["metrics"], "a chapter's notebook measures something"
        assert list((ROOT / "runs" / notebook / "smoke" / "figures").glob("*.png")), "and draws something"


@pytest.mark.timeout(2400)
@pytest.mark.skipif(not Path(real_data or "-").is_dir(), reason="no real data: set DENSEBOOK_DATA")
def test_real_data_runs(real):
    assert real.returncode == 0, real.stdout[-4000:] + real.stderr
    for notebook in REAL:
        record = json.loads((ROOT / "runs" / notebook / "smoke-real" / "record.json").read_text(encoding="utf-8"))
        assert record["status"] == "ok" and record["inputs"], f"{notebook} read no real file"
