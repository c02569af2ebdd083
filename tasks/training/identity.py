"""Which run a checkpoint belongs to: all that decides the bits of a training, so that no other run goes on from it."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from tasks.data import Dataset
from tasks.definitions import Definition
from tasks.references import resolve
from tasks.training.config import TrainingConfig

Loop = Literal["custom", "fit"]

# How often a run keeps its state, and whether it looks for some, changes no bit of it.
_DECIDES_NOTHING = {"checkpoint_seconds", "checkpoint_epochs", "resume"}


class Identity(BaseModel):
    """What two runs must have in common for one to go on where the other stopped.

    Attributes:
        loop: Which of the two loops.
        definition: The builder's reference.
        arguments: The builder's arguments.
        architecture: Digest of the variables and of Keras' configuration of the model.
        source: Digest of the file that the builder stands in; empty where it has none.
        compiled: Digest of how the model was compiled: optimizer, loss, metrics, and with which settings.
        data: Digest of the data.
        training: The training's configuration.
        callbacks: Class and settings of every callback, as far as they are plain.
        tensorflow: Version.
        keras: Version.
    """

    model_config = {"frozen": True}

    loop: Loop
    definition: str
    arguments: dict[str, Any]
    architecture: str
    source: str
    compiled: str
    data: str
    training: dict[str, Any]
    callbacks: list[tuple[str, dict[str, Any]]]
    tensorflow: str
    keras: str

    @property
    def run(self) -> str:
        """A short name for all of it, the same in every process."""
        return _digest(self.model_dump(mode="json"))[:32]

    def differences(self, other: Identity) -> list[str]:
        """What `other` has otherwise, in words; empty where it is the same run."""
        lines = []
        if (self.definition, self.arguments) != (other.definition, other.arguments):
            lines.append(f"definition {_call(other)}, here {_call(self)}")
        lines += [
            f"{name} {other.training.get(name)!r}, here {self.training.get(name)!r}"
            for name in sorted(self.training.keys() | other.training.keys())
            if self.training.get(name) != other.training.get(name)
        ]
        for name, words in _OTHERWISE.items():
            if getattr(self, name) != getattr(other, name):
                lines.append(words)
        for name in ("loop", "tensorflow", "keras"):
            if getattr(self, name) != getattr(other, name):
                lines.append(f"{name} {getattr(other, name)}, here {getattr(self, name)}")
        return lines


_OTHERWISE = {
    "data": "other data",
    "architecture": "another architecture",
    "compiled": "compiled with another optimizer, loss or metrics",
    "callbacks": "other callbacks",
    "source": "the code of the definition was changed since",
}


def identity_of(
    model: Any,
    definition: Definition,
    dataset: Dataset,
    config: TrainingConfig,
    loop: Loop,
    callbacks: Sequence[Any] = (),
) -> Identity:
    """The identity of a run that has not begun; its model is built and compiled."""
    import keras  # seconds
    import tensorflow as tf

    return Identity(
        loop=loop,
        definition=definition.reference,
        arguments=definition.arguments,
        architecture=_digest([[v.model_dump(mode="json") for v in definition.fingerprint], definition.config]),
        source=_source(definition.reference),
        compiled=_digest(_compiled(model)),
        data=dataset.digest,
        training=config.model_dump(mode="json", exclude=_DECIDES_NOTHING),
        callbacks=[(type(callback).__qualname__, _settings(callback)) for callback in callbacks],
        tensorflow=tf.__version__,
        keras=keras.__version__,
    )


def _compiled(model: Any) -> Any:
    try:
        return model.get_compile_config()
    except Exception:  # a user's loss may not be serializable; its code is in the definition's file
        return [type(model.optimizer).__name__, model.optimizer.get_config()]


def _settings(callback: Any) -> dict[str, Any]:
    return {k: v for k, v in vars(callback).items() if isinstance(v, str | int | float | bool)}


def _source(reference: str) -> str:
    try:
        file = inspect.getsourcefile(inspect.unwrap(resolve(reference)))
    except TypeError:  # written in C
        return ""
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file and Path(file).is_file() else ""


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=_plain).encode()).hexdigest()


def _plain(value: Any) -> Any:
    """A number of NumPy's as Python's; of anything else only the type, for an address differs in every process."""
    return value.item() if hasattr(value, "item") else type(value).__name__


def _call(identity: Identity) -> str:
    return f"{identity.definition}({', '.join(f'{k}={v!r}' for k, v in sorted(identity.arguments.items()))})"
