"""Versions: publish, resolve, read, fetch.

Publishing uploads every file first and writes the manifest last, with put-if-absent; that one small write is the commit.
Readers start from manifests alone, so a version whose publisher died is not there at all.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import BaseModel, ValidationError

from tasks.errors import ConflictError, InputError, NotFoundError, UnreachableError, UnsafeError
from tasks.folders import cache_folder
from tasks.storage import index, layout
from tasks.storage.aliases import resolve_alias
from tasks.storage.manifest import REMOVED, Manifest
from tasks.storage.store import Store
from tasks.storage.transfer import Moved, download, nobody, sha256_of, upload

_SPARE_FILES = {layout.MANIFEST}


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


def publish(
    store: Store, folder: Path, manifest: Manifest, moved: Moved = nobody, approve: Callable[[], None] = lambda: None
) -> VersionRef:
    """Upload a bundle and commit it.

    Guarantee: a reader sees the version whole after this returns, and not at all before; whatever dies in between.

    Args:
        store: Where to.
        folder: The bundle.
        manifest: What it is; `manifest.files` are uploaded.
        moved: Called with the number of bytes, as they go.
        approve: Called when everything is uploaded and nothing is visible; what it raises leaves it so.

    Raises:
        ConflictError: The version exists already, from another writer; or nothing was heard of this publisher for so long
            that `gc` took it for dead.
        UnreachableError: The store failed, after retries; nothing is visible.
    """
    layout.model_name(manifest.model)
    prefix = layout.bundle(manifest.model, manifest.version)
    upload(store, folder, prefix, manifest.files, moved)
    approve()
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


def fetch(store: Store, manifest: Manifest, to: Path | None = None, moved: Moved = nobody) -> Path:
    """Bring a version's files to this machine, each checked against the manifest.

    Without `to` they go to the user's cache, and a second fetch moves no bytes; the cached files are hashed again.

    Args:
        store: Where from.
        manifest: Of the version.
        to: A folder that does not exist yet or is empty.
        moved: Called with the number of bytes, as they come.

    Returns:
        The folder with `model/`, `probe.npz` and `manifest.json`; it appears whole or not at all.

    Raises:
        UnsafeError: A file is not what was published.
        InputError: `to` is not empty or can't be written.
    """
    if to is not None:
        to = to.expanduser().absolute()
        try:
            if to.exists() and (not to.is_dir() or any(to.iterdir())):
                raise InputError(f"{to} exists and is not an empty folder. Name another one for --to.")
            to.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"Can't write to {to}: {error.strerror}.") from error
        _download_whole(store, manifest, to, moved)
        return to
    folder = cache_folder() / "versions" / manifest.model / manifest.version
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"Can't write to the cache {folder.parent}: {error.strerror}.") from error
    with _exclusive(folder.with_suffix(".lock")):
        if not _is_whole(folder, manifest):
            shutil.rmtree(folder, ignore_errors=True)
            _download_whole(store, manifest, folder, moved)
    return folder


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


def _download_whole(store: Store, manifest: Manifest, folder: Path, moved: Moved) -> None:
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        partial.mkdir()
        download(store, layout.bundle(manifest.model, manifest.version), partial, manifest.files, moved)
        (partial / layout.MANIFEST).write_text(manifest.model_dump_json(indent=1))
        if folder.exists():
            folder.rmdir()  # checked to be empty
        partial.rename(folder)
    except OSError as error:
        raise InputError(f"Can't write to {folder}: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _is_whole(folder: Path, manifest: Manifest) -> bool:
    declared = {f.path: f for f in manifest.files}
    found = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if not p.is_dir()}
    if found.keys() - _SPARE_FILES != declared.keys():
        return False
    return all(
        not path.is_symlink() and path.stat().st_size == declared[name].size and sha256_of(path) == declared[name].sha256
        for name, path in found.items()
        if name in declared
    )


@contextmanager
def _exclusive(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
