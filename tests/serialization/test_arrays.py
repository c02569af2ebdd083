"""Batches to and from `.npz` files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from tasks.errors import UnsafeError
from tasks.serialization.arrays import flat, keras_predict, named_outputs, nested, read_npz, write_npz

LONE = npst.arrays(np.float32, npst.array_shapes(max_dims=3, max_side=3))
ARRAYS = LONE | st.dictionaries(st.text(st.characters(codec="ascii"), min_size=1, max_size=8), LONE, min_size=1, max_size=4)


@given(x=ARRAYS, y=ARRAYS, t=ARRAYS)
def test_inputs_outputs_and_targets_share_a_file_and_come_apart_again(x: Any, y: Any, t: Any) -> None:
    together = flat("x", x) | flat("y", y) | flat("t", t)
    for letter, part in (("x", x), ("y", y), ("t", t)):
        again = nested(letter, together)
        assert again is part or again == part  # the same arrays, by identity


def test_a_batch_survives_a_file(tmp_path: Path) -> None:
    arrays: Any = {"left eye": np.ones((2, 3), np.float32), "b/c": np.arange(2)}
    np.savez(tmp_path / "probe.npz", allow_pickle=False, **flat("x", arrays))
    again: Any = nested("x", read_npz(tmp_path / "probe.npz"))
    assert {n: (a.dtype, a.tolist()) for n, a in again.items()} == {n: (a.dtype, a.tolist()) for n, a in arrays.items()}


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "state.npz", x=np.array([print], dtype=object))
    with pytest.raises(UnsafeError, match=r"state.npz is not a plain .npz file"):
        read_npz(tmp_path / "state.npz")


@pytest.mark.parametrize("content", [b"", b"PK", b"\x80\x04N."])
def test_what_is_no_npz_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state.npz").write_bytes(content)
    with pytest.raises(UnsafeError, match=r"state.npz is not a plain .npz file"):
        read_npz(tmp_path / "state.npz")


@pytest.mark.parametrize(
    ("outputs", "names"),
    [([np.ones(1), np.ones(1)], ["output_0", "output_1"]), ({"a": np.ones(1)}, ["a"])],
)
def test_several_outputs_have_names(outputs: Any, names: list[str]) -> None:
    assert list(dict(named_outputs(outputs))) == names


def test_what_is_written_is_read_by_numpy_whatever_its_shape_order_and_type(tmp_path: Path) -> None:
    arrays = {
        "m/kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "every other": np.arange(10)[::2],
        "number": np.array(3.5),
        "nothing": np.zeros((0, 4), np.float16),
        "words": np.array(["", "größer"]),
        "flags": np.array([True, False]),
    }
    write_npz(tmp_path / "arrays.npz", arrays)

    with np.load(tmp_path / "arrays.npz", allow_pickle=False) as file:
        found = {name: file[name] for name in file.files}
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


def test_python_objects_are_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="x holds Python objects"):
        write_npz(tmp_path / "arrays.npz", {"x": np.array([{}])})


def counted() -> tuple[keras.Model, list[bool]]:
    """A model compiled to take 32 steps a call, and one entry for each time that it was traced."""
    traces: list[bool] = []

    class Counting(keras.layers.Dense):  # type: ignore[misc]  # keras ships no types
        def call(self, inputs: Any, training: bool = False) -> Any:
            traces.append(training)
            return super().call(inputs)

    model = keras.Sequential([keras.Input((4,)), Counting(3)])
    model.compile("sgd", "mse", steps_per_execution=32)
    traces.clear()
    return model, traces


def test_many_batches_are_predicted_by_one_trace_to_the_bits_of_keras_own_way() -> None:
    model, traces = counted()
    x = np.random.default_rng(0).standard_normal((250, 4), np.float32)
    ours = keras_predict(model, x)
    assert len(traces) <= 2  # the last batch is a short one
    assert model.steps_per_execution == 32
    assert ours.tobytes() == model.predict(x, verbose=0).tobytes()  # type: ignore[union-attr]
