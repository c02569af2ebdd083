"""How far a transfer is: bytes, rate, time left."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

Moved = Callable[[int], None]

_WINDOW = 5.0  # seconds that the rate is taken over


def nobody(_: int) -> None:
    """Report moved bytes to nobody."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A moment of a transfer.

    Attributes:
        what: What is done: `publishing`, `fetching`.
        done: Bytes that went so far.
        total: Bytes that are to go in all.
        rate: Bytes a second, of late.
        left: Seconds until it is done at this rate; None where nothing moves.
    """

    what: str
    done: int
    total: int
    rate: float
    left: float | None

    def __str__(self) -> str:
        left = "" if self.left is None else f", {self.left:,.0f} s left"
        return f"{self.what} {self.done / 1e6:,.0f} of {self.total / 1e6:,.0f} MB, {self.rate / 1e6:,.0f} MB/s{left}"


class Progress:
    """Adds up what the threads of a transfer report, and shows it now and then.

    Args:
        what: What is done: `publishing`, `fetching`.
        show: Called with a snapshot, never more often than `every`, and not before a first `every` has passed: what is over
            sooner needs no progress.
        every: Seconds.
        clock: Seconds from any start.
    """

    def __init__(
        self, what: str, show: Callable[[Snapshot], None], every: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._what, self._show, self._every, self._clock = what, show, every, clock
        self._lock = threading.Lock()
        self._done = self._total = 0
        self._shown = clock()
        self._marks = deque([(self._shown, 0)])

    def expect(self, count: int) -> None:
        """So many bytes more are to go; below zero: so many less."""
        with self._lock:
            self._total += count

    def moved(self, count: int) -> None:
        """So many bytes went."""
        with self._lock:
            self._done += count
            now = self._clock()
            if now - self._shown < self._every:
                return
            self._shown = now
            self._marks.append((now, self._done))
            while len(self._marks) > 2 and now - self._marks[1][0] >= _WINDOW:  # noqa: PLR2004  # the two ends of a line
                self._marks.popleft()
            since, then = self._marks[0]
            rate = (self._done - then) / max(now - since, 1e-9)
            left = max(self._total - self._done, 0) / rate if rate else None
            snapshot = Snapshot(self._what, self._done, self._total, rate, left)
        self._show(snapshot)
