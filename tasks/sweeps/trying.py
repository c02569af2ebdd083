"""Try combinations: each in a process of its own, which runs the scenario's flow, publishes, and ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from tempfile import TemporaryDirectory
from typing import Any

from tasks.children import Child
from tasks.crew import Crew, Stopped
from tasks.errors import RoundtripError
from tasks.storage import VersionRef
from tasks.storage.trials import Trial
from tasks.sweeps.grid import Combination
from tasks.sweeps.records import Ahead, SweepPlan, Tried, failed

# What such a process runs: the one that trains at a desk. It is named and started, and nothing of it is imported here.
TRAINER = "flows.trainer"


class Tries:
    """Where combinations are tried, any number of them side by side, in threads of this process."""

    def __init__(self, module: str = TRAINER) -> None:
        self._crew = Crew(module)

    @classmethod
    @cache
    def of_this_process(cls) -> Tries:
        """The one that a task runner's threads share."""
        return cls()

    def look_ahead(self, plan: SweepPlan) -> Ahead:
        """What `tasks.sweeps.ahead` finds out, in a process that may import the user's code.

        Raises:
            RoundtripError: What would go wrong.
        """
        with self._trainer() as child:
            answer = child.ask({"scenario": plan.scenario, "parameters": plan.parameters(), "grid": plan.grid})
        return Ahead.model_validate(answer["ahead"])

    def attempt(self, combination: Combination, plan: SweepPlan) -> Tried:
        """Train a combination and publish it as a trial. What fails, or dies, is its result.

        Raises:
            Stopped: Somebody called `stop`.
        """
        started = time.perf_counter()
        version: VersionRef | None = None
        trial = Trial(sweep=plan.id, seconds=plan.keep_seconds)
        request: dict[str, Any] = {"scenario": plan.scenario, "trial": trial.model_dump()}
        try:
            with self._trainer() as child:
                child.send(request | {"parameters": plan.parameters(combination)})
                for event in child.events():
                    if "published" in event:
                        version = VersionRef.model_validate(event["published"])
                child.finish()  # its last events are with Prefect then
        except Stopped:
            raise
        except RoundtripError as error:
            if version is None:
                return failed(combination, error, time.perf_counter() - started)
        # A process that ended after its version was there has done what it was for.
        return Tried(combination=combination, version=version, seconds=round(time.perf_counter() - started, 2))

    def stop(self) -> None:
        """End every process; who waits for one raises `Stopped`."""
        self._crew.stop()

    @contextmanager
    def _trainer(self) -> Iterator[Child]:
        # What a process leaves behind when it is ended goes with this folder.
        with (
            TemporaryDirectory(prefix="roundtrip-trial-", ignore_cleanup_errors=True) as scratch,
            self._crew.child({"TMPDIR": scratch}) as child,
        ):
            yield child
