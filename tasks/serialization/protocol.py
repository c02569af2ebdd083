"""What every format is: a way to save, the way back, and what it says survives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from tasks.data import Arrays
from tasks.data.dataset import Array

Promise = Literal[
    "architecture",  # without the model's source
    "weights",  # bit for bit
    "state",  # what no gradient touches: moving statistics, seed generators, recurrent states, vocabularies
    "optimizer",  # slots, step, learning rate
    "compile",  # optimizer, loss and metrics, with their parameters
    "policy",  # the number format of every layer, where it is not float32
    "signature",  # names and shapes of the inputs
    "history",
    "versions",  # of Keras or TensorFlow
    "outputs",  # on the probe
    "resume",  # trained on, it becomes what it would have become without the way
]
PROMISES: tuple[Promise, ...] = get_args(Promise)


class Format(Protocol):
    """One way that TensorFlow has to store a model.

    Attributes:
        name: The scenario's and the format's name, as in the manifest.
        version: Raised when what the format writes changes.
        promises: What survives in the format alone, measured (FACTS.md), and held by every verdict.
        needs_definition: Whether the architecture must be rebuilt by the model's own code.
        trainable: Whether what comes back is a Keras model that can be trained on.
    """

    name: str
    version: int
    promises: frozenset[Promise]
    needs_definition: bool
    trainable: bool

    def save(self, model: Any, folder: Path, sample: Arrays) -> None:
        """Write the model's files into an empty folder. `sample` `(rows, ...)` tells shapes and names of the inputs."""

    def load(self, folder: Path, rebuild: Callable[[], Any]) -> Any:
        """Bring the model back from the folder that `save` wrote, callable on the sample.

        Args:
            folder: What `save` filled.
            rebuild: Gives the untrained architecture, built from its definition, called once on data and held against the
                fingerprint; for formats that need it.

        Raises:
            MismatchError: From `rebuild`, where the definition builds another model than the one that was stored.
        """

    def variables(self, model: Any) -> dict[str, Array]:
        """The weights by a name that is the same before `save` and after `load`."""

    def predict(self, model: Any, x: Arrays) -> Arrays:
        """Outputs on `x`, by the kind of call that users of this format make."""
