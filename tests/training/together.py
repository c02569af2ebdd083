"""Trainings by several replicas, in a process of their own: `python -m tests.training.together STRATEGY`.

Meets the others first, as a flow does, then trains every case alone and together, and prints what came of it as JSON.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from tasks.errors import InputError
from tasks.training import Trained, TrainingConfig, join
from tests import samples
from tests.training.process import LOOPS

UNEVEN = samples.classes(rows=40 + 3 * 33 + 1)  # neither a batch of 33 nor the last one, of 1, can be halved
EVEN = samples.classes(rows=40 + 3 * 32)
WORSE = replace(EVEN, y_val=(np.asarray(EVEN.y_val) + 1) % 3)  # every epoch makes the validation worse


def train(loop: str, builder: str, data: Any, strategy: str, **more: Any) -> Trained:
    definition, model = samples.defined(builder, data)
    config = TrainingConfig.model_validate({"epochs": 2, "compiler": "graph", "strategy": strategy} | more)
    return LOOPS[loop](model, data, config, definition=definition)


def facts(trained: Trained) -> dict[str, Any]:
    return {
        "curves": trained.history.curves,
        "metrics": trained.metrics,
        "notes": trained.history.notes,
        "weights": [np.asarray(v, np.float64).ravel().tolist() for v in trained.model.variables],
        "digest": hashlib.sha256(b"".join(samples.bits(trained.model))).hexdigest(),
        "follower": asdict(trained.follower) if trained.follower else None,
    }


def both_ways(loop: str, builder: str, data: Any, strategy: str, **more: Any) -> dict[str, Any]:
    return {
        "alone": facts(train(loop, builder, data, "none", **more)),
        "together": facts(train(loop, builder, data, strategy, **more)),
    }


def refusal(loop: str, builder: str, strategy: str, **more: Any) -> str:
    try:
        train(loop, builder, EVEN, strategy, **more)
    except InputError as error:
        return str(error)
    return ""


def main(strategy: str) -> None:
    """Print all cases."""
    join(strategy)  # type: ignore[arg-type]
    found: dict[str, Any] = {loop: both_ways(loop, "regularized", UNEVEN, strategy, batch_size=33) for loop in LOOPS}
    if strategy == "mirrored":
        found["again"] = facts(train("custom", "regularized", UNEVEN, strategy, batch_size=33))["digest"]
        found["sum"] = both_ways("custom", "with_summed_loss", UNEVEN, strategy, batch_size=33)
        found["normalized"] = both_ways("fit", "normalized", EVEN, strategy)
        found["stopped"] = facts(train("fit", "dense", WORSE, strategy, early_stopping=1, epochs=4, learning_rate=0.05))
        found["refused"] = {
            "clipped": refusal("custom", "with_clipping", strategy),
            "own step": refusal("fit", "with_own_step", strategy),
            "own loss": refusal("custom", "with_own_loss", strategy),
            "small batch": refusal("fit", "dense", strategy, batch_size=1),
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
