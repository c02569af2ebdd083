"""The grid: for each parameter the values to try, and all their combinations."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from itertools import product
from math import prod
from typing import Any

from pydantic import BaseModel, ValidationError

from tasks.errors import InputError
from tasks.training import TrainingConfig

Grid = dict[str, list[Any]]

_TRAINING, _MODEL = "training.", "model."
# How often a training keeps its state, whether it looks for some, and on how many devices it runs, is nothing to choose by.
_NOT_HERE = frozenset({"resume", "checkpoint_seconds", "checkpoint_epochs", "strategy"})
_FIELDS = tuple(name for name in TrainingConfig.model_fields if name not in _NOT_HERE)


class Combination(BaseModel):
    """One point of the grid.

    Attributes:
        values: By the names that the grid has.
        training: Those that are the training's.
        arguments: Those that are the model's.
    """

    model_config = {"frozen": True}

    values: dict[str, Any]
    training: dict[str, Any] = {}
    arguments: dict[str, Any] = {}

    @property
    def label(self) -> str:
        """For people: `learning_rate=0.01 hidden=64`."""
        return " ".join(f"{name}={text(value)}" for name, value in self.values.items())


def text(value: Any) -> str:
    """A value as it is written on the command line."""
    return value if isinstance(value, str) else json.dumps(value)


def parse_grid(axes: Sequence[str]) -> Grid:
    """The grid of `NAME=VALUE,VALUE,...`, one text for each parameter; values are JSON where they can be.

    Raises:
        InputError: A text is not of that form, a name stands twice, or has no value.
    """
    grid: Grid = {}
    for axis in axes:
        name, equals, values = axis.partition("=")
        if not equals or not all(part.isidentifier() for part in name.split(".")):
            raise InputError(f"--grid {axis!r} is not NAME=VALUE,VALUE,... such as learning_rate=0.001,0.01.")
        if name in grid:
            raise InputError(f"--grid names {name} twice. Write all its values behind one: {name}=A,B.")
        grid[name] = _values(values)
    return grid


def check_size(grid: Mapping[str, Sequence[Any]], at_most: int) -> int:
    """How many combinations there are.

    Raises:
        InputError: None, or more than there may be.
    """
    if not grid:
        raise InputError("The grid is empty: nothing to try. Name a parameter and its values: learning_rate=0.001,0.01.")
    empty = next((name for name, values in grid.items() if not values), None)
    if empty is not None:
        raise InputError(f"The grid has no value for {empty}. Write {empty}=VALUE, or {empty}=VALUE,VALUE,...")
    count = prod(len(values) for values in grid.values())
    if count > at_most:
        axes = " x ".join(f"{len(values)} {name}" for name, values in grid.items())
        raise InputError(
            f"The grid has {count:,} combinations ({axes}), each a training and a version in the store. That is more than "
            f"{at_most:,}; --at-most {count} allows it."
        )
    return count


def lay_out(grid: Grid, taken: Collection[str] | None, base: TrainingConfig) -> list[Combination]:
    """All combinations, the last parameter changing fastest.

    Args:
        grid: What to try.
        taken: Names of the arguments that the model's builder takes; None where it takes any.
        base: How a combination is trained where the grid says nothing.

    Raises:
        InputError: Nobody takes a parameter, two do, or the training takes a value of it not.
    """
    places = {name: _place(name, taken) for name in grid}
    if len(set(places.values())) < len(places):
        raise InputError("The grid names one parameter twice, with and without the word before the dot.")
    combinations = []
    for chosen in product(*grid.values()):
        values = dict(zip(grid, chosen, strict=True))
        parts = {kind: {places[n][1]: v for n, v in values.items() if places[n][0] == kind} for kind in (_TRAINING, _MODEL)}
        combinations.append(Combination(values=values, training=parts[_TRAINING], arguments=parts[_MODEL]))
    for each in combinations:
        trained_by(base, each)
    return combinations


def trained_by(base: TrainingConfig, combination: Combination) -> TrainingConfig:
    """How a combination is trained.

    Raises:
        InputError: It can't be: a value is out of its bounds, or of another type.
    """
    try:
        return TrainingConfig.model_validate(base.model_dump() | combination.training)
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        value, why = text(combination.training.get(name)), error.errors()[0]["msg"]
        raise InputError(f"The training can't have {name}={value}: {why}.") from None


def _place(name: str, taken: Collection[str] | None) -> tuple[str, str]:
    """Whose parameter it is, and its name there."""
    for kind in (_TRAINING, _MODEL):
        if name.startswith(kind):
            bare = name.removeprefix(kind)
            if bare not in (_FIELDS if kind == _TRAINING else taken if taken is not None else [bare]):
                raise _unknown(name, taken)
            return kind, bare
    of_training, of_model = name in _FIELDS, taken is not None and name in taken
    if of_training and of_model:
        raise InputError(
            f"{name} is a parameter of the training and an argument of the model. "
            f"Say which one the grid means: {_MODEL}{name} or {_TRAINING}{name}."
        )
    if not of_training and not of_model and taken is not None:
        raise _unknown(name, taken)
    return (_TRAINING if of_training else _MODEL), name


def _unknown(name: str, taken: Collection[str] | None) -> InputError:
    arguments = ", ".join(taken or []) or "none"
    return InputError(
        f"Nobody takes the grid's parameter {name}. The training takes: {', '.join(_FIELDS)}. The model takes: {arguments}."
    )


def _values(values: str) -> list[Any]:
    """`0.1,0.2`, `relu,tanh`, `[1,2],[3]`: JSON as a whole where it can be, else piece by piece. Each once."""
    try:
        found = json.loads(f"[{values}]")
    except json.JSONDecodeError:
        found = [_value(piece) for piece in values.split(",") if piece]
    once: dict[str, Any] = {}
    for value in found:
        once.setdefault(json.dumps(value, sort_keys=True), value)
    return list(once.values())


def _value(piece: str) -> Any:
    if piece.startswith(("[", "{", '"')):
        raise InputError(f"--grid: {piece!r} is no JSON. Put words beside lists in quotes: '\"relu\",[1,2]'.")
    try:
        return json.loads(piece)
    except json.JSONDecodeError:
        return piece
