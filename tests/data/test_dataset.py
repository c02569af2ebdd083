"""The checked arrays and their digest."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from tasks.data.dataset import clean, digest

ARRAYS = npst.arrays(st.sampled_from([np.float32, np.int64, np.uint8]), npst.array_shapes(max_dims=3, max_side=4))


@given(ARRAYS, st.data())
def test_the_digest_changes_with_any_bit(array: Any, data: st.DataObject) -> None:
    changed = array.copy()
    flat = changed.reshape(-1).view(np.uint8)
    bit = data.draw(st.integers(0, 8 * flat.size - 1))
    flat[bit // 8] ^= 1 << (bit % 8)
    assert digest(changed) != digest(array)


@given(ARRAYS)
def test_the_digest_is_of_the_values_not_of_their_place_in_memory(array: Any) -> None:
    scattered = np.repeat(array, 2, axis=-1)[..., ::2]
    assert digest(scattered) == digest(array)


def test_the_digest_tells_dtypes_shapes_and_names_apart() -> None:
    ones = np.ones(4, np.float32)
    variants: list[Any] = [ones, ones.view(np.int32), ones.reshape(2, 2), {"a": ones}, {"b": ones}]
    assert len({digest(v) for v in variants}) == len(variants)


def test_the_digest_tells_inputs_from_targets() -> None:
    a, b, c = (np.full(2, v) for v in range(3))
    assert digest({"a": a, "b": b}, {"c": c}) != digest({"a": a}, {"b": b, "c": c})


def test_the_digest_takes_strings() -> None:
    assert digest(np.array(["a", "b"])) != digest(np.array(["a", "c"]))


def test_the_digest_does_not_depend_on_the_order_of_names() -> None:
    a, b = np.zeros(2), np.ones(2)
    assert digest({"a": a, "b": b}) == digest({"b": b, "a": a})


def test_floats_become_what_keras_computes_in() -> None:
    assert np.asarray(clean(np.ones((2, 2)), "x", "source")).dtype == np.float32


def test_integers_stay_as_they_are() -> None:
    assert np.asarray(clean(np.arange(3, dtype=np.uint8), "x", "source")).dtype == np.uint8
