"""What the command line prints: tables and live lines."""

from __future__ import annotations

import time

from rich.console import Console
from rich.live import Live
from rich.table import Table

from .baselines import Comparison
from .runner import Outcome

console = Console(highlight=False)
if not console.is_terminal:  # a log has no width to keep to
    console = Console(highlight=False, width=200)
_MARK = {
    "ok": "[green]ok[/]",
    "failed": "[red]failed[/]",
    "skipped": "[cyan]done before[/]",
    "running": "[yellow]running[/]",
    "waiting": "waiting",
    "stopped": "[red]stopped[/]",
}


def table(title: str, *columns: str) -> Table:
    """An empty table; a column whose name ends in '>' is set to the right."""
    made = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in columns:
        made.add_column(column.rstrip(">"), justify="right" if column.endswith(">") else "left", overflow="fold")
    return made


def _line(outcome: Outcome) -> str:
    bar = ""
    if outcome.status == "running":
        share = min(1.0, outcome.seconds / outcome.job.budget)
        bar = "  [blue]" + "━" * round(20 * share) + "[/][dim]" + "━" * (20 - round(20 * share)) + "[/]"
    return f"{outcome.job.notebook:<34} {_MARK[outcome.status]:<22} {outcome.seconds:6.1f} / {outcome.job.budget:.0f} s{bar}"


class Progress:
    """One line a notebook: live on a terminal, printed at start and end anywhere else (CI logs)."""

    def __init__(self) -> None:
        self.live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None
        self.said: dict[str, str] = {}

    def __enter__(self) -> Progress:
        if self.live:
            self.live.__enter__()
        return self

    def __exit__(self, *error) -> None:
        if self.live:
            self.live.__exit__(*error)

    def __call__(self, outcomes: list[Outcome]) -> None:
        if self.live:
            self.live.update("\n".join(_line(o) for o in outcomes))
            return
        for outcome in outcomes:
            if self.said.get(outcome.job.notebook, "waiting") != outcome.status:
                self.said[outcome.job.notebook] = outcome.status
                console.print(f"{time.strftime('%H:%M:%S')}  {_line(outcome)}", soft_wrap=True)


def metric_summary(comparisons: list[Comparison]) -> str:
    """How many metrics are within tolerance, and each that is not, by name and value."""
    counts = {v: sum(c.verdict == v for c in comparisons) for v in ("ok", "better", "new", "left", "gone")}
    parts = [f"{counts['ok'] + counts['better']} ok"] if counts["ok"] + counts["better"] else []
    if counts["better"]:
        parts.append(f"[green]{counts['better']} of them better[/]")
    if counts["new"]:
        parts.append(f"{counts['new']} without baseline")
    parts += [
        f"[red]{c.metric} = {c.value:.6g}, baseline {c.baseline['value']:.6g}[/]" if c.verdict == "left" else f"[red]{c.metric} is gone[/]"
        for c in comparisons
        if c.verdict in ("left", "gone")
    ]
    return ", ".join(parts) or "no metrics"


def run_table(outcomes: list[Outcome], comparisons: dict[str, list[Comparison]]) -> Table:
    """Status, time, peak memory and metrics against baseline of each notebook."""
    made = table("", "notebook", "status", "time>", "budget>", "peak memory>", "metrics against baseline")
    for o in outcomes:
        peak = o.record.get("peak_host_bytes")
        made.add_row(
            o.job.notebook,
            _MARK[o.status],
            f"{o.seconds:.1f} s",
            f"{o.job.budget:.0f} s",
            f"{peak / 2**20:,.0f} MiB" if peak else "-",
            metric_summary(comparisons.get(o.job.notebook, [])) if o.status in ("ok", "skipped") else f"[red]{o.message}[/]",
        )
    return made
