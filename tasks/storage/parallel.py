"""Small requests side by side: a list of a thousand models waits for the store, not for one answer after another."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tasks.storage.connection.client import THREADS

_In = TypeVar("_In")
_Out = TypeVar("_Out")


def in_parallel(function: Callable[[_In], _Out], items: Iterable[_In]) -> Generator[_Out]:
    """Results in the order of the items; after the first error nothing more is begun."""
    pool = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="registry")
    try:
        yield from pool.map(function, items)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
