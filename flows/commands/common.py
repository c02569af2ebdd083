"""What all commands share: their common options, references from the command line, and one way to answer."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click

from tasks.errors import InputError, RoundtripError, printable

INTERRUPTED = 130  # exit code after Ctrl-C or SIGTERM


class _Age(click.ParamType[Any]):
    """An age: 12h, 30d."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A `timedelta`."""
        from tasks.storage.upkeep.retention import parse_age  # the room imports NumPy, which `--help` must not wait for

        if not isinstance(value, str):
            return value
        try:
            return parse_age(value)
        except InputError as error:
            self.fail(str(error), param, ctx)


AGE = _Age()


def common(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that every command has, and keep the line breaks of its examples."""
    # The docstrings are raw, as the lint wants them; click takes a real backspace for "don't wrap this paragraph".
    command.__doc__ = (command.__doc__ or "").replace("\\b\n", "\b\n")
    command = click.option("--debug", is_flag=True, help="Show tracebacks and what the processes print.")(command)
    return click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout, nothing else there.")(command)


def model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--model` and `--model-arg`."""
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


def environment_options(what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command `--python`, `--with` and `--recorded`; `what` says what each `--with` is."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        recorded = "Python, TensorFlow, Keras and NumPy as they were where the version was trained."
        command = click.option("--recorded", is_flag=True, help=recorded)(command)
        command = click.option("--with", "withs", multiple=True, metavar="REQUIREMENT", help=what)(command)
        python = "A version (3.12) or the path of an interpreter."
        return click.option("--python", "pythons", multiple=True, metavar="PYTHON", help=python)(command)

    return add


def model_parameter(model: str | None, pairs: Sequence[str]) -> dict[str, Any]:
    """The flow parameter `model` from the command line; argument values are JSON where they can be."""
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


def absolute_source(source: str) -> str:
    """A data source that means the same in every process."""
    from tasks.references import absolute

    if source.endswith(".npz"):
        path = Path(source).expanduser().absolute()
        if not path.is_file():
            raise InputError(f"There is no file {path}.")
        return str(path)
    return absolute(source) if ":" in source else source


def quiet(debug: bool) -> None:
    """Prefect's log belongs to a worker; at a desk the board says what happens."""
    if not debug:
        os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
        os.environ.setdefault("PREFECT_LOGGING_ROOT_LEVEL", "CRITICAL")


def finish(
    document: dict[str, Any],
    as_json: bool,
    error: RoundtripError | None,
    show: Callable[[], None],
    by_name: Mapping[str, RoundtripError] = MappingProxyType({}),
) -> None:
    """Answer: the document or what `show` prints, then the error where there is one, with its exit code.

    Where a command does several things by name, `by_name` has the error of each that failed, in place of the first alone.
    """
    if as_json:
        print_json(document | ({"error": error.to_json()} if error else {}))
    else:
        show()
        if by_name:
            for name, each in by_name.items():
                say(each, name)
        elif error:
            say(error)
    if error:
        sys.exit(error.exit_code)


def say(error: RoundtripError, name: str = "") -> None:
    """The error's message on stderr; it may quote what a model's writer wrote."""
    click.echo(f"error: {name and f'{name}: '}{printable(str(error))}", err=True)


def print_json(document: dict[str, Any]) -> None:
    """The one JSON document on stdout."""
    click.echo(json.dumps(_strict(document), indent=1, allow_nan=False))


def _strict(value: Any) -> Any:
    """JSON has no NaN and no infinity, which Python would write all the same; they become null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _strict(each) for key, each in value.items()}
    return [_strict(each) for each in value] if isinstance(value, list | tuple) else value
