"""The best of several runs, and what decides it."""

from __future__ import annotations

import math

import pytest

from tasks.errors import InputError
from tasks.sweeps.goal import Goal, Target, best_of, decide

METRICS = ["val_loss", "val_accuracy", "val_my_score"]


def test_by_default_the_most_accurate_is_best_and_without_accuracy_the_least_loss() -> None:
    assert decide(Goal(), METRICS) == Target(metric="val_accuracy", direction="max")
    assert decide(Goal(), ["val_loss", "val_mae"]) == Target(metric="val_loss", direction="min")


def test_the_values_of_different_losses_are_not_compared() -> None:
    with pytest.raises(InputError, match="val_loss of different losses can't be compared"):
        decide(Goal(), ["val_loss", "val_mae"], {"loss": ["mse", "mae"]})
    assert decide(Goal(metric="val_mae"), ["val_loss", "val_mae"], {"loss": ["mse", "mae"]}).metric == "val_mae"


@pytest.mark.parametrize(
    "name",
    ["loss", "mae", "mean_squared_error", "root_mean_squared_error", "kl_divergence", "kind_loss", "hinge", "mse_1",
     "sparse_categorical_crossentropy", "log_cosh", "false_positives"],
)  # fmt: skip
def test_of_losses_and_errors_less_is_better(name: str) -> None:
    assert decide(Goal(metric=f"val_{name}"), [f"val_{name}"]).direction == "min"


@pytest.mark.parametrize(
    "name",
    ["accuracy", "acc", "auc", "auc_2", "precision", "recall", "f1_score", "kind_sparse_categorical_accuracy", "r2_score",
     "sparse_top_k_categorical_accuracy", "mean_io_u", "cosine_similarity"],
)  # fmt: skip
def test_of_scores_more_is_better(name: str) -> None:
    assert decide(Goal(metric=f"val_{name}"), [f"val_{name}"]).direction == "max"


def test_a_direction_that_is_said_wins() -> None:
    assert decide(Goal(metric="val_loss", direction="max"), METRICS).direction == "max"
    assert decide(Goal(metric="val_my_score", direction="min"), METRICS).direction == "min"


def test_a_metric_that_nobody_knows_must_say_its_direction() -> None:
    with pytest.raises(InputError, match="--goal max or --goal min"):
        decide(Goal(metric="val_my_score"), METRICS)


def test_a_metric_that_no_run_will_have_is_refused_with_those_there_are() -> None:
    with pytest.raises(InputError, match=r"'val_auc'\. The model has: val_loss, val_accuracy, val_my_score"):
        decide(Goal(metric="val_auc"), METRICS)


def test_the_first_of_equals_is_best_and_what_failed_or_is_no_number_never() -> None:
    runs = [None, {"m": math.nan}, {"m": 2.0}, {}, {"m": 3.0}, {"m": 3.0}, {"m": math.inf}]
    assert best_of(runs, Target(metric="m", direction="max")) == 4
    assert best_of(runs, Target(metric="m", direction="min")) == 2
    assert best_of(runs[:2], Target(metric="m", direction="min")) is None
