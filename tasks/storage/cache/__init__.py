"""The cache: versions that were fetched, each file kept once whatever number of versions has it.

```
<cache>/blobs/<ab>/<sha256>                 a file's bytes, under their digest
<cache>/versions/<model>/<version>/...      the version's folder; its files are hard links to blobs
<cache>/versions/<model>/<version>.lock     held shared by whoever uses the folder; its date is the last use
<cache>/versions/<model>/<version>.fill     held by the one who fills or heals the folder
<cache>/versions/<model>/<version>.seen     what the kernel said of each file when it was last hashed
<cache>/versions/<model>/.<version>.partial a fetch that is under way, or was cut off: the next one goes on with it
```

Guarantees. A version's folder appears whole. What `cached` returns has the digests of the manifest, and stays until this
process ends or lets go (`release`): eviction takes a version only under an exclusive lock, least recently used first. A file
that was changed, cut or removed is noticed and fetched again, alone.

Is it hashed each time? No: at a gigabyte a second, the second return of a large model would cost as much as the first. A
file is taken for the one that was hashed if size, inode, modification time and change time are. Cached files are read-only
and dated to 2001, so any later write shows, however soon after; and no program can set a change time. What neither shows is
a disk that rots, so everything is hashed again a week after it was hashed last; and the proof compares every weight with its
own digest in the manifest, each time.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import IO

from tasks.errors import InputError, UnreachableError
from tasks.folders import cache_folder
from tasks.storage import layout
from tasks.storage.cache.eviction import evict, size_limit
from tasks.storage.cache.place import Place
from tasks.storage.cache.seen import Note, Seen, note, protect, replacing
from tasks.storage.manifest import FileEntry, Manifest
from tasks.storage.store import Store
from tasks.storage.transfer.downloads import download
from tasks.storage.transfer.hashing import sha256_of
from tasks.storage.transfer.progress import Moved, nobody

_elsewhere: ContextVar[Path | None] = ContextVar("elsewhere", default=None)
_held: dict[Path, IO[bytes]] = {}  # versions that this process uses, with their locks


def cached(store: Store, manifest: Manifest, moved: Moved = nobody, expect: Moved = nobody) -> Path:
    """A version's folder in the cache, whole; fetched where it is not, healed where it is damaged.

    Args:
        store: Where from.
        manifest: Of the version.
        moved: Called with the number of bytes, as they come.
        expect: Called with the number of bytes that are to come.

    Returns:
        The folder. Read it, do not write to it. It stays until this process ends or `release`s it.

    Raises:
        UnsafeError: A file is not what was published.
        UnreachableError: The store failed, after retries; what arrived waits for another attempt.
        InputError: The cache can't be written.
    """
    limit = size_limit()
    place = Place(_root(), manifest.model, manifest.version)
    held_before = place.folder in _held
    try:
        place.folder.parent.mkdir(parents=True, exist_ok=True)
        _hold(place)
        with _locked(place.fill):
            lacking = _lacking(place, manifest)
            if lacking or not place.folder.exists():
                _fill(store, place, manifest, lacking, moved, expect)
            else:
                _state(place.folder / layout.MANIFEST, manifest)
        if lacking:
            evict(place.root, limit)
    except BaseException as error:
        if not held_before:
            release(place.folder)
        if not isinstance(error, OSError):
            raise
        raise InputError(f"Can't write to the cache {place.root}: {error.strerror or error}. Set XDG_CACHE_HOME.") from error
    return place.folder


def release(folder: Path) -> None:
    """Let go of a folder that `cached` returned: it may be evicted from now on."""
    lock = _held.pop(folder, None)
    if lock is not None:
        lock.close()


@contextmanager
def empty_cache() -> Iterator[None]:
    """In this block every byte comes from the store: the cache is another one, empty at first and gone afterwards.

    For who wants to know what is in the store, not what it is for whoever has it already.
    """
    with tempfile.TemporaryDirectory(prefix="roundtrip-cache-", ignore_cleanup_errors=True) as folder:
        token = _elsewhere.set(Path(folder))
        try:
            yield
        finally:
            _elsewhere.reset(token)
            for held in [each for each in _held if each.is_relative_to(folder)]:
                release(held)


def _root() -> Path:
    return _elsewhere.get() or cache_folder()


def blob_copied(entry: FileEntry, target: Path) -> bool:
    """Copy a file that the cache has to a place of its own, and hash the copy; False where there is none that is right."""
    try:
        shutil.copyfile(_blob(_root(), entry), target)
    except OSError:
        return False
    return target.stat().st_size == entry.size and sha256_of(target) == entry.sha256


def _blob(root: Path, entry: FileEntry) -> Path:
    return root / "blobs" / entry.sha256[:2] / entry.sha256


# What is there


def _lacking(place: Place, manifest: Manifest) -> list[FileEntry]:
    """Files that are not there or not right. What was hashed and found right is noted, and what is not declared removed."""
    there = _tidied(place, manifest)
    seen = Seen.read(place.seen)
    right: dict[str, Note] = {}
    for entry in manifest.files:
        path = there.get(entry.path)
        if path is None or path.stat().st_size != entry.size:
            continue
        now = note(path, entry)
        if seen.files.get(entry.path) == now:
            right[entry.path] = now
            continue
        protect(path)
        if sha256_of(path) == entry.sha256:
            right[entry.path] = note(path, entry)
    if right != seen.files:
        Seen(seen.hashed or time.time(), right).write(place.seen)
    return [entry for entry in manifest.files if entry.path not in right]


def _tidied(place: Place, manifest: Manifest) -> dict[str, Path]:
    """The plain files of the folder that the manifest names; others, and links, are removed."""
    declared = {entry.path for entry in manifest.files} | {layout.MANIFEST}
    found = {}
    if place.folder.is_symlink():
        place.folder.unlink()
    for base, folders, files in os.walk(place.folder):
        for name in [*folders, *files]:
            path = Path(base) / name
            relative = path.relative_to(place.folder).as_posix()
            if path.is_symlink() or (name in files and (relative not in declared or not path.is_file())):
                path.unlink()
            elif name in files:
                found[relative] = path
    return found


# Filling


def _fill(store: Store, place: Place, manifest: Manifest, lacking: Sequence[FileEntry], moved: Moved, expect: Moved) -> None:
    """Bring what is lacking, keep it under its digest, and put it into the version's folder."""
    new = place.partial / "bundle"
    new.mkdir(parents=True, exist_ok=True)
    done = False
    try:
        wanted = [entry for entry in lacking if not _link_blob(place.root, entry, new / entry.path)]
        for entry in wanted:
            _writable(new / entry.path)
        prefix = layout.bundle(manifest.model, manifest.version)
        download(store, prefix, new, wanted, moved, expect, journal=place.partial / "parts")
        for entry in wanted:
            _keep(place.root, entry, new / entry.path)
        _state(new / layout.MANIFEST, manifest)
        if place.folder.exists():
            for path in [*(entry.path for entry in lacking), layout.MANIFEST]:
                _replace(new / path, place.folder / path)
        else:
            new.rename(place.folder)
        done = True
    except BaseException as error:
        # Else another attempt goes on where this one ended.
        done = not isinstance(error, UnreachableError | KeyboardInterrupt)
        raise
    finally:
        if done:
            shutil.rmtree(place.partial, ignore_errors=True)
    # Right as of now, by the hashes of the download and of the blobs.
    lacking_paths = {entry.path for entry in lacking}
    seen = Seen.read(place.seen)
    files = {e.path: note(place.folder / e.path, e) for e in manifest.files if e.path in lacking_paths}
    Seen(seen.hashed or time.time(), seen.files | files).write(place.seen)


