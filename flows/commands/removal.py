"""`rm` and `gc`: what nobody needs any more."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import timedelta

import click

from flows.commands.common import AGE, common, finish, quiet
from tasks.errors import InputError


@click.command()
@click.argument("reference", metavar="MODEL[@VERSION or @ALIAS]")
@click.option("--yes", is_flag=True, help="Don't ask before a whole model is removed.")
@common
def rm(reference: str, yes: bool, as_json: bool, debug: bool) -> None:
    r"""Remove a version, an alias, or a whole model. There is no way back.

    MODEL@VERSION: the version, its files and verdicts; refused while an alias points at it. It is gone at once for all
    readers, and its id is never used again. MODEL@ALIAS: the alias alone; the version stays. MODEL: all of it.

    \b
    Examples:
      python -m flows rm digits@01a20a91-4eef-7ca7-beca-f993ce4fed7a
      python -m flows rm digits@staging
      python -m flows rm digits --yes
    """
    quiet(debug)
    from tasks.errors import NotFoundError
    from tasks.storage import Freed, layout, open_store, remove_model, remove_version, take_away
    from tasks.storage.aliases import current
    from tasks.verification.report import human_bytes

    model, at, which = reference.partition("@")
    layout.model_name(model)
    store = open_store()
    freed = Freed()
    if not at:
        _confirm(f"Remove all versions of {model} in {store.url}?", yes, as_json)
        freed = remove_model(store, model)
    elif layout.is_version(which):
        freed = remove_version(store, model, which)
    else:
        pointer = current(store, model, layout.model_name(which))
        if pointer is None or pointer.version is None:
            raise NotFoundError(f"{model} has no alias {which!r} in {store.url}.")
        take_away(store, model, which, "taken away")
    document = {"removed": reference, "objects": freed.objects, "bytes": freed.bytes}

    def show() -> None:
        alias_only = at and not layout.is_version(which)
        more = (
            f"; {pointer.version} stays"
            if alias_only and pointer
            else f": {freed.objects} objects, {human_bytes(freed.bytes)}"
        )
        click.echo(f"removed {reference}{more}")

    finish(document, as_json, None, show)


@click.command()
@click.argument("models", nargs=-1, metavar="[MODEL...]")
@click.option("--keep-last", type=click.IntRange(min=0), metavar="N", help="Of each model, the newest N versions stay.")
@click.option("--keep-younger-than", type=AGE, metavar="AGE", help="Versions younger than this stay: 12h, 30d, 4w.")
@click.option(
    "--leftovers-older-than",
    type=AGE,
    default="1d",
    show_default=True,
    metavar="AGE",
    help="A publisher of which the store heard nothing for so long is dead.",
)
@click.option(
    "--checkpoints-older-than",
    type=AGE,
    default="7d",
    show_default=True,
    metavar="AGE",
    help="A training that was killed and not resumed for so long will not be.",
)
@click.option("--yes", "--delete", "yes", is_flag=True, help="Remove it. Without this, only the plan is shown.")
@common
def gc(
    models: Sequence[str],
    keep_last: int | None,
    keep_younger_than: timedelta | None,
    leftovers_older_than: timedelta,
    checkpoints_older_than: timedelta,
    yes: bool,
    as_json: bool,
    debug: bool,
) -> None:
    r"""Show what nobody needs any more, and with --yes remove it.

    Versions go only where a --keep option is given, and only those that none of them keeps. A version that an alias points
    at, or that is being published or promoted, always stays. What publishers left that died, uploads that were never
    finished, checkpoints of trainings that were killed long ago, and what is left of removed versions go in any case. Each
    is looked at again just before it is removed, so this is safe beside publishers and promotions, and may be interrupted
    at any moment. MODEL may be a pattern.

    \b
    Examples:
      python -m flows gc                                        what would go: leftovers only
      python -m flows gc --keep-last 5 --keep-younger-than 30d  a version stays that either keeps
      python -m flows gc 'digits*' --keep-last 5 --yes
    """
    quiet(debug)
    from tasks.storage import Retention, carry_out, open_store, plan

    store = open_store()
    retention = Retention(
        keep_last=keep_last,
        keep_younger_than=keep_younger_than,
        leftovers_older_than=leftovers_older_than,
        checkpoints_older_than=checkpoints_older_than,
    )
    planned = plan(store, retention, models)
    document = planned.model_dump(mode="json") | {"bytes": planned.bytes, "removed": None}
    from flows import show_registry as screen
    from flows.show import out

    if not as_json:
        out.print(screen.plan(planned))
    if not yes:
        hint = "This was the plan; `--yes` removes it." if planned.removals else ""
        finish(document, as_json, None, lambda: click.echo(hint) if hint else None)
        return
    with screen.counted("removing", len(planned.removals)) as moved:
        results = carry_out(store, planned, moved)
    document["removed"] = [each.model_dump(mode="json") for each in results]
    finish(document, as_json, None, lambda: out.print(screen.done(results), soft_wrap=True))


def _confirm(question: str, yes: bool, as_json: bool) -> None:
    if yes:
        return
    if as_json or not sys.stdin.isatty():
        raise InputError(f"{question} Nobody is there to answer: pass --yes.")
    click.confirm(question, abort=True, err=True)
