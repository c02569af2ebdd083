"""Measure a returned model against its manifest. Runs in the process that loads it, which is not the one that trained it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from tasks.data import Arrays
from tasks.data.dataset import each
from tasks.definitions import Definition
from tasks.errors import RoundtripError
from tasks.serialization import compare, format_named, keras_model, restore, tensor_digests
from tasks.serialization.bundle import one_more_step, read_probe
from tasks.storage import Environment, Manifest
from tasks.training.step import put_back
from tasks.verification.environment import current_environment


class Measurement(BaseModel):
    """What was measured; None is what was not.

    Attributes:
        loads: Whether the model could be loaded and called.
        error: Why not.
        weights: One line for each weight that is not the same bit for bit.
        outputs_identical: Whether every bit of the probe's outputs is the same.
        max_abs_diff: Largest difference of an output.
        max_abs_output: Largest output, which differences are relative to.
        score: Share of the probe's examples that the returned model gets right, where the targets are classes.
        stored_score: The same for the outputs that the trained model gave.
        resumed: One line for each weight that is not the same after one more training step.
        survived: What came back, in the terms of the formats' promises.
        lost: What could not be given back, and why.
        environment: Where it was measured.
        confined: What the process that loaded it was held to: `tasks.safety.sandbox`. None where it was the caller's own.
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


def _load(folder: Path, manifest: Manifest, definition: Definition, result: Measurement) -> Any:
    try:
        model, result.lost = restore(folder, manifest.format, manifest.definition, manifest.carried, definition)
    except RoundtripError as error:
        if not _wants_too_much(error):
            raise  # a definition that does not fit is the user's to mend, and says how
        result.error = str(error)[:800]
    except Exception as error:
        result.error = f"{type(error).__name__}: {str(error).strip()[:800]}"
    else:
        result.loads = True
        return model
    result.loads = False
    return None


def _wants_too_much(error: BaseException | None) -> bool:
    """Whether memory ran out: no definition mends that, and here it is limited."""
    while error is not None:
        if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
            return True
        error = error.__cause__
    return False


def _compare(folder: Path, manifest: Manifest, model: Any, result: Measurement) -> None:
    format_, carried = format_named(manifest.format), manifest.carried
    x, y, targets = read_probe(folder)
    result.weights = compare(carried.weights, tensor_digests(format_.variables(model)))
    try:
        found = format_.predict(model, x)
    except Exception as error:
        result.loads = False
        result.error = f"The returned model can't be called: {type(error).__name__}: {str(error).strip()[:800]}"
        return
    _compare_outputs(y, found, result)
    result.stored_score, result.score = _accuracy(y, targets), _accuracy(found, targets)
    optimizer = format_.trainable and bool(carried.optimizer)
    optimizer_back = optimizer and not compare(carried.optimizer, tensor_digests(keras_model.optimizer_state(model)))
    compiled = carried.compile is not None and keras_model.compile_config(model) == carried.compile
    result.survived = {
        # Rebuilt by its own source is not survived.
        "architecture": not format_.needs_definition,
        "weights": not result.weights,
        "optimizer": optimizer_back,
        "compile": compiled,
        "history": bool(carried.curves) and model.history.curves == carried.curves,
        "signature": _signature_kept(model, manifest),
        "outputs": bool(result.outputs_identical),
    }


def measure_one_more_step(folder: Path, manifest: Manifest, model: Any, result: Measurement) -> None:
    """Train the returned model one step and compare; only where TensorFlow is told to be deterministic, as the trainer was.

    The model is put back as it was.
    """
    if not result.survived or not manifest.carried.after_one_step or result.lost:
        return
    if not result.survived["optimizer"]:
        result.resumed = ["the optimizer's state is not what was stored"]
        return
    format_ = format_named(manifest.format)
    x, _, targets = read_probe(folder)
    with put_back([*model.variables, *model.optimizer.variables]):
        try:
            one_more_step(model, x, targets)
        except Exception as error:
            result.resumed = [f"can't be trained on: {type(error).__name__}: {str(error).strip()[:300]}"]
        else:
            result.resumed = compare(manifest.carried.after_one_step, tensor_digests(format_.variables(model)))


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
    pairs = [(before[n].astype(np.float64), after[n].astype(np.float64)) for n in before if before[n].dtype.kind in "biuf"]
    result.max_abs_diff = max((float(np.max(np.abs(a - b), initial=0.0)) for a, b in pairs), default=0.0)
    result.max_abs_output = max((float(np.max(np.abs(a), initial=0.0)) for a, _ in pairs), default=0.0)


def _accuracy(outputs: Arrays, targets: Arrays) -> float | None:
    """Share of right answers, for one output of class scores and integer targets; else None."""
    if isinstance(outputs, dict) or isinstance(targets, dict) or targets.dtype.kind not in "iub" or targets.ndim != 1:
        return None
    if outputs.ndim != 2 or outputs.shape[1] < 2:  # noqa: PLR2004  # (rows, classes)
        return None
    return float((outputs.argmax(axis=1) == targets).mean())


def _signature_kept(model: Any, manifest: Manifest) -> bool:
    """Whether the model names and shapes its inputs as the probe had them."""
    stored = {(s.name, s.shape) for s in manifest.carried.inputs}
    if hasattr(model, "signatures"):
        specs = model.signatures["serving_default"].structured_input_signature[1]
        return {(name, tuple(spec.shape)) for name, spec in specs.items()} == stored
    try:
        inputs = model.inputs or []
    except AttributeError:  # a subclassed model that was not called symbolically has none
        return False
    return {(i.name, tuple(i.shape)) for i in inputs} == stored
