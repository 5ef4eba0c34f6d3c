"""Data by name: `get(name)` gives a path, `available()` the names; procedural toys in `densebook.data.toy`.

Importing this loads nothing: what is named below is imported when it is used.
"""

import importlib

_REGISTRY = ("available", "check_folder", "describe", "download", "get")
_TOY = ("mesh_or_toy",)
__all__ = (*_REGISTRY, *_TOY, "registry", "toy")


def __getattr__(name: str):
    if name in ("registry", "toy"):
        return importlib.import_module(f"{__name__}.{name}")
    if name in _REGISTRY:
        return getattr(importlib.import_module(f"{__name__}.registry"), name)
    if name in _TOY:
        return getattr(importlib.import_module(f"{__name__}.toy"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
