"""Counts of outcomes: by operation, fault and how long it lasted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum


class Outcome(StrEnum):
    """How an operation ended, in the words of the table."""

    SUCCEEDED = "done"  # at once, or by trying again
    REFUSED = "failed"  # one of ours, that names what failed
    DIED = "died"  # by SIGKILL, as it was meant to


@dataclass(slots=True)
class Tally:
    """How often each operation ended in which way, fault by fault."""

    counts: Counter[tuple[str, str, Outcome]] = field(default_factory=Counter)

    def add(self, operation: str, fault: str, outcome: Outcome) -> None:
        """Count one case."""
        self.counts[operation, fault, outcome] += 1

    def table(self) -> str:
        """Markdown: a row for each fault, a column for each operation, and the sums."""
        operations = list(dict.fromkeys(operation for operation, *_ in self.counts))
        faults = list(dict.fromkeys(fault for _, fault, _ in self.counts))
        lines = [f"| fault | {' | '.join(operations)} |", "| --- |" + " --- |" * len(operations)]
        lines += [f"| {fault} | {' | '.join(self._cell(each, fault) for each in operations)} |" for fault in faults]
        sums = Counter[Outcome]()
        for (*_, outcome), count in self.counts.items():
            sums[outcome] += count
        said = ", ".join(f"{sums[outcome]} {outcome}" for outcome in Outcome if sums[outcome])
        return "\n".join([*lines, "", f"{sums.total()} cases: {said}."])

    def _cell(self, operation: str, fault: str) -> str:
        found = [(self.counts[operation, fault, outcome], outcome) for outcome in Outcome]
        return ", ".join(f"{count} {outcome}" for count, outcome in found if count) or "-"

    def to_json(self) -> list[tuple[str, str, str, int]]:
        """For pytest's cache."""
        return [(operation, fault, outcome.value, n) for (operation, fault, outcome), n in self.counts.items()]


def from_json(rows: list[tuple[str, str, str, int]]) -> Tally:
    """The reverse of `Tally.to_json`."""
    return Tally(Counter({(operation, fault, Outcome(outcome)): n for operation, fault, outcome, n in rows}))
