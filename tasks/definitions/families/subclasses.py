"""Subclasses of `keras.Model`, with and without the configuration that Keras would rebuild them from."""

from __future__ import annotations

from typing import Any

import keras

_CLASSES = 3


@keras.saving.register_keras_serializable(package="roundtrip.families")
class Configured(keras.Model):  # type: ignore[misc]  # keras ships no types
    """Two dense layers; tells its constructor's arguments."""

    def __init__(self, hidden: int = 8, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hidden = hidden
        self.first = keras.layers.Dense(hidden, activation="relu")
        self.last = keras.layers.Dense(_CLASSES)

    def call(self, x: Any) -> Any:
        """Logits `(batch, 3)`."""
        return self.last(self.first(x))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config: dict[str, Any] = super().get_config()
        return config | {"hidden": self.hidden}


@keras.saving.register_keras_serializable(package="roundtrip.families")
class Unconfigured(keras.Model):  # type: ignore[misc]  # keras ships no types
    """The same shapes whatever the temperature: Keras rebuilds it with the default, without a word (FACTS S1)."""

    def __init__(self, temperature: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.temperature = temperature
        self.first = keras.layers.Dense(8, activation="relu")
        self.last = keras.layers.Dense(_CLASSES)

    def call(self, x: Any) -> Any:
        """Logits `(batch, 3)`, sharpened by the temperature."""
        return self.last(self.first(x)) / self.temperature


def with_config() -> keras.Model:
    """A subclass that can be rebuilt from its configuration."""
    return Configured(hidden=12)


def without_config() -> keras.Model:
    """A subclass whose configuration lacks what its constructor was given."""
    return Unconfigured(temperature=0.25)
