"""A model of two gigabytes, for what only size brings out: shards, memory, transfer."""

from __future__ import annotations

import keras
import numpy as np

from tasks.data import Array

_WIDTH, _LAYERS = 8192, 8  # 8 matrices of 268 MB


def one_batch() -> tuple[Array, Array]:
    """Hardly anything: x `(50, 8) float32`, y `(50,)` in `[0, 3)`."""
    rng = np.random.default_rng(14)
    return rng.standard_normal((50, 8)).astype(np.float32), rng.integers(0, 3, 50)


def gigabytes() -> keras.Model:
    """2.1 GB of dense layers under SGD, which adds no slots."""
    wide = [keras.layers.Dense(_WIDTH, activation="relu", use_bias=False) for _ in range(_LAYERS)]
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(_WIDTH), *wide, keras.layers.Dense(3)])
    model.compile(
        optimizer=keras.optimizers.SGD(1e-4),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    return model
