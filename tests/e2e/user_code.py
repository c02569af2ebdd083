"""What users hand in by mistake: builders and data that can't work. Imported by the commands under test."""

from __future__ import annotations

from typing import Any

import numpy as np


def linear(features: int = 4) -> Any:
    import keras

    return keras.Sequential([keras.Input((features,)), keras.layers.Dense(3)])


def no_model() -> Any:
    return {"layers": 3}


def raising() -> Any:
    raise RuntimeError("the flux capacitor is empty")


def subclassed() -> Any:
    import keras

    class Own(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.dense = keras.layers.Dense(3)

        def call(self, x: Any) -> Any:
            return self.dense(x)

    return Own()


def data() -> Any:
    rng = np.random.default_rng(0)
    return rng.normal(size=(80, 4)), rng.integers(0, 3, 80)


def other_rows() -> Any:
    x, y = data()
    return x, y[:-1]


def with_nan() -> Any:
    x, y = data()
    x[5, 2] = np.nan
    return x, y


not_callable = 3
