"""What the command line prints for people: progress on stderr, tables and verdicts on stdout."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console, Group
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from tasks.serialization import PROMISES
from tasks.storage.transfer.progress import Snapshot
from tasks.verification.report import human_bytes

if TYPE_CHECKING:
    from flows.desk import Outcome
    from tasks.safety import Inspection
    from tasks.verification import Verdict

_LINE_SECONDS = 5.0  # between two lines on a transfer
_FEW_EPOCHS, _EPOCH_SECONDS = 50, 2.0  # so many have a line each; of more, one in a while

# No markup: what is shown was mostly named by somebody else, and `[/x]` in a name must neither style nor break a table.
err = Console(stderr=True, highlight=False, markup=False)
# Where nobody looks at a screen nothing is broken into lines: names and URIs are found by grep, and copied.
_UNBROKEN = 250
_screen = sys.stdout.isatty() or "COLUMNS" in os.environ
out = Console(highlight=False, markup=False, width=None if _screen else _UNBROKEN)

_SEVERITY_STYLES = {"dangerous": "bold red", "suspicious": "yellow", "note": "dim"}


class Board:
    """One progress bar a scenario; where stderr is no terminal, one line for each thing that happened."""

    def __init__(self, scenarios: Iterable[str], total: int) -> None:
        self._bars = Progress(
            TextColumn("{task.fields[name]:<15}"),
            BarColumn(bar_width=30),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=err,
            disable=not err.is_terminal,
        )
        self._last_moment = self._last_epoch = 0.0
        self._tasks: dict[str, TaskID] = {
            # With nothing to count yet there is nothing to show.
            name: self._bars.add_task("waiting", total=total, name=name, start=False, visible=total > 0)
            for name in scenarios
        }

    @contextmanager
    def shown(self) -> Iterator[Board]:
        """Show the bars."""
        with self._bars:
            yield self

    def note(self, text: str) -> None:
        """Show something that concerns all of them."""
        self._line(text)

    def event(self, scenario: str, event: dict[str, Any]) -> None:
        """Show one thing that happened."""
        bar = self._tasks[scenario]
        if "epoch" in event:
            epoch = event["epoch"]
            logs = "  ".join(f"{name} {value:.4f}" for name, value in epoch["logs"].items())
            if epoch["number"] == 1:
                self._bars.start_task(bar)
            self._bars.update(bar, completed=epoch["number"], total=epoch["total"], description=logs)
            ends = epoch["number"] in {1, epoch["total"]}
            if ends or time.monotonic() - self._last_epoch >= _EPOCH_SECONDS or epoch["total"] <= _FEW_EPOCHS:
                self._last_epoch = time.monotonic()
                self._line(f"{scenario}: epoch {epoch['number']}/{epoch['total']}  {logs}")
        elif "note" in event:
            self._bars.console.print(f"{scenario}: {event['note']}", markup=False, soft_wrap=True)
        elif "published" in event:
            version = event["published"]
            self._bars.update(bar, description=f"published {version['uri']}")
            self._line(f"{scenario}: published {version['uri']} ({human_bytes(version['bytes'])})")
        elif "follower" in event:
            self._bars.update(bar, description="trained; the chief publishes")
            self._bars.stop_task(bar)
        elif "transfer" in event:
            moment = Snapshot(**event["transfer"])
            self._bars.start_task(bar)
            self._bars.update(
                bar, completed=moment.done / 1e6, total=moment.total / 1e6, description=f"{moment}", visible=True
            )
            if time.monotonic() - self._last_moment >= _LINE_SECONDS:
                self._last_moment = time.monotonic()
                self._line(f"{scenario}: {moment}")
        elif "returning" in event:
            self._bars.update(bar, description="returning in another process")
        elif "verdict" in event:
            word = "[green]verified[/]" if event["verdict"] else "[red]refused[/]"
            self._bars.update(bar, description=word)
            self._bars.stop_task(bar)
            self._line(f"{scenario}: {'verified' if event['verdict'] else 'refused'}")
        elif "failed" in event:
            self._bars.update(bar, description="[red]failed[/]", visible=True)
            self._bars.stop_task(bar)
            self._line(f"{scenario}: failed")

    @staticmethod
    def _line(text: str) -> None:
        if not err.is_terminal:
            err.print(f"{datetime.now():%H:%M:%S} {text}", markup=False, soft_wrap=True)


def summary(outcomes: Sequence[Outcome]) -> Group:
    """What the main job ends with: the numbers, what survived, and how to get each model."""
    numbers = _table("Returned in another process")
    numbers.add_column("scenario", no_wrap=True)
    for name in (
        "size",
        "accuracy\nbefore",
        "accuracy\nafter",
        "output\ndiffers",
        "weights\nequal",
        "trains\non",
        "took",
    ):
        numbers.add_column(name, justify="right", no_wrap=True)
    kept = _table("What survived")
    kept.add_column("")
    for o in outcomes:
        kept.add_column(o.scenario, justify="center")
    for promise in PROMISES:
        kept.add_row(promise, *(_yes(o.returned.verdict.survived.get(promise)) for o in outcomes))
    for o in outcomes:
        v = o.returned.verdict
        numbers.add_row(
            o.scenario,
            human_bytes(o.version.bytes),
            _number(v.stored_score, "{:.1%}"),
            _number(v.score, "{:.1%}"),
            _number(v.max_abs_diff, "{:.3g}"),
            _yes(v.weights_equal),
            _yes(v.resumable),
            f"{o.seconds:.1f} s",
        )
    lines = [
        Text(f'load_model("{o.version}")') if o.error is None else Text(f"{o.version} was refused", style="bold red")
        for o in outcomes
    ]
    lines += [Text(f"{o.version}: {o.returned.unwritten}", style="yellow") for o in outcomes if o.returned.unwritten]
    return Group(numbers, kept, Text("from tasks import load_model", style="dim"), *lines)


def inspection(target: str, found: Inspection) -> Group:
    """What `inspect` found, and how much it looked at."""
    table = Table(box=box.SIMPLE_HEAD, title_justify="left")
    for name in ("severity", "kind", "where", "what it is"):
        table.add_column(name, overflow="fold", no_wrap=name == "severity")
    for f in found.findings:
        table.add_row(Text(f.severity, style=_SEVERITY_STYLES[f.severity]), f.kind, f.where, f.message)
    counts = Counter(f.severity for f in found.findings)
    if counts["dangerous"]:
        verdict = Text("dangerous", style="bold red")
    elif counts["suspicious"]:
        verdict = Text("suspicious", style="yellow")
    else:
        verdict = Text("nothing to fear", style="bold green")
    files = f"{found.files} file{'' if found.files == 1 else 's'}"
    rate = human_bytes(round(found.bytes / max(found.seconds, 1e-9)))
    size = f"{files}, {human_bytes(found.bytes)} in {found.seconds:.2f} s ({rate}/s)"
    line = Text.assemble(verdict, f"  {target}  ", (size, "dim"))
    return Group(table, line) if found.findings else Group(line)


def verdict_lines(verdict: Verdict, path: str) -> Iterator[Text]:
    """The verdict of one version, line by line."""
    head = Text("verified" if verdict.passed else "refused", style="bold green" if verdict.passed else "bold red")
    yield Text.assemble(head, f"  {verdict.model}@{verdict.version}")
    unmeasured = "not for this format" if verdict.loads else "not tried"
    for name, value, more in (
        ("intact", verdict.intact, ""),
        ("safe", verdict.safe, ""),
        ("loads in a fresh process", verdict.loads, ""),
        ("same weights, bit for bit", verdict.weights_equal, ""),
        ("same outputs", verdict.outputs_equal, _number(verdict.max_abs_diff, "largest difference {:.3g}")),
        ("one more training step", verdict.resumable, ""),
    ):
        yield Text.assemble("  ", _yes(value), f"  {name}", (f"  {unmeasured if value is None else more}".rstrip(), "dim"))
    if verdict.signature == "valid":
        yield Text.assemble("  ", _yes(True), "  signed by a key that is trusted here")
    if not verdict.loads:
        return
    yield Text(f"  what survived: {', '.join(p for p in PROMISES if verdict.survived.get(p)) or 'nothing'}")
    for line in verdict.healed:
        yield Text(f"  healed: {line}", style="dim")
    for finding in verdict.allowed:
        yield Text(f"  let through by --allow: {finding}", style="yellow")
    for line in verdict.lost:
        yield Text(f"  not brought back: {line}", style="yellow")
    if path:
        yield Text(f"  files: {path}")


def _table(title: str) -> Table:
    return Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )


def _yes(value: bool | None) -> Text:
    return {True: Text("yes", style="green"), False: Text("no", style="bold red"), None: Text("-", style="dim")}[value]


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
