"""What is to be run: names and parameters checked against the notebooks before anything starts."""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass
from pathlib import Path

from densebook.core import records
from densebook.core.errors import InputError, nearest
from densebook.core.settings import Settings

_TYPES = {"str": str, "int": int, "float": float, "bool": bool}


@dataclass(frozen=True)
class Job:
    notebook: str  # 'chapter/name'
    source: Path
    folder: Path  # runs/<notebook>/<profile>
    parameters: dict
    budget: float  # seconds


def run_folder(settings: Settings, notebook: str, profile: str, data: str) -> Path:
    """runs/<notebook>/<profile>, with '-real' behind it for real data, so that both can be kept."""
    return settings.root / "runs" / notebook / (profile if data == "toy" else f"{profile}-{data}")


def resolve(settings: Settings, names: list[str]) -> list[str]:
    """Chapters, notebooks ('geometry/11_sdf', '11_sdf') or nothing (the book) as notebooks in reading order.

    Raises InputError with the nearest right name for an unknown one.
    """
    if not names:
        return list(settings.notebooks)
    short = {n.rsplit("/", 1)[-1]: n for n in settings.notebooks}
    chosen: set[str] = set()
    for name in names:
        name = name.removeprefix("nbs/").removesuffix(".ipynb").rstrip("/")
        if name in settings.chapters:
            chosen.update(n for n in settings.notebooks if n.rsplit("/", 1)[-1] in settings.chapters[name])
        elif name in settings.notebooks:
            chosen.add(name)
        elif name in short:
            chosen.add(short[name])
        else:
            known = {*settings.chapters, *settings.notebooks, *short}
            raise InputError(f"no chapter or notebook is called {name!r}{nearest(name, known)}")
    return [n for n in settings.notebooks if n in chosen]


def declared(path: Path) -> dict[str, tuple[str, object]]:
    """Name -> (type, default) of the cell tagged `parameters`.

    Raises InputError when the notebook is missing, is no JSON, or has no such cell.
    """
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    except FileNotFoundError as error:
        raise InputError(f"{path.name} is named in settings.ini but is not in {path.parent.name}/; add it or take the name out") from error
    except (json.JSONDecodeError, KeyError) as error:
        raise InputError(f"{path.name} is not a notebook ({error}); restore it with git checkout") from error
    for cell in cells:
        if "parameters" in cell["metadata"].get("tags", []):
            statements = ast.parse("".join(cell["source"])).body
            return {s.target.id: (ast.unparse(s.annotation), ast.literal_eval(s.value)) for s in statements if isinstance(s, ast.AnnAssign)}
    raise InputError(f"{path.name} has no cell tagged 'parameters'; nbdev-clean may have taken the tag (see pyproject.toml)")


def convert(name: str, text: str, known: dict[str, tuple[str, object]], notebook: str):
    """The text of `-p name=text` as the type that the notebook declares."""
    if name not in known:
        raise InputError(f"{notebook} has no parameter {name!r}{nearest(name, known)}")
    kind = known[name][0]
    try:
        if kind == "bool":
            return {"true": True, "false": False}[text.lower()]
        return _TYPES[kind](text)
    except (KeyError, ValueError) as error:
        raise InputError(f"parameter {name}={text!r} of {notebook} is not of type {kind}") from error


def check_profile(settings: Settings, profile: str) -> None:
    """Raises InputError with the nearest right name for a profile that settings.ini does not have."""
    if profile not in settings.budgets:
        raise InputError(f"profile {profile!r} is not in settings.ini{nearest(profile, settings.budgets)}")


def plan(settings: Settings, names: list[str], profile: str, parameters: dict[str, str]) -> list[Job]:
    """The jobs for `names`, every name, profile, parameter and type checked; nothing is started or written."""
    check_profile(settings, profile)
    for reserved in ("profile", "out_dir"):
        if reserved in parameters:
            raise InputError(f"-p {reserved}=... is set by the runner; {'use --profile' if reserved == 'profile' else 'leave it out'}")
    jobs = []
    for notebook in resolve(settings, names):
        source = settings.path(notebook)
        known = declared(source)
        values = {n: convert(n, text, known, notebook) for n, text in parameters.items()}
        merged = {n: default for n, (_, default) in known.items() if n != "out_dir"} | values | {"profile": profile}
        if merged.get("data", "toy") not in records.DATA:
            raise InputError(f"parameter data={merged['data']!r} is unknown{nearest(merged['data'], records.DATA)}")
        folder = run_folder(settings, notebook, profile, merged.get("data", "toy"))
        jobs.append(Job(notebook, source, folder, merged, settings.budgets[profile]))
    return jobs


def done(job: Job) -> bool:
    """Whether the job's folder holds a good record of the same notebook, library, parameters and versions of packages."""
    try:
        record = json.loads((job.folder / "record.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return False
    return (
        record.get("status") == "ok"
        and record.get("notebook_hash") == records.notebook_hash(job.source)
        and record.get("code_hash") == records.code_hash()
        and record.get("parameters") == job.parameters
        and record.get("versions") == records.versions()
    )
