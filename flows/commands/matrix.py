"""`python -m flows matrix`: one version, returned in several environments."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import click

from flows.commands.common import common, environment_options, finish, model_options, model_parameter, quiet
from tasks.errors import InputError


@click.command()
@click.argument("reference", metavar="MODEL[@ALIAS or @VERSION]")
@model_options
@environment_options("Packages of one environment, with blanks between: 'tensorflow==2.20.* keras==3.13.*'; one row each.")
@common
def matrix(
    reference: str,
    model: str | None,
    model_args: Sequence[str],
    pythons: Sequence[str],
    withs: Sequence[str],
    recorded: bool,
    as_json: bool,
    debug: bool,
) -> None:
    r"""Return one version in several environments, and show 'trained under A, returned under B'.

    Each --with is an environment, under each --python where there are any; --recorded adds the one that the version was
    trained in. uv builds each once (a minute and 600 MB of the cache). The verdicts are kept; no alias is moved.

    \b
    Examples:
      python -m flows matrix digits --with 'keras==3.13.*' --with 'keras==3.11.*' --with 'tensorflow==2.20.*'
      python -m flows matrix digits --python 3.11 --python 3.12 --recorded
    """
    quiet(debug)
    environments = _environments(pythons, withs, recorded)
    from flows.desk import Desk

    override = model_parameter(model, model_args) if model or model_args else None
    with Desk(trains=False, returns=reference, debug=debug) as desk:
        table = desk.matrix(reference, environments, override, _show_row)
    from tasks.verification.matrix import shortfall

    def view() -> None:
        from flows import show, show_matrix

        show.out.print(show_matrix.table(table))

    finish(table.model_dump(mode="json"), as_json, shortfall(table), view)


def _environments(pythons: Sequence[str], withs: Sequence[str], recorded: bool) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{"recorded": True}] if recorded else []
    if pythons or withs:
        under: Sequence[str | None] = pythons or [None]
        found += [{"python": p, "requirements": w.split()} for p, w in product(under, withs or [""])]
    if not found:
        raise InputError("Name at least one environment: --with 'keras==3.13.*', --python 3.12 or --recorded.")
    return found


def _show_row(row: dict[str, Any]) -> None:
    """One line on stderr as soon as an environment is done, for each may take a minute."""
    click.echo(f"{row['environment']}: {'came back' if row['passed'] else row['why']}", err=True)
