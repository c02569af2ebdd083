"""The order of the examples, and how the custom loop stacks them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.training import TrainingConfig, loop
from tasks.training.run import order

ROW_BYTES = 3 * 8 + 8


@given(rows=st.integers(1, 200), batch=st.integers(1, 64), most=st.integers(0, 8), seed=st.integers(0, 99))
def test_chunks_hold_every_example_once_in_order(rows: int, batch: int, most: int, seed: int) -> None:
    x, y = np.arange(rows * 3, dtype=np.float64).reshape(rows, 3), np.arange(rows)
    index = np.random.default_rng(seed).permutation(rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_CHUNK_BYTES", most * batch * ROW_BYTES)
        chunks: list[Any] = list(loop.chunks(x, y, index, batch))

    np.testing.assert_array_equal(np.concatenate([part.reshape(-1) for _, part in chunks]), index)
    np.testing.assert_array_equal(np.concatenate([part.reshape(-1, 3) for part, _ in chunks]), x[index])


@given(rows=st.integers(1, 200), batch=st.integers(1, 64), most=st.integers(1, 8))
def test_chunks_are_bounded_and_only_the_last_batch_is_short(rows: int, batch: int, most: int) -> None:
    x, y = np.zeros((rows, 3)), np.zeros(rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_CHUNK_BYTES", most * batch * ROW_BYTES)
        shapes = [np.asarray(part).shape for _, part in loop.chunks(x, y, np.arange(rows), batch)]

    whole, rest = divmod(rows, batch)
    assert [shape[0] for shape in shapes if shape[1] == batch] == [n for n, _ in shapes][: len(shapes) - bool(rest)]
    assert sum(n for n, size in shapes if size == batch) == whole
    assert shapes[-1] == (1, rest) or not rest
    assert max(n for n, _ in shapes) <= most


def test_chunks_keep_the_names_of_several_inputs() -> None:
    x = {"a": np.zeros((10, 2)), "b": np.zeros((10, 5))}
    chunks: Any = list(loop.chunks(x, np.zeros(10), np.arange(10), 5))
    assert {name: part.shape for name, part in chunks[0][0].items()} == {"a": (2, 5, 2), "b": (2, 5, 5)}


@given(seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 10_000), count=st.integers(1, 300))
def test_the_order_of_an_epoch_holds_every_example_once(seed: int, epoch: int, count: int) -> None:
    assert sorted(order(TrainingConfig(seed=seed), epoch, count)) == list(range(count))


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    orders = [order(TrainingConfig(seed=seed), epoch, 50).tolist() for seed, epoch in [(1, 1), (1, 1), (1, 2), (2, 1)]]
    assert orders[0] == orders[1]
    assert len({tuple(o) for o in orders}) == 3
