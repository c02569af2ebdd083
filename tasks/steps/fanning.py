"""What came of tasks that a task runner fanned out."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from prefect.futures import PrefectFuture

T = TypeVar("T")


def outcome(future: PrefectFuture[T]) -> T | Exception:
    """What a task gave, or what it or its worker ended of.

    Prefect's own runners hand over the error. Dask's and Ray's raise where a worker died, whatever they are told.
    """
    try:
        with _ended_by_sigterm(future):
            return future.result(raise_on_failure=False)
    except Exception as died:
        return died


@contextmanager
def _ended_by_sigterm(future: PrefectFuture[T]) -> Iterator[None]:
    """Let SIGTERM end a wait for Ray, which drops all that a signal's handler raises meanwhile but KeyboardInterrupt."""
    of_ray = type(future).__module__.startswith("prefect_ray")
    if not of_ray or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
