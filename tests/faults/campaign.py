"""One campaign: a fault is done to every request of an operation in turn, and the witness looks after each."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tasks.errors import RoundtripError
from tests.faults.faults import Fault, Recorded, Recorder, Spoiler, When
from tests.faults.operations import Operation
from tests.faults.proxy import Proxy, passed_on
from tests.faults.tally import Outcome
from tests.faults.world import IMPATIENCE, PATIENCE, SMALL, Clients, World

_LANES = 2
_SILENT_LANES = 8


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one case.

    Attributes:
        said: The error's message, where there was one.
        complaints: What must not be; empty where all is well.
    """

    target: Recorded
    outcome: Outcome
    said: str
    complaints: list[str]

    def __str__(self) -> str:
        return (
            f"{self.target}: {self.outcome}"
            + (f" ({self.said})" if self.said else "")
            + "".join(f"\n    {line}" for line in self.complaints)
        )


@dataclass(frozen=True, slots=True)
class Ground:
    """Where campaigns take place."""

    clients: Clients
    proxy: Proxy
    folder: Path

    def world(self) -> World:
        """A new store prefix."""
        return World(self.clients, self.proxy, self.folder)


def clean_run(ground: Ground, operation: Operation) -> list[Recorded]:
    """The requests of an operation to which nothing happens."""
    world = ground.world()
    job = operation.prepare(world)
    recorder = Recorder()
    world.case.intercept = recorder
    operation.run(world.proxied(), job)
    assert world.witness.complaints() == []
    return recorder.requests


def campaign(ground: Ground, operation: Operation, fault: Fault, when: When, targets: Sequence[Recorded]) -> list[Result]:
    """One case for each request that the fault can strike, some at a time."""
    targets = [target for target in targets if fault.strikes(target)]
    lanes = min(len(targets), _SILENT_LANES if fault.silent else _LANES)

    def lane(number: int) -> list[Result]:
        world = ground.world()
        return [_case(world, operation, fault, when, target) for target in targets[number::lanes]]

    with ThreadPoolExecutor(max_workers=max(1, lanes)) as pool:
        return [result for results in pool.map(lane, range(lanes)) for result in results]


def _case(world: World, operation: Operation, fault: Fault, when: When, target: Recorded) -> Result:
    job = operation.prepare(world)
    spoiler = Spoiler(fault, target, when)
    world.case.intercept = spoiler
    store = world.proxied(IMPATIENCE if fault.silent else PATIENCE)
    outcome, said, complaints = Outcome.SUCCEEDED, "", []
    try:
        operation.run(store, job)
    except RoundtripError as error:
        outcome, said = Outcome.REFUSED, f"{error.kind}: {error}"
    except Exception as error:
        complaints.append(f"{type(error).__name__} escaped: {error}")
    finally:
        store.client.close()
    world.case.settle()
    world.case.intercept = passed_on
    if not spoiler.struck:
        complaints.append("the request was never sent")
    complaints += aftermath(
        world, succeeded=outcome is Outcome.SUCCEEDED, version=(job.manifest.model, job.manifest.version)
    )
    return Result(target, outcome, said, complaints)


def aftermath(world: World, *, succeeded: bool, version: tuple[str, str]) -> list[str]:
    """What must hold after any case: by the witness, by our own reader, and by the next publisher."""
    before = set(world.witness.whole)
    complaints = world.witness.complaints()
    if succeeded and version not in world.witness.whole:
        complaints.append(f"{version[1]} was said to be published and is not there")
    try:
        for seen in world.witness.whole - before:
            world.fetched(seen)
        world.published(SMALL)
    except RoundtripError as error:
        complaints.append(f"{type(error).__name__} afterwards: {error}")
    return complaints
