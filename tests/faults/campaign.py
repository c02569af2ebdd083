"""One campaign: a fault is done to every request of an operation in turn, and the witness looks after each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tasks.errors import RoundtripError, UnsafeError
from tasks.storage import Store
from tests.faults.faults import Fault, Recorded, Recorder, Spoiler, When
from tests.faults.operations import GC, Job, Operation
from tests.faults.proxy import Line, Proxy, passed_on
from tests.faults.tally import Outcome
from tests.faults.witness import Version
from tests.faults.world import IMPATIENCE, PATIENCE, TINY, Clients, World

_LANES = 6
_SILENT_LANES = 8
_OLD_WORLD = 150  # keys
REFUSED = "connection refused"


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one case.

    Attributes:
        fault: Its name.
        said: The error, where there was one.
        complaints: What must not be; empty where all is well.
    """

    fault: str
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
    """Where campaigns take place. Worlds are used again, for a while: each costs as much as a few cases."""

    clients: Clients
    proxy: Proxy
    folder: Path
    _idle: list[World] = field(default_factory=list)

    @contextmanager
    def world(self) -> Iterator[World]:
        """A store prefix that nobody else uses meanwhile."""
        try:
            world = self._idle.pop()
        except IndexError:
            world = World(self.clients, self.proxy, self.folder)
        yield world
        if len(world.witness.last) < _OLD_WORLD:
            self._idle.append(world)


def clean_run(ground: Ground, operation: Operation) -> list[Recorded]:
    """The requests of an operation to which nothing happens."""
    with ground.world() as world:
        job = operation.prepare(world)
        recorder = Recorder()
        world.case.intercept = recorder
        operation.run(world.proxied(), job)
        world.case.intercept = passed_on
        assert world.witness.complaints() == []
        return recorder.requests


def campaign(ground: Ground, operation: Operation, fault: Fault, when: When, targets: Sequence[Recorded]) -> list[Result]:
    """One case for each request that the fault can strike, some at a time."""
    targets = [target for target in targets if fault.strikes(target) and _differs(operation, when, target)]
    lanes = min(len(targets), _SILENT_LANES if fault.silent else _LANES)

    def lane(number: int) -> list[Result]:
        with ground.world() as world:
            return [_case(world, operation, fault, when, target) for target in targets[number::lanes]]

    with ThreadPoolExecutor(max_workers=max(1, lanes)) as pool:
        return [result for results in pool.map(lane, range(lanes)) for result in results]


def tells_more(fault: Fault, when: When) -> bool:
    """Whether a fault that lasts so long tells more than another one.

    From then on, a store that does nothing it is asked is the same whatever it says: `refusals` has one that is gone. One
    that does it all and whose answers are lost is another one, and so is each that damages something, or that does other
    things than it is asked, or that fails at some requests and not at others.
    """
    return when is not When.ONWARDS or fault.lasts


def _differs(operation: Operation, when: When, target: Recorded) -> bool:
    """Whether a case tells more than its neighbours.

    Where a request fails always, and nothing is asked after it that could pass, it might as well be the last one. gc asks
    alike for each thing that it removes: the first of each kind meets every fault, and all of them SIGKILL.
    """
    if operation is GC and target.occurrence:
        return False
    return when is not When.ALWAYS or target.is_document or "?upload" in target.label


def refusals(ground: Ground, operation: Operation, targets: Sequence[Recorded]) -> list[Result]:
    """One case for each request: from it on nobody listens at the store's address any more."""
    results = []
    for target in [each for each in targets if operation is not GC or not each.occurrence]:
        proxy = ground.proxy.another()
        world = World(ground.clients, proxy, ground.folder)

        def vanish(line: Line, proxy: Proxy = proxy) -> None:
            proxy.stop_listening()
            line.drop()

        results.append(_case(world, operation, Fault(REFUSED, vanish), When.ONWARDS, target))
        proxy.close()
    return results


def _case(world: World, operation: Operation, fault: Fault, when: When, target: Recorded) -> Result:
    """A fault that is noticed by waiting is tried again with more patience where another request was too slow for it."""
    patience = IMPATIENCE if fault.silent else PATIENCE
    while True:
        job = operation.prepare(world)
        spoiler = Spoiler(fault, target, when)
        world.case.intercept = spoiler
        store = world.proxied(patience)
        error = _run(operation, store, job)
        store.client.close()
        world.case.settle()
        world.case.intercept = passed_on
        version = (job.manifest.model, job.manifest.version)
        expected = version if error is None and operation is not GC else None
        complaints = aftermath(world, version=expected, sweep=operation is GC)
        one_too_many = error is not None and _must_succeed(operation, fault, when, target)
        if (spoiler.struck and not one_too_many) or patience >= PATIENCE:
            break
        patience *= 4
    if not spoiler.struck:
        complaints.append("the request was never sent")
    complaints += _about(error, world, fault)
    if one_too_many:
        complaints.append("it must succeed")
    outcome = Outcome.SUCCEEDED if error is None else Outcome.REFUSED
    said = f"{type(error).__name__}: {error}" if error else ""
    return Result(str(fault), target, outcome, said, complaints)


def _run(operation: Operation, store: Store, job: Job) -> Exception | None:
    try:
        operation.run(store, job)
    except Exception as error:
        return error
    return None


def _about(error: Exception | None, world: World, fault: Fault) -> list[str]:
    """What is wrong with an error: it must be one of ours, name the place, and accuse nobody of tampering without cause."""
    if error is None:
        return []
    if not isinstance(error, RoundtripError):
        return [f"{type(error).__name__} escaped"]
    said = [] if world.id in str(error) else ["the message does not say where"]
    return said + (["called tampered with"] if isinstance(error, UnsafeError) and not fault.damages else [])


def _must_succeed(operation: Operation, fault: Fault, when: When, target: Recorded) -> bool:
    """Whether an error would be one too many. Of a mark that gc put over a manifest the next gc finds out."""
    if when is When.ONCE:
        return target.has_digest or not fault.damages
    return when is When.ALWAYS and fault.done and target.is_document and operation is not GC


def aftermath(world: World, *, version: Version | None, sweep: bool = False) -> list[str]:
    """What must hold after any case: by the witness, by our own reader, and by the next publisher or gc.

    Args:
        world: Where.
        version: That must be there now, for the operation on it was said to have succeeded.
        sweep: Let gc take the next publisher's place and remove all that it may, which must be all that nobody sees.
    """
    before = set(world.witness.whole)
    complaints = world.witness.complaints()
    if version and version not in world.witness.whole:
        complaints.append(f"{version[1]} is not there, though all was said to be well")
    try:
        for seen in world.witness.whole - before:
            world.fetched(seen)
        if not sweep:
            world.published(TINY)
        else:
            world.collected()
            complaints += world.witness.complaints()
            complaints += [f"{key} was left by gc" for key in world.witness.litter()]
    except RoundtripError as error:
        complaints.append(f"{type(error).__name__} afterwards: {error}")
    return complaints
