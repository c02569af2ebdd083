"""What became of runs that were going on when something was killed, and the table of that."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any

from tests.benchmarks.harness import bar
from tests.e2e.production import ENDED

_RUNS = 50  # that the issue asks for, at the least


@dataclass(slots=True)
class Fate:
    """What became of a run that was going on when something was killed.

    Attributes:
        was: Its state then.
        again: It was begun again without anybody's doing.
        marked: Crashed or Failed, where it came to that; then it was retried.
        end: Its last state; empty where it is stuck.
        resumed: It went on from a checkpoint.
        versions: What it published.
        by_hand: Runs of `return` that no event started, or that had to be retried.
        next_ended: How the next run ended.
    """

    deployment: str
    run: str
    was: str = ""
    again: bool = False
    marked: str = ""
    end: str = ""
    resumed: bool = False
    versions: list[str] = field(default_factory=list)
    by_hand: int = 0
    next_ended: str = ""


@dataclass(slots=True)
class Kill:
    """One kill; of flow processes, of both at once.

    Attributes:
        after: Seconds from the runs' submission to the kill.
        back: Seconds until each part answered again; of flow processes, until their runs were marked or went on.
        half_visible: What the witness says of versions and aliases that may not be.
        lost: What the witness saw before, and does not see now.
    """

    number: int
    victim: str
    fates: list[Fate] = field(default_factory=list)
    after: float = 0.0
    back: float = 0.0
    half_visible: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


def _going_on(kills: list[Kill]) -> list[Fate]:
    """The runs that were not over when something was killed."""
    return [fate for kill in kills for fate in kill.fates if fate.was.upper() not in ENDED]


def row(victim: str, kills: list[Kill]) -> dict[str, Any]:
    """The line of the table for a victim."""
    fates = _going_on(kills)
    done = [fate for fate in fates if fate.end == "COMPLETED"]
    back = [kill.back for kill in kills]
    return {
        "victim": victim,
        "kills": len(kills),
        "runs going on": len(fates),
        "finished at once": sum(not fate.again and not fate.marked for fate in done),
        "begun again by itself, finished": sum(fate.again for fate in done),
        "marked, retried, finished": sum(bool(fate.marked) for fate in done),
        "of these resumed": sum(fate.resumed for fate in done),
        "ended otherwise": sum(fate.end not in {"COMPLETED", ""} for fate in fates),
        "stuck": sum(not fate.end for fate in fates),
        "versions": sum(len(fate.versions) for fate in fates),
        "half-visible": sum(len(kill.half_visible) for kill in kills),
        "lost": sum(len(kill.lost) for kill in kills),
        "returns by hand": sum(fate.by_hand for fate in fates),
        "next run succeeded": sum(fate.next_ended == "COMPLETED" for fate in fates),
        "s to come back": round(statistics.median(back), 1) if back else None,
        "at most": max(back, default=None),
    }


def bars(kills: list[Kill], unfinished: list[str]) -> dict[str, Any]:
    """The bars of the issue; `unfinished` are runs that are over for nobody at the end."""
    fates = _going_on(kills)
    return {
        "runs during which something was killed": bar(len(fates), f">= {_RUNS}"),
        "runs stuck": bar(sum(not fate.end for fate in fates) + len(unfinished), "<= 0"),
        "runs that did not finish in the end": bar(sum(fate.end != "COMPLETED" for fate in fates), "<= 0"),
        "versions or aliases half-visible": bar(sum(len(kill.half_visible) for kill in kills), "<= 0"),
        "versions lost": bar(sum(len(kill.lost) for kill in kills), "<= 0"),
        "next runs that failed": bar(sum(fate.next_ended != "COMPLETED" for fate in fates), "<= 0"),
    }
