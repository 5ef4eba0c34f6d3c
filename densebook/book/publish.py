"""Print the book: take the outputs of an executed run into the notebooks that are committed."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path

from densebook.core import files, records
from densebook.core.errors import InputError
from densebook.core.settings import Settings

from .plan import run_folder

LIMIT = 500_000  # bytes of outputs a notebook may carry


def newest_run(settings: Settings, notebook: str, profile: str) -> Path:
    """The run to print: on real data when there is one of the notebook as it stands, else on toy data.

    Raises InputError when neither is there, is good and is of the same notebook.
    """
    current = records.notebook_hash(settings.path(notebook))
    for data in ("real", "toy"):
        folder = run_folder(settings, notebook, profile, data)
        if (folder / "record.json").is_file():
            record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
            if record["status"] == "ok" and record["notebook_hash"] == current:
                return folder
    raise InputError(f"no good {profile} run of {notebook} as it stands now; run: densebook run {notebook} --profile {profile}")


def publish(settings: Settings, notebook: str, profile: str = "cpu") -> int:
    """Copy the outputs of the newest good run into nbs/, cell by cell by id, and clean; returns the bytes of outputs.

    Raises InputError when there is no such run, when an output names a path of this machine, or is too large.
    """
    import nbformat
    from fastcore.nbio import dict2nb, write_nb
    from nbdev.clean import clean_nb
    from nbdev.config import get_config

    source = settings.path(notebook)
    executed = nbformat.read(newest_run(settings, notebook, profile) / "executed.ipynb", as_version=4)
    outputs = {c["id"]: c["outputs"] for c in executed.cells if c.cell_type == "code"}
    book = nbformat.read(source, as_version=4)
    for cell in book.cells:
        if cell.cell_type == "code":
            cell["outputs"] = outputs.get(cell["id"], [])
    _refuse_paths(settings, notebook, book)
    config = get_config(settings.root)
    cleaned = dict2nb(json.loads(nbformat.writes(book)))
    clean_nb(
        cleaned,
        allowed_metadata_keys=config.get("allowed_metadata_keys"),
        allowed_cell_metadata_keys=config.get("allowed_cell_metadata_keys"),
        allowed_out_metadata_keys=config.get("allowed_out_metadata_keys"),
    )
    size = sum(len(json.dumps(c.get("outputs", []))) for c in cleaned["cells"])
    if size > LIMIT:
        raise InputError(f"the outputs of {notebook} take {size:,} bytes, the book allows {LIMIT:,}; make its pictures smaller")
    with files.atomic_path(source) as temporary:
        write_nb(cleaned, temporary)
    return size


def _refuse_paths(settings: Settings, notebook: str, book) -> None:
    """No output may hold a path of this machine: it helps no reader and tells on the author."""
    private = [re.escape(str(p)) for p in (settings.root, Path.home(), Path(tempfile.gettempdir())) if len(str(p)) > 1]
    pattern = re.compile("|".join([*private, r"site-packages/", r"/\.pyenv/"]))
    for cell in book.cells:
        for output in cell.get("outputs", []):
            text = json.dumps({k: v for k, v in output.get("data", {}).items() if not k.startswith("image/")}) + str(output.get("text", ""))
            if found := pattern.search(text):
                raise InputError(
                    f"{notebook}, cell {cell['id']}: an output names {found.group()!r}, a path of this machine; do not print it"
                )
