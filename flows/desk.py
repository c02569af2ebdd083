"""A job at a desk: servers, one process that trains, one that returns, and a fresh one for each proof.

The server's start (3 s) and the import of TensorFlow and Prefect (3 s) take longer than a small training. So the servers
start first, and a nursery imports beside them, once for all: the process that trains, the one that runs the `return` flows
and those that measure are forked from it. This process imports neither TensorFlow nor Prefect.
"""

from __future__ import annotations

import queue
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from flows.scenarios import DISTRIBUTED, module_of
from flows.server import Servers
from tasks.children import Child, ChildDied
from tasks.errors import RoundtripError

# The records and the store cost 0.4 s; the servers start first.
if TYPE_CHECKING:
    from tasks.storage import VersionRef
    from tasks.training import Follower
    from tasks.verification.matrix import Matrix
    from tasks.verification.returning import Returned


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
    returned: Returned
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
            "unwritten": self.returned.unwritten,
        }


@dataclass(frozen=True, slots=True)
class Failure:
    """A scenario that came to nothing that could be measured; `version` where it was published all the same."""

    scenario: str
    error: RoundtripError
    version: VersionRef | None = None

    def to_json(self) -> dict[str, Any]:
        """One entry of `failed`, beside DESIGN.md's `runs`."""
        return {
            "scenario": self.scenario,
            "version": str(self.version) if self.version else None,
            "error": self.error.to_json(),
        }


@dataclass(frozen=True, slots=True)
class Followed:
    """A scenario that this process helped to train, as a worker that is not the chief."""

    scenario: str
    follower: Follower

    def to_json(self) -> dict[str, Any]:
        """One entry of `followed`, beside DESIGN.md's `runs`."""
        return {"scenario": self.scenario, **asdict(self.follower)}


