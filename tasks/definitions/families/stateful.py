"""Models with state that no gradient touches: moving statistics, generators of random numbers, recurrent states."""

from __future__ import annotations

import keras
import numpy as np

from tasks.data import Array

_BATCH, _STEPS, _FEATURES, _CLASSES = 16, 5, 4, 3


def sequences() -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Whole batches of 16: x `(256, 5, 4) float32` and y `(256,)`, and 64 rows to validate on."""
    rng = np.random.default_rng(10)
    x = rng.standard_normal((320, _STEPS, _FEATURES)).astype(np.float32)
    y = x.sum((1, 2)).argsort().argsort() * _CLASSES // len(x)
    return (x[:256], y[:256]), (x[256:], y[256:])


def norm_dropout() -> keras.Model:
    """BatchNormalization and Dropout: moving statistics and a seed generator's state."""
    inputs = keras.Input((8,), name="x")
    x = keras.layers.Dense(16, activation="relu")(inputs)
    x = keras.layers.Dropout(0.3)(keras.layers.BatchNormalization()(x))
    return keras.Model(inputs, keras.layers.Dense(_CLASSES)(x))


def stateful_lstm() -> keras.Model:
    """An LSTM that goes on from where the last batch left it."""
    inputs = keras.Input((_STEPS, _FEATURES), batch_size=_BATCH, name="x")
    x = keras.layers.LSTM(6, stateful=True)(inputs)
    return keras.Model(inputs, keras.layers.Dense(_CLASSES)(x))
