"""The records that go to a piece of work and come back from it."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from tasks.serialization import TensorDigest
from tasks.storage import Manifest
from tasks.verification.fidelity.cells import Subject


class Goal(BaseModel):
    """Where the run that was not interrupted arrived: the live model, trained on for some more epochs.

    Attributes:
        curves: Of these epochs.
        optimizer: Digest of every optimizer variable at their end.
        weights: Digest of every weight at their end, by the names that each format has for them.
    """

    model_config = {"frozen": True}

    curves: dict[str, list[float]]
    optimizer: tuple[TensorDigest, ...]
    weights: dict[str, tuple[TensorDigest, ...]]


class TrainTask(BaseModel):
    """Train, save in these formats, and go on; `compared` are all formats that the goal is for."""

    model_config = {"frozen": True}

    subject: Subject
    formats: list[str]
    compared: list[str]
    folder: Path


class MeasureTask(BaseModel):
    """Measure one bundle."""

    model_config = {"frozen": True}

    subject: Subject
    folder: Path
    manifest: Manifest
    goal: Goal | None


class Measured(BaseModel):
    """One way back, measured: what survived, whether all passed, and a line for whatever did not."""

    model_config = {"frozen": True}

    survived: dict[str, bool]
    passed: bool
    lines: list[str]
