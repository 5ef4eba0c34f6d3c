"""The book's settings: read from settings.ini at the root of a checkout."""

from __future__ import annotations

import configparser
import os
from dataclasses import dataclass
from pathlib import Path

from .errors import InputError


@dataclass(frozen=True)
class Settings:
    root: Path  # the checkout
    chapters: dict[str, tuple[str, ...]]  # chapter -> notebook names in reading order
    budgets: dict[str, float]  # profile -> seconds a notebook may take
    data_folder: Path
    rel: float  # default relative tolerance of a baseline
    abs: float  # default absolute tolerance of a baseline

    @property
    def notebooks(self) -> tuple[str, ...]:
        """Every notebook as 'chapter/name', in reading order; the pages of `start` lie at the top and have no chapter."""
        return tuple(n if c == "start" else f"{c}/{n}" for c, names in self.chapters.items() for n in names)

    def path(self, notebook: str) -> Path:
        """The file of 'chapter/name'."""
        return self.root / "nbs" / f"{notebook}.ipynb"


def find_root(start: str | Path | None = None) -> Path | None:
    """The nearest folder upwards from `start` (default: here) that holds settings.ini and nbs/, or None."""
    here = Path(start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "settings.ini").is_file() and (folder / "nbs").is_dir():
            return folder
    return None


def load(root: str | Path | None = None) -> Settings:
    """Read settings.ini of the checkout around `root` (default: the working folder).

    Raises InputError when there is no checkout, or a section or a number is wrong.
    """
    folder = find_root(root)
    if folder is None:
        raise InputError("no settings.ini with an nbs folder here or above; run densebook inside a checkout of the book")
    file = folder / "settings.ini"
    parser = configparser.ConfigParser()
    try:
        parser.read(file, encoding="utf-8")
        return Settings(
            root=folder,
            chapters={c: tuple(names.split()) for c, names in parser["chapters"].items()},
            budgets={p: float(s) for p, s in parser["profiles"].items()},
            data_folder=Path(parser["data"]["folder"]).expanduser(),
            rel=float(parser["tolerances"]["rel"]),
            abs=float(parser["tolerances"]["abs"]),
        )
    except (configparser.Error, KeyError, ValueError) as error:
        raise InputError(f"{file.name}: {error}; compare with the file in the repository") from error


def data_folder() -> Path:
    """Where data files are read from and downloaded to: DENSEBOOK_DATA, else settings.ini, else ~/.cache/densebook."""
    if folder := os.environ.get("DENSEBOOK_DATA"):
        root = find_root()
        path = Path(folder).expanduser()
        return path if path.is_absolute() or root is None else (root / path).resolve()
    root = find_root()
    return load(root).data_folder if root else Path("~/.cache/densebook").expanduser()
