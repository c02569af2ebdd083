"""Models with preprocessing layers that were adapted to data: statistics and vocabularies."""

from __future__ import annotations

import keras
import numpy as np

from tasks.data import Array
from tasks.definitions.families.plain import classes

_WORDS = ("tensor", "graph", "kernel", "bias", "slot", "probe")


def words() -> tuple[Array, Array]:
    """One word an example: x `(320, 1)` strings, y `(320,)` in `[0, 3)`."""
    index = np.random.default_rng(11).integers(0, len(_WORDS), 320)
    return np.array(_WORDS)[index][:, None], index % 3


def sentences() -> tuple[Array, Array]:
    """Four words an example: x `(320,)` strings, y `(320,)` in `[0, 3)`."""
    index = np.random.default_rng(12).integers(0, len(_WORDS), (320, 4))
    return np.array([" ".join(row) for row in np.array(_WORDS)[index]]), index.sum(1) % 3


def normalization() -> keras.Model:
    """Mean and variance of the training data, kept as weights."""
    layer = keras.layers.Normalization()
    layer.adapt(classes()[0])
    return keras.Sequential([keras.Input((8,)), layer, keras.layers.Dense(8, activation="relu"), keras.layers.Dense(3)])


def string_lookup() -> keras.Model:
    """Words to numbers by an adapted vocabulary, which is an asset and no weight."""
    layer = keras.layers.StringLookup()
    layer.adapt(words()[0])
    inputs = keras.Input((1,), dtype="string", name="x")
    x = keras.layers.Embedding(layer.vocabulary_size(), 4)(layer(inputs))
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(x)))


def vectorized_text() -> keras.Model:
    """Sentences to numbers by an adapted vocabulary."""
    layer = keras.layers.TextVectorization(max_tokens=12, output_sequence_length=4)
    layer.adapt(sentences()[0])
    inputs = keras.Input((), dtype="string", name="x")
    x = keras.layers.Embedding(layer.vocabulary_size(), 4)(layer(inputs))
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(x)))
