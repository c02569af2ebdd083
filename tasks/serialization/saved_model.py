"""Format `saved-model`: TensorFlow's SavedModel through `tf.saved_model.save`, callable for any batch size.

Saved plainly, a Keras 3 model comes back as an object that can't be called, with a signature frozen to the batch of its
first call, and TensorFlow Serving can't run it. Here the signature is made explicitly, with an open batch and named inputs
and outputs, above TensorFlow's own variables, and what comes back is a `ServedModel`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tasks.data import Arrays
from tasks.data.dataset import Array
from tasks.errors import InputError
from tasks.serialization.arrays import named_outputs
from tasks.serialization.keras_model import weights
from tasks.serialization.protocol import Promise
from tasks.serialization.served import (
    LONE_INPUT,
    SIGNATURE,
    ServedModel,
    graph_resources,
    graph_variables,
    input_specs,
    input_tensors,
)
from tasks.training.run import why_not_compiled

_OUTPUT = "output"


class SavedModel:
    """A graph with its variables, no source needed."""

    name = "saved-model"
    version = 2  # 1: Keras' variables in the place of TensorFlow's, which no session fills
    promises: frozenset[Promise] = frozenset({"architecture", "weights", "signature", "outputs"})
    needs_definition = False
    trainable = False
    output_tolerance = 0.0
    packages: tuple[str, ...] = ()

    def check(self, model: Any) -> None:
        """Any model can be stored."""

    def save(self, model: Any, folder: Path, sample: Arrays) -> list[str]:
        """Write graph and variables with the signature `serving_default`."""
        import tensorflow as tf  # seconds

        signature = _signature(model, sample)
        root = tf.Module()
        root.weights, root.others = graph_variables(model, signature)
        root.resources = graph_resources(model)
        tf.saved_model.save(root, str(folder), signatures={SIGNATURE: signature})
        return []

    def load(self, folder: Path, rebuilt: Any) -> ServedModel:
        """Load the graph; the model's source is not looked at."""
        del rebuilt
        import tensorflow as tf

        return ServedModel(tf.saved_model.load(str(folder)), _OUTPUT)

    def variables(self, model: Any) -> dict[str, Array]:
        """Weights by path."""
        if not isinstance(model, ServedModel):
            return weights(model)
        return {path: np.asarray(variable) for path, variable in model.restored.weights.items()}

    def predict(self, model: Any, x: Arrays) -> Arrays:
        """The signature, on the live model as on the returned one."""
        if isinstance(model, ServedModel):
            return model.predict(x)
        outputs = _signature(model, x)(**input_tensors(x))
        return named_outputs(outputs[_OUTPUT] if set(outputs) == {_OUTPUT} else outputs)


def _signature(model: Any, sample: Arrays) -> Any:
    """The concrete function that is saved: open batch, inputs and outputs by name."""
    import tensorflow as tf

    lone = not isinstance(sample, dict)

    def serve(**inputs: Any) -> dict[str, Any]:
        outputs = model(inputs[LONE_INPUT] if lone else inputs, training=False)
        if isinstance(outputs, dict):
            return {str(name): value for name, value in outputs.items()}
        if isinstance(outputs, list | tuple):
            return {f"output_{i}": value for i, value in enumerate(outputs)}
        return {_OUTPUT: outputs}

    try:
        return tf.function(serve, autograph=False).get_concrete_function(**input_specs(sample))
    except Exception as error:
        raise InputError(
            f"A {type(model).__name__} can't be stored as saved-model: TensorFlow can't trace its `call` to a graph "
            f"({why_not_compiled(error)}). Use the scenario weights-h5."
        ) from error
