"""A training that was stopped anywhere and begun again ends with the bits of one that was not; here within one process."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest

from tasks.data import Dataset
from tasks.errors import UnreachableError
from tasks.training import Checkpointing, Epoch, Trained, TrainingConfig
from tasks.training.identity import Identity, identity_of
from tasks.training.snapshot import Progress, Snapshot, Unfit, put_variables, take
from tests import samples
from tests.training.process import DATA, FASTEST, LOOPS

EPOCHS = 4


class InMemory:
    """Keeps snapshots by run, all of them."""

    def __init__(self) -> None:
        self.kept: dict[str, list[Snapshot]] = {}

    def newest(self, identity: Identity) -> Snapshot | None:
        return self.kept.get(identity.run, [None])[-1]  # type: ignore[list-item]

    def keep(self, identity: Identity, snapshot: Snapshot) -> None:
        self.kept.setdefault(identity.run, []).append(snapshot)

    def forget(self, run: str) -> None:
        self.kept.pop(run, None)

    @property
    def epochs(self) -> list[int]:
        return [s.progress.epoch for snapshots in self.kept.values() for s in snapshots]


class Killed(BaseException):
    """Stands for a signal; comes in the middle of an epoch."""


def config_of(**more: Any) -> TrainingConfig:
    values = {"epochs": EPOCHS, "batch_size": 48, "checkpoint_epochs": 1, "checkpoint_seconds": None, "compiler": "eager"}
    return TrainingConfig.model_validate(values | more)


def train(
    loop: str,
    builder: str,
    config: TrainingConfig,
    keeper: Any = None,
    callbacks: Callable[[], list[Any]] = list,
    kill: int | None = None,
    data: Dataset = DATA,
    said: list[str] | None = None,
    arithmetic: str = "here",
) -> Trained:
    definition, model = samples.defined(builder, data, seed=config.seed)
    say = (said if said is not None else []).append
    keeping = Checkpointing(keeper, definition, arithmetic, say) if keeper is not None else None

    def report(epoch: Epoch) -> None:
        if kill is not None and epoch.number > kill:
            raise Killed

    return LOOPS[loop](model, data, config, report, callbacks(), checkpointing=keeping)


def killed_and_resumed(loop: str, builder: str, config: TrainingConfig, kill: int, **more: Any) -> Trained:
    keeper = InMemory()
    with pytest.raises(Killed):
        train(loop, builder, config, keeper, kill=kill, **more)
    return train(loop, builder, config, keeper, **more)


def assert_same(one: Trained, other: Trained) -> None:
    assert samples.bits(one.model) == samples.bits(other.model)
    assert one.history.curves == other.history.curves
    assert one.metrics == other.metrics
    assert len(one.history.seconds) == len(other.history.seconds)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("builder", ["dropout_and_normalization", "mixed_precision"])
def test_a_stopped_run_goes_on_to_the_same_bits(loop: str, builder: str) -> None:
    config = config_of()
    assert_same(killed_and_resumed(loop, builder, config, kill=2), train(loop, builder, config))


@pytest.mark.parametrize("loop", LOOPS)
def test_compiled_runs_go_on_to_the_same_bits(loop: str) -> None:
    config = config_of(compiler=FASTEST[loop])
    resumed = killed_and_resumed(loop, "dropout_and_normalization", config, kill=3)
    assert_same(resumed, train(loop, "dropout_and_normalization", config))


@pytest.mark.parametrize("loop", LOOPS)
def test_the_states_of_recurrent_layers_go_on(loop: str) -> None:
    config, data = config_of(batch_size=10), samples.in_tens(DATA)
    resumed = killed_and_resumed(loop, "remembering", config, kill=2, data=data)
    whole = train(loop, "remembering", config, data=data)
    assert_same(resumed, whole)
    assert samples.memory(resumed.model) == samples.memory(whole.model)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("kill", [1, 3])
def test_early_stopping_goes_on_with_its_patience_and_its_best_weights(loop: str, kill: int) -> None:
    # What is true for training is false for validation: every epoch makes it worse, and the first one is the best.
    data = replace(DATA, y_val=(np.asarray(DATA.y_val) + 1) % 3)
    config = config_of(epochs=9, early_stopping=3, learning_rate=0.1)

    whole = train(loop, "dense", config, data=data)
    resumed = killed_and_resumed(loop, "dense", config, kill=kill, data=data)

    assert len(whole.history.curves["val_loss"]) == 4
    assert_same(resumed, whole)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_run_that_was_stopped_early_and_killed_afterwards_trains_no_further(loop: str) -> None:
    data = replace(DATA, y_val=(np.asarray(DATA.y_val) + 1) % 3)
    config = config_of(epochs=9, early_stopping=1, learning_rate=0.1)
    keeper = InMemory()

    whole = train(loop, "dense", config, keeper, data=data)
    again = train(loop, "dense", config, keeper, data=data)

    assert_same(again, whole)
    assert again.history.notes[0] == "resumed after epoch 2 of 9 from a checkpoint"


@pytest.mark.parametrize("loop", LOOPS)
def test_a_falling_learning_rate_goes_on_falling(loop: str) -> None:
    def plateau() -> list[Any]:
        return [keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=10.0)]

    config = config_of(epochs=5)
    whole = train(loop, "dense", config, callbacks=plateau)
    resumed = killed_and_resumed(loop, "dense", config, kill=3, callbacks=plateau)

    assert len(set(whole.history.curves["learning_rate"])) > 2
    assert_same(resumed, whole)


class Jittering(keras.callbacks.Callback):  # type: ignore[misc]  # keras ships no types
    """Sets a rate by what it has seen and by what NumPy and Python draw, and offers its state."""

    def __init__(self) -> None:
        super().__init__()
        self.sum = 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.sum += float(np.random.standard_normal()) + random.gauss(0, 1)
        self.model.optimizer.learning_rate = 0.01 * (1 + abs(self.sum))

    def get_state(self) -> dict[str, float]:
        return {"sum": self.sum}

    def set_state(self, state: dict[str, float]) -> None:
        self.sum = state["sum"]


@pytest.mark.parametrize("loop", LOOPS)
def test_a_callback_that_offers_its_state_and_the_global_generators_go_on(loop: str) -> None:
    config = config_of()
    resumed = killed_and_resumed(loop, "dense", config, kill=2, callbacks=lambda: [Jittering()])
    assert_same(resumed, train(loop, "dense", config, callbacks=lambda: [Jittering()]))


# What is resumed from, and what is not


def test_a_checkpoint_is_kept_after_as_many_epochs_as_asked_for() -> None:
    keeper = InMemory()
    train("custom", "dense", config_of(epochs=5, checkpoint_epochs=2), keeper)
    assert keeper.epochs == [2, 4]


def test_a_short_run_keeps_nothing_by_default() -> None:
    keeper = InMemory()
    config = TrainingConfig(epochs=3, batch_size=48, compiler="eager")
    trained = train("custom", "dense", config, keeper)
    assert (keeper.kept, config.checkpoint_seconds, trained.history.notes) == ({}, 60.0, [])


def test_by_seconds_a_checkpoint_is_kept_where_the_last_is_long_ago() -> None:
    keeper = InMemory()
    train("custom", "dense", config_of(checkpoint_epochs=None, checkpoint_seconds=0), keeper)
    assert keeper.epochs[:1] == [1]


def test_a_fresh_run_forgets_what_a_killed_one_has_kept() -> None:
    keeper, said = InMemory(), list[str]()
    with pytest.raises(Killed):
        train("custom", "dense", config_of(), keeper, kill=2)
    trained = train("custom", "dense", config_of(resume=False), keeper, said=said)
    assert (said, trained.history.notes, keeper.epochs) == ([], [], [1, 2, 3, 4])


def test_what_another_arithmetic_computed_is_gone_on_from_and_noted() -> None:
    keeper, said = InMemory(), list[str]()
    with pytest.raises(Killed):
        train("custom", "dense", config_of(), keeper, kill=2, arithmetic="there")
    trained = train("custom", "dense", config_of(), keeper, said=said)
    assert said == trained.history.notes
    assert "resumed after epoch 2 of 4 from a checkpoint, which another processor or library computed" in said[0]


def test_a_checkpoint_that_cannot_be_kept_does_not_end_the_training() -> None:
    class Broken(InMemory):
        def keep(self, identity: Identity, snapshot: Snapshot) -> None:
            raise UnreachableError("The store is gone.")

    said = list[str]()
    trained = train("custom", "dense", config_of(), Broken(), said=said)
    assert said[0] == "the checkpoint of epoch 1 was not kept: The store is gone."
    assert said == trained.history.notes
    assert len(trained.history.seconds) == EPOCHS


def test_training_waits_for_no_checkpoint_and_ends_with_the_last_one_written() -> None:
    trained_on = threading.Event()

    class Slow(InMemory):
        def keep(self, identity: Identity, snapshot: Snapshot) -> None:
            assert trained_on.wait(60)
            super().keep(identity, snapshot)

    class Going(keras.callbacks.Callback):  # type: ignore[misc]  # keras ships no types
        def on_train_end(self, logs: Any = None) -> None:
            trained_on.set()

    keeper = Slow()
    train("custom", "dense", config_of(), keeper, callbacks=lambda: [Going()])
    assert keeper.epochs == [1]


def test_a_snapshot_is_a_copy() -> None:
    _, model = samples.defined("compiled", DATA)
    model.optimizer.build(model.trainable_variables)
    snapshot = take(model, [], Progress(epoch=1))
    before = snapshot.arrays["model/00000"].tobytes()
    model.variables[0].assign(model.variables[0] + 1)
    assert snapshot.arrays["model/00000"].tobytes() == before


def test_numbers_that_npz_does_not_know_come_back() -> None:
    def model_of(value: float) -> keras.Model:
        layer = keras.layers.Dense(3, dtype="bfloat16", kernel_initializer=keras.initializers.Constant(value))
        model = keras.Sequential([keras.Input((8,)), layer])
        model.compile("sgd", "mse")
        model.optimizer.build(model.trainable_variables)
        return model

    stored, other = model_of(0.3), model_of(0.0)
    snapshot = take(stored, [], Progress(epoch=1))
    assert {a.dtype.isbuiltin for a in snapshot.arrays.values()} == {1}
    put_variables(other, snapshot)
    assert samples.bits(other) == samples.bits(stored)


def test_a_snapshot_of_another_model_changes_nothing() -> None:
    _, small = samples.defined("compiled", DATA)
    small.optimizer.build(small.trainable_variables)
    snapshot = take(small, [], Progress(epoch=1))
    _, model = samples.defined("mixed_precision", DATA)
    model.optimizer.build(model.trainable_variables)
    before = samples.bits(model)
    with pytest.raises(Unfit, match=r"variables instead of"):
        put_variables(model, snapshot)
    assert samples.bits(model) == before


# Identity


def identity(builder: str = "compiled", data: Dataset = DATA, loop: Any = "fit", **changes: Any) -> Identity:
    definition, model = samples.defined(builder, data)
    return identity_of(model, definition, data, config_of(**changes.pop("training", {})), loop)


def test_the_same_run_has_the_same_name_and_another_interval_or_resumption_changes_nothing() -> None:
    first = identity()
    assert first.run == identity(training={"checkpoint_epochs": None, "checkpoint_seconds": 5, "resume": False}).run
    assert first.differences(identity()) == []


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"training": {"epochs": 9}}, "epochs 9, here 4"),
        ({"training": {"seed": 3}}, "seed 3, here 0"),
        ({"data": samples.classes(seed=5)}, "other data"),
        ({"loop": "custom"}, "loop custom, here fit"),
        (
            {"builder": "mixed_precision"},
            "definition tests.user_models:mixed_precision(), here tests.user_models:compiled()",
        ),
    ],
)
def test_another_run_has_another_name_and_says_why(other: dict[str, Any], words: str) -> None:
    here, there = identity(), identity(**other)
    assert here.run != there.run
    assert words in here.differences(there)


def test_another_setting_of_a_callback_is_another_run() -> None:
    definition, model = samples.defined("compiled", DATA)
    patient, hasty = (
        identity_of(model, definition, DATA, config_of(), "fit", [keras.callbacks.EarlyStopping(patience=patience)])
        for patience in (3, 1)
    )
    assert patient.differences(hasty) == ["other callbacks"]


def test_a_model_compiled_otherwise_is_another_run() -> None:
    definition, model = samples.defined("compiled", DATA)
    before = identity_of(model, definition, DATA, config_of(), "fit")
    model.compile(keras.optimizers.SGD(0.06, momentum=0.9), model.loss)
    after = identity_of(model, definition, DATA, config_of(), "fit")
    assert after.differences(before) == ["compiled with another optimizer, loss or metrics"]
