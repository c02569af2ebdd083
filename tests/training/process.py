"""Trains by both loops in a process of its own and prints a digest of each: `python -m tests.training.process`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from tasks.training import Trained, TrainingConfig, train_with_custom_loop, train_with_fit
from tests import samples

LOOPS: dict[str, Callable[..., Trained]] = {"custom": train_with_custom_loop, "fit": train_with_fit}
DATA = samples.classes()


def digest_of(loop: str, seed: int, compiler: str = "auto") -> str:
    """Train from a seed and digest every weight, slot and seed state."""
    _, model = samples.defined("dropout_and_normalization", DATA, seed=seed)
    config = TrainingConfig.model_validate({"epochs": 1, "batch_size": 48, "seed": seed, "compiler": compiler})
    LOOPS[loop](model, DATA, config)
    return hashlib.sha256(b"".join(samples.bits(model))).hexdigest()


if __name__ == "__main__":
    for name in LOOPS:
        print(digest_of(name, seed=7))
