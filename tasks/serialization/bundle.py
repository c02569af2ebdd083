"""A bundle: the format's own files, and beside them what the format would lose.

```
model/...    the format's files under their own names
probe.npz    inputs `x`, the outputs `y` that the trained model gave, the targets `t`
state.npz    optimizer slots, seed states, states of recurrent layers, vocabularies
```
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, model_validator

from tasks.data import Arrays, Dataset
from tasks.data.dataset import each, rows, take
from tasks.definitions import Definition
from tasks.definitions.build import as_tensors, fixed_batch
from tasks.references import resolve
from tasks.serialization import keras_model
from tasks.serialization.arrays import flat, nested, read_npz, write_npz
from tasks.serialization.digests import TensorDigest, tensor_digests
from tasks.serialization.formats import format_named, usable_format
from tasks.serialization.protocol import Format
from tasks.training import History, Trained
from tasks.training.confusion import confusion
from tasks.training.step import build_optimizer, gradient_step, put_back, trained_state

MODEL, PROBE, STATE = "model", "probe.npz", "state.npz"
_PROBE_ROWS = 256
_PROBE_BYTES = 4 * 2**20
_STEP_ROWS = 32  # all variables change; all of the probe would cost a model of 200 MB two seconds more, three times


class ArraySpec(BaseModel):
    """One input or output: its name, shape with an open batch, and dtype."""

    model_config = {"frozen": True}

    name: str
    shape: tuple[int | None, ...]
    dtype: str


class OneStep(BaseModel):
    """One more training step on the probe.

    Attributes:
        rows: How many rows of the probe it was taken on, from the first; None for all, as before this was told.
        weights: Digest of every weight after it.
    """

    model_config = {"frozen": True}

    rows: int | None = Field(ge=1)
    weights: tuple[TensorDigest, ...]


class Carried(BaseModel):
    """What the bundle carries for the format, and what the returning side holds its model against.

    Attributes:
        compile: Keras' compile configuration, or None where the model has none that can be told.
        curves: The training history, per logged name one value an epoch.
        epoch_seconds: Wall seconds of each epoch.
        confusion: For a classifier, how often each class (row) was taken for each (column), on the validation data.
        weights: Digest of every weight.
        optimizer: Digest of every optimizer variable, by position.
        optimized: Positions of the weights that the optimizer has slots for, in its order.
        one_step: What one more training step makes of the weights; None where not measured.
        own_classes: Classes that only the definition can bring, where the format keeps an architecture, but not theirs.
        healed: A line for everything of this very model that its format would lose, and that comes back all the same.
        state: Digest of everything that no gradient touches: moving statistics, seed generators, vocabularies.
        policies: Name of the number format of every layer, in the model's order; empty where all are float32.
        inputs: The inputs of the probe.
        outputs: The outputs of the probe.
    """

    model_config = {"frozen": True, "ser_json_inf_nan": "strings"}  # of the curves, as in `TrainingRecord`

    compile: dict[str, Any] | None = None
    curves: dict[str, list[float]] = Field(default_factory=dict)
    epoch_seconds: list[float] = Field(default_factory=list)
    confusion: list[list[int]] = Field(default_factory=list)
    weights: tuple[TensorDigest, ...] = ()
    optimizer: tuple[TensorDigest, ...] = ()
    optimized: tuple[int, ...] = ()
    one_step: OneStep | None = None
    own_classes: tuple[str, ...] = ()
    healed: tuple[str, ...] = ()
    state: tuple[TensorDigest, ...] = ()
    policies: tuple[str, ...] = ()
    inputs: tuple[ArraySpec, ...] = ()
    outputs: tuple[ArraySpec, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _from_before_rows_were_told(cls, values: Any) -> Any:
        # Under a name of its own, so that who knows the old one alone takes the new one for not measured.
        if isinstance(values, dict) and values.get("after_one_step"):
            return {**values, "one_step": {"rows": None, "weights": values["after_one_step"]}}
        return values


@dataclass(frozen=True, slots=True)
class Bundle:
    """A folder that is ready to be published; `run` names the checkpoints that can go then."""

    folder: Path
    format: str
    definition: Definition
    carried: Carried
    data_source: str
    data_digest: str
    metrics: dict[str, float]
    loop: str
    notes: tuple[str, ...]
    run: str = ""


def write_bundle(trained: Trained, definition: Definition, dataset: Dataset, format_name: str, folder: Path) -> Bundle:
    """Save a trained model and all that goes with it.

    Args:
        trained: The live model; it is the same afterwards as before, bit for bit.
        definition: What it was built from.
        dataset: Where the probe is taken from (validation examples).
        format_name: One of `FORMATS`.
        folder: An empty folder to fill.

    Returns:
        The bundle, with digests taken from the live model *before* anything was written.

    Raises:
        InputError: The format can't hold this model.
    """
    model, format_ = trained.model, usable_format(format_name)
    x, targets = _probe_inputs(dataset)
    state = tensor_digests(keras_model.state(model))
    seeds = keras_model.seed_states(model)
    # Before anything is written, for it finds out whether the format can hold the model at all.
    with put_back(keras_model.seed_variables(model)):
        y = format_.predict(model, x)
        counts = confusion(trained, dataset)
    weights = tensor_digests(format_.variables(model))
    optimizer = keras_model.optimizer_state(model)
    (folder / MODEL).mkdir(parents=True)
    healed = format_.save(model, folder / MODEL, x)
    if format_.trainable:
        healed += keras_model.compile_losses(model)
        healed += [f"seed states: none of Keras' formats keeps them ({len(seeds)} of this model)"] if seeds else []
    write_npz(folder / PROBE, flat("x", x) | flat("y", y) | flat("t", targets))
    vocabularies = _prefixed("vocabulary", keras_model.vocabularies(model))
    write_npz(folder / STATE, _prefixed("optimizer", optimizer) | _prefixed("seed", seeds) | vocabularies)
    config = keras_model.compile_config(model)
    carried = Carried(
        compile=config,
        curves=trained.history.curves,
        epoch_seconds=trained.history.seconds,
        confusion=counts,
        weights=weights,
        optimizer=tensor_digests(optimizer),
        optimized=keras_model.optimized(model),
        own_classes=tuple(keras_model.own_classes(model)) if format_.trainable else (),
        healed=tuple(healed),
        one_step=_one_step(model, format_, x, targets) if config and format_.trainable else None,
        state=state,
        policies=keras_model.policies(model),
        inputs=_array_specs(x, "x"),
        outputs=_array_specs(y, "output"),
    )
    return Bundle(
        folder,
        format_.name,
        definition,
        carried,
        dataset.source,
        dataset.digest,
        trained.metrics,
        trained.history.loop,
        tuple(trained.history.notes),
        trained.run,
    )


def restore(
    folder: Path, format_name: str, stored: Definition, carried: Carried, given: Definition | None = None
) -> tuple[Any, list[str]]:
    """Bring a bundle's model back, with what its format lost.

    Args:
        folder: A bundle whose files were checked against the manifest and inspected.
        format_name: As in the manifest.
        stored: The definition in the manifest.
        carried: As in the manifest.
        given: What the user named in place of the stored definition.

    Returns:
        The model, and a line for everything that could not be given back.

    Raises:
        MismatchError: The definition builds another model.
    """
    format_ = usable_format(format_name)
    rebuilt = None
    if needs_definition(format_name, carried):
        x, _, _ = read_probe(folder)
        rebuilt = keras_model.rebuild(stored, given or stored, x)
    with keras_model.under_policy(carried.policies):
        model = format_.load(folder / MODEL, rebuilt)
        lost = _give_back(folder, carried, model, rebuilt is not None) if format_.trainable else []
    model.history = History(carried.curves, carried.epoch_seconds, "")
    return model, lost


def _give_back(folder: Path, carried: Carried, model: Any, rebuilt: bool) -> list[str]:
    """Give a Keras model what its format lost; a line for everything that doesn't fit it."""
    lost: list[str] = []
    compiled = model.compiled and (rebuilt or keras_model.compile_config(model) == carried.compile)
    if carried.compile and not compiled:
        try:
            model.compile_from_config(deepcopy(carried.compile))  # Keras takes things out of what it is given
        except Exception as error:
            lost.append(f"compile: {type(error).__name__}: {str(error).splitlines()[0]:.160}")
    state = read_npz(folder / STATE)
    if not keras_model.put_vocabularies(model, _section("vocabulary", state)):
        lost.append("vocabularies: the returned model has other lookup layers")
    if not keras_model.put_seed_states(model, _section("seed", state)):
        lost.append("seed states: the returned model has other seed generators")
    if carried.optimizer and not keras_model.put_optimizer_state(model, _section("optimizer", state), carried.optimized):
        lost.append("optimizer: the returned model's optimizer has other variables")
    return lost


