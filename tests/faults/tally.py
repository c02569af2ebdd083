"""Counts of outcomes: by operation, fault and how long it lasted."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path


class Outcome(StrEnum):
    """How an operation ended."""

    SUCCEEDED = "succeeded"  # at once, or by trying again
    REFUSED = "clear error"  # one of ours, that names what failed
    DIED = "died"  # by SIGKILL, as it was meant to


Counts = Counter[tuple[str, str, str]]


def table(counts: Counts) -> str:
    """Markdown: a row for each operation and fault, a column for each outcome."""
    outcomes = list(Outcome)
    rows = sorted({(operation, fault) for operation, fault, _ in counts}, key=list(dict.fromkeys(
        (operation, fault) for operation, fault, _ in counts)).index)  # fmt: skip
    lines = [f"| operation | fault | {' | '.join(outcomes)} |", "| --- | --- |" + " --- |" * len(outcomes)]
    for operation, fault in rows:
        found = [counts[operation, fault, outcome] for outcome in outcomes]
        lines.append(f"| {operation} | {fault} | {' | '.join(str(n or '') for n in found)} |")
    totals = [sum(n for (*_, outcome), n in counts.items() if outcome == column) for column in outcomes]
    lines.append(f"| all | {sum(totals)} cases | {' | '.join(map(str, totals))} |")
    return "\n".join(lines)


def save(counts: Counts, path: Path) -> None:
    """Keep counts for another process."""
    path.write_text(json.dumps([[*key, n] for key, n in counts.items()]))


def load(path: Path) -> Counts:
    """The counts that `save` kept."""
    return Counter({(operation, fault, outcome): n for operation, fault, outcome, n in json.loads(path.read_text())})


def merged(parts: Iterable[Counts]) -> Counts:
    """The sum of counts."""
    total: Counts = Counter()
    for part in parts:
        total.update(part)
    return total
