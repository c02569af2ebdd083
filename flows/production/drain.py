"""Let what runs come to its end before the worker is stopped, and leave no run behind that looks as if it were running."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from flows.production import contact
from flows.production.api import Api
from flows.production.parts import POOL
from flows.production.plan import Plan

_GOING_ON = ("RUNNING", "PENDING", "CANCELLING")
_PAUSE = 0.5
_WORKER_SECONDS = 30.0
_MESSAGE = "Ended by `python -m flows down`, which waited {seconds:.0f} s for it."


@dataclass(frozen=True, slots=True)
class Drained:
    """What became of the runs: their names."""

    ended: tuple[str, ...]
    cancelled: tuple[str, ...]


def drain(plan: Plan, seconds: float, waiting: Callable[[list[str]], None]) -> Drained:
    """Start no more runs, wait for those that run, cancel the rest, end the worker. The server runs on.

    Args:
        plan: What is up.
        seconds: How long the runs may take.
        waiting: Called with the names of the runs that are waited for.

    Raises:
        UnreachableError: The server does not answer.
    """
    api = Api(plan)
    with _paused(api):
        going = {run["id"]: run["name"] for run in going_on(api)}
        deadline = time.monotonic() + seconds
        left = going
        while left and time.monotonic() < deadline:
            waiting(list(left.values()))
            time.sleep(_PAUSE)
            left = {run["id"]: run["name"] for run in going_on(api)}
        contact.stop_worker(_WORKER_SECONDS)
        contact.kill_what_is_left()
        left = {run["id"]: run["name"] for run in going_on(api)}
        for run in left:
            _cancel(api, run, seconds)
    ended = [name for run, name in going.items() if run not in left]
    return Drained(tuple(ended), tuple(left.values()))


@contextmanager
def _paused(api: Api) -> Iterator[None]:
    """The pool hands out no runs; afterwards it is as it was, for it belongs to whoever paused it."""
    (pool,) = [p for p in api.post("/work_pools/filter") if p["name"] == POOL] or [{"is_paused": True}]
    if pool["is_paused"]:
        yield
        return
    api.patch(f"/work_pools/{POOL}", {"is_paused": True})
    try:
        yield
    finally:
        api.patch(f"/work_pools/{POOL}", {"is_paused": False})


def going_on(api: Api) -> list[dict[str, Any]]:
    """The runs of our pool that a worker took and that are not over."""
    question = {
        "flow_runs": {"state": {"type": {"any_": list(_GOING_ON)}}},
        "work_pools": {"name": {"any_": [POOL]}},
    }
    return list(api.post("/flow_runs/filter", question))


def _cancel(api: Api, run: str, seconds: float) -> None:
    """Say of a run whose process is gone that it is cancelled."""
    state = {"type": "CANCELLED", "name": "Cancelled", "message": _MESSAGE.format(seconds=seconds)}
    api.post(f"/flow_runs/{run}/set_state", {"state": state, "force": True})
