"""Format `keras-archive`: Keras' own `.keras` file, with architecture, weights, optimizer and how the model was compiled.

A model of Keras' own layers comes back without its source. One with layers or a class of the user's own comes back through
its definition, and only the weights out of the archive: Keras would call the constructor with what `get_config` tells, and
where that is missing with the defaults, silently (FACTS S1).
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from tasks.data import Arrays
from tasks.data.dataset import Array
from tasks.errors import InputError
from tasks.serialization.arrays import keras_predict
from tasks.serialization.keras_model import own_classes, weights_by_layer
from tasks.serialization.protocol import Promise

FILE = "model.keras"


class KerasArchive:
    """One `.keras` file through `model.save` and `load_model`."""

    name = "keras-archive"
    version = 1
    promises: frozenset[Promise] = frozenset({"architecture", "weights", "optimizer", "compile", "outputs"})
    needs_definition = False
    trainable = True
    output_tolerance = 0.0
    packages: tuple[str, ...] = ()

    def check(self, model: Any) -> None:
        """Refuse what Keras can't describe: a class of the user's own without a `get_config` that it would need."""
        import keras  # seconds

        try:
            keras.saving.serialize_keras_object(model)
        except Exception as error:
            said = " ".join(str(error).split()).partition(". ")[0] or type(error).__name__
            own = ", ".join(own_classes(model)) or type(model).__name__
            raise InputError(
                f"A model with {own} can't be stored as keras-archive: Keras can't describe it ({said:.200}). Give the "
                "class a get_config that returns its constructor's arguments, or use the scenario weights-h5 or saved-model."
            ) from error

    def save(self, model: Any, folder: Path, sample: Arrays) -> list[str]:
        """Write the archive."""
        del sample
        self.check(model)
        model.save(folder / FILE)
        own = own_classes(model)
        return [f"architecture: {', '.join(own)} is not in the archive; rebuilt from the definition"] if own else []

    def load(self, folder: Path, rebuilt: Any) -> Any:
        """Load the archive, or its weights into what the definition builds."""
        import keras  # seconds

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # slots that don't fit; the bundle carries them, and they are compared
            if rebuilt is not None:
                rebuilt.load_weights(folder / FILE)
                return rebuilt
            return keras.saving.load_model(folder / FILE, safe_mode=True)

    def variables(self, model: Any) -> dict[str, Array]:
        """Weights by the names of their layers; a Sequential's own name comes and goes in their paths."""
        return weights_by_layer(model)

    def predict(self, model: Any, x: Arrays) -> Arrays:
        """`model.predict`."""
        return keras_predict(model, x)
