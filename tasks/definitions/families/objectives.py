"""Losses and metrics of Keras' own whose parameters its configurations leave out (FACTS S5)."""

from __future__ import annotations

import keras


def loss_parameters() -> keras.Model:
    """A regression under Huber's loss with a `delta` of its own, which `get_config` does not tell."""
    dense = keras.layers.Dense
    model = keras.Sequential([keras.Input((8,)), dense(8, activation="relu"), dense(3)])
    model.compile(
        optimizer=keras.optimizers.Adam(0.01),
        loss=keras.losses.Huber(delta=0.3),
        metrics=[keras.metrics.CosineSimilarity(axis=0)],
        jit_compile=False,
    )
    return model
