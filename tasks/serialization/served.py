"""A SavedModel as a callable: what `tf.saved_model.load` gives can't be called, and loses its variables when let go."""

from __future__ import annotations

from typing import Any

import numpy as np

from tasks.data import Arrays
from tasks.data.dataset import Array, each
from tasks.errors import InputError
from tasks.serialization.arrays import named_outputs

SIGNATURE = "serving_default"
LONE_INPUT = "x"


class ServedModel:
    """A SavedModel that was brought back: call it on a batch of any size.

    Attributes:
        restored: What `tf.saved_model.load` gave. Kept, for its variables die with it (FACTS S11).
        signatures: Its named signatures.
    """

    def __init__(self, restored: Any, lone_output: str) -> None:
        self.restored = restored
        self.signatures = restored.signatures
        if SIGNATURE not in self.signatures:
            raise InputError(
                f"The SavedModel has no signature {SIGNATURE!r}, only {sorted(self.signatures)}. "
                "A model that was never called is saved without one."
            )
        self._serve = self.signatures[SIGNATURE]
        self._specs: dict[str, Any] = self._serve.structured_input_signature[1]
        self._lone_output = lone_output

    def __call__(self, x: Any) -> Any:
        """Outputs of a batch.

        Args:
            x: `(batch, ...)`, or a dict of them by input name.

        Returns:
            A tensor, or tensors by name where the model has several outputs.
        """
        import tensorflow as tf  # seconds

        given = x if isinstance(x, dict) else {next(iter(self._specs)): x}
        if given.keys() != self._specs.keys():
            raise InputError(f"This model takes {sorted(self._specs)}, not {sorted(given)}.")
        outputs = self._serve(**{n: tf.cast(v, self._specs[n].dtype) for n, v in given.items()})
        return outputs[self._lone_output] if set(outputs) == {self._lone_output} else outputs

    def predict(self, x: Any) -> Arrays:
        """Like calling, as NumPy arrays."""
        return named_outputs(self(x))

    @property
    def variables(self) -> list[Any]:
        """The model's variables."""
        return list(self.restored.variables)


def input_specs(sample: Arrays) -> dict[str, Any]:
    """A `tf.TensorSpec` with an open batch for each input, by the name that it has in a signature."""
    import tensorflow as tf

    return {
        name or LONE_INPUT: tf.TensorSpec((None, *array.shape[1:]), _tensor_dtype(array), name=name or LONE_INPUT)
        for name, array in each(sample).items()
    }


def input_signature(sample: Arrays) -> list[Any]:
    """The one argument of a model, as `tf.function` and Keras' exports take it."""
    specs = input_specs(sample)
    return [specs if isinstance(sample, dict) else specs[LONE_INPUT]]


def input_tensors(x: Arrays) -> dict[str, Any]:
    """A batch by the names of a signature."""
    import tensorflow as tf

    return {name or LONE_INPUT: tf.constant(array) for name, array in each(x).items()}


def graph_variables(model: Any, graph: Any) -> tuple[dict[str, Any], list[Any]]:
    """What a graph needs: the model's weights by path, and whatever else it reads (seeds, states).

    As TensorFlow's own variables. Keras' around them would come back in Python, but a session, and so TensorFlow Serving
    and every other language, never fills them: `Could not find variable`. Both together would be written twice.
    """
    held = {variable.path: variable.value for variable in model.weights}
    known = {id(variable) for variable in held.values()}
    return held, [variable for variable in graph.variables if id(variable) not in known]


def graph_resources(model: Any) -> list[Any]:
    """The lookup tables of a model, which a graph needs beside its variables."""
    import tensorflow as tf

    view = tf.train.TrackableView(model)
    found, seen, left = [], {id(model)}, [model]
    while left:
        for child in view.children(left.pop(), save_type="savedmodel").values():
            if id(child) not in seen:
                seen.add(id(child))
                left.append(child)
                if isinstance(child, tf.saved_model.experimental.TrackableResource):
                    found.append(child)
    return found


def _tensor_dtype(array: Array) -> Any:
    import tensorflow as tf

    return tf.as_dtype(np.dtype(object) if array.dtype.kind in "US" else array.dtype)
