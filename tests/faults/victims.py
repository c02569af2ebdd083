"""Processes that publish, verify, promote or collect, and are killed while they do.

They are forked off a server process that has imported all they need, TensorFlow not among it, so that one costs about 50 ms.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import connection
from multiprocessing.process import BaseProcess

from tasks.storage import embedded
from tests.faults.campaign import Ground, Result, aftermath
from tests.faults.faults import Fault, Recorded, Spoiler, When
from tests.faults.operations import GC, OPERATIONS, Job, Operation
from tests.faults.proxy import Line
from tests.faults.tally import Outcome
from tests.faults.world import Clients, World, small_parts

_LANES = 6
_DEADLINE = 60.0

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.faults.victims"])

# `start` asks after every other child too, and of two threads that ask after one only one hears how it ended.
_CHILDREN = threading.Lock()

Kill = Callable[[Line, Callable[[], None]], None]


def _before(line: Line, kill: Callable[[], None]) -> None:
    kill()
    line.drop()


def _midway(line: Line, kill: Callable[[], None]) -> None:
    kill()
    line.forward_half()
    line.drop()


def _after(line: Line, kill: Callable[[], None]) -> None:
    line.forward()
    kill()
    line.drop()


BEFORE, WHILE_SENDING, AFTER = "SIGKILL before", "SIGKILL while sending", "SIGKILL after"
KILLS: dict[str, Kill] = {BEFORE: _before, WHILE_SENDING: _midway, AFTER: _after}


def do(access: embedded.Access, endpoint: str, prefix: str, operation: str, job: Job) -> None:
    """The victim's life."""
    assert "tensorflow" not in sys.modules
    small_parts()
    (found,) = [each for each in OPERATIONS if each.name == operation]
    found.run(Clients(access).store(endpoint, prefix), job)


def kills(
    ground: Ground, access: embedded.Access, operation: Operation, how: str, targets: Sequence[Recorded]
) -> list[Result]:
    """One case for each request: the process that sends it is killed."""
    if how == WHILE_SENDING:
        targets = [target for target in targets if target.up]
    if how == BEFORE and operation is GC:
        targets = targets[:1]  # before a request is after the one before it, and gc has many
    lanes = min(len(targets), _LANES)

    def lane(number: int) -> list[Result]:
        with ground.world() as world:
            return [_kill(world, access, operation, how, target) for target in targets[number::lanes]]

    with ThreadPoolExecutor(max_workers=max(1, lanes)) as pool:
        return [result for results in pool.map(lane, range(lanes)) for result in results]


def _kill(world: World, access: embedded.Access, operation: Operation, how: str, target: Recorded) -> Result:
    job = operation.prepare(world)
    started = threading.Event()
    # One of its own: what the dead sent still comes, and nothing else tells when the last of it came.
    proxy = world.proxy.another()
    victim: BaseProcess = PROCESSES.Process(target=do, args=(access, proxy.url, world.direct.prefix, operation.name, job))

    def kill() -> None:
        assert started.wait(_DEADLINE)
        assert victim.pid
        os.kill(victim.pid, signal.SIGKILL)

    proxy.case(world.id).intercept = Spoiler(Fault(how, lambda line: KILLS[how](line, kill)), target, When.ONCE)
    with _CHILDREN:
        victim.start()
    started.set()
    connection.wait([victim.sentinel], _DEADLINE)
    with _CHILDREN:
        code = victim.exitcode
    proxy.run_dry()
    complaints = aftermath(world, version=None, sweep=True)
    if code != -signal.SIGKILL:
        complaints.append(f"it ended with {code}")
    return Result(how, target, Outcome.DIED, "", complaints)
