"""Digests are equal if and only if name, dtype, shape and every bit are."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from tasks.serialization import TensorDigest, compare, tensor_digests

DTYPES = st.sampled_from([np.float32, np.float64, np.int64, np.uint8, np.bool_])
ARRAYS = DTYPES.flatmap(lambda dtype: npst.arrays(dtype, npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)))


def digest(array: Any, name: str = "w") -> TensorDigest:
    return tensor_digests({name: array})[0]


@given(ARRAYS, ARRAYS)
def test_digests_are_equal_if_and_only_if_all_bits_are(a: Any, b: Any) -> None:
    same = (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    assert (digest(a) == digest(b)) == same


@given(ARRAYS)
def test_a_copy_has_the_same_digest(array: Any) -> None:
    assert digest(np.array(array, order="F")) == digest(array)


@given(ARRAYS.filter(lambda a: a.size > 0), st.data())
def test_one_flipped_bit_is_another_digest(array: Any, data: st.DataObject) -> None:
    flipped = array.copy()
    content = flipped.reshape(-1).view(np.uint8)
    content[data.draw(st.integers(0, content.size - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert digest(flipped) != digest(array)


def test_minus_zero_is_not_zero() -> None:
    assert digest(np.array([-0.0], np.float32)) != digest(np.array([0.0], np.float32))


def test_the_payload_of_a_nan_counts() -> None:
    quiet, other = np.array([0x7FC00000], np.uint32).view(np.float32), np.array([0x7FC00001], np.uint32).view(np.float32)
    assert digest(quiet) != digest(other)


def test_the_same_bytes_mean_another_tensor_under_another_dtype_shape_or_name() -> None:
    ones = np.ones(4, np.float32)
    digests = [digest(ones), digest(ones.view(np.int32)), digest(ones.reshape(2, 2)), digest(ones, "v")]
    assert len(set(digests)) == 4


def test_bfloat16_has_a_digest() -> None:
    import ml_dtypes

    assert digest(np.ones(2, ml_dtypes.bfloat16)).dtype == "bfloat16"


def test_a_comparison_tells_what_is_missing_extra_and_different() -> None:
    zeros, ones = np.zeros(2, np.float32), np.ones(2, np.float32)
    stored = tensor_digests({"gone": zeros, "same": ones, "shape": zeros, "value": zeros})
    found = tensor_digests({"new": zeros, "same": ones, "shape": np.zeros(3, np.float32), "value": ones})
    assert compare(stored, found) == [
        "gone: missing",
        "new: not in the stored model",
        "shape: stored (2,) float32, returned (3,) float32",
        "value: other values",
    ]


def test_a_long_comparison_is_cut_and_counted() -> None:
    stored = tensor_digests({f"w{i:02}": np.zeros(1) for i in range(12)})
    lines = compare(stored, ())
    assert (len(lines), lines[-1]) == (9, "… and 4 more")
