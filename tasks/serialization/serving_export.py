"""Format `serving-export`: what `model.export` writes, laid out as TensorFlow Serving wants it: `1/saved_model.pb`.

Point `tensorflow_model_server --model_base_path` at the version's folder `model/`, or load it in Keras through
`keras.layers.TFSMLayer("model/1", call_endpoint="serve")`. Unlike `tf.saved_model.save` it holds the inference graph alone
and keeps the names of dict inputs.
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
from tasks.serialization.served import ServedModel, graph_resources, graph_variables, input_signature
from tasks.training.run import why_not_compiled

# Servers serve the highest number that they find.
NUMBER = "1"
ENDPOINT = "serve"
# What Keras names one output; and how the weights are called, which it leaves out.
_OUTPUT, _WEIGHT = "output_0", "weight:"


class ServingExport:
    """An inference graph with its variables, in a numbered folder."""

    name = "serving-export"
    version = 1
    promises: frozenset[Promise] = frozenset({"architecture", "weights", "signature", "outputs"})
    needs_definition = False
    trainable = False
    output_tolerance = 0.0
    packages: tuple[str, ...] = ()

    def check(self, model: Any) -> None:
        """Any model can be stored."""

    def save(self, model: Any, folder: Path, sample: Arrays) -> list[str]:
        """Write the endpoint `serve`, also as `serving_default`, with an open batch."""
        import keras  # seconds

        # As `model.export` does it, but that would track the model too and write every weight twice.
        archive, endpoint = keras.export.ExportArchive(), _endpoint(model, sample)
        for resource in graph_resources(model):
            archive.track(resource)
        archive.add_endpoint(ENDPOINT, endpoint)
        held, _ = graph_variables(model, endpoint.get_concrete_function())
        for path, variable in held.items():
            archive.add_variable_collection(f"{_WEIGHT}{path}", [variable])
        archive.write_out(str(folder / NUMBER), verbose=False)
        return []

    def load(self, folder: Path, rebuilt: Any) -> ServedModel:
        """Load the graph; the model's source is not looked at."""
        del rebuilt
        import tensorflow as tf  # seconds

        return ServedModel(tf.saved_model.load(str(folder / NUMBER)), _OUTPUT)

    def variables(self, model: Any) -> dict[str, Array]:
        """Weights by path."""
        if not isinstance(model, ServedModel):
            return weights(model)
        kept = {name: value for name, value in vars(model.restored).items() if name.startswith(_WEIGHT)}
        return {name.removeprefix(_WEIGHT): np.asarray(variable) for name, (variable,) in kept.items()}

    def predict(self, model: Any, x: Arrays) -> Arrays:
        """The endpoint, on the live model as on the returned one."""
        if isinstance(model, ServedModel):
            return model.predict(x)
        from tasks.definitions.build import as_tensors

        return named_outputs(_endpoint(model, x)(as_tensors(x)))


def _endpoint(model: Any, sample: Arrays) -> Any:
    import tensorflow as tf

    serve = tf.function(lambda x: model(x, training=False), input_signature=input_signature(sample), autograph=False)
    try:
        serve.get_concrete_function()
    except Exception as error:
        raise InputError(
            f"A {type(model).__name__} can't be stored as serving-export: TensorFlow can't trace its `call` to a graph "
            f"({why_not_compiled(error)}). Use the scenario weights-h5."
        ) from error
    return serve
