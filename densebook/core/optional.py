"""Optional packages fail at use, with the command that installs them; never at import."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from .errors import MissingPackageError

# import name -> (what it serves here, extra of densebook that carries it)
PACKAGES = {
    "open3d": ("mesh distance and ICP peer", "open3d"),
    "pytorch3d": ("rendering and marching-cubes peer", "pytorch3d"),
    "dgl": ("graph backend of the SE3-Unet paper (Python 3.11 only)", "dgl"),
    "moderngl": ("OpenGL rasteriser", "opengl"),
    "igl": ("fast mesh distance, test oracle", "bench"),
    "mcubes": ("marching-cubes peer", "bench"),
    "fpsample": ("farthest-point sampling peer", "bench"),
    "se3_transformer_pytorch": ("SE(3)-Transformer peer", "bench"),
    "equiformer_pytorch": ("equivariant attention peer", "bench"),
    "vtk": ("marching-cubes peer (flying edges)", "bench"),
    "nbdev": ("export and clean the notebooks", "book"),
    "jupyterlab": ("open the notebooks", "book"),
    "sphinx": ("build the site", "book"),
}


def available(name: str) -> bool:
    """Whether `name` can be imported; imports nothing but its parent packages."""
    return importlib.util.find_spec(name) is not None


def install_command(name: str) -> str:
    """The pip command that brings the optional package `name`."""
    return f"pip install -c constraints.txt 'densebook[{PACKAGES[name][1]}]'"


def require(name: str) -> ModuleType:
    """Import the optional package `name`; raises MissingPackageError with the install command when it is not there."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        what, _ = PACKAGES[name]
        raise MissingPackageError(f"{name} ({what}) is not installed; run: {install_command(name)}") from error
