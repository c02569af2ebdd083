"""Grids: from the command line to combinations."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import InputError
from tasks.sweeps.grid import Combination, check_size, lay_out, parse_grid, text, trained_by
from tasks.training import TrainingConfig

BASE = TrainingConfig()
# What Python and JSON write alike, and no word that JSON would read otherwise.
VALUES = st.one_of(st.integers(-1000, 1000), st.floats(0.001, 10.0), st.from_regex(r"[a-z]{2,6}", fullmatch=True)).filter(
    lambda value: value not in {"true", "false", "null"}
)


@pytest.mark.parametrize(
    ("axis", "values"),
    [
        ("x=0.001,0.01", [0.001, 0.01]),
        ("x=32", [32]),
        ("x=relu,tanh", ["relu", "tanh"]),
        ("x=relu,2,null,true", ["relu", 2, None, True]),
        ("x=[1,2],[3]", [[1, 2], [3]]),
        ('x="a,b","c"', ["a,b", "c"]),
        ("x=1,1,2,1", [1, 2]),
        ("x=a=b", ["a=b"]),
        ("training.x=1", [1]),
    ],
)
def test_an_axis_is_a_name_and_its_values(axis: str, values: list[Any]) -> None:
    assert parse_grid([axis]) == {axis.partition("=")[0]: values}


@given(
    st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.lists(VALUES, min_size=1, unique_by=repr), min_size=1)
)
def test_what_is_written_is_what_is_read(grid: dict[str, list[Any]]) -> None:
    assert parse_grid([f"{name}={','.join(map(text, values))}" for name, values in grid.items()]) == grid


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        (["learning_rate"], "is not NAME=VALUE"),
        (["=1"], "is not NAME=VALUE"),
        (["two words=1"], "is not NAME=VALUE"),
        (["x=1", "x=2"], "names x twice"),
        (["x=relu,[1,2]"], "in quotes"),
    ],
)
def test_what_is_no_axis_is_refused(axes: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_grid(axes)


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        ({}, "The grid is empty"),
        ({"x": [1], "y": []}, "no value for y"),
        ({"x": [1] * 100, "y": [1] * 100}, r"10,000 combinations \(100 x x 100 y\).*--at-most 10000 allows it"),
    ],
)
def test_a_grid_that_is_empty_or_too_large_is_refused(grid: dict[str, list[Any]], said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_size(grid, 64)


def test_combinations_are_all_there_in_the_order_of_the_grid() -> None:
    combinations = lay_out({"learning_rate": [0.1, 0.2], "hidden": [3, 4]}, ["hidden"], BASE)

    assert [c.label for c in combinations] == [
        "learning_rate=0.1 hidden=3",
        "learning_rate=0.1 hidden=4",
        "learning_rate=0.2 hidden=3",
        "learning_rate=0.2 hidden=4",
    ]
    assert (combinations[1].training, combinations[1].arguments) == ({"learning_rate": 0.1}, {"hidden": 4})


@pytest.mark.parametrize("taken", [["hidden"], []])
def test_a_parameter_that_nobody_takes_is_named_with_those_there_are(taken: list[str]) -> None:
    with pytest.raises(
        InputError, match=f"parameter units. The training takes: epochs, .*takes: {'|'.join(taken) or 'none'}"
    ):
        lay_out({"units": [1]}, taken, BASE)


def test_a_builder_that_takes_anything_takes_what_the_training_does_not() -> None:
    (one,) = lay_out({"units": [1], "epochs": [2]}, None, BASE)
    assert (one.training, one.arguments) == ({"epochs": 2}, {"units": 1})


def test_a_name_that_both_take_must_say_which() -> None:
    with pytest.raises(InputError, match=r"model\.learning_rate or training\.learning_rate"):
        lay_out({"learning_rate": [1]}, ["learning_rate"], BASE)
    (one,) = lay_out({"model.learning_rate": [1], "training.learning_rate": [2]}, ["learning_rate"], BASE)
    assert (one.training, one.arguments) == ({"learning_rate": 2}, {"learning_rate": 1})


@pytest.mark.parametrize("name", ["training.hidden", "model.epochs", "resume"])
def test_a_name_at_the_wrong_place_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"Nobody takes the grid's parameter {name}"):
        lay_out({name: [1]}, ["hidden"], BASE)


def test_one_parameter_under_two_names_is_refused() -> None:
    with pytest.raises(InputError, match="one parameter twice"):
        lay_out({"epochs": [1], "training.epochs": [2]}, [], BASE)


def test_a_value_out_of_bounds_is_refused_before_anything_trains() -> None:
    with pytest.raises(InputError, match=r"can't have learning_rate=-1: Input should be greater than 0"):
        lay_out({"hidden": [1], "learning_rate": [0.1, -1]}, ["hidden"], BASE)


def test_the_grid_wins_over_what_all_have_in_common() -> None:
    base = TrainingConfig(epochs=7, batch_size=16)
    config = trained_by(base, Combination(values={}, training={"epochs": 2}))
    assert (config.epochs, config.batch_size) == (2, 16)
