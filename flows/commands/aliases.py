"""`promote` and `rollback`: which version an alias points at."""

from __future__ import annotations

from typing import Any

import click

from flows.commands.common import common, finish, quiet


@click.command()
@click.argument("reference", metavar="MODEL@VERSION")
@click.option(
    "--alias", default="latest", show_default=True, metavar="NAME", help="The alias; it is made where there is none."
)
@common
def promote(reference: str, alias: str, as_json: bool, debug: bool) -> None:
    r"""Point an alias at a version that another process than its trainer proved.

    The version's newest verdict must have passed; `return` makes one. MODEL@ALIAS names the version that another alias
    points at. Aliases only ever get longer histories: nothing is overwritten, and `rollback` undoes this.
    Where a Prefect server is configured, it is told by the event `roundtrip.version.promoted`; so it is of a rollback.

    \b
    Examples:
      python -m flows promote digits@01a20a91-4eef-7ca7-beca-f993ce4fed7a
      python -m flows promote digits@latest --alias production
    """
    quiet(debug)
    from tasks import verification
    from tasks.storage import open_store, resolve

    store = open_store()
    model, version = resolve(store, reference)
    revision, moved = verification.promote(store, model, version, alias)
    if moved:
        _announce(store, model, revision)
    _finish(model, revision, moved, as_json)


@click.command()
@click.argument("model", metavar="MODEL")
@click.option("--alias", default="latest", show_default=True, metavar="NAME", help="The alias.")
@click.option("--to", metavar="VERSION", help="The version to point at; by default where the alias pointed before.")
@common
def rollback(model: str, alias: str, to: str | None, as_json: bool, debug: bool) -> None:
    r"""Point an alias at where it pointed before, by one more revision.

    A second rollback goes further back. Versions that were removed, or that failed a verification since, are passed over.
    A version that was rolled back does not become `latest` again by being verified again; a newer one does, or `promote`.

    \b
    Examples:
      python -m flows rollback digits
      python -m flows rollback digits --alias production --to 01a20a91-4eef-7ca7-beca-f993ce4fed7a
    """
    quiet(debug)
    from tasks import verification
    from tasks.errors import InputError
    from tasks.storage import layout, open_store

    layout.model_name(model)
    if to is not None and not layout.is_version(to):
        raise InputError(f"--to {to!r} is no version's id. `python -m flows show {model}` shows the ids.")
    store = open_store()
    revision = verification.roll_back(store, model, alias, to)
    _announce(store, model, revision)
    _finish(model, revision, True, as_json)


def _announce(store: Any, model: str, revision: Any) -> None:
    from flows.announcing import announce
    from tasks.settings import StoreConfig

    def event() -> Any:
        from tasks.events import promoted
        from tasks.storage import read_manifest
        from tasks.storage.versions import reference

        manifest = read_manifest(store, model, revision.version)
        return promoted(reference(store, manifest), revision, manifest, StoreConfig(), None)

    announce(event)


def _finish(model: str, revision: Any, moved: bool, as_json: bool) -> None:
    document = {
        "model": model,
        "alias": revision.alias,
        "version": revision.version,
        "moved": moved,
        "revision": revision.model_dump(mode="json"),
    }

    def show() -> None:
        word = "points at" if moved else "pointed already at"
        click.echo(f"{model}@{revision.alias} {word} {revision.version}")

    finish(document, as_json, None, show)
