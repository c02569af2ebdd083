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
        return list(tracked_variables(self.restored).values())


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


def tracked_variables(root: Any) -> dict[str, Any]:
    """Every variable below an object, by its place in the tree of tracked objects.

    Breadth first, by sorted names, so that both sides meet a shared variable under one name.
    """
    import keras
    import tensorflow as tf

    view = tf.train.TrackableView(root)
    found: dict[str, Any] = {}
    seen: set[int] = {id(root)}
    level: list[tuple[str, Any]] = [("", root)]
    while level:
        following: list[tuple[str, Any]] = []
        for place, node in level:
            # The children as a SavedModel has them; a checkpoint's would leave out a Sequential's own `_layers`.
            for name, child in sorted(view.children(node, save_type="savedmodel").items()):
                # Optimizers and compile-time metrics hang off the model too; they are not its weights.
                if id(child) in seen or (place == "" and name in {"signatures", "optimizer", "_metrics", "_loss_tracker"}):
                    continue
                seen.add(id(child))
                path = f"{place}{name}"
                if isinstance(child, keras.Variable):  # on the live model, around the tf.Variable
                    found[path] = child.value
                elif isinstance(child, tf.Variable):
                    found[path] = child
                else:
                    following.append((f"{path}/", child))
        level = following
    return found


def _tensor_dtype(array: Array) -> Any:
    import tensorflow as tf

    return tf.as_dtype(np.dtype(object) if array.dtype.kind in "US" else array.dtype)
