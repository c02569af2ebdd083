"""What is found out before anything trains, with real models."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.data import DataConfig
from tasks.definitions import ModelConfig
from tasks.errors import InputError
from tasks.sweeps.ahead import look_ahead
from tasks.sweeps.records import Ahead
from tasks.training import TrainingConfig, train_with_custom_loop, train_with_fit
from tests import user_models

DATA = DataConfig(source="tasks.definitions.families.plain:classes")


def ahead(grid: dict[str, list[Any]], builder: str = "dense", scenario: str = "weights-h5") -> Ahead:
    return look_ahead(grid, scenario, DATA, ModelConfig(builder=f"tests.user_models:{builder}"), TrainingConfig())


def test_a_parameter_goes_to_the_training_or_to_the_builder() -> None:
    found = ahead({"learning_rate": [0.1], "hidden": [3, 4]})
    assert [(c.training, c.arguments) for c in found.combinations] == [
        ({"learning_rate": 0.1}, {"hidden": 3}),
        ({"learning_rate": 0.1}, {"hidden": 4}),
    ]


@pytest.mark.parametrize("train", [train_with_fit, train_with_custom_loop])
def test_the_metrics_are_those_that_a_training_ends_with(train: Any) -> None:
    from tasks.data import load_dataset

    found = ahead({"epochs": [1], "metrics": [["accuracy", "sparse_categorical_crossentropy"]]})
    config = TrainingConfig(epochs=1, metrics=["accuracy", "sparse_categorical_crossentropy"])

    trained = train(user_models.dense(), load_dataset(DATA), config)

    assert sorted(found.metrics) == sorted(trained.metrics)


def test_a_model_that_can_run_only_eagerly_is_no_obstacle() -> None:
    assert "val_loss" in ahead({"epochs": [1]}, "only_eager").metrics


def test_what_its_author_compiled_is_not_to_be_swept_over() -> None:
    with pytest.raises(InputError, match="compiles its model, so learning_rate of the training would change nothing"):
        ahead({"learning_rate": [0.1, 0.2]}, "compiled")


def test_a_model_that_does_not_take_the_data_is_found_out() -> None:
    with pytest.raises(InputError, match="conv raised ValueError: Input 0"):
        ahead({"epochs": [1]}, "conv")
