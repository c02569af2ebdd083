"""What `python -m flows fan-out` prints for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from flows.show import out
from tasks.jobs import Became

_PROOFS = {True: Text("proved", style="green"), False: Text("refused", style="bold red"), None: Text("-", style="dim")}


def table(runs: Sequence[Became]) -> None:
    """One line a job."""
    grid = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in ("model", "scenario", "state", "version", "proof"):
        grid.add_column(name, overflow="fold")
    grid.add_column("seconds", justify="right")
    for run in runs:
        seconds = f"{run.seconds:.1f}" if run.seconds is not None else "-"
        state = Text(run.state, style="" if run.published else "bold red")
        grid.add_row(run.model, run.scenario, state, run.version or "-", _PROOFS[run.proved], seconds)
    out.print(grid)
