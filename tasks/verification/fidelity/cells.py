"""The records of the table: what is measured, within which limits, and what came of it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from tasks.definitions.families import Family
from tasks.serialization import PROMISES, Promise, format_named
from tasks.storage import Environment

Status = Literal["kept", "lost", "refused", "crashed"]

_TERMINAL_CODE = re.compile(r"\x1b\[[0-9;]*m")
# How the lines begin that lead to what TensorFlow has to say, or follow it.
_NOT_TELLING = (
    "File ",
    "Detected at node",
    "Graph execution error",
    "Exception encountered",
    "[[",
    "in user code",
    "Stack trace",
)

# What the bundle carries beside any format, and what it adds where a Keras model comes back.
_BESIDE: frozenset[Promise] = frozenset({"history", "versions"})
_TRAINABLE: frozenset[Promise] = frozenset({"weights", "state", "optimizer", "compile", "policy", "outputs", "resume"})


class Subject(BaseModel):
    """A definition to measure: what it is, what it learns from, and how long."""

    model_config = {"frozen": True}

    name: str = Field(min_length=1, description="What the table calls it.")
    builder: str = Field(min_length=3, description="Reference of a callable that returns a Keras model.")
    arguments: dict[str, Any] = Field(default_factory=dict, description="Arguments of the builder.")
    data: str = Field(min_length=1, description="`generated`, a `.npz` file, or a reference.")
    epochs: int = Field(default=2, ge=1, le=1000, description="Epochs before the model is saved.")
    more_epochs: int = Field(default=2, ge=1, le=1000, description="Epochs after it came back.")
    batch_size: int = Field(default=32, ge=1, description="Examples a step.")
    seed: int = Field(default=0, ge=0, lt=2**32, description="Seed of weights and order.")

    @classmethod
    def of(cls, family: Family) -> Subject:
        """A built-in definition."""
        return cls(name=family.name, builder=family.builder, data=family.data, batch_size=family.batch_size)


class Limits(BaseModel):
    """What one piece of work may take before it is ended; that it was is then the cell's result."""

    model_config = {"frozen": True}

    seconds: float = Field(default=300.0, gt=0, description="Of one step of a cell: training, one save, one measurement.")
    bytes: int = Field(default=0, ge=0, description="Memory of one process; 0: its share of the machine's.")

    @classmethod
    def shared_by(cls, workers: int, seconds: float, gigabytes: float | None) -> Limits:
        """Limits where so many work side by side."""
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return cls(seconds=seconds, bytes=int((gigabytes or 0) * 1e9) or physical * 8 // 10 // max(1, workers))


class Cell(BaseModel):
    """One definition in one format.

    Attributes:
        definition: Its name.
        format: Its name.
        kept: Every promise was kept: the format's own, and those that the bundle makes for it.
        status: `refused` where the format can't hold the model and said so; `crashed` where a process died or took too long.
        survives: Promise by promise with Roundtrip; None where the model has nothing of the kind or it can't be measured.
        alone: The same of the format's own files and loader, with nothing of ours beside them.
        why: One line on what was not kept.
        alone_why: One line on what the format alone loses.
        seconds: Wall seconds of saving and measuring.
    """

    model_config = {"frozen": True}

    definition: str
    format: str
    kept: bool
    status: Status
    survives: dict[str, bool | None] = {}
    alone: dict[str, bool | None] = {}
    why: str | None = None
    alone_why: str | None = None
    seconds: float = 0.0


class Table(BaseModel):
    """All cells, with where and when they were measured."""

    model_config = {"frozen": True}

    id: str
    at: datetime
    environment: Environment
    cells: list[Cell]
    seconds: float
    workers: int

    @property
    def definitions(self) -> list[str]:
        """Names in their order."""
        return list(dict.fromkeys(c.definition for c in self.cells))

    @property
    def formats(self) -> list[str]:
        """Names in their order."""
        return list(dict.fromkeys(c.format for c in self.cells))

    @property
    def kept(self) -> int:
        """How many cells keep every promise."""
        return sum(c.kept for c in self.cells)

    def of_format(self, name: str) -> list[Cell]:
        """A column."""
        return [c for c in self.cells if c.format == name]

    def cell(self, definition: str, format_name: str) -> Cell:
        """One cell."""
        return next(c for c in self.cells if (c.definition, c.format) == (definition, format_name))


def expected(format_name: str) -> frozenset[Promise]:
    """What must survive in a format with Roundtrip."""
    format_ = format_named(format_name)
    return format_.promises | _BESIDE | (_TRAINABLE if format_.trainable else frozenset())


def failed(subject: Subject, format_name: str, status: Status, why: str, seconds: float = 0.0) -> Cell:
    """A cell of which nothing could be measured."""
    return Cell(definition=subject.name, format=format_name, kept=False, status=status, why=one_line(why), seconds=seconds)


def every_promise(survived: dict[str, bool]) -> dict[str, bool | None]:
    """All promises in their order; None for those that nothing is known of."""
    return {p: survived.get(p) for p in PROMISES}


def count(survived: dict[str, bool | None]) -> tuple[int, int]:
    """How many promises were kept, of how many that could be."""
    known = [value for value in survived.values() if value is not None]
    return sum(known), len(known)


def one_line(text: str, limit: int = 200) -> str:
    """The text without line breaks, at most so long."""
    line = " ".join(_TERMINAL_CODE.sub("", text).split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def gist(error: BaseException) -> str:
    """The line that tells what happened, of an error of TensorFlow's or Keras' that has many."""
    text = _TERMINAL_CODE.sub("", str(error))
    lines = [line.strip() for line in text.splitlines()]
    telling = [line for line in lines if line and not line.startswith(_NOT_TELLING)]
    return f"{type(error).__name__}: {(telling or lines or [''])[0]}"


def first_lines(lines: Iterable[str], most: int = 3) -> str:
    """The first few of several findings, joined, with the number of those left out."""
    shown = list(lines)
    more = f"; and {len(shown) - most} more" if len(shown) > most else ""
    return "; ".join(shown[:most]) + more
