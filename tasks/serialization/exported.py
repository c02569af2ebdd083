"""A model that another runtime than TensorFlow runs: what ONNX and LiteRT come back as."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.data import Arrays
from tasks.data.dataset import Array
from tasks.errors import InputError

LONE_OUTPUT = "output"


@dataclass(frozen=True, slots=True)
class ExportedInput:
    """One input: its name, its shape `(None, ...)` with an open batch, and NumPy's dtype (`object` for strings)."""

    name: str
    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]


class ExportedModel:
    """An exported model in its own runtime: call it on a batch of any size.

    Attributes:
        inputs: What it takes.
        runtime: The runtime's own session or interpreter.
    """

    def __init__(
        self, inputs: list[ExportedInput], runtime: Any, run: Callable[[dict[str, Array]], dict[str, Array]]
    ) -> None:
        self.inputs = inputs
        self.runtime = runtime
        self._run = run

    def __call__(self, x: Any) -> Arrays:
        """Outputs of a batch.

        Args:
            x: `(batch, ...)`, or a dict of them by input name.

        Returns:
            An array, or arrays by name where the model has several outputs.
        """
        given = x if isinstance(x, dict) else {self.inputs[0].name: x}
        names = {i.name for i in self.inputs}
        if given.keys() != names:
            raise InputError(f"This model takes {sorted(names)}, not {sorted(given)}.")
        outputs = self._run({i.name: np.asarray(given[i.name]).astype(i.dtype) for i in self.inputs})
        return outputs[LONE_OUTPUT] if set(outputs) == {LONE_OUTPUT} else outputs

    def predict(self, x: Any) -> Arrays:
        """Like calling."""
        return self(x)
