"""One notebook in one process: `python -m densebook.book.execute SOURCE TARGET PARAMETERS.json`.

A process of its own, so that the runner can stop it, kernel and all, and so that one crash takes nothing else down.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def execute(source: Path, target: Path, parameters: dict) -> None:
    """papermill `source` into `target` with this very Python as the kernel."""
    import papermill
    from jupyter_client.kernelspec import KernelSpecManager

    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
    spec = KernelSpecManager().get_kernel_spec("python3")
    # A kernelspec of another environment would test another library than the one at hand.
    if Path(spec.argv[0]).name == spec.argv[0] or Path(spec.argv[0]).resolve() == Path(sys.executable).resolve():
        papermill.execute_notebook(
            source,
            target,
            parameters=parameters,
            kernel_name="python3",
            cwd=source.parent,
            start_timeout=120,
            progress_bar=False,
            log_output=False,
        )
    else:
        raise SystemExit("the kernel 'python3' belongs to another environment; run: python -m ipykernel install --sys-prefix")


if __name__ == "__main__":
    import logging

    logging.getLogger("papermill").setLevel(logging.ERROR)
    source, target, parameters = sys.argv[1:]
    try:
        execute(Path(source), Path(target), json.loads(Path(parameters).read_text(encoding="utf-8")))
    except Exception as error:  # the last line is what the runner shows
        lines = str(error).strip().splitlines()
        print(lines[-1] if lines else type(error).__name__, file=sys.stderr)
        sys.exit(1)
