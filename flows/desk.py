"""A job at a desk: servers, one process that trains, a fresh process for each proof, all beside one another.

TensorFlow's import (5 s), the server's start (5 s) and the proof's own import take longer than a small training. So the
order of starts here is the design: what others wait for starts first, and every import happens while something else runs.
This process imports no TensorFlow; it runs the `return` flows, and so never trained what it returns.
"""

from __future__ import annotations

import os
import queue
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from flows.server import PrefectServer
from tasks.children import Child, quick_imports
from tasks.errors import RoundtripError
from tasks.settings import StoreConfig
from tasks.storage import VersionRef, embedded
from tasks.verification.loader import Loader

# With fewer processors, the proof's own import waits until the servers, which others wait for, are up.
_ENOUGH_PROCESSORS = 4


@dataclass(frozen=True, slots=True)
class Job:
    """One scenario to run."""

    scenario: str
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A scenario that was published and returned; `seconds` from its first step to its verdict."""

    scenario: str
    version: VersionRef
    returned: Any
    error: RoundtripError | None
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """One entry of `runs` in DESIGN.md's document."""
        return {
            "scenario": self.scenario,
            "model": self.version.model,
            "version": self.version.version,
            "uri": self.version.uri,
            "bytes": self.version.bytes,
            "metrics": self.version.metrics,
            "verdict": self.returned.verdict.model_dump(mode="json"),
            "latest": self.returned.latest,
        }


class Desk:
    """Everything that a job needs running, for as long as the `with` block lasts."""

    def __init__(self, *, trains: bool, proofs: int, debug: bool = False) -> None:
        self._debug = debug
        self._server = PrefectServer()
        self._own_store = StoreConfig().location() is None
        if self._own_store:
            embedded.start()
        # What the processes leave behind when they are ended goes with this folder.
        self._scratch = tempfile.mkdtemp(prefix="roundtrip-")
        self._trainer = Child("flows.trainer", env={"TMPDIR": self._scratch}, debug=debug) if trains else None
        self._proofs_left = proofs
        self._loader: Loader | None = None
        if not trains or (os.cpu_count() or 1) >= _ENOUGH_PROCESSORS:
            self._next_loader()

    def __enter__(self) -> Self:
        try:
            with quick_imports():
                from flows.return_model import return_model  # imports Prefect, while its server starts

            self._return_model = return_model
            if self._own_store:
                embedded.running()
            self._server.wait_until_up()
            if self._loader is None:
                self._next_loader()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self._server.send_last_events()
        self._stop()

    def _stop(self) -> None:
        if self._trainer:
            self._trainer.end()
        if self._loader:
            self._loader.end()
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._server.close()

    def run(self, jobs: Sequence[Job], show: Callable[[str, dict[str, Any]], None]) -> Iterator[Outcome]:
        """Train and publish each job, and return each version while the next one trains.

        Args:
            jobs: In their order.
            show: Called with a scenario and what happens to it, from another thread.

        Yields:
            Each outcome, as soon as its proof is there.

        Raises:
            RoundtripError: What stopped a scenario before anything was published.
        """
        published: queue.Queue[tuple[Job, VersionRef | BaseException, float]] = queue.Queue()
        feeder = threading.Thread(target=self._train, args=(jobs, show, published), daemon=True)
        feeder.start()
        for _ in jobs:
            job, result, started = published.get()
            if isinstance(result, BaseException):
                raise result
            show(job.scenario, {"returning": True})
            returned, error = self._attempt(str(result), job.parameters.get("store"))
            yield Outcome(job.scenario, result, returned, error, time.perf_counter() - started)
        feeder.join()

    def bring_back(
        self,
        reference: str,
        to: Path | None,
        model: dict[str, Any] | None,
        store: StoreConfig,
        allow: Sequence[str] = (),
    ) -> Any:
        """Run the downstream flow on one version.

        Raises:
            RoundtripError: It was not found, refused, or is not what was trained.
        """
        from tasks.steps import Rebuild, measuring_with

        rebuild = Rebuild.model_validate(model) if model else None
        loader = self._loader or Loader(debug=self._debug)
        self._loader = None
        try:
            with measuring_with(loader):
                return self._return_model(
                    reference, to=str(to) if to else None, model=rebuild, allow=tuple(allow), store=store
                )
        finally:
            loader.end()
            self._next_loader()

    def _attempt(self, reference: str, store: dict[str, Any] | None) -> tuple[Any, RoundtripError | None]:
        try:
            return self.bring_back(reference, None, None, StoreConfig.model_validate(store or {})), None
        except RoundtripError as error:
            if error.outcome is None:
                raise
            return error.outcome, error

    def _train(
        self,
        jobs: Sequence[Job],
        show: Callable[[str, dict[str, Any]], None],
        published: queue.Queue[tuple[Job, VersionRef | BaseException, float]],
    ) -> None:
        assert self._trainer is not None
        for job in jobs:
            started = time.perf_counter()
            try:
                self._trainer.send({"scenario": job.scenario, "parameters": job.parameters})
                for event in self._trainer.events():
                    if "published" in event:
                        version = VersionRef.model_validate(event["published"])
                    show(job.scenario, event)
            except BaseException as error:
                published.put((job, error, started))
                return
            published.put((job, version, started))
        # It sends its last events to Prefect and goes, while the last proof is still running.
        self._trainer.finish()

    def _next_loader(self) -> None:
        if self._proofs_left > 0:
            self._proofs_left -= 1
            self._loader = Loader(debug=self._debug)
