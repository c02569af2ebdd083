"""What came of tasks that a task runner fanned out."""

from __future__ import annotations

from typing import TypeVar

from prefect.futures import PrefectFuture

T = TypeVar("T")


def outcome(future: PrefectFuture[T]) -> T | Exception:
    """What a task gave, or what it or its worker ended of.

    Prefect's own runners hand over the error. Dask's and Ray's raise where a worker died, whatever they are told.
    """
    try:
        return future.result(raise_on_failure=False)
    except Exception as died:
        return died
