"""What both loops share: determinism, compilation defaults, the order of examples, history, and when to stop."""

from __future__ import annotations

import math
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tasks.data import Arrays, Dataset, rows
from tasks.data.dataset import Array, each, take
from tasks.data.pipeline import in_batches
from tasks.errors import InputError, RoundtripError, TrainingFailed
from tasks.references import place_of
from tasks.training.checkpoints import Session
from tasks.training.cluster import Follower
from tasks.training.config import TrainingConfig
from tasks.training.step import put_back, recurrent_states

# At least so many examples a batch where nothing is learned: small batches only cost time there.
VALIDATION_BATCH = 256
_ONE_SEEDED = threading.Lock()
# Of TensorFlow's messages: what colours them, and where in its graph it happened.
_TERMINAL_CODE = re.compile(r"\x1b\[[0-9;]*m|\{\{[^{}]*\}\} ?| ?\[Op:\w+\].*")


@dataclass(frozen=True, slots=True)
class Epoch:
    """One epoch that ended, for whoever shows progress."""

    number: int
    total: int
    logs: dict[str, float]
    seconds: float


@dataclass(frozen=True, slots=True)
class History:
    """What happened, epoch by epoch.

    Attributes:
        curves: Per logged name (`loss`, `val_loss`, …) one value an epoch.
        seconds: Wall seconds of each epoch.
        loop: `xla`, `graph` or `eager`, or `fit (…)`.
        notes: What was done otherwise than asked, and why.
    """

    curves: dict[str, list[float]]
    seconds: list[float]
    loop: str
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Trained:
    """A model that was trained, alive in this process, with what is known of its training.

    Attributes:
        model: The Keras model.
        history: What happened, epoch by epoch.
        metrics: Loss and metrics of the model as it is, on the validation data.
        run: Name of the run whose checkpoints can go once the model is stored; empty where none were kept.
        follower: This worker, where several trained the model and another one stores it.
    """

    model: Any
    history: History
    metrics: dict[str, float]
    run: str = ""
    follower: Follower | None = None


Report = Callable[[Epoch], None]


def silent(_: Epoch) -> None:
    """Report progress to nobody."""


def be_deterministic(seed: int) -> None:
    """Seed Python, NumPy and TensorFlow, and let TensorFlow use only kernels that repeat bit for bit."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Be deterministic, and keep what this thread draws from Python's global `random` apart from what others draw.

    Keras takes the seeds of its initializers from there. So do libraries in other threads, at any moment: Prefect's
    websocket draws the number of a ping. Between two layers that would change every weight after it.
    """
    be_deterministic(seed)
    own, thread = random.Random(seed), threading.get_ident()
    with _ONE_SEEDED:
        shared = {name: getattr(random, name) for name in random.__all__ if hasattr(own, name)}
        for name, function in shared.items():
            setattr(random, name, _apart(thread, getattr(own, name), function))
        try:
            yield
        finally:
            for name, function in shared.items():
                setattr(random, name, function)


def _apart(thread: int, mine: Callable[..., Any], others: Callable[..., Any]) -> Callable[..., Any]:
    def draw(*args: Any, **kwargs: Any) -> Any:
        return (mine if threading.get_ident() == thread else others)(*args, **kwargs)

    return draw


def order(config: TrainingConfig, epoch: int, count: int) -> Array:
    """The order of the examples in an epoch `(count,) int64`, a function of the seed and the epoch alone."""
    return np.random.default_rng((config.seed, epoch)).permutation(count)


