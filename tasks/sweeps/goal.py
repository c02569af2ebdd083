"""What makes one trial better than another: a metric, and whether more of it is better."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field

from tasks.errors import InputError
from tasks.forms import may_be_empty, place

Direction = Literal["min", "max"]

_BY_DEFAULT = ("val_accuracy", "val_loss")
# How the names of Keras' metrics end; with several outputs, the output's name stands before it, and a number may follow.
_LESS = (
    "loss|error|mae|mse|rmse|mape|msle|crossentropy|divergence|poisson|hinge|cosh|logcosh|log_cosh|false_positives|"
    "false_negatives"
)
_MORE = (
    "accuracy|acc|auc|precision|recall|f1|f1_score|fbeta_score|iou|mean_io_u|one_hot_io_u|cosine_similarity|r2|r2_score|"
    "true_positives|true_negatives|specificity|sensitivity|sensitivity_at_specificity|specificity_at_sensitivity|"
    "precision_at_recall|recall_at_precision"
)
_DIRECTIONS: dict[Direction, re.Pattern[str]] = {
    "min": re.compile(rf"(?:.*_)?(?:{_LESS})(?:_\d+)?"),
    "max": re.compile(rf"(?:.*_)?(?:{_MORE})(?:_\d+)?"),
}


class Goal(BaseModel):
    """By what the best is chosen; a form in Prefect's UI."""

    model_config = {"frozen": True}

    metric: str | None = Field(
        default=None,
        description="Name of a metric on the validation data: val_loss, val_accuracy, val_auc. Empty: val_accuracy where "
        "the model has it, else val_loss.",
        json_schema_extra=may_be_empty(0),
    )
    direction: Literal["known", "min", "max"] = Field(
        default="known",
        description="Whether the least or the most is best; known: as Keras means its metrics.",
        json_schema_extra=place(1),
    )


class Target(BaseModel):
    """A goal that was decided: the metric, and whether its least or its most is best."""

    model_config = {"frozen": True}

    metric: str
    direction: Direction


def decide(goal: Goal, metrics: Sequence[str], grid: Mapping[str, Sequence[Any]] | None = None) -> Target:
    """The target for models that have these metrics.

    Raises:
        InputError: They don't have the one that is wanted, or nobody knows whether more of it is better; or it is the loss,
            and the grid tries several.
    """
    metric = goal.metric or next((name for name in _BY_DEFAULT if name in metrics), metrics[0])
    if metric not in metrics:
        raise InputError(
            f"No run will have the metric {metric!r}. The model has: {', '.join(metrics)}. Another one is added with "
            "--grid 'metrics=[\"...\"]', or by the builder that compiles the model."
        )
    if metric.endswith("loss") and any(len((grid or {}).get(name, ())) > 1 for name in ("loss", "training.loss")):
        raise InputError(f"{metric} of different losses can't be compared. Name a --metric that all of them have.")
    if goal.direction != "known":
        return Target(metric=metric, direction=goal.direction)
    for direction, names in _DIRECTIONS.items():
        if names.fullmatch(metric):
            return Target(metric=metric, direction=direction)
    raise InputError(f"Is more of {metric!r} better, or less? It is none of Keras' names: say --goal max or --goal min.")


def best_of(metrics: Sequence[Mapping[str, float] | None], target: Target) -> int | None:
    """The index of the best, the first of equals; None where nobody has a number.

    Args:
        metrics: Of each run in their order; None where it failed.
        target: What is wanted.
    """
    sign = 1 if target.direction == "min" else -1
    values = [math.nan if each is None else each.get(target.metric, math.nan) for each in metrics]
    numbers = [index for index, value in enumerate(values) if math.isfinite(value)]
    return min(numbers, key=lambda index: sign * values[index], default=None)
