"""Errors that a person can act on: one sentence that names the argument or file, what is wrong, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """An argument, a file or a setting is wrong. The message names it and says what to do."""


class MissingPackageError(ImportError):
    """An optional package is needed for what was called. The message holds the install command."""


def nearest(name: str, known: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` for the closest of `known`, or the list of them when none is close."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"
