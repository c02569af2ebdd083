"""A file under inspection: bytes that are mapped, never read whole, and how much work may go into them."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from tasks.safety.findings import Finding, MalformedError

# Enough for the largest models (an EfficientNetV2L has 60,000 operations), and a second or two of work.
_RECORDS = 400_000
_STEPS = 5_000_000
# Memory that inspection may fill with what it has to unpack or parse.
UNPACKED = 192 * 2**20
TEXT = 16 * 2**20
# What may be declared beyond what is stored, before it is called a bomb: real files repeat themselves, but not so often.
_SPARE_BYTES = 64 * 2**20
_RATIO = 100


@dataclass(frozen=True, slots=True)
class File:
    """A file, or a part of one that is a file in itself (a member of an archive, a configuration in an attribute).

    Attributes:
        name: Where it is, for findings: `model/model.keras: config.json`.
        data: Its bytes.
        stored: Size on disk of the file that it is a part of, against which declared sizes are held.
        depth: How many files it is inside of.
        kind: What its container says that it is; None: see its name and content.
    """

    name: str
    data: memoryview
    stored: int
    depth: int = 0
    kind: str | None = None

    @property
    def short_name(self) -> str:
        """The last part of its path."""
        return PurePosixPath(self.name.rpartition(": ")[2]).name

    def part(self, name: str, data: memoryview | bytes, kind: str | None = None) -> File:
        """A file inside this one."""
        return File(f"{self.name}: {name}", memoryview(data), self.stored, self.depth + 1, kind)


class Budget:
    """How much may still be looked at; shared by all files of one inspection.

    Attributes:
        steps: Fields that may still be stepped over: much cheaper than a record, and so many more.
    """

    def __init__(self, records: int = _RECORDS, steps: int = _STEPS) -> None:
        self._records = records
        self.steps = steps

    def spend(self, records: int = 1) -> None:
        """Account for records: nodes, members, links, lists.

        Raises:
            MalformedError: There are more than any real model has.
        """
        self._records -= records
        if self._records < 0:
            raise self.exhausted()

    @staticmethod
    def exhausted() -> MalformedError:
        """What is raised where there is more than may be looked at."""
        return MalformedError("it has more parts than inspection looks at, and than any model that was ever seen")


@dataclass(frozen=True, slots=True)
class Context:
    """What inspectors know beside the file itself.

    Attributes:
        own_packages: Top-level packages of the definition that the model was built from: its classes are the user's own.
        sizes: Size in bytes of every file of the folder, by its path.
        budget: Shared by all files.
        untrusted: Why that definition is not trusted on this machine; empty where it is.
    """

    own_packages: frozenset[str] = frozenset()
    sizes: Mapping[str, int] = field(default_factory=dict)
    budget: Budget = field(default_factory=Budget)
    untrusted: str = ""

    def beside(self, file: File, name: str) -> str:
        """The path of a file's neighbour in its folder."""
        return str(PurePosixPath(file.name).parent / name)


# One for each type of file. What it yields as `File` is inspected in its turn.
Inspector = Callable[[File, Context], Iterator[Finding | File]]


def opened(path: Path, name: str) -> File:
    """Map a file into memory; its pages are read when they are looked at, which for weights is never."""
    size = path.stat().st_size
    if size == 0:
        return File(name, memoryview(b""), 0)
    with path.open("rb") as stream:
        return File(name, memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)), size)


def is_bomb(declared: int, stored: int) -> bool:
    """Whether a declared size is out of proportion to what is stored."""
    return declared > _SPARE_BYTES + _RATIO * stored


def leaves_its_folder(path: str) -> bool:
    """Whether a path is absolute, goes up, or is written so that systems disagree about it."""
    parts = path.replace("\\", "/").split("/")
    odd = "\\" in path or "\0" in path or (len(path) > 1 and path[1] == ":")
    return odd or path.startswith(("/", "~")) or "://" in path or ".." in parts
