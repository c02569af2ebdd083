"""The custom training loop: `GradientTape`, compiled, many steps a call.

A step that is called from Python for every batch spends most of its time in Python when the model is small. So a *chunk* of
many batches runs inside one `tf.function`: the examples are brought into the epoch's order outside, stacked to
`(steps, batch, ...)`, and the graph loops over the first axis. A chunk is bounded in bytes, so memory stays bounded and
Ctrl-C is heard between chunks. The last short batch of an epoch runs through the same step at its own size.

Where several replicas train (`replicas.py`), each step of the chunk is taken by all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from tasks.data import Array, Arrays, Dataset, rows
from tasks.data.dataset import each, take
from tasks.definitions import Definition
from tasks.definitions.build import as_tensors, fixed_batch
from tasks.training.checkpoints import Checkpointing, Session
from tasks.training.config import TrainingConfig
from tasks.training.replicas import Part, Team
from tasks.training.run import (
    VALIDATION_BATCH,
    History,
    Report,
    Trained,
    be_deterministic,
    callbacks_of,
    check_steps,
    deciding_callbacks,
    ensure_compiled,
    in_the_users_terms,
    order,
    silent,
    why_not_compiled,
)
from tasks.training.seat import seated
from tasks.training.step import build_optimizer, build_state, gradient_step, overridden, put_back, trained_state

_CHUNK_BYTES = 64 * 2**20
_XLA_MAX_PARAMETERS = 2_000_000
# XLA compiles for 0.4 s, and takes 0.4 ms off a step of 100,000 parameters, 1 ms off one of a million.
_XLA_MIN_STEPS = 1_000

# Runs a stack of batches `(steps, batch, ...)`; returns nothing, the state is in variables.
_RunChunk = Callable[[Any, Any], None]


def train_with_custom_loop(
    model: Any,
    dataset: Dataset,
    config: TrainingConfig,
    report: Report = silent,
    callbacks: Sequence[Any] = (),
    checkpointing: Checkpointing | None = None,
    definition: Definition | None = None,
) -> Trained:
    """Train a Keras model by our own compiled loop.

    Loss and metrics are the model's own (`compute_loss`, `compute_metrics`), so loss weights, regularization, several
    outputs and loss scaling work as in `fit`.

    Args:
        model: A built Keras model; compiled as configured where its author did not.
        dataset: What it learns from.
        config: How long, in which batches, when to stop.
        report: Called after each epoch.
        callbacks: Keras callbacks; their epoch and train events are called. One that has `get_state` (a JSON-able value)
            and `set_state` goes on with its state after a return.
        checkpointing: Where the state is kept, so that a run that was killed goes on; by default nowhere.
        definition: What the model was built from; needed where several replicas train.

    Returns:
        The same model object, trained.

    Raises:
        TrainingFailed: The loss became NaN or infinite.
        WorkerLost: Another worker of the same training is gone.
    """
    import keras

    compile_as = partial(ensure_compiled, dataset=dataset, config=config)
    compile_as(model)
    deciding = deciding_callbacks(config, callbacks)
    with (
        in_the_users_terms(dataset),
        seated(model, definition, dataset, config, checkpointing, compile_as) as seat,
        Session(seat.model, dataset, seat.config, "custom", deciding, seat.checkpointing) as session,
    ):
        count = check_steps(dataset.x)
        loop = Loop(seat.model, config, count, seat.team)
        if seat.team:
            seat.team.check_start(session.first)
        listeners = keras.callbacks.CallbackList(
            callbacks_of(session, config, report),
            model=seat.model,
            add_history=True,
            epochs=config.epochs,
            verbose=0,
        )
        seat.model.stop_training = False
        listeners.on_train_begin()
        logs: dict[str, float] = {}
        for epoch in range(session.first, session.end):
            listeners.on_epoch_begin(epoch)
            logs = loop.train_epoch(dataset.x, dataset.y, order(config, epoch, count))
            validation = loop.validate(dataset.x_val, dataset.y_val)
            logs |= {f"val_{name}": value for name, value in validation.items()}
            listeners.on_epoch_end(epoch, logs)
            if seat.model.stop_training:
                break
        listeners.on_train_end(logs)
        metrics = loop.validate(dataset.x_val, dataset.y_val)
    history = History(session.curves, session.seconds, loop.mode, [*session.notes, *loop.notes])
    final = {f"val_{name}": value for name, value in metrics.items()}
    return Trained(model, history, final, session.run, seat.follower)


class Loop:
    """The steps of one model, compiled as far as the model allows, alone or by all replicas of a team.

    Args:
        model: Built and compiled.
        config: How it trains.
        examples: On how many.
        team: The replicas that train it; None is one device.
    """

    def __init__(self, model: Any, config: TrainingConfig, examples: int, team: Team | None = None) -> None:
        import keras

        be_deterministic(config.seed)
        self._model = model
        self._config = config
        self._team = team
        self._loss = team.loss_tracker(model) if team else keras.metrics.Mean(name="loss")
        # All slots exist before the first trace: a tf.function may create variables only in its first call.
        build_optimizer(model)
        self.notes = team.notes if team else []
        self.mode = _mode_for(model, config, examples, distributed=team is not None)
        self._warmed = False
        self._train: _RunChunk
        self._train_tail: _RunChunk
        self._evaluate: _RunChunk
        self._compile()

    def train_epoch(self, x: Arrays, y: Arrays, index: Array) -> dict[str, float]:
        """Take one step a batch over all examples in the given order; the mean loss and the metrics."""
        self.warm_up(x, y, index)
        self._reset()
        for stack in chunks(x, y, index, self._config.batch_size):
            self.train_stack(*stack)
        return self.logs()

    def validate(self, x: Arrays, y: Arrays) -> dict[str, float]:
        """Loss and metrics over all examples, in batches as large as serve."""
        self._reset()
        count = rows(x)
        batches = max(1, -(-count // max(self._config.batch_size, VALIDATION_BATCH)))
        # Of one size where the count allows it: a last short one is traced apart.
        size = fixed_batch(self._model) or -(-count // batches)
        for stack in chunks(x, y, np.arange(count), size):
            self.judge_stack(*stack)
        return self.logs()

    def train_stack(self, x: Arrays, y: Arrays) -> None:
        """Take one step for each batch of a stack `(steps, batch, ...)`."""
        # XLA compiles anew for every shape: odd sizes go through the plain graph, which takes any.
        first = next(iter(each(x).values()))
        whole = first.shape[1] == self._config.batch_size and first.shape[0] > 1
        (self._train if whole else self._train_tail)(x, y)

    def judge_stack(self, x: Arrays, y: Arrays) -> None:
        """Add each batch of a stack `(steps, batch, ...)` to loss and metrics."""
        self._evaluate(x, y)

    def logs(self) -> dict[str, float]:
        """Loss and metrics since they were reset, over the parts of all replicas."""
        logs = {"loss": self._loss.result()} | {
            name: value for name, value in self._model.get_metrics_result().items() if name != "loss"
        }
        return {name: float(value) for name, value in logs.items()}

    def _reset(self) -> None:
        self._loss.reset_state()
        self._model.reset_metrics()

    def _step(self, x: Any, y: Any, part: Part | None = None) -> None:
        predicted, loss = gradient_step(self._model, x, y, part.weight if part else None)
        self._update(x, y, predicted, loss, part)

    def _judge(self, x: Any, y: Any, part: Part | None = None) -> None:
        model = self._model
        predicted = model(x, training=False)
        self._update(x, y, predicted, model.compute_loss(x=x, y=y, y_pred=predicted, training=False), part)

    def _update(self, x: Any, y: Any, predicted: Any, loss: Any, part: Part | None) -> None:
        import tensorflow as tf

        if part:
            (x, y, predicted), loss = part.own((x, y, predicted)), part.in_the_mean(loss)
        self._loss.update_state(loss, sample_weight=tf.shape(tf.nest.flatten(x)[0])[0])
        self._model.compute_metrics(x, y, predicted)

    def _compile(self) -> None:
        import tensorflow as tf

        def over(step: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
            def chunk(x: Any, y: Any) -> None:
                def body(i: Any) -> tuple[Any]:
                    step(*tf.nest.map_structure(lambda a: a[i], (x, y)))
                    return (i + 1,)

                count = tf.shape(tf.nest.flatten(x)[0])[0]
                # One after the other: a step reads what the step before it wrote.
                tf.while_loop(lambda i: i < count, body, [tf.constant(0)], parallel_iterations=1)

            return chunk

        def eagerly(step: Callable[[Any, Any], None]) -> _RunChunk:
            def chunk(x: Any, y: Any) -> None:
                for i in range(len(next(iter(each(x).values())))):
                    step(*tf.nest.map_structure(tf.constant, (take(x, i), take(y, i))))

            return chunk

        step: Callable[[Any, Any], None] = self._team.on_all(self._step) if self._team else self._step
        judging: Callable[[Any, Any], None] = self._team.on_all(self._judge) if self._team else self._judge
        if self.mode == "eager":
            self._train = self._train_tail = eagerly(step)
            self._evaluate = eagerly(judging)
            return
        train, judge = over(step), over(judging)
        # AutoGraph would rewrite the source of all that a step calls, a fifth of a second, and never come by a model's
        # `call`, a loss or a metric: Keras stands between. What an author overrides it does come by.
        own = bool(overridden(self._model, "compute_loss", "compute_metrics"))
        compiled = partial(tf.function, reduce_retracing=True, autograph=own)
        self._train_tail, self._evaluate = compiled(train), compiled(judge)
        self._train = compiled(train, jit_compile=True) if self.mode == "xla" else self._train_tail

    def warm_up(self, x: Arrays, y: Arrays, index: Array) -> None:
        """Find out what the model can be compiled to: one real chunk, whose effects are taken back."""
        if not (self._warmed or self._team or self.mode == "eager"):
            build_state(self._model, *(as_tensors(take(part, index[: self._config.batch_size])) for part in (x, y)))
        # Only compilation is tried out. What also fails eagerly is the user's error and surfaces as such.
        while not self._warmed:
            with put_back(trained_state(self._model)):
                try:
                    self.train_stack(*next(chunks(x, y, index, self._config.batch_size)))
                    self._warmed = True
                except Exception as error:
                    if self.mode == "eager" or (self._team and self._team.group.lost(error)):
                        raise
                    slower = "graph" if self.mode == "xla" else "eager"
                    reason = why_not_compiled(error)
                    self.notes.append(f"the training step can't run under {self.mode} and runs under {slower} ({reason})")
                    self.mode = slower
                    self._compile()


def _mode_for(model: Any, config: TrainingConfig, examples: int, *, distributed: bool) -> str:
    """XLA where it pays on a CPU: small models of dense layers, and so many steps that they win back its compilation.

    Convolutions and recurrences are faster without it. A rule by model, data and configuration, never by the clock: the same
    run must take the same path, or its bits differ. Replicas add up their gradients in a way that XLA can't compile.
    """
    if distributed:
        return "eager" if config.compiler == "eager" or model.run_eagerly else "graph"
    if config.compiler != "auto":
        return config.compiler
    if model.run_eagerly:
        return "eager"
    dense = all(len(v.shape) <= 2 for v in model.weights)  # noqa: PLR2004  # a matrix
    recurrent = any("recurrent" in v.path for v in model.weights)
    small = model.count_params() <= _XLA_MAX_PARAMETERS
    many = config.epochs * -(-examples // config.batch_size) >= _XLA_MIN_STEPS
    return "xla" if dense and not recurrent and small and many else "graph"


def chunks(x: Arrays, y: Arrays, index: Array, batch: int) -> Iterator[tuple[Arrays, Arrays]]:
    """Stacks `(steps, batch, ...)` in the given order, as equal as they can be; last the short batch `(1, rest, ...)`."""
    count = rows(x)
    steps, size = count // batch, _steps_a_chunk(x, y, batch)
    for start in range(0, steps, size):
        n = min(size, steps - start)
        part = index[start * batch : (start + n) * batch]
        yield _stack(take(x, part), n), _stack(take(y, part), n)
    if rest := count - steps * batch:
        yield _stack(take(x, index[-rest:]), 1), _stack(take(y, index[-rest:]), 1)


def count_chunks(x: Arrays, y: Arrays, batch: int) -> int:
    """How many stacks `chunks` gives."""
    steps, size = rows(x) // batch, _steps_a_chunk(x, y, batch)
    return -(-steps // size) + (1 if rows(x) % batch else 0)


def _steps_a_chunk(x: Arrays, y: Arrays, batch: int) -> int:
    bytes_a_step = batch * sum(a.nbytes // max(1, len(a)) for part in (x, y) for a in each(part).values())
    steps, most = rows(x) // batch, max(1, _CHUNK_BYTES // max(1, bytes_a_step))
    return max(1, -(-steps // max(1, -(-steps // most))))


def _stack(arrays: Arrays, steps: int) -> Arrays:
    def reshape(array: Any) -> Any:
        return array.reshape(steps, -1, *array.shape[1:])

    return {k: reshape(v) for k, v in arrays.items()} if isinstance(arrays, dict) else reshape(arrays)
