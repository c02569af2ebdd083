"""From a reference to a built model."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from tasks.definitions import Definition, ModelConfig, build, define
from tasks.definitions.build import MLP, SUBCLASSED
from tasks.errors import InputError
from tests import samples

DATA = samples.classes()


def test_every_argument_is_recorded_with_its_default() -> None:
    definition, _ = define(ModelConfig(builder=MLP, arguments={"hidden": 5}), DATA)
    assert definition.arguments == {"input_shape": [8], "outputs": 3, "hidden": 5, "activation": "relu"}


def test_what_the_user_gives_wins_over_the_data() -> None:
    definition, model = define(ModelConfig(builder=MLP, arguments={"outputs": 7}), DATA)
    assert (definition.arguments["outputs"], model.output_shape) == (7, (None, 7))


def test_a_builder_without_parameters_gets_none_from_the_data() -> None:
    definition, _ = define(ModelConfig(builder="tests.user_models:sequential_without_input"), DATA)
    assert definition.arguments == {}


@pytest.mark.parametrize(
    ("targets", "outputs"),
    [
        (np.arange(170) % 4, 4),
        (np.arange(170)[:, None] % 4, 4),
        (np.eye(5, dtype=np.float32)[np.arange(170) % 5], 5),
        (np.linspace(0, 1, 170, dtype=np.float32), 1),
        (np.ones((170, 6), np.float32), 6),
    ],
    ids=["classes", "classes in a column", "one-hot", "a number", "numbers"],
)
def test_the_number_of_outputs_is_taken_from_the_targets(targets: Any, outputs: int) -> None:
    definition, _ = define(ModelConfig(builder=MLP), samples.dataset(np.ones((170, 8), np.float32), targets))
    assert definition.arguments["outputs"] == outputs


def test_a_class_that_only_the_validation_data_has_counts() -> None:
    data = dataclasses.replace(DATA, y_val=np.full(40, 9))
    assert define(ModelConfig(builder=MLP), data)[0].arguments["outputs"] == 10


def test_the_input_shape_is_that_of_an_image() -> None:
    definition, _ = define(ModelConfig(builder="tests.user_models:conv"), samples.classes(shape=(5, 6, 2)))
    assert definition.arguments["input_shape"] == [5, 6, 2]


@pytest.mark.parametrize("reference", [MLP, SUBCLASSED, "tests.user_models:dropout_and_normalization"])
def test_a_definition_built_twice_in_one_process_is_the_same(reference: str) -> None:
    first, _ = define(ModelConfig(builder=reference), DATA)
    second, _ = define(ModelConfig(builder=reference), DATA)
    assert first == second


def test_the_fingerprint_lists_path_shape_and_dtype() -> None:
    definition, _ = define(ModelConfig(builder="tests.user_models:dense"), DATA)
    lines = [f"{v.path} {v}" for v in definition.fingerprint]
    assert lines[:2] == ["dense/kernel (8, 8) float32", "dense/bias (8,) float32"]


@pytest.mark.parametrize("reference", [SUBCLASSED, "tests.user_models:sequential_without_input"])
def test_a_definition_does_not_depend_on_how_many_rows_it_was_called_on(reference: str) -> None:
    from tasks.serialization.keras_model import rebuild

    stored, _ = define(ModelConfig(builder=reference), DATA)
    assert rebuild(stored, stored, DATA.x) is not None  # raises MismatchError where it does


def test_a_sequential_without_input_takes_any_number_of_rows() -> None:
    _, model = define(ModelConfig(builder="tests.user_models:sequential_without_input"), DATA)
    assert model.input_shape == (None, 8)


def test_every_variable_exists_after_a_build() -> None:
    model = build(Definition(reference=SUBCLASSED, arguments={}), DATA.x)
    assert [tuple(v.shape) for v in model.weights] == [(8, 64), (64,), (64, 10), (10,)]


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("tests/no_such_file.py:model", "there is no file .*/tests/no_such_file.py"),
        ("no_such_module:model", "There is no module 'no_such_module'"),
        ("tests.no_such_module:model", "There is no module 'tests.no_such_module'"),
        ("tests.user_models:dens", "has no 'dens'. It has: .*dense"),
        ("tests.user_models:NOT_CALLABLE", "is int, not a callable"),
        ("tests.user_models", "is not a reference. Write `package.module:callable`"),
        ("tests.user_models:not_a_model", "returned str, not a keras.Model"),
        ("tests.user_models:broken", "raised ZeroDivisionError: no such thing"),
        ("builtins:dict", "builtins:dict does not tell its arguments"),
    ],
)
def test_a_reference_that_gives_no_model_is_refused_with_the_reason(reference: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        define(ModelConfig(builder=reference), DATA)


def test_an_unknown_argument_is_refused_with_the_signature() -> None:
    with pytest.raises(InputError, match=r"unexpected keyword argument 'hiden'. Its signature is \(hidden: "):
        define(ModelConfig(builder="tests.user_models:dense", arguments={"hiden": 5}), DATA)


def test_a_model_that_cannot_take_the_data_is_refused_with_the_examples_shape() -> None:
    with pytest.raises(InputError, match=r"can't be called on the data \(examples of {'x': '\(9,\) float32'}\)"):
        define(ModelConfig(builder="tests.user_models:dense"), samples.classes(shape=(9,)))
