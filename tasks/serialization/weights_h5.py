"""Format `weights-h5`: only the weights, as Keras' `.weights.h5`; the architecture is rebuilt from its definition."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.data import Arrays
from tasks.data.dataset import Array
from tasks.serialization.arrays import keras_predict
from tasks.serialization.h5_weights import load_weights
from tasks.serialization.keras_model import weights
from tasks.serialization.protocol import Promise

# Keras 3 accepts no other ending.
FILE = "model.weights.h5"


class WeightsH5:
    """HDF5 weights through `save_weights` and `load_weights`."""

    name = "weights-h5"
    version = 1
    promises: frozenset[Promise] = frozenset({"weights", "outputs"})
    needs_definition = True
    trainable = True
    output_tolerance = 0.0
    packages: tuple[str, ...] = ()

    def check(self, model: Any) -> None:
        """Any model can be stored."""

    def save(self, model: Any, folder: Path, sample: Arrays) -> list[str]:
        """Write the weights."""
        del sample
        model.save_weights(folder / FILE)
        return []

    def load(self, folder: Path, rebuilt: Any) -> Any:
        """Load the weights into the rebuilt architecture."""
        load_weights(rebuilt, folder / FILE)
        return rebuilt

    def variables(self, model: Any) -> dict[str, Array]:
        """Weights by path."""
        return weights(model)

    def predict(self, model: Any, x: Arrays) -> Arrays:
        """`model.predict`."""
        return keras_predict(model, x)
