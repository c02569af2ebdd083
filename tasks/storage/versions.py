"""Versions: publish, resolve, read, fetch.

Publishing uploads every file first and writes the manifest last, with put-if-absent; that one small write is the commit.
Readers start from manifests alone, so a version whose publisher died is not there at all.
"""

from __future__ import annotations

import fcntl
import shutil
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ValidationError

from tasks.errors import ConflictError, InputError, NotFoundError, UnreachableError, UnsafeError
from tasks.storage import index, layout
from tasks.storage.aliases import resolve_alias
from tasks.storage.cache import blob_copied, cached
from tasks.storage.manifest import REMOVED, Manifest
from tasks.storage.store import Store
from tasks.storage.transfer import Moved, download, nobody, upload


class VersionRef(BaseModel):
    """A published version; what tasks and flows hand each other."""

    model_config = {"frozen": True}

    model: str
    version: str
    uri: str
    bytes: int
    format: str
    metrics: dict[str, float] = {}

    def __str__(self) -> str:
        return f"{self.model}@{self.version}"


def publish(store: Store, folder: Path, manifest: Manifest, moved: Moved = nobody, expect: Moved = nobody) -> VersionRef:
    """Upload a bundle and commit it.

    Guarantee: a reader sees the version whole after this returns, and not at all before; whatever dies in between. A second
    call with the same manifest sends only what is missing.

    Args:
        store: Where to.
        folder: The bundle.
        manifest: What it is; `manifest.files` are uploaded, or all files of the folder where it names none.
        moved: Called with the number of bytes, as they go.
        expect: Called with the number of bytes that are to go.

    Raises:
        ConflictError: The version exists already, from another writer; or nothing was heard of this publisher for so long
            that `gc` took it for dead.
        UnreachableError: The store failed, after retries; nothing is visible.
        InputError: A file is not what the manifest says.
    """
    return commit(store, upload_files(store, folder, manifest, moved, expect))


def upload_files(store: Store, folder: Path, manifest: Manifest, moved: Moved = nobody, expect: Moved = nobody) -> Manifest:
    """The first half of `publish`: what it uploads is invisible until `commit`. Returns the manifest with all files."""
    layout.model_name(manifest.model)
    prefix = layout.bundle(manifest.model, manifest.version)
    files = upload(store, folder, prefix, manifest.files or None, moved, expect)
    return manifest if manifest.files else manifest.model_copy(update={"files": files})


def commit(store: Store, manifest: Manifest) -> VersionRef:
    """The second half of `publish`: make a version visible whose files are all there."""
    _commit(store, manifest)
    with suppress(UnreachableError):  # it is committed, and lists find it without
        index.enter(store, manifest)
    return reference(store, manifest)


def reference(store: Store, manifest: Manifest) -> VersionRef:
    """The reference of a version."""
    return VersionRef(
        model=manifest.model,
        version=manifest.version,
        uri=store.uri(layout.bundle(manifest.model, manifest.version)).rstrip("/"),
        bytes=manifest.bytes,
        format=manifest.format,
        metrics=manifest.training.metrics,
    )


def resolve(store: Store, text: str) -> tuple[str, str]:
    """Model and version of `model`, `model@alias` or `model@version`; without an alias it is `latest`.

    Costs one list request and one read for an alias, nothing for a version.

    Raises:
        InputError: Not of that form.
        NotFoundError: No such model or alias.
    """
    model, _, which = text.partition("@")
    layout.model_name(model)
    which = which or layout.LATEST
    if layout.is_version(which):
        return model, which
    return model, resolve_alias(store, model, layout.model_name(which))


