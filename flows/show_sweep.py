"""What `python -m flows sweep` prints: runs as they come in on stderr, the table and the best one's verdict on stdout."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from flows.show import err, out, verdict_lines
from tasks.storage.layout import made_at
from tasks.sweeps.grid import text
from tasks.verification.returning import Returned

if TYPE_CHECKING:
    from tasks.sweeps import Swept, Tried


class Runs:
    """One bar for all combinations; where stderr is no terminal, a line for each."""

    def __init__(self, total: int) -> None:
        self._bar = Progress(
            TextColumn("{task.completed:.0f}/{task.total:.0f} combinations"),
            BarColumn(bar_width=30),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=err,
            disable=not err.is_terminal,
        )
        self._task = self._bar.add_task("", total=total)
        self._told: set[str] = set()
        self._lock = threading.Lock()

    @contextmanager
    def shown(self) -> Iterator[Runs]:
        """Show the bar."""
        with self._bar:
            yield self

    def tell(self, run: Tried) -> None:
        """Show one run, once; called from any thread."""
        with self._lock:
            if run.combination.label in self._told:
                return
            self._told.add(run.combination.label)
            what = _metrics(run) if run.version else f"failed: {run.why}"
            self._bar.update(self._task, advance=1, description=f"{run.combination.label}: {what}")
            if not err.is_terminal:
                line = f"{datetime.now():%H:%M:%S} {run.combination.label}: {what}  {run.seconds:.1f} s"
                err.print(line, markup=False, soft_wrap=True)


def document(swept: Swept, returned: Returned | None) -> dict[str, Any]:
    """The sweep, a run for each combination in the grid's order, and the best of them with its verdict or null."""
    plan, best = swept.plan, swept.chosen
    runs = [_run(swept, index) for index in range(len(swept.runs))]
    whole = {
        "id": plan.id,
        "scenario": plan.scenario,
        "model": plan.model,
        "grid": plan.grid,
        "metric": swept.target.metric,
        "goal": swept.target.direction,
        "combinations": len(runs),
        "failed": sum(run.version is None for run in swept.runs),
        "seconds": swept.seconds,
    }
    if best is None or swept.best is None:
        return {"sweep": whole, "runs": runs, "best": None}
    proof = {
        "verdict": returned.verdict.model_dump(mode="json") if returned else None,
        "latest": returned.latest if returned else False,
        "unwritten": returned.unwritten if returned else None,
    }
    return {"sweep": whole, "runs": runs, "best": runs[swept.best] | proof}


def _run(swept: Swept, index: int) -> dict[str, Any]:
    run, best = swept.runs[index], index == swept.best
    known: dict[str, Any] = {"parameters": run.combination.values, "scenario": swept.plan.scenario}
    known |= {"model": swept.plan.model, "version": None, "uri": None, "bytes": None, "metrics": {}, "expires": None}
    if run.version:
        over = made_at(run.version.version) + timedelta(seconds=swept.plan.keep_seconds)
        known |= run.version.model_dump(include={"version", "uri", "bytes", "metrics"})
        known["expires"] = None if best else over.isoformat(timespec="seconds")
    return known | {"seconds": run.seconds, "best": best, "error": run.error}


def show(swept: Swept, returned: Returned | None) -> None:
    """Print the table, and of the best how it came back."""
    out.print(table(swept))
    if returned is None:
        return
    for line in verdict_lines(returned.verdict, ""):
        out.print(line, soft_wrap=True)
    if returned.unwritten:
        out.print(f"  {returned.unwritten}", style="yellow", soft_wrap=True)
    if returned.verdict.proves and not returned.latest and not returned.unwritten:
        out.print("  `latest` stays at a newer version", style="yellow")
    if returned.verdict.passed:
        out.print(f'load_model("{returned.version}")', soft_wrap=True)


def table(swept: Swept) -> Group:
    """One row a combination with what it has of its own, and a line for each that failed."""
    metric = swept.target.metric
    # What is the same for all of them is said once, below.
    axes = [name for name, values in swept.plan.grid.items() if len(values) > 1] or list(swept.plan.grid)
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in (*axes, metric, "took"):
        grid.add_column(name, justify="right", no_wrap=True)
    grid.add_column("version", no_wrap=True)
    grid.add_column("")
    for index, run in enumerate(swept.runs):
        value = run.version.metrics.get(metric) if run.version else None
        best = index == swept.best
        grid.add_row(
            *(text(run.combination.values[name]) for name in axes),
            "-" if value is None else f"{value:.4f}",
            f"{run.seconds:.1f} s",
            run.version.version if run.version else Text("failed", style="bold red"),
            "best" if best else "",
            style="bold green" if best else None,
        )
    fixed = [f"{name}={text(values[0])}" for name, values in swept.plan.grid.items() if name not in axes]
    wanted = f"{swept.target.direction} of {metric}"
    head = ", ".join([f"{swept.plan.model}: {swept.plan.scenario}", wanted, *fixed, f"{swept.seconds:.0f} s in all"])
    lines = [Text.assemble((run.combination.label, "bold red"), f": {run.why}") for run in swept.runs if run.version is None]
    return Group(Text(head, style="bold"), grid, *lines)


def _metrics(run: Tried) -> str:
    assert run.version is not None
    return "  ".join(f"{name} {value:.4f}" for name, value in run.version.metrics.items())
