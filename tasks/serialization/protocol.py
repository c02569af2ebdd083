"""What every format is: a way to save, the way back, and what it says survives."""

from __future__ import annotations

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
        promises: What survives in the format alone, measured (FACTS.md), and held by every verdict. Weights that are not
            promised (an export folds them into others) are not compared.
        needs_definition: Whether the architecture must be rebuilt by the model's own code, whichever model it is.
        trainable: Whether what comes back is a Keras model that can be trained on.
        output_tolerance: By how much an output may differ, as a share of the largest one (or of 1, where that is smaller):
            0 where it returns bits, more where another runtime computes.
        packages: Modules beyond the project's own dependencies; the extra that brings them has the format's name.
    """

    name: str
    version: int
    promises: frozenset[Promise]
    needs_definition: bool
    trainable: bool
    output_tolerance: float
    packages: tuple[str, ...]

    def check(self, model: Any) -> None:
        """Refuse before the training what `save` would refuse after it, as far as the built model alone tells.

        Raises:
            InputError: The format can't hold this model; the message names another one.
        """

    def save(self, model: Any, folder: Path, sample: Arrays) -> list[str]:
        """Write the model's files into an empty folder.

        Args:
            model: The live model; it stays as it is.
            folder: Empty.
            sample: Inputs `(rows, ...)`; they tell shapes and names.

        Returns:
            A line for everything of this model that the format itself would lose, and that comes back all the same.

        Raises:
            InputError: The format can't hold this model; the message names another one.
        """

    def load(self, folder: Path, rebuilt: Any) -> Any:
        """Bring the model back from the folder that `save` wrote, callable on the sample.

        Args:
            folder: What `save` filled.
            rebuilt: The untrained architecture, built from its definition, called once on data and held against the
                fingerprint; None where the files alone must do.
        """

    def variables(self, model: Any) -> dict[str, Array]:
        """The weights by a name that is the same before `save` and after `load`."""

    def predict(self, model: Any, x: Arrays) -> Arrays:
        """Outputs on `x`, by the kind of call that users of this format make."""
