"""What came of tasks that a task runner fanned out."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

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
def ended_if_interrupted(shared: Any) -> Iterator[None]:
    """End the processes that a task runner's threads wait for where this block is interrupted, for it waits for the threads.

    Args:
        shared: Gives what holds those processes, cached (`Bench.of_this_process`); the next call gives another one.
    """
    try:
        yield
    except BaseException:  # Ctrl-C
        shared().stop()
        shared.cache_clear()
        raise


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
