"""`python -m flows return`: the downstream flow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from flows.commands.common import common, finish, model_options, model_parameter, quiet


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
@common
def return_(
    reference: str,
    to: Path | None,
    allow: Sequence[str],
    model: str | None,
    model_args: Sequence[str],
    as_json: bool,
    debug: bool,
) -> None:
    r"""Bring a version back in a fresh process and prove that it is the model that was trained.

    Every file is held against its digest, the bundle is inspected, the model is loaded in a process that trained nothing,
    and each weight and the outputs on the stored probe are compared. The verdict is kept in the store; `latest` moves to a
    newer version that passed.

    \b
    Examples:
      python -m flows return digits
      python -m flows return digits@latest --to ./digits
      python -m flows return digits --allow "foreign class"
    """
    quiet(debug)
    from flows.desk import Desk

    override = model_parameter(model, model_args) if model or model_args else None
    with Desk(trains=False, debug=debug) as desk:
        returned, error = desk.bring_back(reference, to, override, allow=allow)
    document = {
        "model": returned.version.model,
        "version": returned.version.version,
        "uri": returned.version.uri,
        "path": returned.path,
        "format": returned.version.format,
        "verdict": returned.verdict.model_dump(mode="json"),
        "latest": returned.latest,
    }
    finish(document, as_json, error, lambda: _print_verdict(returned))


def _print_verdict(returned: Any) -> None:
    from flows.show import out, verdict_lines

    for line in verdict_lines(returned.verdict, returned.path):
        out.print(line, soft_wrap=True)