def _state(path: Path, manifest: Manifest) -> None:
    """Have a file say what the manifest does; it is left alone where it does so already."""
    content = manifest.model_dump_json(indent=1).encode()
    if not path.is_file() or path.read_bytes() != content:
        with replacing(path) as new:
            new.write_bytes(content)


def _link_blob(root: Path, entry: FileEntry, target: Path) -> bool:
    """Put a file that the cache has into its place, where it is right; hashed, for it may have changed since."""
    blob = _blob(root, entry)
    try:
        protect(blob)
        if sha256_of(blob) != entry.sha256:
            blob.unlink()
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        os.link(blob, target)
    except OSError:  # there is none, it was evicted just now, or this file system has no links
        return False
    return True


def _keep(root: Path, entry: FileEntry, path: Path) -> None:
    """Keep a file that was just hashed under its digest, for other versions that have it."""
    protect(path)
    blob = _blob(root, entry)
    blob.parent.mkdir(parents=True, exist_ok=True)
    with suppress(OSError):  # a file system without links keeps it in the version alone; or somebody else was first
        os.link(path, blob)


def _writable(path: Path) -> None:
    """Remove a file that an attempt before finished and linked, where its blob is not right any more."""
    if path.exists() and not path.stat().st_mode & 0o200:
        path.unlink()


def _replace(new: Path, old: Path) -> None:
    if old.is_dir():
        shutil.rmtree(old)
    old.parent.mkdir(parents=True, exist_ok=True)
    new.replace(old)


# Locks


def _hold(place: Place) -> None:
    """Keep the version from being evicted, until `release` or the end of this process; and date its use."""
    if place.folder not in _held:
        while True:
            file = place.lock.open("ab")
            fcntl.flock(file, fcntl.LOCK_SH)
            if place.lock.exists() and place.lock.stat().st_ino == os.fstat(file.fileno()).st_ino:
                break
            file.close()  # it was evicted while we waited
        _held[place.folder] = file
    os.utime(place.lock)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
