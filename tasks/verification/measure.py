"""Measure a returned model against its manifest. Runs in the process that loads it, which is not the one that trained it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from tasks.data import Arrays
from tasks.data.dataset import Array, each
from tasks.definitions import Definition
from tasks.errors import RoundtripError
from tasks.serialization import compare, format_named, keras_model, restore, tensor_digests
from tasks.serialization.bundle import MODEL, load_alone, one_more_step, read_probe
from tasks.storage import Environment, Manifest
from tasks.training.step import put_back
from tasks.verification.environment import current_environment
from tasks.verification.survival import survived, versions_named


class Measurement(BaseModel):
    """What was measured; None is what was not.

    Attributes:
        loads: Whether the model could be loaded and called.
        error: Why not.
        weights: One line for each weight that is not the same bit for bit.
        outputs_identical: Whether every bit of the probe's outputs is the same.
        max_abs_diff: Largest difference of an output; two that are the same infinity, or both no number, do not differ.
        max_abs_output: Largest finite output, which differences are relative to.
        score: Share of the probe's examples that the returned model gets right, where the targets are classes.
        stored_score: The same for the outputs that the trained model gave.
        resumed: One line for each weight that is not the same after one more training step.
        survived: What came back, in the terms of the formats' promises.
        lost: What could not be given back, and why.
        environment: Where it was measured.
        confined: What the process that loaded it was held to: `tasks.safety.sandbox`. None where it was the caller's own.
        elsewhere: What was asked for, where that is not the environment that asked; else empty.
        seconds: Wall seconds.
    """

    loads: bool | None = None
    error: str | None = None
    weights: list[str] | None = None
    outputs_identical: bool | None = None
    max_abs_diff: float | None = None
    max_abs_output: float | None = None
    score: float | None = None
    stored_score: float | None = None
    resumed: list[str] | None = None
    survived: dict[str, bool] = {}
    lost: list[str] = []
    environment: Environment
    confined: list[str] | None = None
    elsewhere: str = ""
    seconds: float = 0.0


def measure(folder: Path, manifest: Manifest, definition: Definition) -> tuple[Measurement, Any]:
    """Load and compare a fetched bundle.

    Args:
        folder: Where `tasks.storage.fetch` put it; inspected by now.
        manifest: Of the version, read from the store.
        definition: The manifest's, or what the user gave in its place; trusted by now.

    Returns:
        What was measured, and the model (None where it did not load).
    """
    started = time.perf_counter()
    result = Measurement(environment=current_environment())
    model = _load(folder, manifest, definition, result)
    if model is not None:
        _compare(folder, manifest, model, result)
    result.seconds = time.perf_counter() - started
    return result, model


def measure_alone(folder: Path, manifest: Manifest, definition: Definition) -> tuple[Measurement, Any]:
    """Like `measure`, but of what the format's own files and loader give, with nothing beside them put back."""
    started = time.perf_counter()
    result = Measurement(environment=current_environment())
    model = None
    try:
        model = load_alone(folder, manifest.format, manifest.definition, manifest.carried, definition)
    except Exception as error:
        _did_not_load(error, manifest, result)
    else:
        result.loads = True
        _compare(folder, manifest, model, result)
        result.survived["versions"] = versions_named(folder / MODEL, manifest)
    result.seconds = time.perf_counter() - started
    return result, model


def _load(folder: Path, manifest: Manifest, definition: Definition, result: Measurement) -> Any:
    stored = manifest.definition
    if manifest.environment.keras != result.environment.keras:
        # Each Keras writes other keys into the same architecture's configuration: the variables and the outputs must tell.
        stored = stored.model_copy(update={"config": None})
    try:
        model, result.lost = restore(folder, manifest.format, stored, manifest.carried, definition)
    except Exception as error:
        if isinstance(error, RoundtripError) and not _wants_too_much(error):
            raise  # a definition that does not fit is the user's to mend, and says how
        _did_not_load(error, manifest, result)
        return None
    result.loads = True
    return model


def _wants_too_much(error: BaseException | None) -> bool:
    """Whether memory ran out: no definition mends that, and here it is limited."""
    while error is not None:
        if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
            return True
        error = error.__cause__
    return False


def _gist(error: Exception) -> str:
    """What an error of Keras' says, which wraps each in the configuration of all that was being made around it."""
    return str(error).rpartition("Exception encountered:")[2].strip()[:800]


