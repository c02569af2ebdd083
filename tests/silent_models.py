"""Models that Keras or TensorFlow lose something of without a word (the S-numbers are FACTS.md's). All take `(8,)`."""

from __future__ import annotations

from typing import Any

import keras


@keras.saving.register_keras_serializable(package="tests")
class Scaled(keras.Model):  # type: ignore[misc]  # keras ships no types
    """S1: no `get_config`, so Keras makes it again with the default."""

    def __init__(self, factor: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.factor = factor
        self.out = keras.layers.Dense(3)

    def call(self, x: Any) -> Any:
        return self.out(x) * self.factor


def scaled() -> keras.Model:
    return Scaled(factor=5.0)


@keras.saving.register_keras_serializable(package="tests")
class Collected(keras.Model):  # type: ignore[misc]  # keras ships no types
    """S3: layers in a list and a dict."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.blocks = [keras.layers.Dense(8, activation="relu"), keras.layers.Dense(8)]
        self.heads = {"kind": keras.layers.Dense(3)}
        self.last = keras.layers.Dense(3)

    def call(self, x: Any) -> Any:
        for block in self.blocks:
            x = block(x)
        return self.last(self.heads["kind"](x))


def collected() -> keras.Model:
    return Collected()


@keras.saving.register_keras_serializable(package="tests")
class Hidden(keras.layers.Layer):  # type: ignore[misc]  # keras ships no types
    """S8: a layer held under a name that Keras uses itself."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._layers = [keras.layers.Dense(3)]

    def call(self, x: Any) -> Any:
        return self._layers[0](x)


def hidden() -> keras.Model:
    return keras.Sequential([keras.Input((8,)), keras.layers.Dense(8), Hidden()])


def plus_one() -> keras.Model:
    """S9: an operation of Python's in a functional graph."""
    inputs = keras.Input((8,), name="x")
    return keras.Model(inputs, keras.layers.Dense(3)(inputs + 1.0))


def compiled_with(loss: str, metric: str = "accuracy") -> keras.Model:
    """S5, S9, S12: one layer, compiled with one of these."""
    inputs = keras.Input((8,), name="x")
    model = keras.Model(inputs, keras.layers.Dense(3)(inputs))
    losses = {
        "huber": keras.losses.Huber(delta=0.01),
        "cosine": keras.losses.CosineSimilarity(axis=0),
        "sparse": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    }
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9, use_ema=loss == "sparse")
    model.compile(optimizer, losses[loss], metrics=[metric])
    return model


@keras.saving.register_keras_serializable(package="tests")
class Powered(keras.losses.Loss):  # type: ignore[misc]  # keras ships no types
    """S5: a loss of the user's own, without `get_config`."""

    def __init__(self, power: float = 2.0, name: str = "powered", reduction: str = "sum_over_batch_size") -> None:
        super().__init__(name=name, reduction=reduction)
        self.power = power

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return keras.ops.mean(keras.ops.abs(y_pred - y_true) ** self.power, axis=-1)


def with_own_loss() -> keras.Model:
    inputs = keras.Input((8,), name="x")
    model = keras.Model(inputs, keras.layers.Dense(3)(inputs))
    model.compile("sgd", Powered(power=4.0))
    return model


def mixed() -> keras.Model:
    """S6: half precision, whose optimizer scales the loss."""
    keras.config.set_dtype_policy("mixed_float16")
    try:
        inputs = keras.Input((8,), name="x")
        hidden_units = keras.layers.Dense(8, activation="relu")(inputs)
        model = keras.Model(inputs, keras.layers.Dense(3, dtype="float32")(hidden_units))
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    finally:
        keras.config.set_dtype_policy("float32")
    return model


def lookup() -> keras.Model:
    """S10: takes words `(1,)`."""
    inputs = keras.Input((1,), dtype="string", name="x")
    encoded = keras.layers.StringLookup(vocabulary=["a", "b", "c"], output_mode="one_hot")(inputs)
    return keras.Model(inputs, keras.layers.Dense(3)(encoded))
