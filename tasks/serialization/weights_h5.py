"""Format `weights-h5`: only the weights, as Keras' `.weights.h5`; the architecture is rebuilt from its definition."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.data import Arrays
from tasks.data.dataset import Array
from tasks.serialization.arrays import keras_predict
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

    def save(self, model: Any, folder: Path, sample: Arrays) -> None:
        """Write the weights."""
        del sample
        model.save_weights(folder / FILE)

    def load(self, folder: Path, rebuild: Callable[[], Any]) -> Any:
        """Load the weights into the rebuilt architecture."""
        model = rebuild()
        model.load_weights(folder / FILE)
        return model

    def variables(self, model: Any) -> dict[str, Array]:
        """Weights by path."""
        return weights(model)

    def predict(self, model: Any, x: Arrays) -> Arrays:
        """`model.predict`."""
        return keras_predict(model, x)
