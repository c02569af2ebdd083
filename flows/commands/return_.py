"""`python -m flows return`: the downstream flow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from flows.commands.common import common, environment_options, finish, model_options, model_parameter, quiet
from tasks.errors import InputError


@click.command(name="return")
@click.argument("reference", metavar="MODEL[@ALIAS or @VERSION]")
@click.option(
    "--to", type=click.Path(path_type=Path), metavar="FOLDER", help="Leave the files here; by default in the cache."
)
@click.option(
    "--allow",
    multiple=True,
    metavar="FINDING",
    help="Let a dangerous finding through: its kind, or kind:where; repeatable. The verdict records it.",
)
@model_options
@environment_options("In place of a package here: tensorflow==2.18.*; repeatable. What is not named stays as it is here.")
@common
def return_(
    reference: str,
    to: Path | None,
    allow: Sequence[str],
    model: str | None,
    model_args: Sequence[str],
    pythons: Sequence[str],
    withs: Sequence[str],
    recorded: bool,
    as_json: bool,
    debug: bool,
) -> None:
    r"""Bring a version back in a fresh process and prove that it is the model that was trained.

    Every file is held against its digest, the bundle is inspected, the model is loaded in a process that trained nothing,
    and each weight and the outputs on the stored probe are compared. The verdict is kept in the store; `latest` moves to a
    newer version that passed. With credentials that may only read, the proof is the same and the files are handed over, but
    neither is written: the line at the end, and `unwritten` in the JSON, say so. The exit code is the verdict's.

    With --python, --with or --recorded it is proved in another environment, which uv builds for it once. That verdict is
    kept too and names its environment, but moves no alias: it says nothing of this one.

    \b
    Examples:
      python -m flows return digits
      python -m flows return digits@latest --to ./digits
      python -m flows return digits --allow "foreign class"
      python -m flows return digits --python 3.12 --with 'tensorflow==2.20.*'
      python -m flows return digits --recorded
    """
    quiet(debug)
    from flows.desk import Desk

    if len(pythons) > 1:
        raise InputError("A version is returned under one --python at a time. `python -m flows matrix` takes several.")
    environment = None
    if pythons or withs or recorded:
        environment = {"python": next(iter(pythons), None), "requirements": list(withs), "recorded": recorded}
    override = model_parameter(model, model_args) if model or model_args else None
    with Desk(trains=False, returns=reference, debug=debug) as desk:
        from flows.show import Board  # while the servers start

        board = Board([reference], 0)
        with board.shown():
            returned, error = desk.bring_back(
                reference,
                to,
                override,
                environment=environment,
                allow=allow,
                show=lambda news: board.event(reference, news),
            )
    document = {
        "model": returned.version.model,
        "version": returned.version.version,
        "uri": returned.version.uri,
        "path": returned.path,
        "format": returned.version.format,
        "verdict": returned.verdict.model_dump(mode="json"),
        "latest": returned.latest,
        "unwritten": returned.unwritten,
    }
    finish(document, as_json, error, lambda: _print_verdict(returned))


def _print_verdict(returned: Any) -> None:
    from flows.show import out, verdict_lines

    for line in verdict_lines(returned.verdict, returned.path):
        out.print(line, soft_wrap=True)
    if returned.unwritten:
        out.print(f"  {returned.unwritten}", style="yellow", soft_wrap=True)
