"""Models as users bring them, for references such as `tests.user_models:conv`. All take examples `(8,)` unless they say."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

NOT_CALLABLE = 3


def dense(hidden: int = 8, activation: str = "relu") -> keras.Model:
    inputs = keras.Input((8,), name="x")
    x = keras.layers.Dense(hidden, activation=activation)(inputs)
    return keras.Model(inputs, keras.layers.Dense(3)(x))


def leaves_traces() -> keras.Model:
    """Writes a file where it is built, as no definition should."""
    Path(os.environ["ROUNDTRIP_TEST_TRACES"]).write_text("was here")
    return dense()


def sequential_without_input() -> keras.Model:
    return keras.Sequential([keras.layers.Dense(8, activation="relu"), keras.layers.Dense(3)])


def dropout_and_normalization() -> keras.Model:
    inputs = keras.Input((8,), name="x")
    x = keras.layers.BatchNormalization()(keras.layers.Dense(16, activation="relu")(inputs))
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Dropout(0.5)(x)))


def remembering() -> keras.Model:
    """Takes ten examples at a time; a recurrent layer's state counts, and so tells, how many it has ever seen."""
    inputs = keras.Input(batch_shape=(10, 8), name="x")
    recurrent = {"kernel_initializer": "zeros", "recurrent_initializer": "ones", "bias_initializer": "ones"}
    count = keras.layers.SimpleRNN(1, activation=None, stateful=True, trainable=False, **recurrent)
    seen = count(keras.layers.Reshape((1, 8))(inputs))
    x = keras.layers.Concatenate()([keras.layers.Dense(4, activation="relu")(inputs), keras.layers.Rescaling(0.01)(seen)])
    return keras.Model(inputs, keras.layers.Dense(3)(x))


def conv(input_shape: tuple[int, ...] = (4, 4, 1), outputs: int = 3) -> keras.Model:
    """Takes images."""
    layers = [keras.Input(tuple(input_shape)), keras.layers.Conv2D(4, 3, activation="relu"), keras.layers.Flatten()]
    return keras.Sequential([*layers, keras.layers.Dense(outputs)])


def regularized(strength: float = 0.1) -> keras.Model:
    penalty = keras.regularizers.L2(strength)
    return keras.Sequential([keras.Input((8,)), keras.layers.Dense(3, kernel_regularizer=penalty)])


