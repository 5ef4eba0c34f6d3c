"""Rendering: cameras, a rasteriser, gradients that reach silhouettes, textures and light.

`render(mesh, camera, lights)` is the one call; `turntable(mesh)` the quickest look. Importing this loads nothing: what is
named below is imported when it is used.
"""

import importlib

_MODULES = ("cameras", "differentiable", "rasterizer", "shading", "views")
_NAMES = {
    "Camera": "cameras",
    "look_at": "cameras",
    "orbit": "cameras",
    "rasterize": "rasterizer",
    "render": "differentiable",
    "turntable": "views",
    "widget": "views",
}
__all__ = (*_MODULES, *_NAMES)


def __getattr__(name: str):
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
