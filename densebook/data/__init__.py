"""Data by name: `get(name)` gives a path, `available()` the names; procedural toys in `densebook.data.toy`,
pictures and radiance maps in `densebook.data.images`.

Importing this loads nothing: what is named below is imported when it is used.
"""

import importlib

_REGISTRY = ("available", "check_folder", "describe", "download", "get")
_TOY = ("environment_or_toy", "mesh_or_toy")
_IMAGES = ("read_hdr", "read_image", "write_image")
_MODULES = ("caps", "categories", "faces", "heads", "images", "makehuman", "registry", "streets", "toy")
__all__ = (*_REGISTRY, *_TOY, *_IMAGES, *_MODULES)


def __getattr__(name: str):
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    for module, names in (("registry", _REGISTRY), ("toy", _TOY), ("images", _IMAGES)):
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
