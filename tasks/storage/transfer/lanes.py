"""Threads that move bodies, and the bound on what they hold: so many bytes are under way at once, whatever is moved."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")

# As many requests wait for a store that is far away; of one nearby a few fill the line, and the others cost 0.1 ms each.
SENDERS = 64
# Six parts. Uploads of twice as many to a server on the same machine took a third longer, and nothing less (README.md).
BYTES_UNDER_WAY = 48 * 2**20


class Stopped(Exception):
    """Another lane failed; its error is the one to tell."""


class Lanes:
    """A pool whose work is announced with the bytes that it holds; it stops at the first failure.

    Bytes are reserved by whoever hands out work, never inside it: work that is under way always comes to an end.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=SENDERS, thread_name_prefix="transfer")
        self._changed = threading.Condition()
        self._held = 0
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Wait for all work, and raise what went wrong first."""
        if error is not None and not isinstance(error, Stopped):
            self.fail(error)
        self._pool.shutdown(wait=True, cancel_futures=self._failure is not None)
        if self._failure is not None and self._failure is not error:
            raise self._failure

    @property
    def stopped(self) -> bool:
        """Whether something failed; work of several steps ends then."""
        return self._failure is not None

    def reserve(self, count: int) -> None:
        """Wait until so many bytes may be held; more than the bound is let through alone.

        Raises:
            Stopped: Something failed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._failure or self._held == 0 or self._held + count <= BYTES_UNDER_WAY)
            if self._failure:
                raise Stopped
            self._held += count

    def release(self, count: int) -> None:
        """Give reserved bytes back."""
        with self._changed:
            self._held -= count
            self._changed.notify_all()

    def start(self, count: int, work: Callable[[], T]) -> Future[T]:
        """Run work that holds bytes reserved before, and give them back after it.

        Raises:
            Stopped: Something failed.
        """

        def run() -> T:
            try:
                return work()
            except BaseException as error:
                self.fail(error)
                raise
            finally:
                self.release(count)

        try:
            return self._pool.submit(run)
        except RuntimeError:  # it was shut down by a failure
            raise Stopped from None

    def fail(self, error: BaseException) -> None:
        """Stop: nothing new starts, and whoever waits is told."""
        with self._changed:
            self._failure = self._failure or error
            self._changed.notify_all()
        self._pool.shutdown(wait=False, cancel_futures=True)
