"""What the scripts in data_scripts do: download the data of some names, or check what is there."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from densebook.core.errors import InputError

from . import registry


def main(script: str, what: str, names: Sequence[str], arguments: Sequence[str] | None = None) -> int:
    """Exit status 0 when every file asked for is there and right, 1 when one is not, 2 for a wrong name or folder."""
    packaged = [n for n in names if registry.describe(n)["source"].startswith("Debian")]
    parser = argparse.ArgumentParser(prog=f"{script}.py", description=f"Download or check {what}.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all of {', '.join(names)}")
    parser.add_argument("--out", metavar="FOLDER", help="data folder (default: DENSEBOOK_DATA, else that of settings.ini)")
    parser.add_argument("--check", action="store_true", help="verify what is there; download nothing")
    parser.add_argument("--base-url", metavar="URL", help=f"a mirror (default: {registry.BASE_URL}, {registry.CDN_URL})")
    if packaged:
        parser.add_argument("--deb", metavar="FILE", help=f"Debian package to unpack {', '.join(packaged)} from; downloads nothing")
    options = parser.parse_args(arguments)
    package = getattr(options, "deb", None)
    chosen = options.names or (packaged if package else names)
    try:
        if options.check:
            wanted = {path for name in chosen for path in registry.describe(name)["files"]}
            states = {path: state for path, state in registry.check_folder(options.out).items() if path in wanted}
        else:
            states = registry.download_many(chosen, options.out, base_url=options.base_url, package=package)
    except InputError as error:
        print(f"{script}: {error}", file=sys.stderr)
        return 2
    for file, state in states.items():
        print(f"{file}: {state}")
    return 0 if all(state == "ok" for state in states.values()) else 1
