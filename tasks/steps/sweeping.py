"""Sweeps: every combination of a grid is tried, and one is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from prefect import get_run_logger, task
from prefect.artifacts import (
    create_table_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture

from tasks import events
from tasks.errors import InputError, RoundtripError
from tasks.steps.fanning import ended_if_interrupted, outcome
from tasks.steps.listening import tell
from tasks.steps.showing import artifact_key, emit, tag, this_run
from tasks.steps.stores import is_bad_luck, opened
from tasks.storage import layout, trials
from tasks.storage.guarantees.conformance import check_store
from tasks.sweeps import Combination, Goal, SweepPlan, Swept, Target, Tried, Tries, best_of, check_size, shortfall
from tasks.sweeps.goal import decide
from tasks.sweeps.records import failed


def begin_sweep(at_most: int, **plan: Any) -> SweepPlan:
    """A new sweep, whose id tells when it began.

    Raises:
        InputError: The grid is empty or larger than it may be, or each training is to take several devices.
    """
    planned = SweepPlan(id=layout.new_version(), **plan)
    if planned.keep_seconds <= 0:
        raise InputError("--keep: trials must stay for a while, and for longer than the sweep takes.")
    check_size(planned.grid, at_most)
    layout.model_name(planned.model)
    if planned.training.strategy != "none":
        raise InputError("A sweep trains each combination on one device: leave the training's strategy at `none`.")
    return planned


@task(name="look ahead", cache_policy=NO_CACHE)
def look_ahead(plan: SweepPlan, goal: Goal) -> tuple[list[Combination], Target]:
    """Find out before anything trains whether the store, the grid, the model, the data and the metric can be used."""
    check_store(opened(plan.store))
    ahead = Tries.of_this_process().look_ahead(plan)
    return ahead.combinations, decide(goal, ahead.metrics, plan.grid)


@task(name="try", task_run_name="{combination.label}", cache_policy=NO_CACHE)
def try_combination(combination: Combination, plan: SweepPlan) -> Tried:
    """Train one combination in a process of its own, and publish it as a trial; what fails is a result."""
    tried = Tries.of_this_process().attempt(combination, plan)
    get_run_logger().info("%s: %s", combination.label, tried.version or tried.why)
    tell(tried)  # a runner of threads keeps the context, and with it whoever listens
    return tried


def tries_of(combinations: Sequence[Combination], futures: Sequence[PrefectFuture[Tried]]) -> list[Tried]:
    """What came of each combination, in their order; where a whole worker died, its combinations say so."""
    runs: list[Tried] = []
    with ended_if_interrupted(Tries.of_this_process):
        for combination, future in zip(combinations, futures, strict=True):
            tried = outcome(future)
            if isinstance(tried, Exception):
                tried = failed(combination, RoundtripError(f"the worker: {tried}"))
            tell(tried)  # other processes than this one could not
            runs.append(tried)
    return runs


def summed_up(plan: SweepPlan, target: Target, runs: list[Tried]) -> Swept:
    """The sweep with its best run."""
    best = best_of([run.version.metrics if run.version else None for run in runs], target)
    seconds = (datetime.now(UTC) - layout.made_at(plan.id)).total_seconds()
    return Swept(plan=plan, target=target, runs=runs, best=best, seconds=round(seconds, 2))


@task(name="keep choice", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=[1, 5], retry_jitter_factor=0.5,
      retry_condition_fn=is_bad_luck)  # fmt: skip
def keep_choice(swept: Swept) -> Swept:
    """Show the table, let the best be a version like any other, and tell the world of it; the others expire."""
    plan, target, best = swept.plan, swept.target, swept.chosen
    rows = [
        run.combination.values
        | {target.metric: run.version.metrics.get(target.metric) if run.version else None, "seconds": run.seconds}
        | {"version": run.version.version if run.version else None, "best": index == swept.best, "why": run.why}
        for index, run in enumerate(swept.runs)
    ]
    description = f"{plan.scenario}, {target.direction} of {target.metric}, of {len(rows)}: {best or 'none'}"
    create_table_artifact(rows, key=artifact_key("sweep", plan.model), description=description)
    if best is not None:
        place = opened(plan.store)
        trials.choose(place, best.model, best.version, swept.model_dump_json(indent=1).encode())
        tag(best.model, best.version)
        emit(events.published(best, plan.store, this_run()))
    return swept


def accept_sweep(swept: Swept) -> Swept:
    """Let a sweep through that chose one; raise for any other, so that the flow run fails with the reasons.

    Raises:
        RoundtripError: Nothing could be chosen, for the gravest reason of the combinations.
    """
    error = shortfall(swept)
    if error:
        error.outcome = swept
        raise error
    return swept
