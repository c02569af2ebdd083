"""Digests of files: SHA-256 for the manifest, MD5 to ask a store what it has already."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tasks.errors import InputError
from tasks.storage import layout
from tasks.storage.manifest import FileEntry

_UNFIT = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]")


def bundle_files(folder: Path) -> list[str]:
    """Paths of all files of a bundle, relative, in their order.

    Raises:
        InputError: A name that no manifest can hold.
    """
    names = sorted(_names_in(folder))
    for name in names:
        if _UNFIT.search(name) or name == layout.MANIFEST:
            raise InputError(
                f"The file name {name!r} of {folder} can't be stored: it is the manifest's own, or has control characters, "
                "a backslash or bytes that are no UTF-8. Rename the file."
            )
    return names


def _names_in(folder: Path | str, prefix: str = "") -> Iterator[str]:
    with os.scandir(folder) as found:
        for item in found:
            if item.is_dir(follow_symlinks=False):
                yield from _names_in(item.path, f"{prefix}{item.name}/")
            elif item.is_file():
                yield prefix + item.name


def file_entries(folder: Path) -> tuple[FileEntry, ...]:
    """Path, size and SHA-256 of every file of a bundle, in the order of their paths."""
    names = bundle_files(folder)
    with ThreadPoolExecutor(max_workers=2) as pool:
        digests = pool.map(lambda name: sha256_of(folder / name), names)
        return tuple(
            FileEntry(path=name, size=(folder / name).stat().st_size, sha256=digest)
            for name, digest in zip(names, digests, strict=True)
        )


def sha256_of(path: Path) -> str:
    """SHA-256 (hex) of a file; memory stays flat whatever its size."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def md5(body: bytes) -> str:
    """MD5 (hex): no proof against anybody, but what S3's ETags are made of."""
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


def md5_of_parts(digests: list[str]) -> str:
    """The ETag of an object that was written in parts with these MD5 digests."""
    return f"{md5(b''.join(map(bytes.fromhex, digests)))}-{len(digests)}"
