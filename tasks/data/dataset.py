"""The checked dataset that travels to training, and its digest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.errors import InputError

Array = np.ndarray[Any, np.dtype[Any]]
Arrays = Array | dict[str, Array]


@dataclass(frozen=True, slots=True)
class Dataset:
    """Examples in memory, first axis the example: arrays, or dicts of arrays by input or output name.

    Attributes:
        x: Training inputs, `(rows, ...)`, floats as float32.
        y: Training targets, `(rows, ...)`.
        x_val: Validation inputs, shaped like `x`.
        y_val: Validation targets, shaped like `y`.
        source: The reference that the data came from.
        digest: SHA-256 over names, dtypes, shapes and bytes of all four.
    """

    x: Arrays
    y: Arrays
    x_val: Arrays
    y_val: Arrays
    source: str
    digest: str


def each(arrays: Arrays) -> dict[str, Array]:
    """The arrays by name; a lone array's name is empty."""
    return arrays if isinstance(arrays, dict) else {"": arrays}


def take(arrays: Arrays, index: Any) -> Arrays:
    """Pick examples by index or slice from every array."""
    return {k: v[index] for k, v in arrays.items()} if isinstance(arrays, dict) else arrays[index]


def rows(arrays: Arrays) -> int:
    """How many examples the arrays hold."""
    return len(next(iter(each(arrays).values())))


def clean(value: Any, what: str, source: str) -> Arrays:
    """Make one array, or a dict of them, fit to train on.

    Raises:
        InputError: Empty, of objects, with NaN or infinities, or with different numbers of rows.
    """
    if isinstance(value, Mapping):
        cleaned = {str(k): _clean_array(v, f"{what}[{k!r}]", source) for k, v in value.items()}
        counts = {k: len(v) for k, v in cleaned.items()}
        if len(set(counts.values())) != 1:
            raise InputError(f"{source}: the arrays of {what} have different numbers of rows: {counts}.")
        return cleaned
    return _clean_array(value, what, source)


def _clean_array(value: Any, what: str, source: str) -> Array:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InputError(f"{source}: {what} is ragged, not an array ({error}).") from None
    if array.ndim == 0 or len(array) == 0:
        raise InputError(f"{source}: {what} holds no examples (shape {array.shape}).")
    if array.dtype.kind in "US":
        return array
    if array.dtype.kind not in "biuf":
        raise InputError(f"{source}: {what} has dtype {array.dtype}; numbers, booleans or strings are needed.")
    if array.dtype.kind == "f":
        bad = np.argwhere(~np.isfinite(array))
        if len(bad):
            count = f"{len(bad):,} NaN or infinite value{'s' if len(bad) > 1 else ''}"
            raise InputError(f"{source}: {what} holds {count}, the first at index {tuple(map(int, bad[0]))}.")
        # Keras computes in float32; float64 would only be converted again for every batch.
        return np.ascontiguousarray(array, dtype=np.float32)
    return np.ascontiguousarray(array)


def check_pair(x: Arrays, y: Arrays, source: str) -> None:
    """Raise InputError where the targets don't match the examples one by one."""
    if isinstance(y, dict) and rows(y) == rows(x):
        return
    if rows(x) != rows(y):
        raise InputError(f"{source}: x has {rows(x):,} rows and y has {rows(y):,}. Each example needs its target.")


def check_alike(train: Arrays, test: Arrays, what: str, source: str) -> None:
    """Raise InputError where a test example has other names or another shape than a training example."""
    before, after = ({n: a.shape[1:] for n, a in each(part).items()} for part in (train, test))
    if before != after:
        shown = [" and ".join(f"{n} {s}".strip() for n, s in part.items()) for part in (before, after)]
        raise InputError(f"{source}: an example of {what} is {shown[0]} for training, but {shown[1]} for the test.")


def digest(*parts: Arrays) -> str:
    """SHA-256 (hex) over names, dtypes, shapes and bytes."""
    state = hashlib.sha256()
    for number, part in enumerate(parts):
        for name, array in sorted(each(part).items()):
            state.update(f"{number}|{name}|{array.dtype.str}|{array.shape}|".encode())
            state.update(np.ascontiguousarray(array).data if array.size else b"")
    return state.hexdigest()
