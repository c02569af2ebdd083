"""Small datasets and trained models for the rooms' tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from tasks.data import Dataset
from tasks.data.dataset import digest
from tasks.definitions import Definition, ModelConfig, define
from tasks.training import Trained, TrainingConfig, train_with_custom_loop
from tasks.training.run import be_deterministic

EAGER = TrainingConfig(epochs=1, batch_size=130, compiler="eager")


def dataset(x: Any, y: Any, held: int = 40) -> Dataset:
    """The last `held` examples are for validation."""

    def part(arrays: Any, rows: slice) -> Any:
        return {k: v[rows] for k, v in arrays.items()} if isinstance(arrays, dict) else arrays[rows]

    first, last = slice(None, -held), slice(-held, None)
    parts = part(x, first), part(y, first), part(x, last), part(y, last)
    return Dataset(*parts, source="test", digest=digest(*parts))


def classes(rows: int = 170, shape: tuple[int, ...] = (8,), outputs: int = 3, seed: int = 0) -> Dataset:
    """Examples around one centre a class."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, outputs, rows)
    centres = rng.standard_normal((outputs, *shape)) * 2
    return dataset((centres[y] + 0.5 * rng.standard_normal((rows, *shape))).astype(np.float32), y)


def two_sided(rows: int = 170) -> Dataset:
    """For `tests.user_models:two_in_two_out`."""
    rng = np.random.default_rng(0)
    x = {name: rng.standard_normal((rows, 8)).astype(np.float32) for name in ("left", "right")}
    y = {"kind": rng.integers(0, 3, rows), "size": x["left"].sum(1, keepdims=True)}
    return dataset(x, y)


def defined(builder: str, data: Dataset, seed: int = 0, **arguments: Any) -> tuple[Definition, Any]:
    """A definition and its untrained model, from a seed. `builder` is one of `tests.user_models`, or a whole reference."""
    be_deterministic(seed)
    reference = builder if ":" in builder else f"tests.user_models:{builder}"
    return define(ModelConfig(builder=reference, arguments=arguments), data)


def trained(builder: str, data: Dataset, config: TrainingConfig = EAGER, **arguments: Any) -> tuple[Trained, Definition]:
    """A model that took a few eager steps: quickly trained, hardly learned."""
    definition, model = defined(builder, data, **arguments)
    return train_with_custom_loop(model, data, config), definition


def in_tens(data: Dataset) -> Dataset:
    """As many examples as a model takes that takes ten at a time."""
    part, held = slice(0, 40), slice(0, 20)
    return replace(data, x=data.x[part], y=data.y[part], x_val=data.x_val[held], y_val=data.y_val[held])


def memory(model: Any) -> float:
    """How many examples the model `remembering` has seen in each of its ten rows."""
    return float(np.asarray(model.get_layer(index=2).states[0])[0, 0])


def bits(model: Any) -> list[bytes]:
    """Every weight, every seed state and every optimizer slot."""
    slots = model.optimizer.variables if model.compiled else []
    return [np.asarray(v).tobytes() for v in [*model.variables, *slots]]