def load_alone(folder: Path, format_name: str, stored: Definition, carried: Carried, given: Definition | None = None) -> Any:
    """Bring a bundle's model back as one does without us, by the format's own files and loader.

    Same arguments and errors as `restore`. A model with classes of its own is loaded once more with its source imported,
    where it can't be loaded without: that is what its user would do.
    """
    format_ = usable_format(format_name)
    x, _, _ = read_probe(folder)
    rebuilt = keras_model.rebuild(stored, given or stored, x) if format_.needs_definition else None
    if rebuilt is not None:
        return format_.load(folder / MODEL, rebuilt)
    keras_model.forget_names()
    try:
        return format_.load(folder / MODEL, None)
    except Exception:
        if not carried.own_classes:
            raise
    resolve((given or stored).reference)
    keras_model.forget_names()
    return format_.load(folder / MODEL, None)


def needs_definition(format_name: str, carried: Carried) -> bool:
    """Whether this model can only be brought back through the code of its definition."""
    return format_named(format_name).needs_definition or bool(carried.own_classes)


def read_probe(folder: Path) -> tuple[Arrays, Arrays, Arrays]:
    """Inputs, outputs and targets of a bundle's probe."""
    arrays = read_npz(folder / PROBE)
    return nested("x", arrays), nested("y", arrays), nested("t", arrays)