def ensure_compiled(model: Any, dataset: Dataset, config: TrainingConfig, **extra: Any) -> None:
    """Compile a model that its author did not compile, with a loss and metrics that fit the targets.

    Raises:
        InputError: No loss can be chosen for these targets, or a name is unknown to Keras.
    """
    if model.compiled:
        return
    import keras

    loss: Any
    loss, metrics = config.loss, list(config.metrics)
    if loss is None:
        with put_back(recurrent_states(model)):
            loss, chosen = _loss_for(model, dataset)
        metrics = metrics or chosen
    try:
        optimizer = keras.optimizers.get(config.optimizer)
        loss = keras.losses.get(loss)
        # A metric stored by a short name such as `mse` can't be loaded from HDF5 again (FACTS S9): keep objects,
        # but for the accuracies, which Keras itself resolves by the shape of the targets.
        objects = [m if m in {"accuracy", "acc"} else keras.metrics.get(m) for m in metrics]
    except ValueError as error:
        raise InputError(f"Keras does not know it: {error}") from None
    if config.learning_rate is not None:
        optimizer.learning_rate = config.learning_rate
    model.compile(optimizer=optimizer, loss=loss, metrics=objects, **extra)


def _loss_for(model: Any, dataset: Dataset) -> tuple[Any, list[str]]:
    import keras

    from tasks.definitions.build import as_tensors, fixed_batch

    if isinstance(dataset.y, dict):
        raise InputError(
            "A model with several outputs needs a loss for each: return it compiled "
            "(`model.compile(optimizer=…, loss={…})`) from your builder."
        )
    y = dataset.y
    outputs = model(as_tensors(take(dataset.x, slice(0, fixed_batch(model) or 8))), training=False)
    if isinstance(outputs, dict | list | tuple):
        raise InputError(
            f"The model gives {len(outputs)} outputs, but the data brings one array of targets. Give a target for each "
            "(a dict by output name), or return the model compiled from your builder."
        )
    if y.dtype.kind not in "biuf":
        raise InputError(f"The targets are {y.dtype}: no loss fits. Number the classes: 0, 1, 2, …")
    predicted = np.asarray(outputs)
    width = predicted.shape[-1] if predicted.ndim > 1 else 1
    sums_to_one = bool(np.allclose(predicted.sum(-1), 1, atol=1e-3) and (predicted >= 0).all())
    if y.dtype.kind in "iub" and width > 1 and (y.ndim in {1, predicted.ndim - 1} or y.shape[1:] == (1,)):
        if int(y.max()) >= width or int(y.min()) < 0:
            raise InputError(
                f"The targets are classes {int(y.min())} to {int(y.max())}, but the model has {width} outputs: "
                f"classes 0 to {width - 1}. Give the model more outputs or renumber the classes."
            )
        return keras.losses.SparseCategoricalCrossentropy(from_logits=not sums_to_one), ["accuracy"]
    if width == 1 and set(np.unique(y)) <= {0, 1}:
        return keras.losses.BinaryCrossentropy(from_logits=not _gives_probabilities(model, dataset.x)), ["accuracy"]
    if y.shape[1:] != predicted.shape[1:] and not (y.ndim == 1 and width == 1):
        raise InputError(
            f"The targets are {y.shape[1:]} an example and the model gives {predicted.shape[1:]}: no loss fits. "
            "Compile the model in its builder, or change its last layer."
        )
    if width > 1 and set(np.unique(y)) <= {0, 1} and bool((y.sum(-1) == 1).all()):
        return keras.losses.CategoricalCrossentropy(from_logits=not sums_to_one), ["accuracy"]
    return keras.losses.MeanSquaredError(), []


def _gives_probabilities(model: Any, x: Arrays) -> bool:
    """Whether every output lies between 0 and 1 whatever the weights are: fresh logits may do so by chance."""
    from tasks.definitions.build import as_tensors, fixed_batch

    rng = np.random.default_rng(0)
    with put_back(model.trainable_variables):
        for variable in model.trainable_variables:
            variable.assign(rng.normal(scale=10, size=variable.shape))
        outputs = np.asarray(model(as_tensors(take(x, slice(0, fixed_batch(model) or 64))), training=False))
    return bool(((outputs >= 0) & (outputs <= 1)).all())


