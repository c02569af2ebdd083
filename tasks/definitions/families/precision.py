"""Models that compute in other numbers than float32."""

from __future__ import annotations

import keras

_FEATURES, _CLASSES = 8, 3


def mixed_precision() -> keras.Model:
    """float16 arithmetic on float32 weights, with a scaled loss: the optimizer becomes a `LossScaleOptimizer`."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        inputs = keras.Input((_FEATURES,), name="x")
        x = keras.layers.Dense(16, activation="relu")(inputs)
        model = keras.Model(inputs, keras.layers.Dense(_CLASSES, dtype="float32")(x))
        model.compile(
            optimizer=keras.optimizers.Adam(0.01),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[keras.metrics.SparseCategoricalAccuracy()],
            jit_compile=False,
        )
    finally:
        keras.config.set_dtype_policy(before)
    return model


def quantized_int8() -> keras.Model:
    """Dense layers quantized to int8: kernels that no gradient changes, biases that learn on."""
    inputs = keras.Input((_FEATURES,), name="x")
    x = keras.layers.Dense(16, activation="relu")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(_CLASSES)(x))
    for layer in model.layers[1:]:
        layer.quantize("int8")
    return model
