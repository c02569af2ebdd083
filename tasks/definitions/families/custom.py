"""A layer, a loss and a metric of one's own, registered with Keras and not."""

from __future__ import annotations

from typing import Any

import keras

_FEATURES, _CLASSES = 8, 3
_registered = keras.saving.register_keras_serializable(package="roundtrip.families")


class PlainScale(keras.layers.Layer):  # type: ignore[misc]  # keras ships no types
    """Multiplies each feature by a weight, and all of them by a constant."""

    def __init__(self, factor: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.factor = factor

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """One weight a feature."""
        self.scale = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="scale")

    def call(self, x: Any) -> Any:
        """`(batch, features)`, scaled."""
        return x * self.scale * self.factor

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config: dict[str, Any] = super().get_config()
        return config | {"factor": self.factor}


class PlainFocal(keras.losses.Loss):  # type: ignore[misc]  # keras ships no types
    """Cross-entropy of logits that looks away from what is right already."""

    def __init__(self, gamma: float = 2.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.gamma = gamma

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Loss of each example `(batch,)`."""
        loss = keras.ops.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True)
        return (1.0 - keras.ops.exp(-loss)) ** self.gamma * loss

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config: dict[str, Any] = super().get_config()
        return config | {"gamma": self.gamma}


class PlainHits(keras.metrics.Metric):  # type: ignore[misc]  # keras ships no types
    """Share of examples whose right class is among the first `k`."""

    def __init__(self, k: int = 1, name: str = "hits", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.k = k
        self.hits = self.add_variable(shape=(), initializer="zeros", name="hits")
        self.seen = self.add_variable(shape=(), initializer="zeros", name="seen")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count a batch."""
        del sample_weight
        found = keras.ops.in_top_k(keras.ops.cast(keras.ops.reshape(y_true, (-1,)), "int32"), y_pred, self.k)
        self.hits.assign_add(keras.ops.sum(keras.ops.cast(found, "float32")))
        self.seen.assign_add(keras.ops.cast(keras.ops.shape(y_pred)[0], "float32"))

    def result(self) -> Any:
        """The share so far."""
        return self.hits / keras.ops.maximum(self.seen, 1.0)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config: dict[str, Any] = super().get_config()
        return config | {"k": self.k}


@_registered
class Scale(PlainScale):
    """The layer, known to Keras by name."""


@_registered
class Focal(PlainFocal):
    """The loss, known to Keras by name."""


@_registered
class Hits(PlainHits):
    """The metric, known to Keras by name."""


def registered() -> keras.Model:
    """A layer, a loss and a metric that Keras finds by their registered names, once their module was imported."""
    return _model(Scale(1.5), Focal(1.5), Hits(2))


def unregistered() -> keras.Model:
    """The same, without a registration."""
    return _model(PlainScale(1.5), PlainFocal(1.5), PlainHits(2))


def _model(layer: Any, loss: Any, metric: Any) -> keras.Model:
    dense = keras.layers.Dense
    model = keras.Sequential([keras.Input((_FEATURES,)), layer, dense(8, activation="relu"), dense(_CLASSES)])
    model.compile(optimizer=keras.optimizers.SGD(0.05, momentum=0.9), loss=loss, metrics=[metric], jit_compile=False)
    return model
