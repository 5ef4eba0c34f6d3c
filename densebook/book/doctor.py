"""What is here and what is missing, with the command that brings it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil

from densebook.core import optional, settings
from densebook.core.records import versions

# import name -> distribution, where they differ
_DISTRIBUTION = {"igl": "libigl", "mcubes": "PyMCubes", "open3d": "open3d-cpu", "pytorch3d": "easypytorch3d"}


def device_line() -> str:
    """The device that `device="auto"` would take, with its memory."""
    import torch

    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        return f"cuda: {card.name}, {card.total_memory / 2**30:.0f} GiB"
    return f"cpu: {os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads; no GPU found"


def rows() -> list[tuple[str, str, str]]:
    """(what, state, what to do) for the interpreter, packages, device, data folder and optional packages."""
    found = [(name, version, "") for name, version in versions().items()]
    found.append(("device", device_line(), ""))
    folder = settings.data_folder()
    here = "there" if folder.is_dir() else "not there yet"
    found.append(("data folder", here, "" if folder.is_dir() else "densebook data get spot, or set DENSEBOOK_DATA"))
    for name, (what, _) in optional.PACKAGES.items():
        if optional.available(name):
            try:
                state = importlib.metadata.version(_DISTRIBUTION.get(name, name))
            except importlib.metadata.PackageNotFoundError:
                state = "installed"
            found.append((name, state, ""))
        else:
            hint = "" if name != "dgl" or platform.python_version_tuple()[1] == "11" else " (Python 3.11 only)"
            found.append((name, f"optional, not installed: {what}", optional.install_command(name) + hint))
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    found.append(
        ("chromium", "installed" if browser else "optional, not installed: browser tests", "" if browser else "apt-get install chromium")
    )
    return found
