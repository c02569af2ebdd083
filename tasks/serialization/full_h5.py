"""Format `full-h5`: the whole model in one HDF5 file (Keras' legacy format), brought back by `load_model`."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks.data import Arrays
from tasks.data.dataset import Array
from tasks.errors import InputError
from tasks.serialization.arrays import keras_predict
from tasks.serialization.keras_model import own_classes, weights_by_layer
from tasks.serialization.protocol import Promise

FILE = "model.h5"


class FullH5:
    """One HDF5 file through `model.save` and `load_model`."""

    name = "full-h5"
    version = 1
    promises: frozenset[Promise] = frozenset({"architecture", "weights", "outputs"})
    needs_definition = False
    trainable = True
    output_tolerance = 0.0
    packages: tuple[str, ...] = ()

    def check(self, model: Any) -> None:
        """Refuse subclasses and layers of the user's own: Keras 3.15 would write them, and nobody could load them."""
        own = own_classes(model)
        if own:
            raise InputError(
                f"A model with {', '.join(own)} can't be stored as full-h5: HDF5 holds Sequential and functional models "
                "of Keras' own layers only. Use the scenario weights-h5 or saved-model."
            )

    def save(self, model: Any, folder: Path, sample: Arrays) -> list[str]:
        """Write architecture and weights.

        The optimizer is left out: the legacy format's copy can't be loaded and makes `fit` raise (`Unknown variable`);
        the bundle carries it instead.
        """
        del sample
        self.check(model)
        with _quiet():
            # With the optimizer, it would also leave the live model compiled as another one (FACTS S4).
            model.save(folder / FILE, include_optimizer=False)
        return []

    def load(self, folder: Path, rebuilt: Any) -> Any:
        """Load the file; no source of the model is needed. Compiled later, from what the bundle carries."""
        del rebuilt
        import keras  # seconds

        with _quiet():
            return keras.saving.load_model(folder / FILE, compile=False, safe_mode=True)

    def variables(self, model: Any) -> dict[str, Array]:
        """Weights by the names of their layers; a layer that was adapted before it joined its model has another path."""
        return weights_by_layer(model)

    def predict(self, model: Any, x: Arrays) -> Arrays:
        """`model.predict`."""
        return keras_predict(model, x)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # Keras logs that HDF5 is a legacy format; who asked for it knows.
    from absl import logging  # comes with TensorFlow

    level = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
