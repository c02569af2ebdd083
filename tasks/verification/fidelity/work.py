"""The pieces of work: train a definition and save it in every format; measure one cell in a process that did not train."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.children import quick_imports, serve

with quick_imports():
    import h5py  # noqa: F401  # inspection reads with it
    import tensorflow as tf

from tasks.data import DataConfig, Dataset, load_dataset
from tasks.definitions import Definition, ModelConfig, define
from tasks.errors import InputError
from tasks.safety import Inspection, inspect_bundle
from tasks.serialization import TensorDigest, compare, format_named, keras_model, tensor_digests, write_bundle
from tasks.storage import Manifest, layout
from tasks.storage.transfer import file_entries
from tasks.training import Trained, TrainingConfig, train_with_fit
from tasks.training.run import be_deterministic
from tasks.verification.describe import describe
from tasks.verification.fidelity.cells import Subject, first_lines, gist
from tasks.verification.fidelity.tasks import Goal, Measured, MeasureTask, TrainTask
from tasks.verification.measure import Measurement, measure, measure_alone
from tasks.verification.verdict import judge

Emit = Callable[[dict[str, Any]], None]


def main() -> None:
    """Do what is asked for; the bench's side of the pipe is in `bench`."""
    tf.get_logger().setLevel("ERROR")
    # A crash is told by its signal; its memory would fill the disk.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def handle(request: dict[str, Any], emit: Emit) -> None:
        if request["bytes"]:
            resource.setrlimit(resource.RLIMIT_DATA, (request["bytes"], request["bytes"]))
        jobs = {"train": train_and_save, "measure": measure_cell}
        jobs[request["do"]](request["task"], emit)

    serve(handle)


def train_and_save(request: dict[str, Any], emit: Emit) -> None:
    """Train once and save the same state in one format after the other, then train on.

    Emits `trained` (a digest of all that was trained), `saving` and `saved` or `refused` for each format, and `goal`. A
    format whose `save` leaves the live model changed (FACTS S4) is told by `disturbed`, and the work ends there: whatever
    is left needs a model that nobody touched.
    """
    task = TrainTask.model_validate(request)
    dataset, config = _load(task.subject), _config(task.subject)
    be_deterministic(config.seed)
    definition, model = define(ModelConfig(builder=task.subject.builder, arguments=task.subject.arguments), dataset)
    trained = train_with_fit(model, dataset, config)
    before = _live_state(model)
    emit({"trained": [t.sha256 for t in before.values()]})
    for name in task.formats:
        emit({"saving": name})
        try:
            manifest = _save(trained, definition, dataset, name, task.folder / name, config)
        except InputError as refusal:
            emit({"refused": name, "why": str(refusal)})
        except Exception as error:  # Keras' or TensorFlow's own refusal: loud as well, and before anything is published
            emit({"refused": name, "why": gist(error)})
        else:
            emit({"saved": name, "manifest": manifest.model_dump(mode="json")})
        changed = compare(before.values(), _live_state(model).values())
        if changed:
            emit({"disturbed": name, "lines": changed})
            return
    emit({"goal": _go_on(model, dataset, task.subject, task.compared).model_dump(mode="json")})


def measure_cell(request: dict[str, Any], emit: Emit) -> None:
    """Measure the way back by the format alone, then the one with Roundtrip, then train on whatever can be trained on.

    Emits `alone` and `returned`, each at first without and at last with the promise `resume`, so that a crash takes away
    only what was not measured yet.
    """
    tf.config.experimental.enable_op_determinism()
    task = MeasureTask.model_validate(request)
    manifest, definition = task.manifest, task.manifest.definition
    measured, model = measure_alone(task.folder, manifest, definition)
    alone = _judged(manifest, measured)
    del model
    emit({"alone": alone.model_dump(mode="json")})
    # As on every return: what is dangerous would be refused there, so it is not kept.
    inspection = inspect_bundle(task.folder, manifest, definition.reference)  # which this job itself has run
    measured, model = measure(task.folder, manifest, definition)
    returned = _judged(manifest, measured, inspection)
    emit({"returned": returned.model_dump(mode="json")})
    if not format_named(manifest.format).trainable or task.goal is None:
        return
    if model is not None:
        lines = _resume(model, task)
        emit({"returned": _with_resume(returned, lines).model_dump(mode="json")})
        del model
    lacking = [p for p in ("weights", "state", "optimizer", "compile", "policy") if alone.survived.get(p) is False]
    if lacking or not alone.survived:
        lines = [f"can't go on: {', '.join(lacking)} did not survive"]
    else:
        _, again = measure_alone(task.folder, manifest, definition)
        lines = _resume(again, task)
    emit({"alone": _with_resume(alone, lines).model_dump(mode="json")})


