"""Keras `fit`, fed so that it is fast and repeats bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tasks.data import Dataset
from tasks.data.dataset import rows, take
from tasks.data.pipeline import untuned
from tasks.definitions import Definition
from tasks.definitions.build import as_tensors
from tasks.training.checkpoints import Checkpointing, Session
from tasks.training.config import TrainingConfig
from tasks.training.driven import fit_together
from tasks.training.run import (
    History,
    Report,
    Trained,
    be_deterministic,
    callbacks_of,
    check_steps,
    deciding_callbacks,
    ensure_compiled,
    final_metrics,
    in_the_users_terms,
    order,
    silent,
    validation_batches,
    why_not_compiled,
)
from tasks.training.seat import seated
from tasks.training.step import build_state

_BATCHES_AHEAD = 2  # gathering one takes less time than any step
_STEPS_PER_EXECUTION = 32  # FACTS.md: 2 to 3 times the throughput of one step a call on small models


def train_with_fit(
    model: Any,
    dataset: Dataset,
    config: TrainingConfig,
    report: Report = silent,
    callbacks: Sequence[Any] = (),
    checkpointing: Checkpointing | None = None,
    first_epoch: int = 0,
    definition: Definition | None = None,
) -> Trained:
    """Train a Keras model by `fit`. Same arguments, result and errors as `train_with_custom_loop`.

    A model that was trained before goes on where `first_epoch` says, up to the epochs of the configuration, and sees the
    examples in the order in which one run of them all would have shown them.
    """
    be_deterministic(config.seed)
    steps = -(-check_steps(dataset.x) // config.batch_size)
    fast = {} if config.compiler == "eager" else {"steps_per_execution": min(_STEPS_PER_EXECUTION, steps)}
    jit = {"xla": True, "auto": "auto"}.get(config.compiler, False)

    def compile_as(uncompiled: Any) -> None:
        ensure_compiled(uncompiled, dataset, config, run_eagerly=config.compiler == "eager", jit_compile=jit, **fast)

    compile_as(model)
    notes: list[str] = []

    def fit(session: Session) -> None:
        if not model.run_eagerly:
            build_state(model, *(as_tensors(take(part, slice(0, config.batch_size))) for part in (dataset.x, dataset.y)))
        batches, reorder = _ordered_batches(dataset, config, steps)
        validation = validation_batches(model, dataset, config.batch_size)
        first = _first_step()
        try:
            model.fit(
                batches,
                epochs=session.end,
                initial_epoch=max(session.first, first_epoch),
                # Not told how many there are, Keras makes two iterators an epoch, of which it uses one: 8 ms each.
                steps_per_epoch=steps,
                validation_data=validation,
                validation_steps=len(validation),
                callbacks=[reorder, first, *callbacks_of(session, config, report)],
                verbose=0,
            )
        except Exception as error:
            if first.taken or model.run_eagerly:
                raise
            # Nothing ran yet: it can't be compiled, or it is the user's error and surfaces again.
            notes.append(f"the training step can't run under graph and runs under eager ({why_not_compiled(error)})")
            model.run_eagerly, model.train_function = True, None
            fit(session)

    deciding = deciding_callbacks(config, callbacks)
    with (
        in_the_users_terms(dataset),
        seated(model, definition, dataset, config, checkpointing, compile_as) as seat,
        Session(seat.model, dataset, seat.config, "fit", deciding, seat.checkpointing) as session,
    ):
        if seat.team:
            callbacks_ = callbacks_of(session, config, report)
            notes += fit_together(seat, dataset, config, callbacks_, range(max(session.first, first_epoch), session.end))
        else:
            fit(session)
    # Only early stopping leaves other weights behind than those of the last epoch.
    last = {name: values[-1] for name, values in session.curves.items() if name.startswith("val_")}
    metrics = final_metrics(model, dataset, config.batch_size) if config.early_stopping else last
    history = History(session.curves, session.seconds, "fit", session.notes + notes)
    return Trained(model, history, metrics, session.run, seat.follower)


def _ordered_batches(dataset: Dataset, config: TrainingConfig, steps: int) -> tuple[Any, Any]:
    """A tf.data pipeline that reads the examples in the order that a variable holds, and the callback that sets it.

    `fit(shuffle=True)` draws from TensorFlow's global seed, so what an epoch sees would depend on what ran before it.
    """
    import keras
    import tensorflow as tf

    count = rows(dataset.x)
    x, y = as_tensors(dataset.x), as_tensors(dataset.y)
    current = tf.Variable(np.arange(count), dtype=tf.int64, trainable=False)

    @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
    def batch(i: Any) -> Any:
        index = current[i * config.batch_size : tf.minimum((i + 1) * config.batch_size, count)]
        return tf.nest.map_structure(lambda a: tf.gather(a, index), (x, y))

    batches = tf.data.Dataset.range(steps).map(batch, num_parallel_calls=1).prefetch(_BATCHES_AHEAD)

    class Reorder(keras.callbacks.Callback):  # type: ignore[misc]  # keras ships no types
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            del logs
            # Keras made this epoch's iterator when the last one ended; it reads nothing before it is asked for a batch.
            current.assign(order(config, epoch, count))

    return untuned(batches), Reorder()


def _first_step() -> Any:
    """A callback whose `taken` says whether a training step was taken."""
    import keras

    class FirstStep(keras.callbacks.Callback):  # type: ignore[misc]  # keras ships no types
        taken = False

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            del batch, logs
            self.taken = True

    return FirstStep()
