"""Format `litert`: an export for LiteRT (once TensorFlow Lite), run by its own interpreter. Needs the extra `litert`.

Only LiteRT's own operations are used: a model that needs TensorFlow's would not run where TensorFlow is missing, which is
what the format is for. Weights are folded and laid out anew, so they can't be compared one by one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tasks.data import Arrays
from tasks.data.dataset import Array
from tasks.errors import InputError
from tasks.serialization.arrays import keras_predict
from tasks.serialization.exported import LONE_OUTPUT, ExportedInput, ExportedModel
from tasks.serialization.keras_model import refuse_half_precision, weights
from tasks.serialization.protocol import Promise
from tasks.serialization.served import input_signature
from tasks.training.run import why_not_compiled

FILE = "model.tflite"
_KERAS_OUTPUT = "output_0"


class LiteRT:
    """One `.tflite` file, run by LiteRT's interpreter."""

    name = "litert"
    version = 1
    promises: frozenset[Promise] = frozenset({"architecture", "signature", "outputs"})
    needs_definition = False
    trainable = False
    output_tolerance = 1e-5  # measured: up to 5e-7
    packages: tuple[str, ...] = ("ai_edge_litert",)

    def check(self, model: Any) -> None:
        """Refuse 16 bits."""
        refuse_half_precision(model, self.name)

    def save(self, model: Any, folder: Path, sample: Arrays) -> list[str]:
        """Export with an open batch, and open it at once."""
        import tensorflow as tf  # seconds

        self.check(model)
        try:
            model.export(
                folder / FILE,
                format="litert",
                input_signature=input_signature(sample),
                verbose=False,
                target_spec={"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]},
            )
            self.load(folder, None)
        except Exception as error:
            raise InputError(
                f"A {type(model).__name__} can't be stored as litert: {why_not_compiled(error)}. Use the scenario "
                "serving-export."
            ) from error
        return []

    def load(self, folder: Path, rebuilt: Any) -> ExportedModel:
        """Open an interpreter on the processor."""
        del rebuilt
        from ai_edge_litert.interpreter import Interpreter  # an extra

        interpreter = Interpreter(str(folder / FILE))
        runner = interpreter.get_signature_runner()
        inputs = [
            ExportedInput(
                name, tuple(None if n < 0 else int(n) for n in detail["shape_signature"]), np.dtype(detail["dtype"])
            )
            for name, detail in runner.get_input_details().items()
        ]

        def run(x: dict[str, Array]) -> dict[str, Array]:
            outputs = runner(**x)
            return {LONE_OUTPUT: outputs[_KERAS_OUTPUT]} if set(outputs) == {_KERAS_OUTPUT} else outputs

        return ExportedModel(inputs, interpreter, run)

    def variables(self, model: Any) -> dict[str, Array]:
        """Weights by path of the live model; the file has its own."""
        return {} if isinstance(model, ExportedModel) else weights(model)

    def predict(self, model: Any, x: Arrays) -> Arrays:
        """`model.predict` of the live model, LiteRT's outputs of the returned one."""
        return model(x) if isinstance(model, ExportedModel) else keras_predict(model, x)
