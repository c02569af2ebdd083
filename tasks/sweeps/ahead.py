"""Look ahead: build the first combination's model, and see what would go wrong, before anything trains."""

from __future__ import annotations

import inspect
from dataclasses import replace

from tasks.data import DataConfig, load_dataset
from tasks.data.dataset import take
from tasks.definitions import ModelConfig, define
from tasks.definitions.build import fixed_batch, parameters
from tasks.errors import InputError
from tasks.serialization import usable_format
from tasks.sweeps.grid import Combination, Grid, lay_out, trained_by
from tasks.sweeps.records import Ahead
from tasks.training import TrainingConfig
from tasks.training.run import ensure_compiled, final_metrics, in_the_users_terms, seeded

_EXAMPLES = 8
_OF_COMPILING = frozenset({"optimizer", "learning_rate", "loss", "metrics"})


def look_ahead(grid: Grid, scenario: str, data: DataConfig, model: ModelConfig, training: TrainingConfig) -> Ahead:
    """Find out which combinations there are and which metrics they will have. Imports TensorFlow and the user's code.

    Raises:
        InputError: The grid has a parameter that nobody takes, or that changes nothing; the model or the data can't be used.
    """
    format_ = usable_format(scenario)
    combinations = lay_out(grid, _taken(model.builder), training)
    first = combinations[0]
    config = trained_by(training, first)
    dataset = load_dataset(data)
    with seeded(config.seed):
        chosen = model.model_copy(update={"arguments": model.arguments | first.arguments})
        _, built = define(chosen, dataset)
    format_.check(built)
    if built.compiled:
        _refuse_what_changes_nothing(model.builder, first)
    count = fixed_batch(built) or _EXAMPLES
    few = replace(dataset, x_val=take(dataset.x_val, slice(0, count)), y_val=take(dataset.y_val, slice(0, count)))
    with in_the_users_terms(dataset):
        ensure_compiled(built, dataset, config)
        # Some models can't be compiled to a graph; a training finds that out by itself.
        built.run_eagerly = True
        return Ahead(combinations=combinations, metrics=list(final_metrics(built, few, count)))


def _taken(builder: str) -> list[str] | None:
    """Names of the arguments that a builder takes; None where it takes any."""
    takes = parameters(builder)
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in takes.values()):
        return None
    return [name for name, p in takes.items() if p.kind is not inspect.Parameter.VAR_POSITIONAL]


def _refuse_what_changes_nothing(builder: str, combination: Combination) -> None:
    idle = sorted(_OF_COMPILING & combination.training.keys())
    if idle:
        raise InputError(
            f"{builder} compiles its model, so {', '.join(idle)} of the training would change nothing, and all combinations "
            "would be alike. Make it an argument of the builder, or return the model without compiling it."
        )
