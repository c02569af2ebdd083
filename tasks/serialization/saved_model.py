"""Format `saved-model`: TensorFlow's SavedModel through `tf.saved_model.save`, callable for any batch size.

Saved plainly, a Keras 3 model comes back as an object that can't be called, with a signature frozen to the batch of its
first call. Here the signature is made explicitly, with an open batch and named inputs and outputs, and what comes back is
a `ServedModel`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tasks.data import Arrays
from tasks.data.dataset import Array, each
from tasks.errors import InputError
from tasks.serialization.arrays import named_outputs
from tasks.serialization.protocol import Promise
from tasks.training.run import why_not_compiled

SIGNATURE = "serving_default"
_INPUT, _OUTPUT = "x", "output"


class SavedModel:
    """A graph with its variables, no source needed."""

    name = "saved-model"
    version = 1
    promises: frozenset[Promise] = frozenset({"architecture", "weights", "signature", "outputs"})
    needs_definition = False
    trainable = False

    def save(self, model: Any, folder: Path, sample: Arrays) -> None:
        """Write graph and variables with the signature `serving_default`."""
        import tensorflow as tf  # seconds

        tf.saved_model.save(model, str(folder), signatures={SIGNATURE: _signature(model, sample)})

    def load(self, folder: Path, rebuild: Callable[[], Any]) -> ServedModel:
        """Load the graph; the model's source is not looked at."""
        del rebuild
        import tensorflow as tf

        return ServedModel(tf.saved_model.load(str(folder)))

    def variables(self, model: Any) -> dict[str, Array]:
        """Variables by their place in the tree of tracked objects, `hidden/_kernel`, as in the checkpoint inside."""
        root = model.restored if isinstance(model, ServedModel) else model
        return {name: v.numpy() for name, v in _tracked_variables(root).items()}

    def predict(self, model: Any, x: Arrays) -> Arrays:
        """The signature, on the live model as on the returned one."""
        served = model if isinstance(model, ServedModel) else _signature(model, x)
        if isinstance(served, ServedModel):
            return named_outputs(served(x))
        outputs = served(**_arguments(x))
        return named_outputs(outputs[_OUTPUT] if set(outputs) == {_OUTPUT} else outputs)


class ServedModel:
    """A SavedModel that was brought back: call it on a batch of any size.

    Attributes:
        restored: What `tf.saved_model.load` gave. Kept, for its variables die with it.
        signatures: Its named signatures.
    """

    def __init__(self, restored: Any) -> None:
        self.restored = restored
        self.signatures = restored.signatures
        if SIGNATURE not in self.signatures:
            raise InputError(
                f"The SavedModel has no signature {SIGNATURE!r}, only {sorted(self.signatures)}. "
                "A model that was never called is saved without one."
            )
        self._serve = self.signatures[SIGNATURE]
        self._specs: dict[str, Any] = self._serve.structured_input_signature[1]

    def __call__(self, x: Any) -> Any:
        """Outputs of a batch.

        Args:
            x: `(batch, ...)`, or a dict of them by input name.

        Returns:
            A tensor, or tensors by name where the model has several outputs.
        """
        import tensorflow as tf

        given = x if isinstance(x, dict) else {next(iter(self._specs)): x}
        if given.keys() != self._specs.keys():
            raise InputError(f"This model takes {sorted(self._specs)}, not {sorted(given)}.")
        outputs = self._serve(**{n: tf.cast(v, self._specs[n].dtype) for n, v in given.items()})
        return outputs[_OUTPUT] if set(outputs) == {_OUTPUT} else outputs

    def predict(self, x: Any) -> Arrays:
        """Like calling, as NumPy arrays."""
        return named_outputs(self(x))

    @property
    def variables(self) -> list[Any]:
        """The model's variables."""
        return list(_tracked_variables(self.restored).values())


def _arguments(x: Arrays) -> dict[str, Any]:
    import tensorflow as tf

    return {name or _INPUT: tf.constant(array) for name, array in each(x).items()}


def _signature(model: Any, sample: Arrays) -> Any:
    """The concrete function that is saved: open batch, inputs and outputs by name."""
    import tensorflow as tf

    lone = not isinstance(sample, dict)

    def serve(**inputs: Any) -> dict[str, Any]:
        outputs = model(inputs[_INPUT] if lone else inputs, training=False)
        if isinstance(outputs, dict):
            return {str(name): value for name, value in outputs.items()}
        if isinstance(outputs, list | tuple):
            return {f"output_{i}": value for i, value in enumerate(outputs)}
        return {_OUTPUT: outputs}

    specs = {
        name or _INPUT: tf.TensorSpec((None, *array.shape[1:]), tf.as_dtype(_tensor_dtype(array)), name=name or _INPUT)
        for name, array in each(sample).items()
    }
    try:
        return tf.function(serve).get_concrete_function(**specs)
    except Exception as error:
        raise InputError(
            f"A {type(model).__name__} can't be stored as saved-model: TensorFlow can't trace its `call` to a graph "
            f"({why_not_compiled(error)}). Use the scenario weights-h5."
        ) from error


def _tensor_dtype(array: Array) -> Any:
    return np.dtype(object) if array.dtype.kind in "US" else array.dtype


def _tracked_variables(root: Any) -> dict[str, Any]:
    """Walk the object graph breadth first, by sorted names, so that both sides meet a shared variable under one name."""
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