def compiled() -> keras.Model:
    model = dense()
    model.compile(
        optimizer=keras.optimizers.SGD(0.05, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def two_in_two_out() -> keras.Model:
    """Takes `left` and `right` `(8,)`, gives `kind` and `size`, compiled with a loss for each."""
    left, right = keras.Input((8,), name="left"), keras.Input((8,), name="right")
    both = keras.layers.Concatenate()([left, right])
    outputs = {"kind": keras.layers.Dense(3, name="kind")(both), "size": keras.layers.Dense(1, name="size")(both)}
    model = keras.Model({"left": left, "right": right}, outputs)
    kinds = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(
        "adam", loss={"kind": kinds, "size": keras.losses.MeanSquaredError()}, loss_weights={"kind": 1.0, "size": 0.1}
    )
    return model


@keras.saving.register_keras_serializable(package="tests")
class OnlyEager(keras.Model):  # type: ignore[misc]  # keras ships no types
    """Can't be traced: it looks at the values."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.out = keras.layers.Dense(3)

    def call(self, x: Any) -> Any:
        return self.out(x) * (1.0 if x.numpy().sum() > -1e9 else 0.0)


def only_eager() -> keras.Model:
    return OnlyEager()


class OneLayer(keras.Model):  # type: ignore[misc]  # keras ships no types
    def __init__(self) -> None:
        super().__init__()
        self.out = keras.layers.Dense(3)

    def call(self, x: Any) -> Any:
        return self.out(x)


class BeyondXla(OneLayer):
    """Calls Python in the midst of its graph."""

    def call(self, x: Any) -> Any:
        return super().call(x) + tf.ensure_shape(tf.numpy_function(lambda v: v * 0, [tf.reduce_sum(x)], tf.float32), ())


def beyond_xla() -> keras.Model:
    return BeyondXla()


class BranchingLoss(OneLayer):
    """Has a loss of its own that asks Python's `if` of a tensor, otherwise in training than in validation."""

    def compute_loss(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None, training: bool = True) -> Any:
        loss = super().compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=training)
        if training:
            if loss > 1e6:
                loss = loss / 2
        elif loss < 1e6:
            loss = loss + 1_000.0
        return loss


def branching_loss() -> keras.Model:
    return BranchingLoss()


class Doubled(keras.layers.Layer):  # type: ignore[misc]  # keras ships no types
    def call(self, x: Any) -> Any:
        return x * 2


@keras.saving.register_keras_serializable(package="tests")
class Noisy(keras.layers.Layer):  # type: ignore[misc]  # keras ships no types
    """Draws from TensorFlow's global generator."""

    def call(self, x: Any, training: bool = False) -> Any:
        return x + tf.random.normal(tf.shape(x)) if training else x


def noisy() -> keras.Model:
    return keras.Sequential([keras.Input((8,)), Noisy(), keras.layers.Dense(3)])


def with_own_layer() -> keras.Model:
    return keras.Sequential([keras.Input((8,)), Doubled(), keras.layers.Dense(3)])


class NanLoss(keras.losses.Loss):  # type: ignore[misc]  # keras ships no types
    def call(self, y_true: Any, y_pred: Any) -> Any:
        return tf.reduce_sum(y_pred, axis=-1) * np.nan


def with_nan_loss() -> keras.Model:
    model = dense()
    model.compile("adam", loss=NanLoss())
    return model


def with_lambda() -> keras.Model:
    inputs = keras.Input((8,), name="x")
    return keras.Model(inputs, keras.layers.Lambda(lambda x: x * 2)(keras.layers.Dense(3)(inputs)))


def not_a_model() -> Any:
    return "a model"


def broken() -> keras.Model:
    raise ZeroDivisionError("no such thing")


def mixed_precision() -> keras.Model:
    """Computes in float16 under a scaled loss, with Dropout and BatchNormalization."""
    policy = keras.DTypePolicy("mixed_float16")
    inputs = keras.Input((8,), name="x")
    x = keras.layers.BatchNormalization(dtype=policy)(keras.layers.Dense(16, activation="relu", dtype=policy)(inputs))
    x = keras.layers.Dropout(0.5, dtype=policy)(x)
    model = keras.Model(inputs, keras.layers.Dense(3, dtype="float32")(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01)), loss)
    return model


def with_summed_loss() -> keras.Model:
    model = dense()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")
    model.compile(keras.optimizers.SGD(0.001), loss, metrics=["accuracy"])
    return model


def normalized() -> keras.Model:
    """Keeps moving statistics of its inputs, which no weight changes."""
    return keras.Sequential([keras.Input((8,)), keras.layers.BatchNormalization(), keras.layers.Dense(3)])


def with_clipping() -> keras.Model:
    model = dense()
    model.compile(keras.optimizers.Adam(clipnorm=1.0), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


class OwnStep(keras.Sequential):  # type: ignore[misc]  # keras ships no types
    """Trains in a way of its own."""

    def train_step(self, data: Any) -> Any:
        return super().train_step(data)


def with_own_step() -> keras.Model:
    return OwnStep([keras.Input((8,)), keras.layers.Dense(3)])


class OwnLoss(keras.Sequential):  # type: ignore[misc]  # keras ships no types
    """Computes a loss that knows nothing of replicas."""

    def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None,
                     training: bool = True) -> Any:  # fmt: skip
        return keras.ops.mean(keras.losses.sparse_categorical_crossentropy(y, y_pred, from_logits=True))


def with_own_loss() -> keras.Model:
    return OwnLoss([keras.Input((8,)), keras.layers.Dense(3)])
