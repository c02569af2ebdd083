"""`fit` where several replicas train: Keras drives epochs, callbacks and validation; the steps are those of our own loop.

Keras' own steps let all parts of a batch count alike, however many examples they hold, and can't add up what several workers
measured. `fit` takes other functions for its steps, and so it gets ours: an element of its data is a chunk of many batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tasks.data import Arrays, Dataset, rows
from tasks.errors import InputError
from tasks.training.config import TrainingConfig
from tasks.training.loop import Loop, chunks, count_chunks
from tasks.training.run import VALIDATION_BATCH, order
from tasks.training.seat import Seat
from tasks.training.step import overridden

_Stacks = Iterator[tuple[Arrays, Arrays]]


def fit_together(seat: Seat, dataset: Dataset, config: TrainingConfig, callbacks: Sequence[Any], epochs: range) -> list[str]:
    """Train the twin of a team by `fit`; gives what the history should say.

    Raises:
        InputError: The model has a training step of its own.
    """
    import tensorflow as tf  # seconds

    assert seat.team is not None
    model, team = seat.model, seat.team
    _check_steps_are_keras_own(model)
    team.check_start(epochs.start)
    loop = Loop(model, config, rows(dataset.x), team)
    driven = _Driven(loop, dataset, config)
    loop.warm_up(dataset.x, dataset.y, order(config, epochs.start, rows(dataset.x)))
    model.train_function, model.test_function = driven.train, driven.test
    # Keras would hand the chunks out to replicas, which take their parts of each batch themselves.
    model._distribute_strategy = None
    model.steps_per_execution = 1
    model.fit(
        tf.data.Dataset.range(count_chunks(dataset.x, dataset.y, config.batch_size)),
        epochs=epochs.stop,
        initial_epoch=epochs.start,
        validation_data=tf.data.Dataset.range(count_chunks(dataset.x_val, dataset.y_val, driven.validation_batch)),
        callbacks=[driven.callback(), *callbacks],
        shuffle=False,  # the chunks have the epoch's order
        verbose=0,
    )
    return loop.notes


class _Driven:
    """The loop's steps as the functions that `fit` calls, which read the chunks of the epoch that it is in."""

    def __init__(self, loop: Loop, dataset: Dataset, config: TrainingConfig) -> None:
        self.validation_batch = max(config.batch_size, VALIDATION_BATCH)
        self._loop, self._dataset, self._config = loop, dataset, config
        self._training: _Stacks = iter(())
        self._validation: _Stacks = iter(())

    def train(self, iterator: Any) -> dict[str, float]:
        """Take the steps of the next chunk; what was measured since the epoch began."""
        next(iterator)
        self._loop.train_stack(*next(self._training))
        return self._loop.logs()

    def test(self, iterator: Any) -> dict[str, float]:
        """Judge the next chunk; what was measured since the validation began."""
        next(iterator)
        self._loop.judge_stack(*next(self._validation))
        return self._loop.logs()

    def callback(self) -> Any:
        """A Keras callback that begins an epoch's and a validation's chunks."""
        import keras

        data, config, driven = self._dataset, self._config, self

        class Feeding(keras.callbacks.Callback):  # type: ignore[misc]  # keras ships no types
            def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
                del logs
                index = order(config, epoch, rows(data.x))
                driven._training = chunks(data.x, data.y, index, config.batch_size)

            def on_test_begin(self, logs: Any = None) -> None:
                del logs
                index = np.arange(rows(data.x_val))
                driven._validation = chunks(data.x_val, data.y_val, index, driven.validation_batch)

        return Feeding()


def _check_steps_are_keras_own(model: Any) -> None:
    own = overridden(model, "train_step", "test_step")
    if own:
        raise InputError(
            f"A {type(model).__name__} has a {own[0]} of its own, which can't be taken by several replicas. Use a scenario "
            "with the custom loop, such as saved-model, which takes the model's compute_loss, or the strategy none."
        )
