"""Format `weights-sharded`: the weights in several HDF5 files with an index, `model.weights.json`, for models of gigabytes.

A shard is a file that one request can move and one disk can hold; the architecture is rebuilt from its definition.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.data import Arrays
from tasks.data.dataset import Array
from tasks.serialization.arrays import keras_predict
from tasks.serialization.h5_weights import load_weights
from tasks.serialization.keras_model import weights
from tasks.serialization.protocol import Promise

FILE = "model.weights.json"
_GIGABYTE = 2**30  # what Keras means by one


class WeightsSharded:
    """Shards through `save_weights(max_shard_size=...)` and `load_weights`.

    Attributes:
        shard_bytes: Most bytes of weights in one file.
    """

    name = "weights-sharded"
    version = 1
    promises: frozenset[Promise] = frozenset({"weights", "outputs"})
    needs_definition = True
    trainable = True
    output_tolerance = 0.0
    packages: tuple[str, ...] = ()

    def __init__(self, shard_bytes: int = _GIGABYTE) -> None:
        self.shard_bytes = shard_bytes

    def check(self, model: Any) -> None:
        """Any model can be stored."""

    def save(self, model: Any, folder: Path, sample: Arrays) -> list[str]:
        """Write shards and index. Keras can't split a tensor (FACTS S18), so the largest one may make shards larger."""
        del sample
        largest = max(((array.nbytes, name) for name, array in weights(model).items()), default=(0, ""))
        model.save_weights(folder / FILE, max_shard_size=max(self.shard_bytes, largest[0]) / _GIGABYTE)
        if largest[0] <= self.shard_bytes:
            return []
        return [f"weights: {largest[1]} alone is larger than a shard; the shards are {largest[0] / _GIGABYTE:.3g} GiB"]

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
