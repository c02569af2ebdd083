"""The fingerprint of a definition: what it built, variable by variable. `mismatch` has the words for when it is another."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, Field


class VariableSpec(BaseModel):
    """One variable of a model."""

    model_config = {"frozen": True}

    path: str
    shape: tuple[int, ...]
    dtype: str

    def __str__(self) -> str:
        return f"{self.shape} {self.dtype}"


class Definition(BaseModel):
    """A builder, its arguments, and what it built when the model was defined.

    Attributes:
        reference: `module:callable` or `/absolute/file.py:callable`.
        arguments: Every argument of the builder, those taken from the data included.
        fingerprint: The variables in the order in which the model lists them.
        config: Keras' own architecture configuration where the model has one, else None. Shapes can't tell a `relu`
            from a `tanh`; this can.
    """

    model_config = {"frozen": True}

    reference: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    fingerprint: tuple[VariableSpec, ...] = ()
    config: str | None = None


def fingerprint(model: Any) -> tuple[VariableSpec, ...]:
    """Path, shape and dtype of every weight of a built Keras model."""
    return tuple(
        VariableSpec(path=v.path, shape=tuple(v.shape), dtype=str(v.dtype).removeprefix("float_")) for v in model.weights
    )


def architecture(model: Any) -> str | None:
    """The architecture's configuration as canonical JSON, or None where the model can't tell it (a plain subclass)."""
    import keras  # seconds

    try:
        return json.dumps(_lasting(keras.saving.serialize_keras_object(model)), sort_keys=True, default=str)
    except Exception:  # a user's get_config may raise anything; then there simply is no configuration to keep
        return None


def _lasting(config: Any) -> Any:
    # How a model or a layer in it is compiled or was built (on how many rows, say) is not its architecture.
    if isinstance(config, dict):
        return {k: _lasting(v) for k, v in config.items() if k not in {"compile_config", "build_config"}}
    return [_lasting(v) for v in config] if isinstance(config, list | tuple) else config
