"""What `python -m flows fidelity` prints for people: cells as they come in on stderr, the tables on stdout."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from rich import box
from rich.console import Group
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table as Grid
from rich.text import Text

from flows.show import err
from tasks.serialization import PROMISES
from tasks.verification.fidelity import Cell, Table
from tasks.verification.fidelity.document import CRASHED, REFUSED, counts, head, not_kept, summary

_STYLES = {"kept": "green", "lost": "bold red", "crashed": "bold red", "refused": "dim"}
_SPLIT = {"checkpoint": "check\npoint"}


class Cells:
    """One bar for all cells; where stderr is no terminal, a line for each."""

    def __init__(self, total: int) -> None:
        self._bar = Progress(
            TextColumn("{task.completed:.0f}/{task.total:.0f} cells"),
            BarColumn(bar_width=30),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=err,
            disable=not err.is_terminal,
        )
        self._task = self._bar.add_task("training", total=total)
        self._seen: Counter[str] = Counter()
        self._told: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    @contextmanager
    def shown(self) -> Iterator[Cells]:
        """Show the bar."""
        with self._bar:
            yield self

    def tell(self, cell: Cell) -> None:
        """Show one cell, once; called from any thread."""
        with self._lock:
            if (cell.definition, cell.format) in self._told:
                return
            self._told.add((cell.definition, cell.format))
            self._seen[cell.status] += 1
            text = "  ".join(f"{number} {status}" for status, number in sorted(self._seen.items()))
            self._bar.update(self._task, advance=1, description=text)
            if not err.is_terminal:
                why = f": {cell.why}" if cell.why else ""
                line = f"{datetime.now():%H:%M:%S} {cell.definition}, {cell.format}: {cell.status}{why}"
                err.print(line, markup=False, soft_wrap=True)


def table_view(table: Table) -> Group:
    """The two tables, and a line for every cell that does not keep what it should."""
    promises = _grid(table)
    for promise in PROMISES:
        promises.add_row(promise, *(counts(table, f, promise) for f in table.formats))
    definitions = _grid(table)
    for name in table.definitions:
        cells = [table.cell(name, f) for f in table.formats]
        definitions.add_row(name, *(Text(summary(c), style=_STYLES[c.status]) for c in cells))
    legend = Text(f"{REFUSED} refused when saving   {CRASHED} not all that should", style="dim")
    lines = [Text.assemble((f"{c.definition}, {c.format}", _STYLES[c.status]), f"  {c.why}") for c in not_kept(table)]
    took = f"Took {table.seconds:.0f} s, {table.workers} at a time."
    by_format = Text("What survives, by format: in how many definitions, alone → with Roundtrip", style="bold")
    by_definition = Text("By definition: how many promises, alone → with Roundtrip", style="bold")
    end = Text(f"{head(table)} {took}")
    return Group(by_format, promises, Text(), by_definition, definitions, legend, Text(), *lines, Text(), end)


def _grid(table: Table) -> Grid:
    grid = Grid(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0)
    grid.add_column("", no_wrap=True)
    for name in table.formats:
        grid.add_column(_SPLIT.get(name, name.replace("-", "\n")), justify="right", no_wrap=True)
    return grid
