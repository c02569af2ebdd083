"""What the kernel said of each file when it was last hashed, so that an unchanged one need not be hashed again."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tasks.storage.manifest import FileEntry

_DATED = 1_000_000_000 * 10**9  # nanoseconds: 9 September 2001
_TRUSTED = 7 * 86_400.0  # seconds

Note = list[int | str]  # size, inode, modification time, change time, SHA-256


@dataclass(frozen=True, slots=True)
class Seen:
    """What the kernel said of files when they were hashed, and their digests; a week later it says nothing any more."""

    hashed: float
    files: dict[str, Note]

    @classmethod
    def read(cls, path: Path) -> Seen:
        """What was noted; nothing where that is too long ago, or can't be read."""
        try:
            document = json.loads(path.read_bytes())
            found = cls(float(document["hashed"]), dict(document["files"]))
        except (OSError, ValueError, KeyError, TypeError):
            return cls(0.0, {})
        return found if 0 <= time.time() - found.hashed < _TRUSTED else cls(0.0, {})

    def write(self, path: Path) -> None:
        """Note it, in one step."""
        # Without those that were written to since they were dated: they are hashed next time.
        files = {name: each for name, each in self.files.items() if each[2] == _DATED}
        with replacing(path) as new:
            new.write_text(json.dumps({"hashed": self.hashed, "files": files}))


def note(path: Path, entry: FileEntry) -> Note:
    """What is noted of a file that has an entry's digest."""
    # With the digest, for a store may come to name others for the version: then these are not the bytes that it names.
    return [*_facts(path), entry.sha256]


def _facts(path: Path) -> list[int]:
    facts = path.stat()
    return [facts.st_size, facts.st_ino, facts.st_mtime_ns, facts.st_ctime_ns]


def protect(path: Path) -> None:
    """Make a file read-only, and date it so that any write to it shows; before it is hashed, or where nobody else looks."""
    path.chmod(0o444)
    os.utime(path, ns=(_DATED, _DATED))


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new file that takes the old one's place in one step."""
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    yield new
    new.replace(path)
