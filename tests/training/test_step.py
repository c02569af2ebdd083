"""One training step, and what takes it back."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tasks.training.step import build_optimizer, gradient_step, put_back
from tests.samples import bits


def _model() -> Any:
    """With every kind of update there is: whole and sparse, of weights, of an optimizer's slots, of moving averages."""
    layers = [
        keras.layers.Embedding(50, 4),
        keras.layers.Flatten(),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.5, seed=1),
        keras.layers.Dense(3),
    ]
    model = keras.Sequential([keras.Input((5,), dtype="int32"), *layers])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    build_optimizer(model)
    return model


@pytest.mark.parametrize("how", ["eager", "graph", "xla"])
def test_what_steps_did_is_taken_back_bit_for_bit(how: str) -> None:
    model = _model()
    x, y = np.arange(40, dtype=np.int32).reshape(8, 5), np.arange(8) % 3

    def step() -> Any:
        return gradient_step(model, tf.constant(x), tf.constant(y))[1]

    taken = step if how == "eager" else tf.function(step, jit_compile=how == "xla")
    taken()
    before = bits(model)

    with put_back([*model.variables, *model.optimizer.variables]):
        for _ in range(3):
            taken()
        changed = bits(model)

    assert bits(model) == before != changed
    taken()  # and it can be trained on
    assert bits(model) != before


def test_variables_of_tensorflows_own_are_put_back_too() -> None:
    variable = tf.Variable([1.0, 2.0])  # as an author's stateful layer may hold them

    with put_back([variable]):
        variable.assign([3.0, 4.0])

    assert variable.numpy().tolist() == [1.0, 2.0]
