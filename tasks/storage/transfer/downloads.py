"""Files from the store: in parts, side by side, one hash following each file's parts in their order as they come.

No byte is accepted that the manifest's SHA-256 does not cover. A file that does not have it is fetched once more, for bytes
can be damaged on the way; where it is wrong again, it is wrong in the store. What arrived before a failure is noted in a
journal, so that another attempt asks for the rest alone; kept parts are hashed again from the disk, with the new ones.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tasks.errors import InputError, NotFoundError, UnsafeError
from tasks.storage import layout
from tasks.storage.manifest import FileEntry
from tasks.storage.store import Store
from tasks.storage.transfer import wire
from tasks.storage.transfer.lanes import Lanes
from tasks.storage.transfer.progress import Moved, nobody

PART = 8 * 2**20


def download(
    store: Store,
    prefix: str,
    folder: Path,
    files: Sequence[FileEntry],
    moved: Moved = nobody,
    expect: Moved = nobody,
    journal: Path | None = None,
) -> None:
    """Bring a version's files into a folder, each held against the manifest.

    Args:
        store: Where from.
        prefix: Of the version; ends with a slash.
        folder: Where to; it is there.
        files: What to bring.
        moved: Called with the number of bytes, as they come.
        expect: Called with the number of bytes that are to come.
        journal: File that notes what arrived. With one that is there already, what it names is not asked for again.

    Raises:
        UnsafeError: A file's bytes are not those that were published, or it is gone.
        UnreachableError: The store failed, after retries.
        InputError: The folder can't be written.
    """
    with _disk_errors(folder), _Journal(journal) as notes:
        damaged = _attempt(store, prefix, folder, files, moved, expect, notes)
        # On the wire, on a disk that lost its last seconds, or in the store: only the store's is there again.
        notes.forget(damaged)
        for entry in _attempt(store, prefix, folder, damaged, moved, expect, notes):
            raise UnsafeError(
                f"{store.uri(layout.file(prefix, entry.path))} is not what was published: its SHA-256 is not the "
                f"{entry.sha256[:16]}… of its manifest, in two attempts. It was damaged or changed in the store; nothing "
                "was loaded."
            )


def _attempt(
    store: Store,
    prefix: str,
    folder: Path,
    files: Sequence[FileEntry],
    moved: Moved,
    expect: Moved,
    notes: _Journal,
) -> list[FileEntry]:
    """Bring all files; returns those that are not what they must be."""
    damaged: list[FileEntry] = []
    folders: set[Path] = set()
    with Lanes() as lanes:
        for entry in files:
            target = folder / entry.path
            if target.parent not in folders:
                target.parent.mkdir(parents=True, exist_ok=True)
                folders.add(target.parent)
            arriving = _Arriving(store, layout.file(prefix, entry.path), entry, target, notes)
            expect(sum(min(PART, entry.size - at) for at in arriving.missing))
            for at in arriving.missing or [0]:
                count = min(PART, entry.size - at)
                lanes.reserve(count)
                lanes.start(count, partial(arriving.bring, at, count, moved, damaged))
    return damaged


class _Arriving:
    """One file while it comes: where its parts go, and the hash that follows them."""

    def __init__(self, store: Store, key: str, entry: FileEntry, target: Path, notes: _Journal) -> None:
        self._store, self._key, self._entry, self._target, self._notes = store, key, entry, target, notes
        here = notes.parts_of(entry)
        if here and not (target.is_file() and target.stat().st_size == entry.size):
            here = set()
        self.missing = [at for at in range(0, max(entry.size, 1), PART) if at not in here]
        self._lock = threading.Lock()
        self._sha = hashlib.sha256()
        self._hashed = 0
        self._waiting = set(self.missing)
        self._hashing = self._finished = False
        self._descriptor: int | None = None

    def bring(self, at: int, count: int, moved: Moved, damaged: list[FileEntry]) -> None:
        """Ask for one part, put it in its place, and take the hash as far as it goes."""
        body = None
        if at in self._waiting:
            body = self._ask(at, count)
            self._write(at, body)
            self._notes.add(self._entry, at)
            if count:
                moved(count)
        if self._follow(at, body) and self._sha.hexdigest() != self._entry.sha256:
            damaged.append(self._entry)

    def _ask(self, at: int, count: int) -> memoryview:
        if count == 0:
            return memoryview(b"")
        uri = self._store.uri(self._key)
        try:
            body = memoryview(wire.get(self._store, self._key, at, count))
            if len(body) != count:  # not a connection that broke, which is an error: once more, then the store has no more
                body = memoryview(wire.get(self._store, self._key, at, count))
        except NotFoundError as error:
            raise UnsafeError(f"{uri} is missing or cut short, though its version was published whole.") from error
        if len(body) != count:
            raise UnsafeError(f"{uri} is shorter than what was published. It was damaged or changed in the store.")
        return body

    def _write(self, at: int, body: memoryview) -> None:
        descriptor = self._open()
        written = 0
        while written < len(body):
            written += os.pwrite(descriptor, body[written:], at + written)

    def _open(self) -> int:
        with self._lock:
            if self._descriptor is None:
                self._descriptor = os.open(self._target, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
                os.ftruncate(self._descriptor, self._entry.size)
            return self._descriptor

    def _close(self) -> None:
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def _follow(self, at: int, body: memoryview | None) -> bool:
        """Hash every part whose turn it is; True for whoever hashed the last one. One thread at a time, others go on."""
        with self._lock:
            self._waiting.discard(at)
            if self._hashing or self._finished:
                return False
            self._hashing = True
        while True:
            with self._lock:
                start = self._hashed
                self._finished = start >= self._entry.size
                if self._finished or start in self._waiting:
                    self._hashing = False
                    break
            if body is not None and start == at:
                self._sha.update(body)
            else:
                self._sha.update(os.pread(self._open(), min(PART, self._entry.size - start), start))
            self._hashed = min(start + PART, self._entry.size)
        if self._finished:
            self._close()
        return self._finished

    def __del__(self) -> None:
        self._close()


class _Journal:
    """Notes which parts of which files are on the disk; lines that were cut off by a crash count for nothing."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._found: set[tuple[str, int]] = set()
        self._descriptor: int | None = None

    def __enter__(self) -> _Journal:
        if self._path is not None:
            if self._path.exists():
                lines = self._path.read_text(errors="replace").split("\n")[:-1]
                words = (line.split(" ") for line in lines)
                self._found = {(w[0], int(w[1])) for w in words if len(w) == 2 and w[1].isdecimal()}  # noqa: PLR2004
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)

    def parts_of(self, entry: FileEntry) -> set[int]:
        """Where the parts start that arrived before."""
        if not self._found:
            return set()
        name = _name(entry)
        return {at for at in range(0, entry.size, PART) if (name, at) in self._found}

    def add(self, entry: FileEntry, at: int) -> None:
        """Note a part that is written."""
        if self._descriptor is not None:
            os.write(self._descriptor, f"{_name(entry)} {at}\n".encode())

    def forget(self, entries: Sequence[FileEntry]) -> None:
        """Take nothing of these files for granted."""
        names = {_name(entry) for entry in entries}
        self._found = {(name, at) for name, at in self._found if name not in names}


def _name(entry: FileEntry) -> str:
    return f"{hashlib.sha256(entry.path.encode()).hexdigest()[:16]}{entry.sha256}"


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"Can't write to {folder}: {error.strerror or error}.") from error
