"""The command line: `densebook run | list | check | accept | publish | data | bench | head | site | doctor`."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from densebook.core import settings as settings_module
from densebook.core.errors import InputError, MissingPackageError

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, help=__doc__, pretty_exceptions_enable=False)
data_app = typer.Typer(no_args_is_help=True, help="List, download and check the real data.")
app.add_typer(data_app, name="data")

Names = Annotated[list[str] | None, typer.Argument(help="Chapters or notebooks (geometry, 11_sdf, geometry/11_sdf); none: the book.")]
Profile = Annotated[str, typer.Option(help="smoke (tests), cpu (the printed book) or gpu (paper scale).")]


def _records(names: list[str], profile: str) -> list[dict]:
    """The records in runs/ of `names` in `profile`, toy and real."""
    from .plan import check_profile, resolve, run_folder

    book = settings_module.load()
    check_profile(book, profile)
    paths = [run_folder(book, n, profile, d) / "record.json" for n in resolve(book, names) for d in ("toy", "real")]
    return [json.loads(p.read_text(encoding="utf-8")) for p in paths if p.is_file()]


@app.command()
def run(
    names: Names = None,
    profile: Profile = "smoke",
    parameter: Annotated[
        list[str] | None, typer.Option("-p", "--parameter", help="name=value, passed to every notebook; may be given again.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="toy (made on the spot) or real (DENSEBOOK_DATA or downloaded); short for -p data=...")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Notebooks at a time.")] = 1,
    resume: Annotated[
        bool, typer.Option("--resume", help="Skip what is done already for the same notebook, library and parameters.")
    ] = False,
) -> None:
    """Execute notebooks into runs/ and compare what they measured with the baselines."""
    from . import baselines, plan, runner
    from .console import Progress, console, run_table

    values = {}
    for item in parameter or []:
        name, separator, text = item.partition("=")
        if not separator:
            raise InputError(f"-p {item!r} has no '='; write -p name=value")
        values[name] = text
    if data is not None:
        values["data"] = data
    book = settings_module.load()
    planned = plan.plan(book, names or [], profile, values)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stopped by a scheduler: clean up as after Ctrl-C
    try:
        with Progress() as progress:
            outcomes = runner.run(planned, workers=jobs, resume=resume, tick=progress)
    except KeyboardInterrupt:
        print("densebook: stopped; finished notebooks are kept, go on with: densebook run --resume", file=sys.stderr)
        raise typer.Exit(130) from None
    comparisons = {o.job.notebook: baselines.compare(book, o.record) for o in outcomes if o.status in ("ok", "skipped")}
    console.print(run_table(outcomes, comparisons))
    failed = [o for o in outcomes if o.status == "failed"]
    left = [c for found in comparisons.values() for c in found if c.verdict in ("left", "gone")]
    console.print(f"\n{len(outcomes) - len(failed)} notebooks ran well, {len(failed)} failed, {len(left)} metrics left their tolerance")
    console.print("Executed notebooks, pictures and records: runs/<chapter>/<notebook>/<profile>/executed.ipynb, figures/, record.json")
    for outcome in failed:
        console.print(
            f"[red]{outcome.job.notebook}[/]: see {(outcome.job.folder / 'log.txt').relative_to(book.root)} and executed.ipynb beside it"
        )
    if failed or left:
        raise typer.Exit(1)


@app.command("list")
def list_notebooks() -> None:
    """The notebooks in reading order, with the title and what was run last."""
    from .console import console, table
    from .plan import run_folder

    book = settings_module.load()
    made = table("", "notebook", "title", "last runs")
    for notebook in book.notebooks:
        path = book.path(notebook)
        title = "(not written yet)"
        if path.is_file():
            first = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"])
            title = first.splitlines()[0].lstrip("# ")
        runs = []
        for profile in book.budgets:
            for data in ("toy", "real"):
                record = run_folder(book, notebook, profile, data) / "record.json"
                if record.is_file():
                    found = json.loads(record.read_text(encoding="utf-8"))
                    runs.append(f"{record.parent.name} {found['status']} {found.get('wall_seconds', 0):.0f} s")
        made.add_row(notebook, title, ", ".join(runs) or "-")
    console.print(made)


@app.command()
def check(names: Names = None, profile: Profile = "smoke") -> None:
    """Compare the records in runs/ with the baselines; runs nothing."""
    from . import baselines
    from .console import console, table

    book = settings_module.load()
    found = _records(names or [], profile)
    if not found:
        raise InputError(f"runs/ holds no {profile} records to check; run: densebook run --profile {profile}")
    made = table("", "notebook", "data", "metric", "value>", "baseline>", "tolerance>", "verdict")
    bad = 0
    for record in found:
        if record["status"] != "ok":
            bad += 1
            made.add_row(
                record["notebook"], record["parameters"]["data"], "-", "-", "-", "-", f"[red]failed: {record.get('message', '')}[/]"
            )
            continue
        for c in baselines.compare(book, record):
            bad += c.verdict in ("left", "gone")
            b = c.baseline
            made.add_row(
                c.notebook,
                record["parameters"]["data"],
                c.metric,
                "-" if c.value is None else f"{c.value:.6g}",
                "-" if b is None else f"{b['value']:.6g}",
                "-" if b is None else f"{max(b['abs'], b['rel'] * abs(b['value'])):.2g} {b['direction']}",
                f"[red]{c.verdict}[/]" if c.verdict in ("left", "gone") else c.verdict,
            )
    console.print(made)
    console.print(f"{len(found)} records, {bad} out of tolerance or failed")
    if bad:
        raise typer.Exit(1)


@app.command()
def accept(names: Names = None, profile: Profile = "smoke") -> None:
    """Make the records in runs/ the baselines; prints old and new of every change."""
    from . import baselines
    from .console import console, table

    book = settings_module.load()
    found = [r for r in _records(names or [], profile) if r["status"] == "ok"]
    if not found:
        raise InputError(f"runs/ holds no good {profile} records to accept; run: densebook run --profile {profile}")
    made = table("", "notebook", "data", "metric", "old>", "new>")
    for record in found:
        for metric, old, new in baselines.accept(book, record):
            shown = ["-" if v is None else f"{v:.6g}" for v in (old, new)]
            made.add_row(record["notebook"], record["parameters"]["data"], metric, *shown)
    console.print(made if made.row_count else "every baseline stands as it was")


@app.command()
def publish(names: Names = None, profile: Profile = "cpu") -> None:
    """Take the outputs of the newest good run into the committed notebooks."""
    from .console import console
    from .plan import resolve
    from .publish import publish as publish_one

    book = settings_module.load()
    for notebook in resolve(book, names or []):
        size = publish_one(book, notebook, profile)
        console.print(f"{notebook:<34} {size / 1000:6.0f} kB of outputs")


@app.command()
def bench(
    topics: Annotated[list[str] | None, typer.Argument(help="marching_cubes, octree, sphere_tracing, mesh_sdf; none: all.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes, under a minute.")] = False,
) -> None:
    """Measure densebook and its peers side by side: one thread, CPU time, medians; writes runs/bench/."""
    os.environ.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")  # before torch is imported
    from . import bench as benchmarks
    from .console import console, table

    book = settings_module.load()
    for topic in topics or benchmarks.TOPICS:
        benchmarks.check_topic(topic)  # all of them, before the first is measured
    for topic in topics or benchmarks.TOPICS:
        result = benchmarks.run_topic(book, topic, not quick, lambda line: console.print(f"[dim]{line}[/]"))
        extra = list(dict.fromkeys(k for row in result["rows"] for k in row if k not in ("case", "implementation", "cpu_seconds", "ratio")))
        made = table(topic, "case", "implementation", "CPU s>", "ratio>", *(f"{k}>" for k in extra))
        for row in result["rows"]:
            numbers = [row.get("cpu_seconds"), row.get("ratio"), *(row.get(k) for k in extra)]
            made.add_row(row["case"], row["implementation"], *(_number(n) for n in numbers))
        console.print(made)
    console.print("Written to runs/bench/; appendix/90_benchmarks draws them")


def _number(value) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool | str):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


@app.command()
def head(
    photo: Annotated[Path, typer.Argument(help="A photo of one head from the front: PNG with transparency, or before a plain wall.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The mesh to write: .glb, .ply or .obj.")] = Path("head.glb"),
    weights: Annotated[Path | None, typer.Option(help="Weights (.safetensors); none: the data folder's, else those of runs/.")] = None,
    resolution: Annotated[int, typer.Option(min=16, max=512, help="Octree cells along the box.")] = 128,
    height: Annotated[float, typer.Option(help="Height of the head with a piece of its neck, metres; a photo does not tell it.")] = 0.28,
    lit: Annotated[bool, typer.Option("--lit", help="Paint the photo's own light on the mesh, as the network sees it.")] = False,
) -> None:
    """One photo of a head to a coloured mesh, with a word on what the network has learnt from and where it fails."""
    import time

    from densebook.geometry.mesh import save
    from densebook.phorhum import heads, networks

    from .console import console

    if out.suffix.lower() not in (".glb", ".ply", ".obj"):
        raise InputError(f"out {out.name} has the suffix {out.suffix!r}; give .glb, .ply or .obj")
    root = settings_module.find_root()
    path = heads.find_weights(weights, settings_module.data_folder(), root / "runs" if root else None)
    net = networks.load(path)
    for line in heads.warn(heads.about(net)):
        console.print(f"note: {line}", highlight=False)
    start = time.perf_counter()
    mesh, ready, stats = heads.photo_to_mesh(photo, net, resolution, lit, height)
    for line in ready.notes:
        console.print(f"photo: {line}", highlight=False)
    save(mesh, out)
    console.print(f"{out}: {len(mesh.vertices):,} vertices, {len(mesh.faces):,} faces; {stats.evaluations:,} evaluations", highlight=False)
    console.print(f"{time.perf_counter() - start:.1f} s", highlight=False)


@app.command()
def site(out: Annotated[Path, typer.Option(help="Where the pages go.")] = Path("_site")) -> None:
    """Build the book as web pages that work offline."""
    from . import site as pages
    from .console import console

    book = settings_module.load()
    folder = out if out.is_absolute() else book.root / out
    index = pages.build(book.root, folder)
    console.print(f"The site is built. To read it (search needs http): python -m http.server --directory {out}, then open {index.name}")


@app.command()
def doctor() -> None:
    """Versions, device, data folder, optional packages, and how to install each that is not there."""
    from . import doctor as look
    from .console import console, table

    made = table("", "what", "state", "to do")
    for row in look.rows():
        made.add_row(*row)
    console.print(made)


@data_app.command("list")
def data_list() -> None:
    """The data by name: what it is, its licence, and whether it is here."""
    from densebook.data import registry

    from .console import console, table

    rows = registry.list_rows()
    made = table("", *rows[0].keys())
    for row in rows:
        made.add_row(*(str(v) for v in row.values()))
    console.print(made)


@data_app.command("get")
def data_get(names: Annotated[list[str], typer.Argument(help="Names from `densebook data list`.")]) -> None:
    """Download by name from the public source: pinned commit, sha256 verified."""
    from densebook.data import registry

    from .console import console

    states = registry.download_many(names)
    for name, state in states.items():
        console.print(f"{name}: downloaded and verified" if state == "ok" else f"[red]{name}[/]: {state}")
    if any(state != "ok" for state in states.values()):
        raise typer.Exit(1)


@data_app.command("check")
def data_check() -> None:
    """Verify the sha256 of every file in the data folder that the book uses."""
    from densebook.data import registry

    from .console import console

    found = registry.check_folder()
    for name, state in found.items():
        console.print(f"{name}: {state}")
    if any(state not in ("ok", "missing") for state in found.values()):
        raise typer.Exit(1)


def main() -> None:
    """Entry point: an error that a person can mend is one line and exit status 2."""
    try:
        app()
    except (InputError, MissingPackageError) as error:
        print(f"densebook: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
