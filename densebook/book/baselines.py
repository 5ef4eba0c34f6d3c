"""Baselines: what a metric was when someone looked at it and accepted it; tests/regression/<chapter>.json."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from densebook.core import files
from densebook.core.errors import InputError
from densebook.core.settings import Settings


@dataclass(frozen=True)
class Comparison:
    notebook: str
    metric: str
    value: float | None  # None: the record no longer has it
    baseline: dict | None  # None: nothing accepted yet
    verdict: str  # ok, better, new, left, gone


def chapter_file(settings: Settings, notebook: str) -> Path:
    """The baseline file of a notebook's chapter; pages without a chapter share start.json."""
    chapter = notebook.split("/")[0] if "/" in notebook else "start"
    return settings.root / "tests" / "regression" / f"{chapter}.json"


def load(path: Path) -> list[dict]:
    """The baselines in `path`; none when it is not there. Raises InputError when it is not JSON."""
    if not path.is_file():
        return []
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(f"{path.name}: {error}; restore it with git checkout") from error


def verdict(value: float, baseline: dict) -> str:
    """ok within tolerance, 'better' beyond it on the good side, 'left' beyond it on the other."""
    allowed = max(baseline["abs"], baseline["rel"] * abs(baseline["value"]))
    change = value - baseline["value"]
    if abs(change) <= allowed:
        return "ok"
    good = {"lower": change < 0, "higher": change > 0, "same": False}[baseline["direction"]]
    return "better" if good else "left"


def _key(row: dict) -> tuple:
    return row["notebook"], row["profile"], row["data"], row["metric"]


def compare(settings: Settings, record: dict) -> list[Comparison]:
    """A record's metrics against the baselines of its notebook, profile and data."""
    notebook, parameters = record["notebook"], record["parameters"]
    where = (notebook, parameters["profile"], parameters["data"])
    rows = {r["metric"]: r for r in load(chapter_file(settings, notebook)) if _key(r)[:3] == where}
    found = []
    for metric, value in record["metrics"].items():
        baseline = rows.pop(metric, None)
        found.append(Comparison(notebook, metric, value, baseline, verdict(value, baseline) if baseline else "new"))
    return found + [Comparison(notebook, metric, None, row, "gone") for metric, row in rows.items()]


def accept(settings: Settings, record: dict) -> list[tuple[str, float | None, float | None]]:
    """Make the record's metrics the baselines of its notebook, profile and data; returns (metric, old, new) for each change."""
    path = chapter_file(settings, record["notebook"])
    rows = {_key(r): r for r in load(path)}
    where = (record["notebook"], record["parameters"]["profile"], record["parameters"]["data"])
    changes: list[tuple[str, float | None, float | None]] = []
    for key in [k for k in rows if k[:3] == where and k[3] not in record["metrics"]]:
        changes.append((key[3], rows.pop(key)["value"], None))
    for metric, value in record["metrics"].items():
        said = record.get("tolerances", {}).get(metric, {})
        old = rows.get((*where, metric))
        new = {
            "notebook": where[0],
            "profile": where[1],
            "data": where[2],
            "metric": metric,
            "value": value,
            "rel": said.get("rel", settings.rel),
            "abs": said.get("abs", settings.abs),
            "direction": said.get("better", "same"),
        }
        if new != old:
            changes.append((metric, old["value"] if old else None, value))
        rows[(*where, metric)] = new
    if changes:
        files.write_text(path, "[\n" + ",\n".join("  " + json.dumps(rows[k]) for k in sorted(rows)) + "\n]\n")
    return changes