class Desk:
    """Everything that a job needs running, for as long as the `with` block lasts.

    Args:
        trains: Whether something is trained in a process of this desk's own.
        scenarios: Those that are trained, here or by a crew: they are imported ahead.
        distributed: Whether several replicas train it.
        returns: The version that is to be brought back, where it must be there already.
        debug: Let the processes say all that they would say.
    """

    def __init__(
        self,
        *,
        trains: bool,
        scenarios: Sequence[str] = (),
        distributed: bool = False,
        returns: str | None = None,
        debug: bool = False,
    ) -> None:
        self._reference = returns
        training = ["flows.trainer", *map(module_of, scenarios)] if scenarios else []
        self._servers = Servers(*training, "flows.returner", "tasks.verification.measuring", debug=debug)
        # What the processes leave behind when they are ended goes with this folder.
        self._scratch = tempfile.mkdtemp(prefix="roundtrip-")
        env = {"TMPDIR": self._scratch}
        trainer = env | ({DISTRIBUTED: "1"} if distributed else {})
        self._trainer = Child("flows.trainer", env=trainer, debug=debug) if trains else None
        self._start_returner = partial(Child, "flows.returner", env=env, debug=debug)
        # It warms up beside a training that is under way: before that, every core is in use.
        self._returner = None if trains else self._start_returner()
        self._feeder: threading.Thread | None = None
        self._loose_ends: Iterator[dict[str, Any]] = iter(())

    def __enter__(self) -> Self:
        try:
            if self._reference:  # that it does not exist is said now, and not when everything is up
                from tasks.storage import read_manifest, resolve

                store = self._servers.store()
                read_manifest(store, *resolve(store, self._reference))
            self._servers.wait_until_up()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None and self._returner:
            self._returner.finish()  # its last events are with Prefect then
        self._stop()

    def _stop(self) -> None:
        if self._trainer:
            self._trainer.end()
        if self._feeder:
            self._feeder.join()  # it starts the one that returns
        if self._returner:
            self._returner.end()
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._servers.close()

    def run(
        self, jobs: Sequence[Job], show: Callable[[str, dict[str, Any]], None]
    ) -> Iterator[Outcome | Followed | Failure]:
        """Train and publish each job, and return each version while the next one trains. One that fails stops no other.

        Args:
            jobs: In their order.
            show: Called with a scenario and what happens to it, from another thread.

        Yields:
            Each outcome, as soon as its proof is there, or what kept it from being there.
        """
        from tasks.training import Follower

        published: queue.Queue[tuple[Job, VersionRef | Follower | BaseException, float]] = queue.Queue()
        self._feeder = threading.Thread(target=self._train, args=(jobs, show, published), daemon=True)
        self._feeder.start()
        for _ in jobs:
            job, result, started = published.get()
            if isinstance(result, RoundtripError):
                yield Failure(job.scenario, result)
                continue
            if isinstance(result, BaseException):
                raise result
            if isinstance(result, Follower):
                yield Followed(job.scenario, result)
                continue
            show(job.scenario, {"returning": True})
            try:
                returned, error = self.bring_back(
                    str(result),
                    store=job.parameters.get("store"),
                    more=job is not jobs[-1],
                    show=partial(show, job.scenario),
                )
            except RoundtripError as why:
                yield Failure(job.scenario, why, result)
                continue
            yield Outcome(job.scenario, result, returned, error, time.perf_counter() - started)
        self._feeder.join()

    def bring_back(
        self,
        reference: str,
        to: Path | None = None,
        model: dict[str, Any] | None = None,
        store: dict[str, Any] | None = None,
        environment: dict[str, Any] | None = None,
        *,
        allow: Sequence[str] = (),
        more: bool = False,
        show: Callable[[dict[str, Any]], None] = lambda _: None,
    ) -> tuple[Returned, RoundtripError | None]:
        """Run the downstream flow on one version. Where `more` will come, the next proof warms up at once.

        `show` is called with what happens until the version is there.

        Returns:
            What it found, and why it refused the version where it did.

        Raises:
            RoundtripError: Nothing was found out: no such version, no such store.
        """
        from tasks.verification.returning import Returned, refusal

        for _ in self._loose_ends:
            pass  # the flow before this one ends with Prefect's last word, for which nobody waited
        parameters: dict[str, Any] = {"reference": reference, "to": str(to) if to else None, "model": model}
        parameters |= {"allow": list(allow), "environment": environment, "store": store or {}}
        returner = self._ready_returner()
        returner.send({"parameters": parameters, "more": more})
        self._loose_ends = returner.events()
        news = next(self._loose_ends)
        while "returned" not in news:
            show(news)
            news = next(self._loose_ends)
        returned = Returned.model_validate(news["returned"])
        return returned, refusal(returned)

    def matrix(
        self,
        reference: str,
        environments: Sequence[dict[str, Any]],
        model: dict[str, Any] | None,
        show: Callable[[dict[str, Any]], None],
    ) -> Matrix:
        """Run the flow `matrix` on one version; `show` is called with each row as it comes.

        Raises:
            RoundtripError: No such version, no such store.
        """
        from tasks.verification.matrix import Matrix

        parameters = {"reference": reference, "environments": list(environments), "model": model}
        returner = self._ready_returner()
        returner.send({"parameters": parameters, "more": False})
        table: Matrix | None = None
        for event in returner.events():
            if "row" in event:
                show(event["row"])
            else:
                table = Matrix.model_validate(event["matrix"])
        assert table is not None
        return table

    def _ready_returner(self) -> Child:
        """The process that returns.

        There is no lock: the feeder calls this before it puts what the other thread waits for.
        """
        if self._returner is None:
            self._returner = self._start_returner()
        return self._returner

    def _train(
        self,
        jobs: Sequence[Job],
        show: Callable[[str, dict[str, Any]], None],
        published: queue.Queue[tuple[Job, VersionRef | Follower | BaseException, float]],
    ) -> None:
        from tasks.storage import VersionRef
        from tasks.training import Follower

        assert self._trainer is not None
        ended: BaseException | None = None
        for job in jobs:
            started = time.perf_counter()
            if ended is not None:
                published.put((job, ended, started))
                continue
            try:
                self._trainer.send({"scenario": job.scenario, "parameters": job.parameters})
                for event in self._trainer.events():
                    self._ready_returner()
                    show(job.scenario, event)
                    if "published" in event:
                        published.put((job, VersionRef.model_validate(event["published"]), started))
                    elif "follower" in event:
                        published.put((job, Follower(**event["follower"]), started))
            except BaseException as error:
                published.put((job, error, started))
                if isinstance(error, ChildDied) or not isinstance(error, RoundtripError):
                    ended = error  # there is nobody left to train the others
        # It sends its last events to Prefect and goes, while the last proof is still running.
        self._trainer.finish()
