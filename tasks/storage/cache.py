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
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tasks.errors import InputError, UnreachableError
from tasks.folders import cache_folder
from tasks.storage import layout
from tasks.storage.manifest import FileEntry, Manifest
from tasks.storage.store import Store
from tasks.storage.transfer.downloads import download
from tasks.storage.transfer.hashing import sha256_of
from tasks.storage.transfer.progress import Moved, nobody

SIZE_VARIABLE = "ROUNDTRIP_CACHE_SIZE"
_DEFAULT_SIZE = 20 * 10**9
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", re.IGNORECASE)
_DATED = 1_000_000_000 * 10**9  # nanoseconds: 9 September 2001
_TRUSTED = 7 * 86_400.0  # seconds

_Note = list[int | str]  # size, inode, modification time, change time, SHA-256

_elsewhere: ContextVar[Path | None] = ContextVar("elsewhere", default=None)
_held: dict[Path, IO[bytes]] = {}  # versions that this process uses, with their locks


@dataclass(frozen=True, slots=True)
class _Place:
    """Where one version is in the cache."""

    root: Path
    model: str
    version: str

    @property
    def folder(self) -> Path:
        return self.root / "versions" / self.model / self.version

    @property
    def lock(self) -> Path:
        return self.folder.with_name(f"{self.version}.lock")

    @property
    def fill(self) -> Path:
        return self.folder.with_name(f"{self.version}.fill")

    @property
    def seen(self) -> Path:
        return self.folder.with_name(f"{self.version}.seen")

    @property
    def partial(self) -> Path:
        return self.folder.with_name(f".{self.version}.partial")


def size_limit() -> int:
    """Bytes that the cache may have: `ROUNDTRIP_CACHE_SIZE`, such as `500MB` or `20 GB`, which is the default.

    Raises:
        InputError: It is no size.
    """
    text = os.environ.get(SIZE_VARIABLE, "").strip()
    if not text:
        return _DEFAULT_SIZE
    match = _SIZE.fullmatch(text)
    if not match:
        raise InputError(f"{SIZE_VARIABLE}={text!r} is no size. Write a number of bytes, or 500MB, 20GB, 1TB.")
    return int(float(match[1]) * _UNITS[match[2].upper()])


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
    place = _Place(_root(), manifest.model, manifest.version)
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


def _lacking(place: _Place, manifest: Manifest) -> list[FileEntry]:
    """Files that are not there or not right. What was hashed and found right is noted, and what is not declared removed."""
    there = _tidied(place, manifest)
    seen = _Seen.read(place.seen)
    right: dict[str, _Note] = {}
    for entry in manifest.files:
        path = there.get(entry.path)
        if path is None or path.stat().st_size != entry.size:
            continue
        note = _note(path, entry)
        if seen.files.get(entry.path) == note:
            right[entry.path] = note
            continue
        _protect(path)
        if sha256_of(path) == entry.sha256:
            right[entry.path] = _note(path, entry)
    if right != seen.files:
        _Seen(seen.hashed or time.time(), right).write(place.seen)
    return [entry for entry in manifest.files if entry.path not in right]


def _tidied(place: _Place, manifest: Manifest) -> dict[str, Path]:
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


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the kernel said of files when they were hashed, and their digests; a week later it says nothing any more."""

    hashed: float
    files: dict[str, _Note]

    @classmethod
    def read(cls, path: Path) -> _Seen:
        try:
            document = json.loads(path.read_bytes())
            found = cls(float(document["hashed"]), dict(document["files"]))
        except (OSError, ValueError, KeyError, TypeError):
            return cls(0.0, {})
        return found if 0 <= time.time() - found.hashed < _TRUSTED else cls(0.0, {})

    def write(self, path: Path) -> None:
        # Without those that were written to since they were dated: they are hashed next time.
        files = {name: note for name, note in self.files.items() if note[2] == _DATED}
        with _replacing(path) as new:
            new.write_text(json.dumps({"hashed": self.hashed, "files": files}))


def _note(path: Path, entry: FileEntry) -> _Note:
    # With the digest, for a store may come to name others for the version: then these are not the bytes that it names.
    return [*_facts(path), entry.sha256]


def _facts(path: Path) -> list[int]:
    facts = path.stat()
    return [facts.st_size, facts.st_ino, facts.st_mtime_ns, facts.st_ctime_ns]


def _protect(path: Path) -> None:
    """Make a file read-only, and date it so that any write to it shows; before it is hashed, or where nobody else looks."""
    path.chmod(0o444)
    os.utime(path, ns=(_DATED, _DATED))


# Filling


def _fill(
    store: Store, place: _Place, manifest: Manifest, lacking: Sequence[FileEntry], moved: Moved, expect: Moved
) -> None:
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
    seen = _Seen.read(place.seen)
    files = {e.path: _note(place.folder / e.path, e) for e in manifest.files if e.path in lacking_paths}
    _Seen(seen.hashed or time.time(), seen.files | files).write(place.seen)


def _state(path: Path, manifest: Manifest) -> None:
    """Have a file say what the manifest does; it is left alone where it does so already."""
    content = manifest.model_dump_json(indent=1).encode()
    if not path.is_file() or path.read_bytes() != content:
        with _replacing(path) as new:
            new.write_bytes(content)


def _link_blob(root: Path, entry: FileEntry, target: Path) -> bool:
    """Put a file that the cache has into its place, where it is right; hashed, for it may have changed since."""
    blob = _blob(root, entry)
    try:
        _protect(blob)
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
    _protect(path)
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


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A new file that takes the old one's place in one step."""
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    yield new
    new.replace(path)


# Locks


def _hold(place: _Place) -> None:
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


# Eviction


def evict(root: Path, limit: int) -> None:
    """Remove versions until the cache has no more than so many bytes, least recently used first; never one that is held."""
    size = _size(root)
    if size <= limit:
        return
    locks = sorted((root / "versions").glob("*/*.lock"), key=_last_use)
    for lock in locks:
        place = _Place(root, lock.parent.name, lock.stem)
        if not _removed(place):
            continue
        size = _size(root)
        if size <= limit:
            return


def _removed(place: _Place) -> bool:
    """Remove a version that nobody uses, and the blobs that no other has."""
    try:
        file = place.lock.open("rb")
    except FileNotFoundError:
        return False
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        shutil.rmtree(place.folder, ignore_errors=True)
        shutil.rmtree(place.partial, ignore_errors=True)
        place.seen.unlink(missing_ok=True)
        place.fill.unlink(missing_ok=True)
        place.lock.unlink(missing_ok=True)
    for blob in (place.root / "blobs").glob("*/*"):
        with suppress(FileNotFoundError):
            if blob.stat().st_nlink == 1:
                blob.unlink()
    return True


def _size(root: Path) -> int:
    """Bytes of all files, those with several links once."""
    sizes = {}
    for base, _, files in os.walk(root):
        for name in files:
            with suppress(FileNotFoundError):
                facts = (Path(base) / name).lstat()
                sizes[facts.st_ino] = facts.st_size
    return sum(sizes.values())


def _last_use(lock: Path) -> float:
    try:
        return lock.stat().st_mtime
    except FileNotFoundError:
        return 0.0
