"""The registry: what is in the store."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import click

from flows.commands.common import AGE, common, finish, quiet

_REVISIONS = 10  # of each alias


@click.command(name="list")
@click.argument("names", nargs=-1, metavar="[NAME...]")
@click.option("--format", "form", metavar="FORMAT", help="Models with a version in this format: saved-model, full-h5, ...")
@click.option("--alias", metavar="NAME", help="Models that have this alias.")
@click.option(
    "--verified", "verified", flag_value="verified", help="Models of which a version passed: they have a `latest`."
)
@click.option("--unverified", "verified", flag_value="unverified", help="Models of which none did.")
@click.option("--newer-than", type=AGE, metavar="AGE", help="Models whose newest version is younger: 12h, 30d, 4w.")
@click.option("--older-than", type=AGE, metavar="AGE", help="Models whose newest version is at least so old.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many.")
@common
def list_(
    names: Sequence[str],
    form: str | None,
    alias: str | None,
    verified: str | None,
    newer_than: timedelta | None,
    older_than: timedelta | None,
    limit: int | None,
    as_json: bool,
    debug: bool,
) -> None:
    r"""The models in the store, by name, and what `latest` points at.

    NAME may be a pattern. Only what was published whole is listed.

    \b
    Examples:
      python -m flows list
      python -m flows list 'digits*' --unverified
      python -m flows list --alias production --older-than 30d --json
    """
    quiet(debug)
    from tasks.storage import Filter, list_models, open_store

    store = open_store()
    wanted = Filter(tuple(names), form, alias, verified, newer_than, older_than)  # type: ignore[arg-type]
    summaries = list_models(store, wanted, limit)
    document = {"store": store.url, "models": [s.model_dump(mode="json") for s in summaries]}

    def show() -> None:
        from flows import show_registry as screen
        from flows.show import out

        if summaries:
            out.print(screen.models(summaries, screen.now()))
        elif wanted == Filter():
            out.print(f"No models in {store.url} yet. `python -m flows` makes three.", soft_wrap=True)
        else:
            out.print(f"No model in {store.url} matches. `python -m flows list` shows all.", soft_wrap=True)

    finish(document, as_json, None, show)


@click.command()
@click.argument("reference", metavar="MODEL[@ALIAS or @VERSION]")
@common
def show(reference: str, as_json: bool, debug: bool) -> None:
    r"""A version: definition, data, training, files, verdicts; and where the model's aliases point and pointed.

    Without a version: the model's newest, verified or not, and its versions.

    \b
    Examples:
      python -m flows show digits
      python -m flows show digits@latest --json
    """
    quiet(debug)
    from tasks.storage import alias_history, layout, list_versions, open_store, read_manifest, resolve, trials
    from tasks.storage.aliases import newest_revisions
    from tasks.verification import read_verdicts

    store = open_store()
    model = layout.model_name(reference.partition("@")[0])
    versions = list_versions(store, model)
    version = resolve(store, reference)[1] if "@" in reference else versions[-1]
    manifest = read_manifest(store, model, version)
    verdicts = read_verdicts(store, model, version)
    names = [layout.alias_of(key) for key in newest_revisions(store, model)]
    histories = {name: alias_history(store, model, name, limit=_REVISIONS) for name in names}
    pointers = {name: revisions[0].version for name, revisions in histories.items() if revisions[0].version}
    uri = store.uri(layout.bundle(model, version)).rstrip("/")
    expires = trials.expires(store, model, version)
    document = {
        "model": model,
        "version": version,
        "uri": uri,
        "versions": versions,
        "aliases": pointers,
        "history": {name: [r.model_dump(mode="json") for r in revisions] for name, revisions in histories.items()},
        "trial": expires,
        "manifest": manifest.model_dump(mode="json"),
        "verdicts": [v.model_dump(mode="json") for v in verdicts],
    }

    def view() -> None:
        from flows import show_registry as screen
        from flows.show import out

        here = [alias for alias, target in pointers.items() if target == version]
        out.print(screen.version_details(manifest, uri, verdicts, here))
        if expires:
            out.print(f"A sweep did not choose it; gc removes it in time. `promote {model}@{version}` keeps it.")
        if histories:
            out.print(screen.history(histories))
        if "@" not in reference and len(versions) > 1:
            out.print(screen.newest_versions(versions, pointers))

    finish(document, as_json, None, view)
