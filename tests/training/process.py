"""Trains by both loops in a process of its own and prints a digest of each: `python -m tests.training.process`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from tasks.training import Trained, TrainingConfig, train_with_custom_loop, train_with_fit
from tests import samples

LOOPS: dict[str, Callable[..., Trained]] = {"custom": train_with_custom_loop, "fit": train_with_fit}
FASTEST = {"custom": "xla", "fit": "graph"}  # what repeats bit for bit
DATA = samples.classes()


def digest_of(loop: str, seed: int, compiler: str | None = None) -> str:
    """Train from a seed and digest every weight, slot and seed state."""
    _, model = samples.defined("dropout_and_normalization", DATA, seed=seed)
    values = {"epochs": 1, "batch_size": 48, "seed": seed, "compiler": compiler or FASTEST[loop]}
    config = TrainingConfig.model_validate(values)
    LOOPS[loop](model, DATA, config)
    return hashlib.sha256(b"".join(samples.bits(model))).hexdigest()


if __name__ == "__main__":
    for name in LOOPS:
        print(digest_of(name, seed=7))
