"""Keras `fit`, fed so that it is fast and repeats bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tasks.data import Dataset
from tasks.data.dataset import take
from tasks.definitions.build import as_keras_takes_it, as_tensors, fixed_batch
from tasks.training.config import TrainingConfig
from tasks.training.run import (
    VALIDATION_BATCH,
    History,
    Report,
    Trained,
    be_deterministic,
    callbacks_for,
    check_steps,
    ensure_compiled,
    final_metrics,
    order,
    reporting_callback,
    silent,
    why_not_compiled,
)

_STEPS_PER_EXECUTION = 32  # FACTS.md: 2 to 3 times the throughput of one step a call on small models


def train_with_fit(
    model: Any,
    dataset: Dataset,
    config: TrainingConfig,
    report: Report = silent,
    callbacks: Sequence[Any] = (),
    first_epoch: int = 0,
) -> Trained:
    """Train a Keras model by `fit`. Same arguments, result and errors as `train_with_custom_loop`.

    A model that was trained before goes on where `first_epoch` says, up to the epochs of the configuration, and sees the
    examples in the order in which one run of them all would have shown them.
    """
    import keras

    be_deterministic(config.seed)
    count = check_steps(dataset.x)
    steps = -(-count // config.batch_size)
    fast = {} if config.compiler == "eager" else {"steps_per_execution": min(_STEPS_PER_EXECUTION, steps)}
    jit = {"xla": True, "auto": "auto"}.get(config.compiler, False)
    ensure_compiled(model, dataset, config, run_eagerly=config.compiler == "eager", jit_compile=jit, **fast)

    notes = _fall_back_to_eager(model, dataset)
    batches, reorder = _ordered_batches(dataset, config, count)
    started: list[float] = []
    listeners = [reorder, *callbacks_for(config, callbacks, reporting_callback(config, report, started))]
    history: keras.callbacks.History = model.fit(
        batches,
        epochs=config.epochs,
        initial_epoch=first_epoch,
        validation_data=(as_keras_takes_it(dataset.x_val), as_keras_takes_it(dataset.y_val)),
        validation_batch_size=fixed_batch(model) or max(config.batch_size, VALIDATION_BATCH),
        callbacks=listeners,
        verbose=0,
    )
    curves = {name: [float(v) for v in values] for name, values in history.history.items()}
    # Only early stopping leaves other weights behind than those of the last epoch.
    last = {name: values[-1] for name, values in curves.items() if name.startswith("val_")}
    metrics = final_metrics(model, dataset, config.batch_size) if config.early_stopping else last
    return Trained(model, History(curves, started, "fit", notes), metrics)


def _fall_back_to_eager(model: Any, dataset: Dataset) -> list[str]:
    """Have `fit` run a model eagerly that can't be compiled; a note where so. Traces only, computes nothing."""
    import tensorflow as tf

    if model.run_eagerly:
        return []

    def loss(x: Any, y: Any) -> Any:
        return model.compute_loss(x=x, y=y, y_pred=model(x, training=True), training=True)

    batch = slice(0, fixed_batch(model) or 1)
    try:
        tf.function(loss).get_concrete_function(*(as_tensors(take(part, batch)) for part in (dataset.x, dataset.y)))
    except Exception as error:  # what also fails eagerly is the user's error and surfaces as such in `fit`
        model.run_eagerly = True
        return [f"the training step can't run under graph and runs under eager ({why_not_compiled(error)})"]
    return []


def _ordered_batches(dataset: Dataset, config: TrainingConfig, count: int) -> tuple[Any, Any]:
    """A tf.data pipeline that reads the examples in the order that a variable holds, and the callback that sets it.

    `fit(shuffle=True)` draws from TensorFlow's global seed, so what an epoch sees would depend on what ran before it.
    """
    import keras
    import tensorflow as tf

    x, y = as_tensors(dataset.x), as_tensors(dataset.y)
    current = tf.Variable(np.arange(count), dtype=tf.int64, trainable=False)

    def batch(i: Any) -> Any:
        index = current[i * config.batch_size : tf.minimum((i + 1) * config.batch_size, count)]
        return tf.nest.map_structure(lambda a: tf.gather(a, index), (x, y))

    steps = -(-count // config.batch_size)
    batches = tf.data.Dataset.range(steps).map(batch, num_parallel_calls=1).prefetch(tf.data.AUTOTUNE)

    class Reorder(keras.callbacks.Callback):  # type: ignore[misc]  # keras ships no types
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            del logs
            current.assign(order(config, epoch, count))

    return batches, Reorder()
