"""Which loss a model gets that its author did not compile."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from tasks.data import Dataset
from tasks.errors import InputError
from tasks.training import TrainingConfig
from tasks.training.run import ensure_compiled
from tests import samples

ROWS = 170
ONE_HOT = np.eye(3, dtype=np.float32)[np.arange(ROWS) % 3]


def model_of(*layers: Any) -> Any:
    return keras.Sequential([keras.Input((8,)), *layers])


def data_of(y: Any) -> Dataset:
    x = np.random.default_rng(0).standard_normal((ROWS, 8)).astype(np.float32)
    return samples.dataset(x, y)


@pytest.mark.parametrize(
    ("y", "width", "activation", "loss", "logits"),
    [
        (np.arange(ROWS) % 3, 3, None, "SparseCategoricalCrossentropy", True),
        (np.arange(ROWS) % 3, 3, "softmax", "SparseCategoricalCrossentropy", False),
        (np.arange(ROWS)[:, None] % 3, 3, None, "SparseCategoricalCrossentropy", True),
        (np.arange(ROWS) % 2, 1, "sigmoid", "BinaryCrossentropy", False),
        (np.arange(ROWS) % 2, 1, None, "BinaryCrossentropy", True),
        (np.arange(ROWS)[:, None] % 2 == 0, 1, None, "BinaryCrossentropy", True),
        (ONE_HOT, 3, None, "CategoricalCrossentropy", True),
        (ONE_HOT, 3, "softmax", "CategoricalCrossentropy", False),
        (np.linspace(-1, 1, ROWS, dtype=np.float32), 1, None, "MeanSquaredError", None),
        (ONE_HOT * 0.5, 3, None, "MeanSquaredError", None),
    ],
)
def test_the_loss_fits_targets_and_outputs(y: Any, width: int, activation: Any, loss: str, logits: bool | None) -> None:
    model = model_of(keras.layers.Dense(width, activation=activation))
    ensure_compiled(model, data_of(y), TrainingConfig())
    assert (type(model.loss).__name__, model.loss.get_config().get("from_logits")) == (loss, logits)


def test_logits_that_start_between_0_and_1_are_still_logits() -> None:
    model = model_of(keras.layers.Dense(1, kernel_initializer="zeros"))
    ensure_compiled(model, data_of(np.arange(ROWS) % 2), TrainingConfig())
    assert model.loss.get_config()["from_logits"] is True


def test_choosing_a_loss_leaves_the_weights_alone() -> None:
    model = model_of(keras.layers.Dense(1))
    before = samples.bits(model)
    ensure_compiled(model, data_of(np.arange(ROWS) % 2), TrainingConfig())
    assert samples.bits(model)[: len(before)] == before


def test_optimizer_rate_loss_and_metrics_are_those_asked_for() -> None:
    model = model_of(keras.layers.Dense(3))
    config = TrainingConfig(optimizer="sgd", learning_rate=0.5, loss="mae", metrics=["mse"])
    ensure_compiled(model, data_of(ONE_HOT), config)
    found = type(model.optimizer).__name__, float(model.optimizer.learning_rate), model.loss.__name__
    assert found == ("SGD", 0.5, "mean_absolute_error")


@pytest.mark.parametrize("option", [{"optimizer": "adamant"}, {"loss": "losss"}, {"metrics": ["acuracy"]}])
def test_a_name_that_keras_does_not_know_is_refused(option: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="Keras does not know it"):
        ensure_compiled(model_of(keras.layers.Dense(3)), data_of(ONE_HOT), TrainingConfig(**option))


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.arange(ROWS) % 5, "The targets are classes 0 to 4, but the model has 3 outputs: classes 0 to 2"),
        (np.arange(ROWS) % 3 - 1, "The targets are classes -1 to 1"),
        (np.ones((ROWS, 4), np.float32), r"The targets are \(4,\) an example and the model gives \(3,\): no loss fits"),
        (np.array(["cat", "dog"])[np.arange(ROWS) % 2], "Number the classes: 0, 1, 2"),
        ({"kind": np.arange(ROWS)}, "A model with several outputs needs a loss for each"),
    ],
)
def test_targets_that_no_loss_fits_are_refused(y: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ensure_compiled(model_of(keras.layers.Dense(3)), data_of(y), TrainingConfig())


def test_several_outputs_with_one_target_are_refused() -> None:
    inputs = keras.Input((8,))
    model = keras.Model(inputs, {"a": keras.layers.Dense(3)(inputs), "b": keras.layers.Dense(1)(inputs)})
    with pytest.raises(InputError, match="The model gives 2 outputs, but the data brings one array of targets"):
        ensure_compiled(model, data_of(np.arange(ROWS) % 3), TrainingConfig())
