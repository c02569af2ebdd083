"""`python -m flows trust`: whose definitions may be imported when a model comes back."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from flows.commands.common import common, finish
from tasks.errors import InputError, NotFoundError


@click.command()
@click.argument("references", nargs=-1, metavar="[REF...]")
@click.option("--remove", is_flag=True, help="Take these off the list.")
@common
def trust(references: tuple[str, ...], remove: bool, as_json: bool, debug: bool) -> None:
    r"""Allow definitions to be imported when a manifest names them; without REF: list what is allowed.

    A model whose format holds no architecture is rebuilt by the definition that its manifest names, and that is code. The
    project's own definitions are allowed, and so is what you ran once on this machine. REF is module:callable,
    file.py:callable (as the file is now; a changed one must be trusted again) or package.*, for what its modules define. For
    workers set ROUNDTRIP_TRUST=module:callable,package.* instead.

    \b
    Examples:
      python -m flows trust
      python -m flows trust models.py:mlp "mypackage.*"
      python -m flows trust --remove models.py:mlp
    """
    del debug
    from tasks import safety

    if remove and not references:
        raise InputError("--remove needs the references to take off the list; `python -m flows trust` shows it.")
    for reference in [_checked(r, must_exist=not remove) for r in references]:
        if not remove:
            safety.trust(reference)
        elif not safety.distrust(reference):
            raise NotFoundError(f"{reference} is not on the list; `python -m flows trust` shows it.")
    entries: list[dict[str, Any]] = [{"reference": e.reference, "sha256": e.sha256, "by": e.by} for e in safety.trusted()]
    finish({"trusted": entries}, as_json, None, lambda: _print(entries))


def _checked(reference: str, *, must_exist: bool) -> str:
    from tasks.references import absolute
    from tasks.safety.trust import find_module

    package = reference.removesuffix(".*")
    if package != reference:
        if not all(part.isidentifier() for part in package.split(".")):
            raise InputError(f"{reference!r} is not a package. Write `package.*`.")
        return reference
    found = absolute(reference, must_exist=must_exist)
    place, _, name = found.rpartition(":")
    # Looked up and not imported: who trusts code has not run it yet.
    if must_exist and place.endswith(".py"):
        if not re.search(rf"\b{name}\b", Path(place).read_text(errors="replace")):
            raise InputError(f"{place} has no {name!r}.")
    elif must_exist and find_module(place) is None:
        raise InputError(f"There is no module {place!r} on the import path, from {Path.cwd()}.")
    return found


def _print(entries: list[dict[str, Any]]) -> None:
    for entry in entries:
        detail = f"  sha256 {entry['sha256'][:16]}" if entry["sha256"] else ""
        click.echo(f"{entry['reference']}{detail}{'  (environment)' if entry['by'] == 'environment' else ''}")
    if not entries:
        click.echo("Nothing but the project's own definitions.")
