"""The registry: what is in the store."""

from __future__ import annotations

import click

from flows.commands.common import common, finish, quiet


@click.command(name="list")
@common
def list_(as_json: bool, debug: bool) -> None:
    """The models in the store, and what `latest` points at."""
    quiet(debug)
    from tasks.storage import list_models, open_store

    store = open_store()
    summaries = list_models(store)
    document = {"store": store.url, "models": [s.model_dump() for s in summaries]}

    def show() -> None:
        from flows import show as view

        view.out.print(
            view.models(summaries) if summaries else f"No models in {store.url} yet. `python -m flows` makes three."
        )

    finish(document, as_json, None, show)


@click.command()
@click.argument("reference", metavar="MODEL[@ALIAS or @VERSION]")
@common
def show(reference: str, as_json: bool, debug: bool) -> None:
    """A version: definition, data, training, files, verdicts; without a version, the model's newest and all its versions."""
    quiet(debug)
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

    finish(document, as_json, None, view)