def _versions(manifest: Manifest, result: Measurement) -> str:
    """Which versions stored and which load it, where they differ: newer files mostly don't load in an older Keras."""
    stored, here = manifest.environment, result.environment
    if (stored.keras, stored.tensorflow) == (here.keras, here.tensorflow):
        return ""
    other = [f"Keras {here.keras}"] if stored.keras != here.keras else []
    other += [f"TensorFlow {here.tensorflow}"] if stored.tensorflow != here.tensorflow else []
    return f"stored by Keras {stored.keras} and TensorFlow {stored.tensorflow}, this is {' and '.join(other)}: "


def _did_not_load(error: Exception, manifest: Manifest, result: Measurement) -> None:
    result.loads = False
    result.error = f"{_versions(manifest, result)}{type(error).__name__}: {_gist(error)}"


def _compare(folder: Path, manifest: Manifest, model: Any, result: Measurement) -> None:
    format_ = format_named(manifest.format)
    x, y, targets = read_probe(folder)
    if "weights" in format_.promises:
        result.weights = compare(manifest.carried.weights, tensor_digests(format_.variables(model)))
    try:
        with put_back(keras_model.seed_variables(model) if format_.trainable else ()):
            found = format_.predict(model, x)
    except Exception as error:
        result.loads = False
        why = f"{type(error).__name__}: {_gist(error)}"
        result.error = f"{_versions(manifest, result)}The returned model can't be called: {why}"
        return
    _compare_outputs(y, found, result)
    result.stored_score, result.score = _accuracy(y, targets), _accuracy(found, targets)
    result.survived = survived(model, manifest, result)


def measure_one_more_step(folder: Path, manifest: Manifest, model: Any, result: Measurement) -> None:
    """Train the returned model one step and compare; only where TensorFlow is told to be deterministic, as the trainer was.

    The model is another one afterwards: its caller is done with it, and to put it back would take its memory once more.
    """
    stored = manifest.carried.one_step
    if not result.survived or stored is None or result.lost:
        return
    if not result.survived["optimizer"]:
        result.resumed = ["the optimizer's state is not what was stored"]
        return
    format_ = format_named(manifest.format)
    x, _, targets = read_probe(folder)
    try:
        one_more_step(model, x, targets, stored.rows)
    except Exception as error:
        result.resumed = [f"can't be trained on: {type(error).__name__}: {str(error).strip()[:300]}"]
    else:
        result.resumed = compare(stored.weights, tensor_digests(format_.variables(model)))


def _compare_outputs(stored: Arrays, found: Arrays, result: Measurement) -> None:
    before, after = each(stored), each(found)
    if before.keys() != after.keys() or any(before[n].shape != after[n].shape for n in before):
        result.outputs_identical = False
        shapes = {n: a.shape for n, a in before.items()}, {n: a.shape for n, a in after.items()}
        result.error = f"the outputs have other names or shapes: stored {shapes[0]}, returned {shapes[1]}"
        return
    result.outputs_identical = all(before[n].tobytes() == after[n].tobytes() for n in before)
    other = [n for n in before if before[n].dtype.kind not in "biuf" and before[n].tobytes() != after[n].tobytes()]
    if other:  # strings, say: there is no near enough
        result.error = f"the outputs {', '.join(other)} are no numbers and have other values"
        return
    pairs = {
        n: (before[n].astype(np.float64), after[n].astype(np.float64)) for n in before if before[n].dtype.kind in "biuf"
    }
    differences = {n: _difference(a, b) for n, (a, b) in pairs.items()}
    endless = [n for n, difference in differences.items() if not np.isfinite(difference)]
    if endless:  # no tolerance is wide enough, and none may be taken from these
        result.error = f"the outputs {', '.join(n or 'of the model' for n in endless)} are no finite numbers at other places"
        return
    result.max_abs_diff = max(differences.values(), default=0.0)
    result.max_abs_output = max((_largest(a[np.isfinite(a)]) for a, _ in pairs.values()), default=0.0)


def _difference(a: Array, b: Array) -> float:
    other = ~((a == b) | (np.isnan(a) & np.isnan(b)))
    return _largest(a[other] - b[other])


def _largest(values: Array) -> float:
    return float(np.max(np.abs(values), initial=0.0))


def _accuracy(outputs: Arrays, targets: Arrays) -> float | None:
    """Share of right answers, for one output of class scores and integer targets; else None."""
    if isinstance(outputs, dict) or isinstance(targets, dict) or targets.dtype.kind not in "iub" or targets.ndim != 1:
        return None
    if outputs.ndim != 2 or outputs.shape[1] < 2:  # noqa: PLR2004  # (rows, classes)
        return None
    return float((outputs.argmax(axis=1) == targets).mean())
