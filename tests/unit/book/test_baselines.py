"""Baselines: tolerance in the stated direction, and changes only through accept."""

import json

import pytest

from densebook.book import baselines
from densebook.core import settings
from densebook.core.errors import InputError

BASE = {"value": 1.0, "rel": 0.05, "abs": 1e-9, "direction": "same"}


@pytest.mark.parametrize(
    ("value", "direction", "expected"),
    [(1.04, "same", "ok"), (1.06, "same", "left"), (0.9, "same", "left"), (0.9, "lower", "better"), (1.1, "lower", "left"), (1.1, "higher", "better"), (0.9, "higher", "left")],
)
def test_verdict(value, direction, expected):
    assert baselines.verdict(value, BASE | {"direction": direction}) == expected


def test_an_absolute_tolerance_covers_rounding_sized_errors():
    assert baselines.verdict(9e-7, {"value": 1e-8, "rel": 0.05, "abs": 1e-6, "direction": "lower"}) == "ok"


def test_accept_writes_changes_and_compare_finds_new_and_gone(checkout):
    checkout.notebook("one", "x = 1")
    book = settings.load(checkout.root)
    record = {"notebook": "toy/one", "parameters": {"profile": "smoke", "data": "toy"}, "metrics": {"a": 1.0, "b": 2.0}, "tolerances": {"a": {"better": "lower", "rel": 0.1}}}
    assert [c.verdict for c in baselines.compare(book, record)] == ["new", "new"]
    assert baselines.accept(book, record) == [("a", None, 1.0), ("b", None, 2.0)]
    assert baselines.accept(book, record) == []
    rows = json.loads(baselines.chapter_file(book, "toy/one").read_text())
    assert rows[0] == {"notebook": "toy/one", "profile": "smoke", "data": "toy", "metric": "a", "value": 1.0, "rel": 0.1, "abs": 1e-9, "direction": "lower"}
    changed = record | {"metrics": {"a": 1.5}}
    assert {c.metric: c.verdict for c in baselines.compare(book, changed)} == {"a": "left", "b": "gone"}
    assert baselines.accept(book, changed) == [("b", 2.0, None), ("a", 1.0, 1.5)]
    real = record | {"parameters": {"profile": "smoke", "data": "real"}}
    assert {c.verdict for c in baselines.compare(book, real)} == {"new"}, "real data has baselines of its own"


def test_a_broken_baseline_file_is_named(checkout):
    checkout.notebook("one", "x = 1")
    path = checkout.root / "tests" / "regression" / "toy.json"
    path.parent.mkdir(parents=True)
    path.write_text("[{")
    with pytest.raises(InputError, match="toy.json"):
        baselines.load(path)
