"""What the Keras formats share: variables by path, optimizer slots, seed states, and how a model was compiled."""

from __future__ import annotations

from typing import Any

import numpy as np

from tasks.data import Arrays
from tasks.data.dataset import Array
from tasks.definitions import Definition, build, check_fingerprint
from tasks.definitions.fingerprint import architecture, fingerprint
from tasks.errors import MismatchError


def weights(model: Any) -> dict[str, Array]:
    """Every weight of a Keras model by its path.

    Raises:
        MismatchError: Two weights share a path, so that nothing could tell them apart.
    """
    found: dict[str, Array] = {}
    for variable in model.weights:
        if variable.path in found:
            raise MismatchError(
                f"Two weights of the model are called {variable.path!r}. Give their layers distinct names, "
                "or nothing can prove which one came back."
            )
        found[variable.path] = np.asarray(variable)
    return found


def optimizer_state(model: Any) -> dict[str, Array]:
    """The optimizer's variables (step, learning rate, slots) by position and path; empty for an uncompiled model."""
    if not getattr(model, "compiled", False) or model.optimizer is None:
        return {}
    model.optimizer.build(model.trainable_variables)
    # Positions tell variables apart, since their paths hold the optimizer's automatic name.
    return {f"{i:05d}": np.asarray(v) for i, v in enumerate(model.optimizer.variables)}


def seed_variables(model: Any) -> list[Any]:
    """Variables that are no weights: seed generators (Dropout and the like, FACTS S6) and the states of recurrent layers.

    Keras lists the first among a model's variables, the second nowhere.
    """
    own = {id(v) for v in model.weights}
    seeds = [v for v in model.variables if id(v) not in own]
    recurrent = [layer for layer in model._flatten_layers() if getattr(layer, "stateful", False)]
    states = [state for layer in recurrent for state in getattr(layer, "states", None) or [] if hasattr(state, "assign")]
    return seeds + [state for state in states if id(state) not in own]


def seed_states(model: Any) -> dict[str, Array]:
    """What the `seed_variables` hold, by position."""
    return {f"{i:05d}": np.asarray(v) for i, v in enumerate(seed_variables(model))}


def state(model: Any) -> dict[str, Array]:
    """Everything that no gradient touches, by name: weights that are not trainable, seed states, vocabularies."""
    found = {f"weight {v.path}": np.asarray(v) for v in model.non_trainable_weights}
    found |= {f"seed {name}": array for name, array in seed_states(model).items()}
    # Two layers of one name are told apart by their position.
    lookups = [layer for layer in model._flatten_layers() if hasattr(layer, "get_vocabulary")]
    return found | {f"vocabulary {i} {l.name}": np.asarray(l.get_vocabulary(), "U") for i, l in enumerate(lookups)}


def policies(model: Any) -> tuple[str, ...]:
    """Name of every layer's number format, in the model's order; empty where all are float32."""
    names = tuple(layer.dtype_policy.name for layer in model._flatten_layers())
    return () if set(names) == {"float32"} else names


def put_optimizer_state(model: Any, state: dict[str, Array]) -> bool:
    """Give a compiled model its optimizer slots back; False where they don't fit this optimizer."""
    if not model.compiled or model.optimizer is None:
        return False
    model.optimizer.build(model.trainable_variables)
    return _assign(list(model.optimizer.variables), state)


def put_seed_states(model: Any, state: dict[str, Array]) -> bool:
    """Give a model its seed states back; False where they don't fit."""
    return _assign(seed_variables(model), state)


def rebuild(stored: Definition, given: Definition, sample: Arrays) -> Any:
    """Build a definition, called once on data, and make sure that it gives the stored architecture.

    Args:
        stored: As in the manifest.
        given: The same, or what the user named in its place.
        sample: Examples to call it on.

    Raises:
        MismatchError: It builds something else; the message lists what differs.
    """
    model = build(given, sample)
    now = given.model_copy(update={"fingerprint": fingerprint(model), "config": architecture(model)})
    check_fingerprint(stored, now)
    return model


def compile_config(model: Any) -> dict[str, Any] | None:
    """How the model was compiled, as Keras serializes it, or None where it was not or can't be told."""
    if not getattr(model, "compiled", False):
        return None
    try:
        config: dict[str, Any] | None = model.get_compile_config()
    except Exception:  # a user's loss may not be serializable; then there is nothing to carry
        return None
    return config


def _assign(variables: list[Any], state: dict[str, Array]) -> bool:
    values = [state[name] for name in sorted(state)]
    if [tuple(v.shape) for v in variables] != [v.shape for v in values]:
        return False
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    return True
