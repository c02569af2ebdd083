"""`python -m flows fidelity`: every definition in every format, and what survives."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Any

import click

from flows.commands.common import absolute_source, common, finish, model_options, model_parameter, quiet
from flows.runners import APART, check_runner, task_runner
from tasks.data.config import GENERATED
from tasks.definitions.families import FAMILIES
from tasks.errors import InputError

_DEFAULT = [f.name for f in FAMILIES.values() if not f.heavy]


@click.command()
@model_options
@click.option("--data", metavar="REF", help="Data for --model: module:callable, file.py:callable, or FILE.npz.")
@click.option("--definition", "names", multiple=True, metavar="NAME", type=click.Choice(list(FAMILIES)),
              help="Only this built-in definition; repeatable.")  # fmt: skip
@click.option("--no-built-in", is_flag=True, help="Only --model.")
@click.option("--format", "formats", multiple=True, metavar="NAME", help="Only this format; repeatable.")
@click.option("--epochs", type=click.IntRange(min=1), default=2, show_default=True, help="Before it is saved, and after.")
@click.option("--runner", default="threads", show_default=True, metavar="RUNNER",
              help="threads, processes, dask, ray, or module:class of any Prefect task runner.")  # fmt: skip
@click.option("--workers", type=click.IntRange(1, 64), default=2, show_default=True, help="Rows side by side.")
@click.option("--seconds", type=click.FloatRange(min=1), default=300.0, show_default=True, help="Limit of a step of a cell.")
@click.option("--memory", type=click.FloatRange(min=0.5), metavar="GB", help="Limit of a process; else its share of 80 %.")
@click.option("--markdown", is_flag=True, help="Print the table as Markdown, as it stands in the README.")
@common
def fidelity(
    model: str | None,
    model_args: Sequence[str],
    data: str | None,
    names: Sequence[str],
    no_built_in: bool,
    formats: Sequence[str],
    epochs: int,
    runner: str,
    workers: int,
    seconds: float,
    memory: float | None,
    markdown: bool,
    as_json: bool,
    debug: bool,
) -> None:
    r"""Measure what survives: every definition in every format, alone and with Roundtrip.

    Each definition is trained once and saved in every format; each cell is then measured in a process that did not train
    it: what the format's own files bring back, what Roundtrip brings back, and whether training on gives the bits that it
    would have given without the way. A process that dies is a result. The table goes to the store, too.

    \b
    Definitions:
      sequential several-inputs shared-layers nested with-config without-config registered unregistered loss-parameters
      norm-dropout stateful-lstm normalization string-lookup vectorized-text mixed-precision quantized-int8
      mobilenet-v3 efficientnet-v2, and only where it is named: gigabytes (2 GB, takes minutes)

    \b
    Examples:
      python -m flows fidelity
      python -m flows fidelity --model models.py:mlp --data train.npz --no-built-in
      python -m flows fidelity --definition norm-dropout --format weights-h5 --format keras-archive
      python -m flows fidelity --runner dask --workers 2       rows on a local Dask cluster (extra: dask; or ray)
    """
    check_runner(runner)
    subjects = _subjects(model, model_args, data, list(names), no_built_in, epochs)
    chosen = _formats(formats)
    quiet(debug)
    table, uri = _measure(subjects, chosen, runner, workers, seconds, memory, debug)
    document = {"uri": uri} | table.model_dump(mode="json")

    def show() -> None:
        from flows.show import out
        from flows.show_fidelity import table_view
        from tasks.verification.fidelity.document import table_markdown

        if markdown:
            click.echo(table_markdown(table))
        else:
            out.print(table_view(table))
            out.print(f"{uri}table.html", soft_wrap=True)

    finish(document, as_json, None, show)


def _subjects(
    model: str | None, model_args: Sequence[str], data: str | None, names: list[str], no_built_in: bool, epochs: int
) -> list[Any]:
    from tasks.verification.fidelity import Subject

    if not model and (data or model_args or no_built_in):
        raise InputError("--data, --model-arg and --no-built-in go with --model REF.")
    if no_built_in and names:
        raise InputError("--definition names a built-in definition, and --no-built-in leaves them all out.")
    built_in = [] if no_built_in else names or _DEFAULT
    length = {"epochs": epochs, "more_epochs": epochs}
    subjects = [Subject.of(FAMILIES[name]).model_copy(update=length) for name in built_in]
    if model:
        given = model_parameter(model, model_args)
        source = absolute_source(data or GENERATED)
        name = model.rpartition(":")[2]
        subjects.append(Subject(name=name, builder=given["builder"], arguments=given["arguments"], data=source, **length))
    return subjects


def _formats(names: Sequence[str]) -> list[str]:
    from tasks.serialization import FORMATS, format_named

    return [format_named(name).name for name in dict.fromkeys(names)] or list(FORMATS)


def _measure(
    subjects: list[Any], formats: list[str], runner: str, workers: int, seconds: float, memory: float | None, debug: bool
) -> tuple[Any, str]:
    """Run the flow here. The servers start and the nursery imports TensorFlow while this process imports Prefect."""
    from flows.server import Servers

    servers = Servers(*([] if runner in APART else ["tasks.verification.fidelity.work"]), debug=debug)
    from flows.fidelity import fidelity as fidelity_flow
    from flows.show_fidelity import Cells
    from tasks.steps import reporting_to
    from tasks.storage import layout
    from tasks.verification.fidelity import Cell, Limits

    cells = Cells(len(subjects) * len(formats))
    limits = Limits.shared_by(workers, seconds, memory)

    def tell(news: Any) -> None:
        if isinstance(news, Cell):
            cells.tell(news)

    with closing(servers):
        with task_runner(runner, workers) as chosen:
            servers.wait_until_up()
            servers.store()  # one that can't be opened is said before the first row, not after the last
            with cells.shown(), reporting_to(tell):
                table = fidelity_flow.with_options(task_runner=chosen)(subjects, formats, limits, workers)
        return table, servers.store().uri(layout.fidelity(table.id))