def read_manifest(store: Store, model: str, version: str) -> Manifest:
    """The manifest of a version.

    Raises:
        NotFoundError: There is no such version (or it was never committed).
        UnsafeError: The manifest is not one, or not this version's; or the version is none.
    """
    # It becomes the name of a folder in the cache, and may come from an alias or a folder that somebody else wrote.
    if not layout.is_version(version):
        raise UnsafeError(f"{version!r} of {model!r} in {store.url} is no version's id.")
    try:
        raw = store.get(layout.manifest(model, version))
    except NotFoundError:
        raise NotFoundError(f"There is no version {version} of {model!r} in {store.url}.") from None
    if raw == REMOVED:
        raise NotFoundError(f"{model}@{version} was removed from {store.url}.")
    try:
        manifest = Manifest.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UnsafeError(f"The manifest of {model}@{version} is not valid: {place}: {first['msg']}.") from None
    if (manifest.model, manifest.version) != (model, version):
        raise UnsafeError(
            f"The manifest of {model}@{version} says that it is {manifest.model}@{manifest.version}: it was copied there."
        )
    return manifest


def fetch(store: Store, manifest: Manifest, to: Path | None = None, moved: Moved = nobody, expect: Moved = nobody) -> Path:
    """Bring a version's files to this machine, each checked against the manifest.

    Without `to` they go to the user's cache, and a second fetch moves no bytes (`tasks.storage.cache`); what the cache has
    is not moved for a folder either. A fetch that the store cut short goes on where it ended when it is called again.

    Args:
        store: Where from.
        manifest: Of the version.
        to: A folder that does not exist yet or is empty.
        moved: Called with the number of bytes, as they come.
        expect: Called with the number of bytes that are to come.

    Returns:
        The folder with `model/`, `probe.npz` and `manifest.json`; it appears whole or not at all.

    Raises:
        UnsafeError: A file is not what was published.
        InputError: `to` is not empty or can't be written.
    """
    if to is None:
        return cached(store, manifest, moved, expect)
    to = to.expanduser().absolute()
    try:
        if to.exists() and (not to.is_dir() or any(to.iterdir())):
            raise InputError(f"{to} exists and is not an empty folder. Name another one for --to.")
        to.parent.mkdir(parents=True, exist_ok=True)
        _fill_folder(store, manifest, to, moved, expect)
    except OSError as error:
        raise InputError(f"Can't write to {to}: {error.strerror or error}.") from error
    return to


def list_versions(store: Store, model: str) -> list[str]:
    """Committed versions, the oldest first; two list requests a thousand.

    Raises:
        NotFoundError: There is no such model.
    """
    versions = [each.version for each in index.listed(store, model)]
    if not versions:
        raise index.no_such_model(store, model)
    return versions


def _commit(store: Store, manifest: Manifest) -> None:
    key = layout.manifest(manifest.model, manifest.version)
    try:
        store.put_if_absent(key, manifest.model_dump_json(indent=1).encode())
    except ConflictError:
        if store.get(key) != REMOVED:
            raise
        raise ConflictError(
            f"{manifest.model}@{manifest.version} was removed as a leftover while it was being published: the store had "
            "heard nothing of it for longer than `gc --leftovers-older-than` allows. Nothing is visible; publish again."
        ) from None


def _fill_folder(store: Store, manifest: Manifest, folder: Path, moved: Moved, expect: Moved) -> None:
    partial = folder.with_name(f".{folder.name}.{manifest.version}.partial")
    new = partial / "bundle"
    new.mkdir(parents=True, exist_ok=True)
    keep = False
    with (partial / "lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"Another process is bringing {manifest.model}@{manifest.version} to {folder}.") from None
        try:
            wanted = []
            for entry in manifest.files:
                (new / entry.path).parent.mkdir(parents=True, exist_ok=True)
                if not blob_copied(entry, new / entry.path):
                    wanted.append(entry)
            prefix = layout.bundle(manifest.model, manifest.version)
            download(store, prefix, new, wanted, moved, expect, journal=partial / "parts")
            (new / layout.MANIFEST).write_text(manifest.model_dump_json(indent=1))
            if folder.exists():
                folder.rmdir()  # checked to be empty
            new.rename(folder)
        except UnreachableError:
            keep = True  # the next attempt goes on from here
            raise
        finally:
            if not keep:
                shutil.rmtree(partial, ignore_errors=True)
