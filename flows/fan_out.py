"""The flow `fan-out`: many models at once, each trained by a run of its scenario's deployment, on whatever workers are free.

It trains nothing itself and starts no proof: each published version starts `return` by its event, as ever.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from prefect import flow

from tasks.jobs import Became, Job
from tasks.settings import StoreConfig
from tasks.steps import accept_runs, start_run, tabulate_runs, wait_for_proofs, wait_for_runs


@flow(name="fan-out")
def fan_out(
    jobs: list[Job],
    parameters: dict[str, Any] | None = None,
    proofs: bool = True,
    minutes: float = 60.0,
    store: StoreConfig = StoreConfig(),
) -> list[Became]:
    """Start all jobs, wait for them and for the proofs of what they published, and make a table of what became of each.

    Args:
        jobs: Which deployments, under which names, with which parameters.
        parameters: Of all of them; a job's own go before.
        proofs: Whether each version must have a passed verdict in the end.
        minutes: How long all of it may take; what runs then goes on, and its row says so.
        store: Where they publish.

    Returns:
        What became of each. Where one published nothing or is not proved, the run fails, after it has waited for the others.
    """
    until = datetime.now(UTC) + timedelta(minutes=minutes)
    begun = [start_run(job, number, parameters or {}, store) for number, job in enumerate(jobs)]
    runs = wait_for_runs(begun, until)
    if proofs:
        runs = wait_for_proofs(runs, store, until)
    tabulate_runs(runs)
    return accept_runs(runs, proofs)
