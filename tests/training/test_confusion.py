"""The confusion matrix: counted for classifiers of every kind, and for nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from tasks.data import Dataset
from tasks.training import History, Trained
from tasks.training.confusion import confusion

X = np.eye(3, dtype=np.float32)[[0, 1, 2, 2, 1, 0, 0]]
CLASSES = np.array([0, 1, 2, 0, 1, 1, 0])


def dataset(y: Any, x: Any = X) -> Dataset:
    return Dataset(x, y, x, y, source="test", digest="")


def trained(
    outputs: Callable[[Any], Any], loss: Any, *curves: str, shape: tuple[int, ...] = (3,), batch: int | None = None
) -> Trained:
    inputs = keras.Input(shape, batch_size=batch)
    model = keras.Model(inputs, outputs(inputs))
    model.compile(loss=loss)
    return Trained(model, History({name: [0.0] for name in curves}, [], "fit"), {})


def same(inputs: Any) -> Any:
    return keras.layers.Identity()(inputs)


def test_classes_are_counted_by_what_they_were_taken_for() -> None:
    model = trained(same, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    assert confusion(model, dataset(CLASSES)) == [[2, 0, 1], [1, 2, 0], [0, 0, 1]]


@pytest.mark.parametrize("y", [CLASSES[:, None], CLASSES.astype(np.float32), np.eye(3, dtype=np.float32)[CLASSES]])
def test_classes_may_be_a_column_floats_or_one_column_each(y: Any) -> None:
    assert confusion(trained(same, "categorical_crossentropy"), dataset(y)) == [[2, 0, 1], [1, 2, 0], [0, 0, 1]]


@pytest.mark.parametrize(("logits", "scores"), [(True, [-1.0, 0.4, 3.0]), (False, [0.1, 0.6, 0.9])])
def test_two_classes_of_one_output_are_told_apart_by_its_kind(logits: bool, scores: list[float]) -> None:
    model = trained(same, keras.losses.BinaryCrossentropy(from_logits=logits), shape=(1,))
    x = np.array(scores, np.float32)[:, None]
    assert confusion(model, dataset(np.array([0, 1, 0]), x)) == [[1, 1], [0, 1]]


def test_a_custom_loss_is_a_classifier_s_where_an_accuracy_was_measured() -> None:
    def own(y: Any, predicted: Any) -> Any:
        return keras.ops.sum(predicted) + keras.ops.sum(y)

    assert confusion(trained(same, own), dataset(CLASSES)) == []
    assert confusion(trained(same, own, "accuracy"), dataset(CLASSES)) != []


@pytest.mark.parametrize(
    ("loss", "y"),
    [
        ("mse", CLASSES),
        ("sparse_categorical_crossentropy", CLASSES + 1),
        ("sparse_categorical_crossentropy", {"a": CLASSES}),
    ],
)
def test_what_is_no_classification_has_none(loss: str, y: Any) -> None:
    assert confusion(trained(same, loss), dataset(y)) == []


def test_so_many_classes_that_nobody_reads_them_have_none() -> None:
    x = np.eye(26, dtype=np.float32)
    assert confusion(trained(same, "sparse_categorical_crossentropy", shape=(26,)), dataset(np.arange(26), x)) == []


def test_a_model_of_fixed_batches_is_called_on_whole_ones() -> None:
    model = trained(same, "sparse_categorical_crossentropy", batch=3)
    assert sum(map(sum, confusion(model, dataset(CLASSES)))) == 6
