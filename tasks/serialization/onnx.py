"""Format `onnx`: an export for ONNX Runtime, through Keras and tf2onnx. Needs the extra `onnx`.

The converter folds weights into others (BatchNormalization into the layer before it), so they can't be compared one by one;
the outputs must agree within the format's tolerance.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tasks.data import Arrays
from tasks.data.dataset import Array, each, take
from tasks.errors import InputError
from tasks.serialization.arrays import keras_predict
from tasks.serialization.exported import LONE_OUTPUT, ExportedInput, ExportedModel
from tasks.serialization.keras_model import refuse_half_precision, weights
from tasks.serialization.protocol import Promise
from tasks.serialization.served import input_signature, input_specs
from tasks.training.run import why_not_compiled

FILE = "model.onnx"
_DTYPES = {"tensor(string)": np.dtype(object), "tensor(float)": np.dtype(np.float32), "tensor(double)": np.dtype(np.float64)}


class Onnx:
    """One `.onnx` file, run by ONNX Runtime."""

    name = "onnx"
    version = 1
    promises: frozenset[Promise] = frozenset({"architecture", "signature", "outputs"})
    needs_definition = False
    trainable = False
    output_tolerance = 1e-5  # measured: up to 9e-8 for dense, 5e-7 for convolutional models
    packages: tuple[str, ...] = ("onnx", "tf2onnx", "onnxruntime")

    def check(self, model: Any) -> None:
        """Refuse 16 bits."""
        refuse_half_precision(model, self.name)

    def save(self, model: Any, folder: Path, sample: Arrays) -> list[str]:
        """Export with an open batch, and open it at once: the converter also writes files that no runtime takes (S10)."""
        self.check(model)
        path = folder / FILE
        try:
            with _quiet():
                model.export(path, format="onnx", input_signature=input_signature(sample), verbose=False)
                _name_outputs(path, list(each(keras_predict(model, take(sample, slice(0, 1))))))
        except Exception as error:
            raise _refusal(model, why_not_compiled(error)) from error
        try:
            loaded = self.load(folder, None)
        except Exception as error:
            said = str(error).replace(str(path), FILE)
            raise _refusal(model, f"the converter wrote a file that ONNX Runtime does not open ({said:.300})") from error
        strange = {i.name for i in loaded.inputs} - set(input_specs(sample))
        if strange:
            some = ", ".join(sorted(strange)[:3])
            raise _refusal(model, f"the converter turned its constants into inputs that nobody can give ({some})")
        return []

    def load(self, folder: Path, rebuilt: Any) -> ExportedModel:
        """Open a session on the processor."""
        del rebuilt
        import onnxruntime  # 0.2 s, and an extra

        session = onnxruntime.InferenceSession(folder / FILE, providers=["CPUExecutionProvider"])
        outputs = [output.name for output in session.get_outputs()]
        inputs = [
            ExportedInput(i.name, tuple(n if isinstance(n, int) else None for n in i.shape), _dtype(i.type))
            for i in session.get_inputs()
        ]
        return ExportedModel(inputs, session, lambda x: dict(zip(outputs, session.run(None, x), strict=True)))

    def variables(self, model: Any) -> dict[str, Array]:
        """Weights by path of the live model; the file has its own."""
        return {} if isinstance(model, ExportedModel) else weights(model)

    def predict(self, model: Any, x: Arrays) -> Arrays:
        """`model.predict` of the live model, ONNX Runtime's outputs of the returned one."""
        return model(x) if isinstance(model, ExportedModel) else keras_predict(model, x)


def _refusal(model: Any, why: str) -> InputError:
    return InputError(f"A {type(model).__name__} can't be stored as onnx: {why}. Use the scenario serving-export.")


def _name_outputs(path: Path, names: list[str]) -> None:
    """Call one output `output` and several by their names or numbers; tf2onnx has `Identity:0`, `Identity_1:0`, …."""
    import onnx

    model = onnx.load(path)
    found = [output.name for output in model.graph.output]
    wanted = [name or LONE_OUTPUT for name in names]
    if set(found) == set(wanted):
        return
    new = dict(zip(found, wanted, strict=True))
    for output in model.graph.output:
        output.name = new[output.name]
    for node in model.graph.node:
        node.output[:] = [new.get(name, name) for name in node.output]
        node.input[:] = [new.get(name, name) for name in node.input]
    onnx.save(model, path)


def _dtype(name: str) -> np.dtype[Any]:
    return _DTYPES.get(name) or np.dtype(name.removeprefix("tensor(").removesuffix(")"))


@contextmanager
def _quiet() -> Iterator[None]:
    # tf2onnx logs what it can't convert, and goes on; opening the file is what tells.
    logger = logging.getLogger("tf2onnx")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
