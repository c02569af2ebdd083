"""Retention: which versions stay. Small values with one method each, that know no store.

A policy names the versions that it keeps and says why. What no policy keeps is removed; with no policy at all, nothing is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Protocol

from pydantic import BaseModel, BeforeValidator, Field

from tasks.errors import InputError

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_AGE = re.compile(r"(\d{1,6})\s*([smhdw])")


@dataclass(frozen=True, slots=True)
class Known:
    """A committed version as policies see it: its id, and when the server got its manifest."""

    version: str
    committed: datetime


class Policy(Protocol):
    """Something that keeps versions."""

    def keeps(self, versions: Sequence[Known], now: datetime) -> dict[str, str]:
        """The versions that it keeps, each with the reason. `versions` are one model's, the oldest first."""
        ...


@dataclass(frozen=True, slots=True)
class KeepLast:
    """The newest versions, as their ids sort."""

    count: int

    def keeps(self, versions: Sequence[Known], now: datetime) -> dict[str, str]:
        """The last `count`."""
        del now
        return {known.version: f"one of the last {self.count}" for known in versions[max(0, len(versions) - self.count) :]}


@dataclass(frozen=True, slots=True)
class KeepYoungerThan:
    """Versions that were committed less than so long ago, by the server's clock."""

    age: timedelta

    def keeps(self, versions: Sequence[Known], now: datetime) -> dict[str, str]:
        """Those that are younger."""
        reason = f"younger than {age_text(self.age)}"
        return {known.version: reason for known in versions if now - known.committed < self.age}


@dataclass(frozen=True, slots=True)
class KeepAliased:
    """Versions that an alias points at."""

    aliases: Mapping[str, str]

    def keeps(self, versions: Sequence[Known], now: datetime) -> dict[str, str]:
        """Those that have an alias."""
        del now
        there = {known.version for known in versions}
        return {version: "has an alias" for version in self.aliases.values() if version in there}


def split(versions: Sequence[Known], policies: Sequence[Policy], now: datetime) -> tuple[dict[str, str], list[Known]]:
    """What the policies keep, with the first reason each, and what none of them does."""
    if not policies:
        return {known.version: "nothing says that it may go" for known in versions}, []
    kept: dict[str, str] = {}
    for policy in policies:
        kept = policy.keeps(versions, now) | kept
    return kept, [known for known in versions if known.version not in kept]


def parse_age(text: str) -> timedelta:
    """An age from `90s`, `45m`, `12h`, `30d` or `4w`.

    Raises:
        InputError: It is not of that form.
    """
    match = _AGE.fullmatch(text.strip())
    if not match:
        raise InputError(f"{text!r} is not an age. Write a number and s, m, h, d or w: 12h, 30d.")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def age_text(age: timedelta) -> str:
    """An age as people write it, in its largest whole unit."""
    seconds = int(age.total_seconds())
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def rounded(age: timedelta) -> timedelta:
    """To whole days, hours, minutes: what people want to know of an age."""
    for unit in (timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)):
        if age >= unit:
            return unit * (age // unit)
    return timedelta(seconds=max(0, int(age.total_seconds())))


def _from_text(value: Any) -> Any:
    return parse_age(value) if isinstance(value, str) and _AGE.fullmatch(value.strip()) else value


Age = Annotated[timedelta, BeforeValidator(_from_text)]


class Retention(BaseModel):
    """What garbage collection may take. Whatever is said here, a version that an alias points at stays."""

    model_config = {"frozen": True}

    keep_last: int | None = Field(
        default=None, ge=0, title="Keep last", description="Of each model, this many of its newest versions stay."
    )
    keep_younger_than: Age | None = Field(
        default=None, title="Keep younger than", description="Versions younger than this stay: 12h, 30d, 4w."
    )
    leftovers_older_than: Age = Field(
        default=timedelta(days=1),
        title="Leftovers older than",
        description="What a publisher left goes when the store has heard nothing of it for so long.",
    )

    checkpoints_older_than: Age = Field(
        default=timedelta(days=7),
        title="Checkpoints older than",
        description="Checkpoints of a training that was killed go when nobody resumed it for so long.",
    )

    def policies(self, aliases: Mapping[str, str]) -> list[Policy]:
        """The policies for one model; none where no version is to go."""
        chosen: list[Policy] = []
        if self.keep_last is not None:
            chosen.append(KeepLast(self.keep_last))
        if self.keep_younger_than is not None:
            chosen.append(KeepYoungerThan(self.keep_younger_than))
        return [KeepAliased(aliases), *chosen] if chosen else []
