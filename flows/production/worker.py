"""The worker: it first sees to what the worker before it left unfinished, then works as Prefect's.

A run that died with its worker says nothing any more. Prefect's server learns of that from missing heartbeats, after two
minutes; and never, where it died in the same moment as they and had not handled the first one yet, as all do that die with
the supervisor. Here it can be looked up: a run that no process carries is over. It is begun again, and goes on from its
checkpoint; one that died three times is marked *Crashed*.

Its runs are forked from the nursery that stands beside it (`flows.worker_run`).

`python -m flows.production.worker` does both; the plan must be there, and a server that answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from datetime import datetime
from pathlib import Path
from typing import Any

from flows.production.api import Api
from flows.production.contact import runs_with_a_process
from flows.production.drain import going_on
from flows.production.parts import POOL, WORKER
from flows.production.plan import Plan
from tasks.errors import UnreachableError

_ATTEMPTS = 3
_GONE = "Its process is gone, and so is the worker that had begun it."

log = logging.getLogger("worker")


def see_to_what_is_left(api: Api) -> None:
    """Begin again, or mark, the runs of our pool that nobody carries any more.

    A run that another worker may carry, where we can't see it, is left to the automations: one that was alive since the run
    began. Whether it is online now says little, for a server that was away has not heard of it yet.
    """
    if POOL not in {pool["name"] for pool in api.post("/work_pools/filter")} or not Path("/proc/self/environ").exists():
        return
    others = [w for w in api.post(f"/work_pools/{POOL}/workers/filter") if w["name"] != WORKER]
    carried = runs_with_a_process()
    for run in going_on(api):
        if run["id"] in carried:
            continue
        if any(_may_carry(other, run) for other in others):
            log.info("%s is left to the automations, for another worker may carry it", run["name"])
            continue
        state = _state_after(run)
        try:
            # Whatever its state, and whatever slot it holds: that is given back.
            answer = api.post(f"/flow_runs/{run['id']}/set_state", {"state": state, "force": True})
        except UnreachableError as error:  # of this one alone; the others and the worker itself go on
            log.warning("%s was left %s and stays so: %s", run["name"], run["state_name"], error)
            continue
        log.warning("%s was left %s; to be %s: %s", run["name"], run["state_name"], state["name"], answer["status"])


def _may_carry(worker: dict[str, Any], run: dict[str, Any]) -> bool:
    """Whether a worker gave a sign of life since the run began."""
    began, last = run["start_time"] or run["expected_start_time"], worker["last_heartbeat_time"]
    if worker["status"] == "ONLINE" or not began:
        return True
    return bool(last) and datetime.fromisoformat(last) >= datetime.fromisoformat(began)


def _state_after(run: dict[str, Any]) -> dict[str, str]:
    """What becomes of a run whose process is gone."""
    if run["state_type"] == "CANCELLING":
        return {"type": "CANCELLED", "name": "Cancelled", "message": _GONE}
    if run["run_count"] >= _ATTEMPTS:
        return {"type": "CRASHED", "name": "Crashed", "message": f"{_GONE} It was begun {run['run_count']} times."}
    return {"type": "SCHEDULED", "name": "AwaitingRetry", "message": f"{_GONE} It is begun again."}


def main() -> None:
    """See to the runs, and work."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it would tell each question to the server
    plan = Plan.load()
    assert plan is not None
    # Where the server has no database now, this fails, and the supervisor tries again.
    see_to_what_is_left(Api(plan))
    with contextlib.suppress(KeyboardInterrupt):  # how it is told to end
        asyncio.run(_work())


async def _work() -> None:
    """What `prefect worker start --pool POOL --type process --name WORKER` does, but for where its runs come from."""
    from prefect.settings import get_current_settings  # after the environment is known to be whole: seconds
    from prefect.utilities.processutils import setup_signal_handlers_worker

    from flows.production.process_worker import NurseryWorker

    setup_signal_handlers_worker(os.getpid(), "the process worker", print)
    heartbeat = int(get_current_settings().worker.heartbeat_seconds)
    await NurseryWorker(POOL, name=WORKER, heartbeat_interval_seconds=heartbeat).start()


if __name__ == "__main__":
    main()
