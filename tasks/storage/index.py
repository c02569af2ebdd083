"""The index: one small key a version in one flat folder, so that lists need neither every file's key nor any manifest.

Guarantee: what is listed can be seen, and what can be seen is listed, whatever the index lacks. The manifest stays the
truth: a publisher adds its key after the commit and may die before; a version that is in no key of the index is looked up
by its manifest. A removal marks its version here before it touches the manifest, and the mark outweighs any other key.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from pydantic import ValidationError

from tasks.errors import NotFoundError
from tasks.storage import layout
from tasks.storage.holds import is_committed
from tasks.storage.manifest import Manifest
from tasks.storage.store import Store

_UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Listed:
    """A version that can be seen, as lists show it: its format, and the bytes of its files."""

    version: str
    format: str
    size: int


def enter(store: Store, manifest: Manifest) -> None:
    """Add a committed version; again is no error."""
    store.put(layout.indexed(manifest.model, manifest.version, manifest.format, manifest.bytes), b"")


def enter_removed(store: Store, model: str, version: str) -> None:
    """Mark a version as removed, for ever."""
    store.put(layout.indexed_as_removed(model, version), b"")


def listed(store: Store, model: str) -> list[Listed]:
    """A model's versions, the oldest first; two list requests a thousand, and two for each that the index lacks."""
    return complete(store, model, store.keys(layout.index(model)), store.folders(layout.versions(model)))


def complete(store: Store, model: str, keys: list[str], names: Iterable[str]) -> list[Listed]:
    """As `listed`, from the index' keys and the names of the versions' folders, which were read already."""
    known, found = _read(keys)
    folders = {name for name in names if layout.is_version(name)}
    more = [_from_manifest(store, model, version) for version in folders - known if is_committed(store, model, version)]
    # A folder that somebody deleted by hand is still in the index.
    return sorted([*(each for each in found if each.version in folders), *more], key=lambda each: each.version)


def newest(store: Store, model: str, count: int) -> list[str]:
    """The newest versions that can be seen, the newest first."""
    known, found = _read(store.keys(layout.index(model)))
    there = {each.version for each in found}

    def seen() -> Iterator[str]:
        for name in sorted(store.folders(layout.versions(model)), reverse=True):
            if name in there or (name not in known and layout.is_version(name) and is_committed(store, model, name)):
                yield name

    return list(islice(seen(), count))


def no_such_model(store: Store, model: str) -> NotFoundError:
    """The error for a model without a version."""
    there = store.folders("")
    near = [name for name in there if name.startswith(f"{model}-")] or difflib.get_close_matches(model, there, n=3)
    meant = f" Did you mean {', '.join(near[:3])}?" if near else ""
    return NotFoundError(f"There is no model {model!r} in {store.url}.{meant} `python -m flows list` shows what there is.")


def _read(keys: list[str]) -> tuple[set[str], list[Listed]]:
    """All versions that the index knows, and those of them that can be seen."""
    entries = [entry for entry in (layout.read_index(key.rpartition("/")[2]) for key in keys) if entry]
    removed = {version for version, form, _ in entries if not form}
    return {version for version, _, _ in entries}, [Listed(*entry) for entry in entries if entry[0] not in removed]


def _from_manifest(store: Store, model: str, version: str) -> Listed:
    try:
        manifest = Manifest.model_validate_json(store.get(layout.manifest(model, version)))
    except ValidationError:
        return Listed(version, _UNKNOWN, 0)  # it is there, and whoever opens it is told what is wrong with it
    return Listed(version, manifest.format, manifest.bytes)
