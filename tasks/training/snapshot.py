"""A training's state between two epochs: everything that decides what the following epochs compute.

Held: weights, moving statistics, the states of recurrent layers and of seed generators (Dropout), every variable of the
optimizer (step, learning rate, slots, loss scale), Python's and NumPy's global generators, the state of callbacks, the
history. Not needed: metrics, which both loops reset for each epoch; the order of the examples, a function of seed and epoch.

Not held, for nothing hands it out: TensorFlow's own global generator (a layer that calls `tf.random.normal` draws otherwise
after a return), and what a callback keeps that neither Keras nor `get_state` tells.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from tasks.data import Array
from tasks.training.step import build_optimizer, recurrent_states, trained_state

# What Keras' own callbacks decide by, besides the best weights of early stopping.
_DECIDING = {
    "EarlyStopping": ("wait", "stopped_epoch", "best_epoch", "best"),
    "ReduceLROnPlateau": ("wait", "cooldown_counter", "best"),
    "ModelCheckpoint": ("epochs_since_last_save", "best"),
}


class Unfit(Exception):
    """A snapshot is of other variables than the model has."""


class Progress(BaseModel):
    """How far a training came; the part of a snapshot that is no array.

    Attributes:
        epoch: How many epochs are done.
        stopped: Whether a callback ended the training with the last of them.
        curves: Per logged name one value an epoch.
        seconds: Wall seconds of each epoch.
        callbacks: What each callback decides by, in their order; empty for one that tells nothing.
        gaussians: The second half of a pair that Python's (None: there is none) and NumPy's generators hold back.
        arithmetic: Names all that decides the last bits where this was computed.
    """

    # A metric may be no number.
    model_config = {"frozen": True, "ser_json_inf_nan": "constants"}

    epoch: int = Field(ge=0)
    stopped: bool = False
    curves: dict[str, list[float]] = {}
    seconds: list[float] = []
    callbacks: list[dict[str, Any]] = []
    gaussians: tuple[float | None, float] = (None, 0.0)
    arithmetic: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A training's state, apart from the model it was taken of."""

    progress: Progress
    arrays: dict[str, Array]


def take(model: Any, callbacks: Sequence[Any], progress: Progress) -> Snapshot:
    """Copy the state of a training that stands between two epochs.

    Args:
        model: Compiled and, since an epoch is done, with all variables of its optimizer.
        callbacks: All that may hold state, always in the same order.
        progress: How far it came; what callbacks and generators hold is added.
    """
    arrays = _numbered("model", model.variables) | _numbered("recurrent", recurrent_states(model))
    arrays |= _numbered("optimizer", model.optimizer.variables)
    states = []
    for place, callback in enumerate(callbacks):
        states.append(_state_of(callback))
        arrays |= _numbered(f"callback/{place}", getattr(callback, "best_weights", None) or [])
    _, (*python, at), gaussian = random.getstate()
    numpy: Any = np.random.get_state(legacy=False)
    arrays |= {
        "random/python": np.array([*python, at], np.uint32),
        "random/numpy": np.array([*numpy["state"]["key"], numpy["state"]["pos"], numpy["has_gauss"]], np.uint32),
    }
    more = {"callbacks": states, "gaussians": (gaussian, float(numpy["gauss"]))}
    return Snapshot(progress.model_copy(update=more), arrays)


def put_variables(model: Any, snapshot: Snapshot) -> None:
    """Give a built and compiled model the variables of a snapshot, its optimizer's too.

    Raises:
        Unfit: They are not this model's; nothing was changed.
    """
    build_optimizer(model)
    variables = trained_state(model)
    values = _matching(variables, [a for part in ("model", "recurrent", "optimizer") for a in _section(part, snapshot)])
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def put_the_rest(model: Any, callbacks: Sequence[Any], snapshot: Snapshot) -> None:
    """Give callbacks and generators their state back, once the training began, which resets them."""
    progress = snapshot.progress
    for place, (callback, state) in enumerate(zip(callbacks, progress.callbacks, strict=True)):
        _put_state(callback, state)
        best = _section(f"callback/{place}", snapshot)
        if best:
            callback.best_weights = _matching(model.weights, best)
    python, numpy = snapshot.arrays["random/python"].tolist(), snapshot.arrays["random/numpy"]
    random.setstate((3, tuple(python), progress.gaussians[0]))
    np.random.set_state(("MT19937", numpy[:-2], int(numpy[-2]), int(numpy[-1]), progress.gaussians[1]))


def _deciding(callback: Any) -> tuple[str, ...]:
    """Names of the attributes that a callback of Keras' own decides by."""
    kinds = {kind.__name__ for kind in type(callback).__mro__ if kind.__module__.startswith("keras.")}
    return next((names for kind, names in _DECIDING.items() if kind in kinds), ())


def _state_of(callback: Any) -> dict[str, Any]:
    own = callback.get_state() if hasattr(callback, "get_state") else None
    values = {name: getattr(callback, name) for name in _deciding(callback)}
    keras = {name: value.item() if isinstance(value, np.generic) else value for name, value in values.items()}
    return ({"keras": keras} if keras else {}) | ({"own": own} if own is not None else {})


def _put_state(callback: Any, state: dict[str, Any]) -> None:
    for name, value in state.get("keras", {}).items():
        setattr(callback, name, value)
    if "own" in state:
        callback.set_state(state["own"])


def _numbered(prefix: str, variables: Iterable[Any]) -> dict[str, Array]:
    return {f"{prefix}/{i:05d}": _plain(v) for i, v in enumerate(variables)}


def _section(prefix: str, snapshot: Snapshot) -> list[Array]:
    return [snapshot.arrays[name] for name in sorted(snapshot.arrays) if name.rpartition("/")[0] == prefix]


def _plain(value: Any) -> Array:
    """A copy that `.npz` holds: of bfloat16 and its like, which it does not know, the bytes."""
    array = np.asarray(value)
    if array.dtype.isbuiltin != 1:
        return np.frombuffer(array.tobytes(), np.uint8)
    copied_already = array is not value and array.flags.owndata  # as a variable does it
    return array if copied_already else array.copy()


def _matching(variables: Sequence[Any], values: Sequence[Array]) -> list[Array]:
    """The values, each in the shape and dtype of its variable."""
    if len(variables) != len(values):
        raise Unfit(f"{len(values)} variables instead of {len(variables)}")
    found = []
    for variable, value in zip(variables, values, strict=True):
        kind, shape = np.asarray(variable).dtype, tuple(variable.shape)
        whole = value if kind.isbuiltin == 1 else value.view(kind).reshape(shape)
        if whole.shape != shape or whole.dtype != kind:
            raise Unfit(f"{variable.path}: {value.shape} {value.dtype} instead of {shape} {kind}")
        found.append(whole)
    return found
