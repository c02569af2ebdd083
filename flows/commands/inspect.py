"""`python -m flows inspect`: what a model could do to whoever loads it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flows.commands.common import common, finish, quiet
from tasks.errors import NotFoundError

if TYPE_CHECKING:
    from tasks.safety import Inspection

_REFUSED = 3


@click.command()
@click.argument("target", metavar="PATH or MODEL[@ALIAS or @VERSION]")
@common
def inspect(target: str, as_json: bool, debug: bool) -> None:
    r"""Look into a model before anything loads it: nothing of it runs, and TensorFlow is not even imported.

    Takes any file (.keras, .h5, .npz, .onnx, .tflite, a checkpoint's .index), a SavedModel's folder or any other, or a model
    in the store, which is fetched and not loaded. Exits with 3 where something dangerous was found, else with 0.

    \b
    Examples:
      python -m flows inspect ~/Downloads/model.keras
      python -m flows inspect ./saved_model --json
      python -m flows inspect digits@latest
    """
    quiet(debug)
    inspection = _inspected(target)
    fields = {"files", "bytes", "seconds"}
    document: dict[str, Any] = {"target": target} | inspection.model_dump(mode="json", include=fields)
    document |= {"findings": [f.model_dump() for f in inspection.findings]}
    finish(document, as_json, None, lambda: _print(target, inspection))
    if inspection.refused:
        sys.exit(_REFUSED)


def _inspected(target: str) -> Inspection:
    from tasks.safety import inspect_bundle, inspect_path

    path = Path(target).expanduser()
    if path.exists():
        return inspect_path(path)
    if path.suffix or "/" in target.partition("@")[0]:
        raise NotFoundError(f"There is no file or folder {path}.")
    from tasks.storage import fetch, open_store, read_manifest, resolve

    store = open_store()
    manifest = read_manifest(store, *resolve(store, target))
    return inspect_bundle(fetch(store, manifest), manifest)


def _print(target: str, inspection: Inspection) -> None:
    from flows import show

    show.out.print(show.inspection(target, inspection))