def _load(subject: Subject) -> Dataset:
    return load_dataset(DataConfig(source=subject.data))


def _config(subject: Subject) -> TrainingConfig:
    # A plain graph, for XLA's compilation takes longer than these trainings.
    return TrainingConfig(epochs=subject.epochs, batch_size=subject.batch_size, seed=subject.seed, compiler="graph")


def _save(
    trained: Trained, definition: Definition, dataset: Dataset, name: str, folder: Path, config: TrainingConfig
) -> Manifest:
    folder.mkdir(parents=True)
    bundle = write_bundle(trained, definition, dataset, name, folder)
    manifest = describe(bundle, "fidelity", layout.new_version(), config)
    return manifest.model_copy(update={"files": file_entries(folder)})


def _live_state(model: Any) -> dict[str, TensorDigest]:
    """Digests of everything that a save must leave alone."""
    arrays = {f"weight {name}": array for name, array in keras_model.weights(model).items()}
    arrays |= {f"optimizer {name}": array for name, array in keras_model.optimizer_state(model).items()}
    arrays |= {f"state {name}": array for name, array in keras_model.seed_states(model).items()}
    found = {t.name: t for t in tensor_digests(arrays)}
    compiled = repr((type(model.optimizer).__name__, keras_model.compile_config(model)))
    found["compile"] = TensorDigest(name="compile", shape=(), dtype="str", sha256=compiled)
    return found


def _go_on(model: Any, dataset: Dataset, subject: Subject, formats: list[str]) -> Goal:
    """Train a compiled model from where it stands, in the order in which a run without interruption sees the examples."""
    total = subject.epochs + subject.more_epochs
    config = _config(subject).model_copy(update={"epochs": total})
    more = train_with_fit(model, dataset, config, first_epoch=subject.epochs)
    trainable = [name for name in formats if format_named(name).trainable]
    return Goal(
        curves=more.history.curves,
        optimizer=tensor_digests(keras_model.optimizer_state(model)),
        weights={name: tensor_digests(format_named(name).variables(model)) for name in trainable},
    )


def _resume(model: Any, task: MeasureTask) -> list[str]:
    """Train a returned model on; a line for everything that is not as in the run that was not interrupted."""
    if not model.compiled:
        return ["can't go on: it came back without loss and optimizer"]
    assert task.goal is not None
    name, dataset = task.manifest.format, _load(task.subject)
    if dataset.digest != task.manifest.data.sha256:
        return [f"can't go on: {task.subject.data} gives other data each time"]
    try:
        found = _go_on(model, dataset, task.subject, [name])
    except Exception as error:
        return [f"can't be trained on: {gist(error)}"]
    lines = [
        f"{curve} is {after} instead of {task.goal.curves.get(curve)}"
        for curve, after in found.curves.items()
        if after != task.goal.curves.get(curve)
    ]
    lines += [f"weight {line}" for line in compare(task.goal.weights[name], found.weights[name])]
    return lines + [f"optimizer variable {line}" for line in compare(task.goal.optimizer, found.optimizer)]


def _judged(manifest: Manifest, measured: Measurement, inspection: Inspection = Inspection()) -> Measured:
    verdict = judge(manifest, measured, inspection)
    return Measured(survived=verdict.survived, passed=verdict.passed, lines=verdict.reasons + verdict.lost)


def _with_resume(measured: Measured, lines: list[str]) -> Measured:
    more = [f"{_MORE}: {first_lines(lines)}"] if lines else []
    return measured.model_copy(
        update={"survived": measured.survived | {"resume": not lines}, "lines": measured.lines + more}
    )


_MORE = "trained on"
