"""The cache's bound: which versions go, and how one goes that nobody uses."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

from tasks.errors import InputError
from tasks.storage.cache.place import Place

SIZE_VARIABLE = "ROUNDTRIP_CACHE_SIZE"
_DEFAULT_SIZE = 20 * 10**9
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", re.IGNORECASE)


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


def evict(root: Path, limit: int) -> None:
    """Remove versions until the cache has no more than so many bytes, least recently used first; never one that is held."""
    size = _size(root)
    if size <= limit:
        return
    locks = sorted((root / "versions").glob("*/*.lock"), key=_last_use)
    for lock in locks:
        place = Place(root, lock.parent.name, lock.stem)
        if not _removed(place):
            continue
        size = _size(root)
        if size <= limit:
            return


def _removed(place: Place) -> bool:
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
