"""Models of Keras' own layers, and the small data that most families share."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from tasks.data import Array

_ROWS, _FEATURES, _CLASSES = 320, 8, 3


def classes() -> tuple[Array, Array]:
    """Examples around one centre a class: x `(320, 8) float32`, y `(320,) int64` in `[0, 3)`."""
    rng = np.random.default_rng(7)
    y = rng.integers(0, _CLASSES, _ROWS)
    centres = rng.standard_normal((_CLASSES, _FEATURES))
    noise = rng.standard_normal((_ROWS, _FEATURES))
    return np.asarray(centres[y] + 0.7 * noise, np.float32), y


def measures() -> tuple[Array, Array]:
    """A linear law with outliers: x `(320, 8) float32`, y `(320, 3) float32`."""
    x, _ = classes()
    rng = np.random.default_rng(8)
    law = rng.standard_normal((_FEATURES, _CLASSES))
    return x, np.asarray(x @ law + rng.standard_t(2, (_ROWS, _CLASSES)), np.float32)


def two_sided() -> tuple[dict[str, Array], dict[str, Array]]:
    """Inputs `left` and `right` `(320, 8)`, targets `kind` `(320,)` in `[0, 3)` and `size` `(320, 1)`."""
    x, y = classes()
    right = np.asarray(np.random.default_rng(9).standard_normal(x.shape), np.float32)
    return {"left": x, "right": right}, {"kind": y, "size": right.sum(1, keepdims=True)}


def two_sided_classes() -> tuple[dict[str, Array], Array]:
    """Inputs `left` and `right` `(320, 8)`, one target `(320,)` in `[0, 3)`."""
    x, y = two_sided()
    return x, y["kind"]


def sequential() -> keras.Model:
    """A `Sequential` classifier, compiled by whoever trains it."""
    dense = keras.layers.Dense
    return keras.Sequential([keras.Input((_FEATURES,)), dense(16, activation="relu"), dense(_CLASSES)])


def several_inputs() -> keras.Model:
    """A functional model: `left` and `right` in, `kind` and `size` out, a loss for each and a weight for each loss."""
    left, right = keras.Input((_FEATURES,), name="left"), keras.Input((_FEATURES,), name="right")
    both = keras.layers.Concatenate()([keras.layers.Dense(8, activation="tanh")(left), right])
    outputs: dict[str, Any] = {
        "kind": keras.layers.Dense(_CLASSES, name="kind")(both),
        "size": keras.layers.Dense(1, name="size")(both),
    }
    model = keras.Model({"left": left, "right": right}, outputs)
    model.compile(
        optimizer=keras.optimizers.Adam(0.01),
        loss={
            "kind": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            "size": keras.losses.MeanSquaredError(),
        },
        loss_weights={"kind": 1.0, "size": 0.1},
        metrics={"kind": [keras.metrics.SparseCategoricalAccuracy()], "size": [keras.metrics.MeanAbsoluteError()]},
        jit_compile=False,
    )
    return model


def shared_layers() -> keras.Model:
    """A functional model that sends both inputs through the same layer."""
    left, right = keras.Input((_FEATURES,), name="left"), keras.Input((_FEATURES,), name="right")
    shared = keras.layers.Dense(8, activation="relu", name="shared")
    both = keras.layers.Concatenate()([shared(left), shared(right)])
    return keras.Model({"left": left, "right": right}, keras.layers.Dense(_CLASSES)(both))


def nested() -> keras.Model:
    """A functional model with a functional and a `Sequential` model inside."""
    inner_input = keras.Input((_FEATURES,))
    inner = keras.Model(inner_input, keras.layers.Dense(8, activation="relu")(inner_input), name="inner")
    head = keras.Sequential([keras.layers.Dense(8, activation="tanh"), keras.layers.Dense(_CLASSES)], name="head")
    inputs = keras.Input((_FEATURES,), name="x")
    return keras.Model(inputs, head(inner(inputs)))
