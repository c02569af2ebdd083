"""The built-in definitions: small classifiers for flat or image-like inputs of any scale.

Inputs are normalized example by example inside the model (without variables of its own), so that pixels of 0 to 255 and
standard normal features train alike, and whoever serves the model needs no scaling of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras


def mlp(input_shape: Sequence[int] = (784,), outputs: int = 10, hidden: int = 64, activation: str = "relu") -> keras.Model:
    """A functional model: flatten, normalize, one hidden layer, logits `(batch, outputs) float32`."""
    inputs = keras.Input(tuple(input_shape), name="x")
    x = keras.layers.Flatten()(inputs)
    x = keras.layers.LayerNormalization(center=False, scale=False)(x)
    x = keras.layers.Dense(hidden, activation=activation)(x)
    return keras.Model(inputs, keras.layers.Dense(outputs)(x), name="mlp")


@keras.saving.register_keras_serializable(package="roundtrip")
class SubclassedClassifier(keras.Model):  # type: ignore[misc]  # keras ships no types
    """The same classifier as a subclass of `keras.Model`, logits `(batch, outputs) float32`."""

    def __init__(self, outputs: int = 10, hidden: int = 64, activation: str = "relu", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.outputs_count, self.hidden_units, self.activation_name = outputs, hidden, activation
        self.flatten = keras.layers.Flatten()
        self.normalize = keras.layers.LayerNormalization(center=False, scale=False)
        self.hidden = keras.layers.Dense(hidden, activation=activation)
        self.logits = keras.layers.Dense(outputs)

    def call(self, x: Any) -> Any:
        """Logits of a batch `(batch, ...)` of any numeric dtype."""
        x = self.flatten(keras.ops.cast(x, self.compute_dtype))
        return self.logits(self.hidden(self.normalize(x)))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments; without them Keras rebuilds with the defaults, silently (FACTS S1)."""
        own = {"outputs": self.outputs_count, "hidden": self.hidden_units, "activation": self.activation_name}
        config: dict[str, Any] = super().get_config()
        return config | own


def subclassed(outputs: int = 10, hidden: int = 64, activation: str = "relu") -> keras.Model:
    """A subclassed model for the custom training loop."""
    return SubclassedClassifier(outputs=outputs, hidden=hidden, activation=activation, name="subclassed")
