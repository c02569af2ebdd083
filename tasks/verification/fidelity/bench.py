"""A row of the table: one definition, trained once, through every format."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tasks.children import Child, ChildDied
from tasks.errors import RoundtripError
from tasks.storage import Manifest
from tasks.verification.fidelity.cells import (
    Cell,
    Limits,
    Status,
    Subject,
    every_promise,
    expected,
    failed,
    first_lines,
    one_line,
)
from tasks.verification.fidelity.nursery import OutOfTime
from tasks.verification.fidelity.work import Goal, Measured, MeasureTask, TrainTask

Tell = Callable[[Cell], None]


class Bench:
    """One nursery, for one row at a time. A nursery that dies is replaced; that it did is the result of a cell."""

    def __init__(self, *, debug: bool = False) -> None:
        self._debug = debug
        self._ended = False
        self._nursery = self._start()

    def row(self, subject: Subject, formats: Sequence[str], limits: Limits, tell: Tell) -> list[Cell]:
        """Measure one definition in every format.

        Args:
            subject: What is trained, and on what.
            formats: In which the trained model is saved.
            limits: Of each piece of work.
            tell: Called with each cell as soon as it is known, in the order in which that happens.

        Returns:
            A cell for each format, in their order.
        """
        with tempfile.TemporaryDirectory(prefix="roundtrip-fidelity-", ignore_cleanup_errors=True) as folder:
            row = _Row(self._work, subject, Path(folder), limits, tell)
            row.train(formats)
            row.measure()
        return [row.cells[name] for name in formats]

    def _work(self, job: str, task: Any, limits: Limits) -> Iterator[dict[str, Any]]:
        """Have the nursery do something; its events."""
        try:
            self._nursery.send({"do": job, "task": task.model_dump(mode="json")} | limits.model_dump())
            yield from self._nursery.events()
        except ChildDied:
            if not self._ended and not self._nursery.alive():
                self._nursery.end()
                self._nursery = self._start()
            raise

    def _start(self) -> Child:
        # A second thread, as OpenBLAS starts one, would make forks unsafe; TensorFlow does not compute with it.
        return Child("tasks.verification.fidelity.nursery", env={"OPENBLAS_NUM_THREADS": "1"}, debug=self._debug)

    def end(self) -> None:
        """End the nursery and whatever it does; a row that waits for it ends with cells that say so."""
        self._ended = True
        self._nursery.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.end()


class _Row:
    """What is known so far of one definition."""

    def __init__(
        self,
        work: Callable[[str, Any, Limits], Iterator[dict[str, Any]]],
        subject: Subject,
        folder: Path,
        limits: Limits,
        tell: Tell,
    ) -> None:
        self._work, self._subject, self._folder, self._limits, self._tell = work, subject, folder, limits, tell
        self.cells: dict[str, Cell] = {}
        self._saved: dict[str, tuple[Manifest, float]] = {}
        self._goal: Goal | None = None
        self._no_goal = ""
        self._digests: list[str] = []
        self._saving, self._since = "", 0.0

    def train(self, formats: Sequence[str]) -> None:
        """Train and save, again for as long as a format's `save` ended the process or changed the model in it."""
        left = list(formats)
        while left or (self._saved and self._goal is None and not self._no_goal):
            task = TrainTask(subject=self._subject, formats=left, compared=list(formats), folder=self._folder)
            self._saving = ""
            try:
                for event in self._work("train", task, self._limits):
                    self._heard(event)
            except RoundtripError as error:
                self._stopped(error, left)
            left = [name for name in left if name not in self.cells and name not in self._saved]

    def _heard(self, event: dict[str, Any]) -> None:
        """Take down one thing that the training process reports."""
        if "trained" in event:
            if self._digests not in ([], event["trained"]):
                self._no_goal = "two processes that train the same get other weights"
            self._digests = event["trained"]
        elif "saving" in event:
            self._saving, self._since = event["saving"], time.perf_counter()
        elif "saved" in event:
            manifest = Manifest.model_validate(event["manifest"])
            self._saved[event["saved"]] = manifest, time.perf_counter() - self._since
        elif "refused" in event:
            self._done(failed(self._subject, event["refused"], "refused", event["why"]))
        elif "goal" in event:
            self._goal = Goal.model_validate(event["goal"])

    def _stopped(self, error: RoundtripError, left: list[str]) -> None:
        """Take down what the training process ended of."""
        unknown = [name for name in left if name not in self.cells and name not in self._saved]
        if not self._saving and left:
            for name in unknown:
                self._done(failed(self._subject, name, _status(error), f"training: {error}"))
        elif self._saving in unknown:
            self._done(failed(self._subject, self._saving, _status(error), f"saving: {error}"))
        else:
            self._no_goal = f"going on without an interruption: {error}"

    def measure(self) -> None:
        """Measure every format that was saved, each in a process of its own that did not train."""
        for name, (manifest, seconds) in self._saved.items():
            started = time.perf_counter()
            goal = None if self._no_goal else self._goal
            task = MeasureTask(subject=self._subject, folder=self._folder / name, manifest=manifest, goal=goal)
            found: dict[str, Measured] = {}
            error: RoundtripError | None = None
            try:
                for event in self._work("measure", task, self._limits):
                    found |= {way: Measured.model_validate(value) for way, value in event.items()}
            except RoundtripError as raised:
                error = raised
            self._done(self._cell(name, found, error, seconds + time.perf_counter() - started))

    def _cell(self, name: str, found: dict[str, Measured], error: RoundtripError | None, seconds: float) -> Cell:
        if "returned" not in found:
            return failed(self._subject, name, _status(error), f"returning: {error}", seconds)
        returned, alone = found["returned"], found["alone"]
        survives = every_promise(returned.survived)
        lacking = [p for p in survives if p in expected(name) and survives[p] is False]
        kept = returned.passed and not lacking and error is None
        lines = list(returned.lines)
        if error is not None:
            lines.insert(0, f"training on: {error}")
        elif lacking and not lines:
            lines.append(f"did not survive: {', '.join(lacking)}")
        if self._no_goal and "resume" in expected(name):
            kept, lines = False, [*lines, f"resuming can't be compared: {self._no_goal}"]
        return Cell(
            definition=self._subject.name,
            format=name,
            kept=kept,
            status="kept" if kept else "lost" if error is None else _status(error),
            survives=survives,
            alone=every_promise(alone.survived),
            why=None if kept else one_line(first_lines(lines)),
            alone_why=one_line(first_lines(alone.lines)) or None,
            seconds=round(seconds, 2),
        )

    def _done(self, cell: Cell) -> None:
        self.cells[cell.format] = cell
        self._tell(cell)


def _status(error: RoundtripError | None) -> Status:
    return "crashed" if isinstance(error, ChildDied | OutOfTime) else "lost"


_here = threading.local()
_all: list[Bench] = []


def bench_of_this_thread(*, debug: bool = False) -> Bench:
    """This thread's own bench, started when it is first asked for.

    A task runner decides in which threads and processes rows are measured; a bench lives as long as the thread does, for
    the kernel ends a child with the thread that started it.
    """
    if getattr(_here, "bench", None) is None:
        _here.bench = Bench(debug=debug)
        _all.append(_here.bench)
    return _here.bench  # type: ignore[no-any-return]  # a thread's attributes have no types


def end_benches() -> None:
    """End every bench of this process, from any thread."""
    while _all:
        _all.pop().end()
