"""A row of the table: one definition, trained once, through every format."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tasks.children import Child, ChildDied
from tasks.crew import Crew, Stopped
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
from tasks.verification.fidelity.tasks import Goal, Measured, MeasureTask, TrainTask

Tell = Callable[[Cell], None]

# What a process for a piece of work runs; a nursery may have imported it before.
MODULE = "tasks.verification.fidelity.work"


class OutOfTime(RoundtripError):
    """A piece of work said nothing for longer than it may take."""

    kind = "out-of-time"


class Bench:
    """Where rows are measured, any number of them side by side, in threads of this process."""

    def __init__(self, module: str = MODULE) -> None:
        self._crew = Crew(module)

    @classmethod
    @cache
    def of_this_process(cls) -> Bench:
        """The bench that a task runner's threads share; it is there for as long as the process is."""
        return cls()

    def row(self, subject: Subject, formats: Sequence[str], limits: Limits, tell: Tell) -> list[Cell]:
        """Measure one definition in every format.

        Args:
            subject: What is trained, and on what.
            formats: In which the trained model is saved.
            limits: Of each piece of work.
            tell: Called with each cell as soon as it is known, in the order in which that happens.

        Returns:
            A cell for each format, in their order.

        Raises:
            Stopped: Somebody called `stop`.
        """
        with tempfile.TemporaryDirectory(prefix="roundtrip-fidelity-", ignore_cleanup_errors=True) as folder:
            row = _Row(self._work, subject, Path(folder), limits, tell)
            row.train(formats)
            row.measure()
        return [row.cells[name] for name in formats]

    def stop(self) -> None:
        """End every piece of work; rows that wait for one raise `Stopped`."""
        self._crew.stop()

    def _work(self, job: str, task: Any, limits: Limits) -> Iterator[dict[str, Any]]:
        """Have a process of its own do something; what it reports.

        Raises:
            RoundtripError: What it raised itself.
            ChildDied: It ended without an answer.
            OutOfTime: It was ended, for it said nothing for too long.
            Stopped: It was ended, for nobody wants to know any more.
        """
        with self._crew.child() as child:
            watch = _Watch(child, limits.seconds)
            try:
                child.send({"do": job, "task": task.model_dump(mode="json"), "bytes": limits.bytes})
                for event in child.events():
                    watch.heard()
                    yield event
            except ChildDied as death:
                if watch.rang:
                    raise OutOfTime(f"It took longer than the limit of {limits.seconds:g} s and was ended.") from death
                raise
            finally:
                watch.end()


class _Watch:
    """Kills a child that says nothing for too long."""

    def __init__(self, child: Child, seconds: float) -> None:
        self._child, self._seconds = child, seconds
        self.rang = False
        self._timer: threading.Timer | None = None
        self.heard()

    def heard(self) -> None:
        """Start counting anew."""
        self.end()
        self._timer = threading.Timer(self._seconds, self._ring)
        self._timer.daemon = True
        self._timer.start()

    def end(self) -> None:
        """Stop counting."""
        if self._timer is not None:
            self._timer.cancel()

    def _ring(self) -> None:
        self.rang = True
        self._child.kill()


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
            except Stopped:
                raise
            except RoundtripError as error:
                self._ended_by(error, left)
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

    def _ended_by(self, error: RoundtripError, left: list[str]) -> None:
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
            except Stopped:
                raise
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
        own = self._saved[name][0].carried.own_classes
        if "architecture" in lacking and own:
            lines.insert(0, f"architecture: the code of {', '.join(own)} is in no file; comes back through the definition")
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
        if cell.why:  # where its files were for a while says nothing
            cell = cell.model_copy(update={"why": cell.why.replace(f"{self._folder}/", "")})
        self.cells[cell.format] = cell
        self._tell(cell)


def _status(error: RoundtripError | None) -> Status:
    return "crashed" if isinstance(error, ChildDied | OutOfTime) else "lost"
