"""Pipelines over examples that are in memory: `tf.data` without what it does for those that are not."""

from __future__ import annotations

from typing import Any

from tasks.data.dataset import Arrays


def in_batches(*parts: Arrays, size: int) -> Any:
    """The examples in their order, `size` at a time, as Keras' `fit`, `evaluate` and `predict` take them.

    Keras' own pipeline over arrays takes twice the time to start, and no strings.

    Args:
        parts: x, or x and y.
        size: Rows of a batch; the last one may have fewer.
    """
    import tensorflow as tf  # seconds

    return untuned(tf.data.Dataset.from_tensor_slices(parts).batch(size))


def untuned(batches: Any) -> Any:
    """The pipeline without the thread that tunes it: it takes a fifth of a small model's epoch and finds nothing."""
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.with_options(options)
