"""Canonical digests of tensors: equal if and only if name, dtype, shape and every bit are.

Files can't be compared instead: `.keras` archives hold dates, SavedModels differ between two writes of the same model.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from pydantic import BaseModel

from tasks.data.dataset import Array


class TensorDigest(BaseModel):
    """SHA-256 of one tensor's little-endian, C-ordered bytes, with what the bytes mean."""

    model_config = {"frozen": True}

    name: str
    shape: tuple[int, ...]
    dtype: str
    sha256: str


def tensor_digests(tensors: Mapping[str, Array]) -> tuple[TensorDigest, ...]:
    """Digest each tensor; in parallel, for hashing releases the GIL."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        return tuple(pool.map(_digest, tensors.items()))


def compare(stored: Iterable[TensorDigest], found: Iterable[TensorDigest], *, limit: int = 8) -> list[str]:
    """One line for each tensor that is missing, extra or different; empty where all are the same bit for bit."""
    before, after = {t.name: t for t in stored}, {t.name: t for t in found}
    lines = [f"{name}: missing" for name in before.keys() - after.keys()]
    lines += [f"{name}: not in the stored model" for name in after.keys() - before.keys()]
    for name in before.keys() & after.keys():
        a, b = before[name], after[name]
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            lines.append(f"{name}: stored {a.shape} {a.dtype}, returned {b.shape} {b.dtype}")
        elif a.sha256 != b.sha256:
            lines.append(f"{name}: other values")
    lines.sort()
    return lines[:limit] + ([f"… and {len(lines) - limit} more"] if len(lines) > limit else [])


def _digest(item: tuple[str, Array]) -> TensorDigest:
    name, array = item
    # Extension types such as bfloat16 have no byte order of their own to swap and name themselves.
    if sys.byteorder == "big" and array.dtype.isbuiltin:
        array = array.astype(array.dtype.newbyteorder("<"))
    data = np.ascontiguousarray(array)
    sha256 = hashlib.sha256(data.reshape(-1).view(np.uint8).data).hexdigest()
    return TensorDigest(name=name, shape=tuple(array.shape), dtype=str(array.dtype), sha256=sha256)