def why_not_compiled(error: Exception) -> str:
    """One line on an error that TensorFlow raised while it traced a model; theirs has many, the first says nothing."""
    lines = [line.strip() for line in _TERMINAL_CODE.sub("", str(error)).splitlines() if line.strip()] or [""]
    wrapped = next((i for i, line in enumerate(lines[:-1]) if "Exception encountered when calling" in line), None)
    line = lines[wrapped + 1] if wrapped is not None else lines[-1 if lines[0] == "in user code:" else 0]
    return f"{type(error).__name__}: {line:.200}"


@contextmanager
def in_the_users_terms(dataset: Dataset) -> Iterator[None]:
    """Say of what fails in a training what it was trained on and where; Keras' and TensorFlow's errors say neither.

    Raises:
        InputError: The model, its loss or its own code does not take this data.
    """
    try:
        yield
    except (RoundtripError, MemoryError):
        raise
    except Exception as error:
        if type(error).__name__ == "ResourceExhaustedError":  # memory ran out, whatever the data
            raise
        x, y = (
            ", ".join(f"{name} {a.shape[1:] or 'a scalar'} {a.dtype}".strip() for name, a in each(part).items())
            for part in (dataset.x, dataset.y)
        )
        raise InputError(
            f"The model can't be trained on this data (an example: {x}; its target: {y}): {why_not_compiled(error)}"
            f"{place_of(error)}. Look at the model's last layer, its loss and the targets."
        ) from error


def _reporting_callback(config: TrainingConfig, report: Report, session: Session) -> Any:
    """A Keras callback that reports each epoch and stops a run whose loss is no number any more."""
    import keras

    class Reporting(keras.callbacks.Callback):  # type: ignore[misc]  # keras ships no types
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            del epoch, logs
            self.started = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            values = {name: float(value) for name, value in (logs or {}).items()}
            seconds = time.perf_counter() - self.started
            session.seconds.append(seconds)
            report(Epoch(epoch + 1, config.epochs, values, seconds))
            bad = {name: value for name, value in values.items() if name.endswith("loss") and not math.isfinite(value)}
            if bad:
                name, value = next(iter(bad.items()))
                rate = float(self.model.optimizer.learning_rate)
                raise TrainingFailed(
                    f"{name} became {value} in epoch {epoch + 1} of {config.epochs}; nothing was published. "
                    f"Try a smaller --learning-rate (it was {rate:g}), or look for a log or a division by zero in the loss."
                )

    return Reporting()


def deciding_callbacks(config: TrainingConfig, extra: Sequence[Any]) -> list[Any]:
    """The callbacks that may end a run or change its course, in their order."""
    import keras

    if config.early_stopping is None:
        return list(extra)
    return [keras.callbacks.EarlyStopping("val_loss", patience=config.early_stopping, restore_best_weights=True), *extra]


def callbacks_of(session: Session, config: TrainingConfig, report: Report) -> list[Any]:
    """All callbacks of a run in the order in which they see an epoch's logs."""
    return [_reporting_callback(config, report, session), *session.callbacks, session.callback()]


def final_metrics(model: Any, dataset: Dataset, batch_size: int) -> dict[str, float]:
    """Loss and metrics of the finished model on the validation data."""
    values = model.evaluate(validation_batches(model, dataset, batch_size), verbose=0, return_dict=True)
    return {f"val_{name}": float(value) for name, value in values.items()}


def validation_batches(model: Any, dataset: Dataset, batch_size: int) -> Any:
    """The validation data as `fit` and `evaluate` take them, in batches that the model takes."""
    from tasks.definitions.build import fixed_batch

    return in_batches(dataset.x_val, dataset.y_val, size=fixed_batch(model) or max(batch_size, VALIDATION_BATCH))


def check_steps(x: Arrays) -> int:
    """How many examples there are to train on, at least one."""
    count = rows(x)
    if count == 0:
        raise InputError("There are no training examples left after the validation split.")
    return count
