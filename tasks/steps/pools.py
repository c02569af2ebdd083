"""Fanning out over work pools: runs of deployments, on whatever workers are free, and what became of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
from prefect import get_run_logger, task
from prefect.artifacts import (
    create_table_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun
from prefect.context import SyncClientContext
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run

from tasks.errors import UnreachableError
from tasks.jobs import Became, Job, shortfall
from tasks.settings import StoreConfig
from tasks.steps.listening import tell
from tasks.steps.stores import opened
from tasks.verification.verdict import newest_verdict

_PAUSE = 2.0
_PAGE = 200  # the most that Prefect's API answers at once
_VERSION = "version:"  # the tag that a run has from `publish` on


@task(name="start run", task_run_name="start {job.name}", cache_policy=NO_CACHE)
def start_run(job: Job, number: int, shared: dict[str, Any], store: StoreConfig) -> Became:
    """Have a worker run a deployment; what can't be started is a row that says why, and stops no other.

    Args:
        job: Which, and with what.
        number: Among the jobs of this flow run: one that is run again finds the runs that it had made, and makes none twice.
        shared: Parameters of all jobs.
        store: Where it publishes.
    """
    parameters = job.among(shared) | {"name": job.name, "store": store.model_dump(mode="json", exclude_none=True)}
    became = Became(scenario=job.scenario, model=job.name)
    key = f"{flow_run.id}-{number}"
    try:
        run: Any = run_deployment(job.deployment, parameters=parameters, timeout=0, idempotency_key=key)
    except ObjectNotFound:
        return became.model_copy(update={"why": f"there is no deployment {job.deployment}"})
    except httpx.HTTPError as error:  # parameters that its schema refuses, among others
        return became.model_copy(update={"why": _in_one_line(str(error))})
    return so_far(became, run)


@task(name="wait for runs", cache_policy=NO_CACHE)
def wait_for_runs(runs: list[Became], until: datetime) -> list[Became]:
    """Return when all have ended, or when the time is over; they then go on.

    All are asked after together, by one request every two seconds however many there are (one for each 200).
    """

    def look(waiting: list[Became]) -> list[Became]:
        now = {str(run.id): run for run in _read([UUID(str(each.flow_run)) for each in waiting])}
        return [so_far(each, now[str(each.flow_run)]) if str(each.flow_run) in now else each for each in waiting]

    return _watch(runs, lambda each: each.flow_run is None or each.ended, look, until)


@task(name="wait for proofs", cache_policy=NO_CACHE)
def wait_for_proofs(runs: list[Became], store: StoreConfig, until: datetime) -> list[Became]:
    """Return when each published version has a verdict, or when the time is over. The flow `return` makes them, not we."""
    place = opened(store)

    def look(waiting: list[Became]) -> list[Became]:
        verdicts = [newest_verdict(place, each.model, str(each.version)) for each in waiting]
        return [
            each.model_copy(update={"proved": verdict.passed if verdict else None})
            for each, verdict in zip(waiting, verdicts, strict=True)
        ]

    return _watch(runs, lambda each: not each.published or each.proved is not None, look, until)


@task(name="tabulate runs", cache_policy=NO_CACHE)
def tabulate_runs(runs: list[Became]) -> None:
    """Show what became of each as a table."""
    published, proved = sum(run.published for run in runs), sum(bool(run.proved) for run in runs)
    rows = [run.model_dump() for run in runs]
    create_table_artifact(rows, key="fan-out", description=f"Of {len(runs)} runs {published} published, {proved} proved")


def accept_runs(runs: list[Became], proofs: bool) -> list[Became]:
    """Let runs that all did what they were for through; raise for others, so that the flow run fails with the reasons.

    Raises:
        VerificationFailed: A version was refused, or has no verdict where there should be one.
        TrainingFailed: A run published nothing.
    """
    error = shortfall(runs, proofs)
    if error:
        error.outcome = runs
        raise error
    return runs


def so_far(became: Became, run: FlowRun) -> Became:
    """What became of a job, by what Prefect knows of its run."""
    state = run.state
    version = next((tag.removeprefix(_VERSION) for tag in run.tags if tag.startswith(_VERSION)), None)
    began, ended = run.start_time, run.end_time
    return became.model_copy(
        update={
            "flow_run": str(run.id),
            "state": (state.name if state else None) or "Pending",
            "ended": state is not None and state.is_final(),
            "version": version,
            "seconds": round((ended - began).total_seconds(), 2) if began and ended else None,
            "why": _in_one_line(state.message) if state and state.message and not state.is_completed() else None,
        }
    )


def _watch(
    runs: Sequence[Became],
    is_over: Callable[[Became], bool],
    look: Callable[[list[Became]], list[Became]],
    until: datetime,
) -> list[Became]:
    """Look again and again after those that are not over yet; a server that does not answer is asked again."""
    logger = get_run_logger()
    found = list(runs)
    while (waiting := [n for n, run in enumerate(found) if not is_over(run)]) and datetime.now(UTC) < until:
        time.sleep(_PAUSE)
        try:
            news = look([found[n] for n in waiting])
        except (httpx.HTTPError, UnreachableError) as error:
            logger.warning("Asked in vain, and will ask again: %s", error)
        else:
            for n, after in zip(waiting, news, strict=True):
                found[n] = after
                if is_over(after):
                    tell(after)
                    logger.info("%s", after)
    return found


def _read(runs: list[UUID]) -> list[FlowRun]:
    found = []
    with SyncClientContext.get_or_create() as context:
        for first in range(0, len(runs), _PAGE):
            wanted = FlowRunFilter(id=FlowRunFilterId(any_=runs[first : first + _PAGE]))
            found += context.client.read_flow_runs(flow_run_filter=wanted)
    return found


def _in_one_line(text: str) -> str:
    return " ".join(text.split())[:400]
