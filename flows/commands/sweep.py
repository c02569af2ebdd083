"""`python -m flows sweep`: every combination of some parameters, and the best one returned."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import click

from flows.commands.common import AGE, absolute_source, common, finish, model_options, model_parameter, quiet
from flows.scenarios import SCENARIOS
from tasks.errors import InputError, RoundtripError

_CORES = os.cpu_count() or 1
_BY_DEFAULT = min(2, _CORES)  # what one waits for, its start and its transfers, the other one's training fills


@click.command()
@click.argument("scenario", metavar="SCENARIO", type=click.Choice(list(SCENARIOS)))
@click.option("--grid", "axes", multiple=True, required=True, metavar="NAME=VALUE,...",
              help="Values of a parameter of the training or an argument of the model; repeatable.")  # fmt: skip
@click.option("--metric", metavar="NAME", help="What decides; by default val_accuracy where there is one, else val_loss.")
@click.option("--goal", type=click.Choice(["min", "max"]), help="Which is best; Keras' own metrics need no word on it.")
@model_options
@click.option("--data", metavar="REF", help="Your data: module:callable, file.py:callable, or FILE.npz with x and y.")
@click.option("--name", help="The model's name in the store; by default the scenario's.")
@click.option("--jobs", type=click.IntRange(1, 256), default=_BY_DEFAULT, show_default=True, help="Trainings side by side.")
@click.option("--runner", default="threads", show_default=True, metavar="RUNNER",
              help="threads, processes, dask, ray, or module:class of any Prefect task runner.")  # fmt: skip
@click.option("--at-most", type=click.IntRange(min=1), default=64, show_default=True, metavar="N",
              help="Refuse a grid with more combinations.")  # fmt: skip
@click.option("--keep", type=AGE, default="7d", show_default=True, metavar="AGE",
              help="How long those that are not chosen stay before gc removes them: 12h, 30d.")  # fmt: skip
@click.option("--rehearsal/--no-rehearsal", default=True,
              help="Whether each must have come back in a fresh process before it is published.")  # fmt: skip
@common
def sweep(
    scenario: str,
    axes: Sequence[str],
    metric: str | None,
    goal: str | None,
    model: str | None,
    model_args: Sequence[str],
    data: str | None,
    name: str | None,
    jobs: int,
    runner: str,
    at_most: int,
    keep: timedelta,
    rehearsal: bool,
    as_json: bool,
    debug: bool,
) -> None:
    r"""Train every combination of some parameters, choose the best, and prove it in another process.

    A parameter is one of the training (epochs, batch_size, optimizer, learning_rate, loss, metrics, early_stopping,
    compiler, seed) or an argument of the model's builder; a single value fixes it. Each combination is trained in a process
    of its own and stored as a version. The best goes on to `return`, and only it becomes `latest`. The others stay for
    --keep, then gc removes them; one that you promote by hand stays.

    A combination that fails is a line in the table. The exit code is the best one's verdict.

    \b
    Examples:
      python -m flows sweep weights-h5 --grid learning_rate=0.001,0.01 --grid hidden=32,64
      python -m flows sweep keras-archive --model models.py:mlp --data train.npz --name digits \
          --grid dropout=0,0.2,0.5 --grid epochs=20 --metric val_auc
      python -m flows sweep weights-h5 --grid activation=relu,tanh --metric val_loss --runner dask --json
    """
    from flows.runners import check_runner
    from tasks.sweeps import check_size, parse_grid

    check_runner(runner)
    grid = parse_grid(axes)
    count = check_size(grid, at_most)
    if jobs > _CORES and ":" not in runner:
        raise InputError(f"--jobs {jobs}: this machine has {_CORES} cores, and a training takes one at least.")
    parameters: dict[str, Any] = {"grid": grid, "scenario": scenario, "name": name or scenario, "keep": keep}
    parameters |= {"goal": {"metric": metric, "direction": goal or "known"}, "rehearsal": rehearsal, "at_most": at_most}
    if model or model_args:
        parameters["model"] = model_parameter(model, model_args)
    if data:
        parameters["data"] = {"source": absolute_source(data)}
    quiet(debug)
    swept, returned, error = _swept(parameters, count, runner, jobs, debug)
    from flows import show_sweep

    finish(show_sweep.document(swept, returned), as_json, error, lambda: show_sweep.show(swept, returned))


def _swept(parameters: dict[str, Any], count: int, runner: str, jobs: int, debug: bool) -> tuple[Any, Any, Any]:
    """Sweep in this process, at a desk that returns the best: what came of it, what came back, and what went wrong."""
    from flows.desk import Desk

    desk = Desk(trains=False, scenarios=[parameters["scenario"]], debug=debug)  # first, for its servers take the longest
    from flows.runners import task_runner
    from flows.show_sweep import Runs
    from flows.sweep import sweep as sweep_flow
    from tasks.steps import reporting_to
    from tasks.sweeps import Tried

    runs = Runs(count)

    def tell(news: Any) -> None:
        if isinstance(news, Tried):
            runs.tell(news)

    with desk, task_runner(runner, jobs) as chosen, runs.shown():
        with reporting_to(tell):
            state: Any = sweep_flow.with_options(task_runner=chosen)(**parameters, return_state=True)
        result = state.result(raise_on_failure=False)
        if isinstance(result, BaseException):
            swept = getattr(result, "outcome", None)
            if swept is None:
                raise result  # it never came to a table
            return swept, None, result
        try:
            return result, *desk.bring_back(str(result.chosen))
        except RoundtripError as error:  # the table is there all the same
            return result, None, error
