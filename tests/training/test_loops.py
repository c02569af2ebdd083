"""Both loops, held against the same promises and against each other."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import keras
import numpy as np
import pytest
import tensorflow as tf

from tasks.data import DataConfig, Dataset, load_dataset
from tasks.definitions.build import MLP
from tasks.errors import TrainingFailed
from tasks.training import Epoch, Trained, TrainingConfig, train_with_custom_loop, train_with_fit
from tests import samples
from tests.samples import EAGER
from tests.training.process import DATA, LOOPS, digest_of


class Recorder(keras.callbacks.Callback):  # type: ignore[misc]  # keras ships no types
    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[str, int | None]] = []

    def on_train_begin(self, logs: Any = None) -> None:
        self.heard.append(("train begins", None))

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.heard.append(("epoch begins", epoch))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.heard.append(("epoch ends", epoch))

    def on_train_end(self, logs: Any = None) -> None:
        self.heard.append(("train ends", None))


@dataclass(frozen=True)
class Run:
    trained: Trained
    reported: list[Epoch]
    recorder: Recorder


@pytest.fixture(scope="module", params=LOOPS)
def run(request: pytest.FixtureRequest) -> Run:
    """Five epochs on generated data, whose last batch is short."""
    data = load_dataset(DataConfig(rows=500, features=16, classes=3))
    reported: list[Epoch] = []
    recorder = Recorder()
    _, model = samples.defined(MLP, data)
    config = TrainingConfig(epochs=5, batch_size=48)
    return Run(LOOPS[request.param](model, data, config, reported.append, [recorder]), reported, recorder)


def test_it_learns(run: Run) -> None:
    assert run.trained.metrics["val_accuracy"] > 0.9


def test_each_epoch_takes_a_step_for_every_batch_the_short_one_too(run: Run) -> None:
    assert int(run.trained.model.optimizer.iterations) == 5 * 9  # 400 = 8 * 48 + 16


def test_the_history_has_a_value_for_every_epoch(run: Run) -> None:
    lengths = {name: len(curve) for name, curve in run.trained.history.curves.items()}
    assert lengths == dict.fromkeys(["accuracy", "loss", "val_accuracy", "val_loss"], 5)


def test_every_epoch_is_reported_as_it_ends(run: Run) -> None:
    seen = [(e.number, e.total, e.logs["val_loss"]) for e in run.reported]
    assert seen == [(i + 1, 5, value) for i, value in enumerate(run.trained.history.curves["val_loss"])]


def test_the_users_callbacks_hear_of_training_and_epochs(run: Run) -> None:
    epochs = [(what, i) for i in range(5) for what in ("epoch begins", "epoch ends")]
    assert run.recorder.heard == [("train begins", None), *epochs, ("train ends", None)]


def test_the_metrics_are_those_of_the_model_as_it_is_returned(run: Run) -> None:
    assert run.trained.metrics["val_loss"] == pytest.approx(run.trained.history.curves["val_loss"][-1], abs=1e-6)


def test_every_epoch_has_its_seconds(run: Run) -> None:
    assert len(run.trained.history.seconds) == 5 and min(run.trained.history.seconds) > 0


# The two loops agree


@pytest.mark.parametrize(
    ("builder", "data", "compiler", "mode"),
    [
        ("regularized", samples.classes(rows=40 + 2 * 48), "auto", "graph"),
        ("conv", samples.classes(shape=(4, 4, 1)), "auto", "graph"),
        # XLA draws other random numbers for Dropout than TensorFlow's own kernels do.
        ("dropout_and_normalization", DATA, "graph", "graph"),
        # Keras weighs the batches of a single output's loss alike, short or not: without a short one nothing differs.
        ("two_in_two_out", samples.two_sided(rows=40 + 3 * 48), "xla", "xla"),
    ],
)
def test_the_custom_loop_trains_as_fit_does(builder: str, data: Dataset, compiler: str, mode: str) -> None:
    config = TrainingConfig(epochs=2, batch_size=48)
    _, model = samples.defined(builder, data)
    _, reference = samples.defined(builder, data)

    ours = train_with_custom_loop(model, data, compiled_by(compiler, config))
    theirs = train_with_fit(reference, data, compiled_by("eager", config))

    assert (ours.history.loop, ours.history.notes) == (mode, [])
    assert ours.history.curves.keys() == theirs.history.curves.keys()
    for name, curve in theirs.history.curves.items():
        np.testing.assert_allclose(ours.history.curves[name], curve, atol=1e-4, err_msg=name)
    for mine, other in zip(model.weights, reference.weights, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-4, err_msg=mine.path)


@pytest.mark.parametrize(
    ("builder", "shape", "batch_size", "mode"),
    [
        (MLP, (6,), 1, "xla"),  # 1,040 steps
        (MLP, (6,), 2, "graph"),  # 520: XLA's compilation would not be won back
        ("conv", (4, 4, 1), 1, "graph"),  # slower under XLA, however many steps
    ],
)
def test_auto_takes_xla_where_dense_layers_take_many_steps(
    builder: str, shape: tuple[int, ...], batch_size: int, mode: str
) -> None:
    data = samples.classes(rows=104 + 40, shape=shape)
    _, model = samples.defined(builder, data)
    config = TrainingConfig(epochs=10, batch_size=batch_size)
    assert train_with_custom_loop(model, data, config).history.loop == mode


def compiled_by(compiler: str, config: TrainingConfig) -> TrainingConfig:
    return TrainingConfig.model_validate(config.model_dump() | {"compiler": compiler})


def test_the_penalty_of_a_regularizer_is_part_of_the_loss() -> None:
    weak, _ = samples.trained("regularized", DATA, strength=0.0)
    strong, _ = samples.trained("regularized", DATA, strength=10.0)
    assert strong.history.curves["loss"][0] > weak.history.curves["loss"][0] + 1


# The same seed, the same bits


@pytest.fixture(scope="module", autouse=True)
def another_process() -> Iterator[Callable[[], dict[str, str]]]:
    """What another process makes of the same seed, a digest for each loop; it is at work while the other tests run."""
    command = [sys.executable, "-m", "tests.training.process"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    @functools.cache
    def digests() -> dict[str, str]:
        return dict(zip(LOOPS, process.communicate()[0].split(), strict=True))

    yield digests
    process.kill()
    process.wait()


@pytest.mark.parametrize("loop", LOOPS)
def test_the_same_seed_gives_the_same_bits_in_another_process_whatever_ran_before(
    loop: str, another_process: Callable[[], dict[str, str]]
) -> None:
    keras.random.normal((3,))
    assert digest_of(loop, seed=7) == another_process()[loop]


@pytest.mark.parametrize("loop", LOOPS)
def test_another_seed_gives_other_bits(loop: str) -> None:
    assert digest_of(loop, 3, "eager") != digest_of(loop, 4, "eager")


@pytest.mark.parametrize("loop", LOOPS)
def test_a_model_that_draws_from_the_global_generator_repeats_as_well(loop: str) -> None:
    def after(disturbance: int) -> list[bytes]:
        _, model = samples.defined("noisy", DATA)
        keras.utils.set_random_seed(disturbance)
        return samples.bits(LOOPS[loop](model, DATA, EAGER).model)

    assert after(1) == after(2)


# When to stop


@pytest.mark.parametrize("loop", LOOPS)
def test_early_stopping_brings_the_best_weights_back(loop: str) -> None:
    # What is true for training is false for validation: every epoch makes it worse.
    data = replace(DATA, y_val=(np.asarray(DATA.y_val) + 1) % 3)
    _, model = samples.defined("dense", data)
    config = TrainingConfig(epochs=9, batch_size=64, early_stopping=1, learning_rate=0.1, compiler="eager")

    trained = LOOPS[loop](model, data, config)

    assert len(trained.history.curves["val_loss"]) == 2
    assert trained.metrics["val_loss"] == pytest.approx(trained.history.curves["val_loss"][0], abs=1e-5)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_model_that_takes_one_size_of_batch_is_validated_in_it(loop: str) -> None:
    data = replace(DATA, x=DATA.x[:40], y=DATA.y[:40], x_val=DATA.x_val[:20], y_val=DATA.y_val[:20])
    inputs = keras.Input(batch_shape=(10, *np.shape(data.x)[1:]))
    words = keras.layers.Reshape((-1, 1))(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.SimpleRNN(2, stateful=True)(words)))

    trained = LOOPS[loop](model, data, EAGER.model_copy(update={"batch_size": 10}))

    assert np.isfinite(trained.metrics["val_loss"])


@pytest.mark.parametrize("compiler", ["eager", "graph"])
@pytest.mark.parametrize("loop", LOOPS)
def test_a_recurrent_layer_remembers_the_training_and_nothing_that_was_tried_before(loop: str, compiler: Any) -> None:
    data = samples.in_tens(DATA)
    _, model = samples.defined("remembering", data)
    LOOPS[loop](model, data, EAGER.model_copy(update={"batch_size": 10, "compiler": compiler}))
    # Once it was called for its definition, then four batches of training and two of validation. The custom loop ends with
    # an evaluation.
    assert samples.memory(model) == 1 + 4 + 2 + {"fit": 0, "custom": 2}[loop]


@pytest.mark.parametrize("loop", LOOPS)
def test_a_loss_that_is_no_number_ends_the_run_with_advice(loop: str) -> None:
    _, model = samples.defined("with_nan_loss", DATA)
    with pytest.raises(TrainingFailed, match="loss became nan in epoch 1 of 1; nothing was published"):
        LOOPS[loop](model, DATA, EAGER)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_learning_rate_that_explodes_is_named(loop: str) -> None:
    _, model = samples.defined("dense", DATA)
    config = TrainingConfig(epochs=3, learning_rate=1e30, compiler="eager", batch_size=64)
    with pytest.raises(TrainingFailed, match=r"Try a smaller --learning-rate \(it was 1e\+30\)"):
        LOOPS[loop](model, DATA, config)


# The user's own model


class Counting(keras.layers.Dense):  # type: ignore[misc]  # keras ships no types
    """Counts how often its training was traced into a graph."""

    traced = 0

    def call(self, inputs: Any, training: bool = False) -> Any:
        if training and tf.inside_function():
            Counting.traced += 1
        return super().call(inputs)


@pytest.mark.parametrize("compiler", ["graph", "xla"])
@pytest.mark.parametrize("loop", LOOPS)
def test_a_training_step_is_traced_once(loop: str, compiler: Literal["graph", "xla"]) -> None:
    model = keras.Sequential([keras.Input((DATA.x.shape[1],)), Counting(3)])
    Counting.traced = 0
    LOOPS[loop](model, DATA, TrainingConfig(epochs=2, batch_size=len(DATA.x) // 2, compiler=compiler))
    assert Counting.traced == 1


@pytest.mark.parametrize("loop", LOOPS)
def test_a_model_that_cannot_be_compiled_trains_eagerly_and_says_so(loop: str) -> None:
    _, model = samples.defined("only_eager", DATA)
    trained = LOOPS[loop](model, DATA, TrainingConfig(epochs=1, batch_size=64))
    assert "runs under eager (AttributeError: 'SymbolicTensor' object has no attribute 'numpy')" in trained.history.notes[-1]


def test_a_model_that_xla_cannot_compile_trains_as_a_graph_and_says_so() -> None:
    _, model = samples.defined("beyond_xla", DATA)
    config = TrainingConfig(epochs=1, batch_size=64, compiler="xla")
    trained = train_with_custom_loop(model, DATA, config)
    assert trained.history.loop == "graph"
    assert "the training step can't run under xla and runs under graph" in trained.history.notes[-1]


def test_an_authors_own_loss_may_branch_on_tensors_and_stays_a_graph() -> None:
    _, model = samples.defined("branching_loss", DATA)
    trained = train_with_custom_loop(model, DATA, TrainingConfig(epochs=2, batch_size=64))
    assert (trained.history.loop, trained.history.notes) == ("graph", [])
    assert trained.history.curves["val_loss"][-1] > 1_000  # it took the branch for validation


@pytest.mark.parametrize("loop", LOOPS)
def test_a_model_compiled_by_its_author_keeps_its_optimizer_and_loss(loop: str) -> None:
    _, model = samples.defined("compiled", DATA)
    model.run_eagerly = True
    optimizer, loss = model.optimizer, model.loss

    LOOPS[loop](model, DATA, TrainingConfig(epochs=1, batch_size=64, optimizer="adam", loss="mse", learning_rate=1.0))

    assert model.optimizer is optimizer and model.loss is loss
    assert float(optimizer.learning_rate) == pytest.approx(0.05)
