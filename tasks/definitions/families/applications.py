"""Two networks of `keras.applications`, untrained, for small images.

They run eagerly, for a few steps: tracing their training takes longer than that, four to eight seconds each time.
"""

from __future__ import annotations

import keras
import numpy as np

from tasks.data import Array

_SIZE, _CLASSES = 32, 3


def images() -> tuple[Array, Array]:
    """Small images whose class is their brightest channel: x `(40, 32, 32, 3) float32` in [0, 255], y `(40,)`."""
    rng = np.random.default_rng(13)
    y = rng.integers(0, _CLASSES, 40)
    x = rng.uniform(0, 200, (40, _SIZE, _SIZE, 3))
    x[np.arange(40), :, :, y] += 55
    return x.astype(np.float32), y


def mobilenet_v3() -> keras.Model:
    """MobileNetV3Small, logits of three classes."""
    model = keras.applications.MobileNetV3Small(
        input_shape=(_SIZE, _SIZE, 3), weights=None, classes=_CLASSES, classifier_activation=None
    )
    return _compiled(model)


def efficientnet_v2() -> keras.Model:
    """EfficientNetV2B0, logits of three classes."""
    model = keras.applications.EfficientNetV2B0(
        input_shape=(_SIZE, _SIZE, 3), weights=None, classes=_CLASSES, classifier_activation=None
    )
    return _compiled(model)


def _compiled(model: keras.Model) -> keras.Model:
    model.compile(
        optimizer=keras.optimizers.SGD(0.01, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy()],
        run_eagerly=True,
    )
    return model