def one_more_step(model: Any, x: Arrays, targets: Arrays, count: int | None) -> None:
    """Train one step on so many rows, eagerly on both sides: for a single step that takes a fifth of tracing it."""
    build_optimizer(model)
    first = slice(0, count)
    gradient_step(model, as_tensors(take(x, first)), as_tensors(take(targets, first)))


def _one_step(model: Any, format_: Format, x: Arrays, targets: Arrays) -> OneStep | None:
    """What one more step makes of the weights; the model is put back as it was."""
    count = min(fixed_batch(model) or _STEP_ROWS, rows(x))
    with put_back(trained_state(model)):
        try:
            one_more_step(model, x, targets, count)
        except Exception:  # a model with a step of its own: then this one says nothing about it
            return None
        return OneStep(rows=count, weights=tensor_digests(format_.variables(model)))


def _probe_inputs(dataset: Dataset) -> tuple[Arrays, Arrays]:
    count = rows(dataset.x_val)
    bytes_a_row = max(1, sum(a.nbytes for a in each(dataset.x_val).values()) // count)
    part = slice(0, max(1, min(_PROBE_ROWS, count, _PROBE_BYTES // bytes_a_row)))
    return take(dataset.x_val, part), take(dataset.y_val, part)


def _array_specs(arrays: Arrays, default: str) -> tuple[ArraySpec, ...]:
    return tuple(
        ArraySpec(name=name or default, shape=(None, *array.shape[1:]), dtype=str(array.dtype))
        for name, array in each(arrays).items()
    )


def _prefixed(prefix: str, arrays: dict[str, Any]) -> dict[str, Any]:
    return {f"{prefix}/{name}": array for name, array in arrays.items()}


def _section(prefix: str, arrays: dict[str, Any]) -> dict[str, Any]:
    return {n.removeprefix(f"{prefix}/"): a for n, a in arrays.items() if n.startswith(f"{prefix}/")}
