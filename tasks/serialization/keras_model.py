"""What the Keras formats share: variables by path, optimizer slots, seed states, and how a model was compiled."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from tasks.data import Arrays
from tasks.data.dataset import Array
from tasks.definitions import Definition, build, check_fingerprint
from tasks.definitions.fingerprint import architecture, fingerprint
from tasks.errors import InputError, MismatchError
from tasks.training.step import build_optimizer, recurrent_states


def weights(model: Any) -> dict[str, Array]:
    """Every weight of a Keras model by its path.

    Raises:
        MismatchError: Two weights share a path, so that nothing could tell them apart.
    """
    return _distinct((variable.path, variable) for variable in model.weights)


def weights_by_layer(model: Any) -> dict[str, Array]:
    """Every weight by the names of the layers that hold it, for where paths don't come back (a Sequential's in `.keras`).

    Raises:
        MismatchError: Two weights have one name, so that nothing could tell them apart.
    """
    seen: set[int] = set()

    def walk(layer: Any, place: str) -> Iterator[tuple[str, Any]]:
        seen.add(id(layer))
        children = list(layer._flatten_layers(recursive=False, include_self=False))
        below = {id(v) for child in children for v in child.weights}
        yield from ((f"{place}{v.name}", v) for v in layer.weights if id(v) not in below)
        for child in children:
            if id(child) not in seen:  # a shared layer is met once
                yield from walk(child, f"{place}{child.name}/")

    return _distinct(walk(model, ""))


def optimizer_state(model: Any) -> dict[str, Array]:
    """The optimizer's variables (step, learning rate, slots) by position and path; empty for an uncompiled model."""
    if not getattr(model, "compiled", False) or model.optimizer is None:
        return {}
    build_optimizer(model)
    # Positions tell variables apart, since their paths hold the optimizer's automatic name.
    return {f"{i:05d}": np.asarray(v) for i, v in enumerate(model.optimizer.variables)}


def seed_variables(model: Any) -> list[Any]:
    """Variables that are no weights: seed generators (Dropout and the like, FACTS S6) and the states of recurrent layers.

    Keras lists the first among a model's variables, the second nowhere.
    """
    own = {id(v) for v in model.weights}
    return [v for v in model.variables if id(v) not in own] + recurrent_states(model)


def seed_states(model: Any) -> dict[str, Array]:
    """What the `seed_variables` hold, by position."""
    return {f"{i:05d}": np.asarray(v) for i, v in enumerate(seed_variables(model))}


def state(model: Any) -> dict[str, Array]:
    """Everything that no gradient touches, by position: weights that are not trainable, seed states, vocabularies."""
    found = {f"weight {i:05d}": np.asarray(v) for i, v in enumerate(model.non_trainable_weights)}
    found |= {f"seed {name}": array for name, array in seed_states(model).items()}
    return found | {f"vocabulary {name}": words for name, words in vocabularies(model).items()}


def vocabularies(model: Any) -> dict[str, Array]:
    """The words of every lookup layer, by position: the name of a lookup inside another layer counts on with every load."""
    return {f"{i:05d}": np.asarray(layer.get_vocabulary(), "U") for i, layer in enumerate(_lookups(model))}


def put_vocabularies(model: Any, stored: dict[str, Array]) -> bool:
    """Give lookup layers their words back, where they lost them; False where there are other layers."""
    layers = _lookups(model)
    if len(layers) != len(stored):
        return False
    for layer, name in zip(layers, sorted(stored), strict=True):
        words = [str(word) for word in stored[name]]
        if [str(word) for word in layer.get_vocabulary()] != words:
            layer.set_vocabulary(words)
    return True


def _lookups(model: Any) -> list[Any]:
    return [layer for layer in model._flatten_layers() if hasattr(layer, "get_vocabulary")]


def policies(model: Any) -> tuple[str, ...]:
    """Name of every layer's number format, in the model's order; empty where all are float32."""
    names = tuple(layer.dtype_policy.name for layer in model._flatten_layers())
    return () if set(names) == {"float32"} else names


def forget_names() -> None:
    """Let Keras number the layers without a name from the start, as a process does that loads nothing else."""
    import keras  # seconds

    keras.backend.clear_session()


@contextmanager
def under_policy(stored: tuple[str, ...]) -> Iterator[None]:
    """Load under the number format that the whole model was made under.

    Keras' files leave out the model's own, and then the reading process' decides, and whether the loss is scaled (FACTS S6).
    """
    import keras  # seconds

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(stored[0] if stored else before)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def optimized(model: Any) -> tuple[int, ...]:
    """Which weights the optimizer has slots for, in its order: those that were trainable when it was built.

    By their position among the model's weights, since a path may differ in what comes back.
    """
    if not getattr(model, "compiled", False) or model.optimizer is None:
        return ()
    build_optimizer(model)
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    position = {id(v): i for i, v in enumerate(model.weights)}
    return tuple(position[id(v)] for v in getattr(optimizer, "_trainable_variables", ()) if id(v) in position)


def put_optimizer_state(model: Any, state: dict[str, Array], over: Sequence[int]) -> bool:
    """Give a compiled model its optimizer slots back; False where they don't fit this optimizer.

    Args:
        model: The returned model.
        state: As `optimizer_state` gave it.
        over: As `optimized` gave it. A layer that was frozen after the training has slots all the same, and Keras would
            drop them with a warning (FACTS S7).
    """
    if not model.compiled or model.optimizer is None:
        return False
    if over and optimized(model) != tuple(over) and max(over) < len(model.weights):
        model.optimizer = type(model.optimizer).from_config(model.optimizer.get_config())
        model.optimizer.build([model.weights[i] for i in over])
    build_optimizer(model)
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


def own_classes(model: Any) -> list[str]:
    """Names of the model's classes that are not Keras' own: its layers', and its own."""
    return list({type(layer).__name__: None for layer in model._flatten_layers() if not _is_keras(type(layer))})


def refuse_half_precision(model: Any, format_name: str) -> None:
    """Refuse what another runtime would compute to visibly other outputs.

    Raises:
        InputError: A layer computes in 16 bits.
    """
    halves = [layer.name for layer in model._flatten_layers() if layer.compute_dtype in {"float16", "bfloat16"}]
    if halves:
        raise InputError(
            f"A model that computes in 16 bits ({', '.join(halves[:3])}) can't be stored as {format_name}: other runtimes "
            "round elsewhere, and outputs differ from the third digit on. Use the scenario serving-export."
        )


def compile_config(model: Any) -> dict[str, Any] | None:
    """How the model was compiled, whole, or None where it was not or can't be told.

    Keras' own configuration leaves out parameters of some losses and metrics (`Huber(delta)`, FACTS S5) and the wrapper
    that scales the loss in mixed precision (S6). They are added here, where Keras' way back reads them all the same.
    """
    return _compiled(model)[0]


def compile_losses(model: Any) -> list[str]:
    """What Keras' own configuration would lose of it: a line each."""
    return _compiled(model)[1]


def _compiled(model: Any) -> tuple[dict[str, Any] | None, list[str]]:
    import keras  # seconds

    if not getattr(model, "compiled", False):
        return None, []
    try:
        config: dict[str, Any] | None = model.get_compile_config()
    except Exception:  # a user's loss may not be serializable; then there is nothing to carry
        return None, []
    live = getattr(getattr(model, "_compile_config", None), "config", None)
    # A class with a way of its own to tell how it is compiled knows best.
    if not config or live is None or "get_compile_config" in vars(type(model)):
        return config, []
    lines: list[str] = []
    if isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer) and live["optimizer"] is not model.optimizer:
        config["optimizer"] = keras.saving.serialize_keras_object(model.optimizer)
        lines.append("optimizer: Keras' configuration leaves out its LossScaleOptimizer")
    for part in ("loss", "metrics", "weighted_metrics"):
        for name, parameters in _complete(config.get(part), live.get(part)):
            lines.append(f"compile: Keras' configuration of {name} leaves out {', '.join(parameters)}")
    return config, lines


def _complete(config: Any, live: Any) -> Iterator[tuple[str, list[str]]]:
    """Add to serialized losses and metrics the parameters that they were made with; names what was missing."""
    if isinstance(live, list | tuple) and isinstance(config, list):
        for a, b in zip(config, live, strict=False):
            yield from _complete(a, b)
    elif isinstance(live, dict) and isinstance(config, dict):
        for name, value in live.items():
            yield from _complete(config.get(name), value)
    elif isinstance(config, dict) and isinstance(config.get("config"), dict):
        given = getattr(live, "_fn_kwargs", None) or {}
        takes = inspect.signature(type(live)).parameters
        missing = {n: v for n, v in given.items() if n in takes and n not in config["config"] and _is_plain(v)}
        config["config"] |= missing
        # Where it has the default's value, nothing would have been lost.
        lost = [f"{n}={v!r}" for n, v in missing.items() if v != takes[n].default]
        if lost:
            yield type(live).__name__, lost


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | bool)


def _is_keras(cls: type) -> bool:
    return cls.__module__.split(".")[0] == "keras"


def _distinct(variables: Iterable[tuple[str, Any]]) -> dict[str, Array]:
    found: dict[str, Array] = {}
    for name, variable in variables:
        if name in found:
            raise MismatchError(
                f"Two weights of the model are called {name!r}. Give their layers distinct names, "
                "or nothing can prove which one came back."
            )
        found[name] = np.asarray(variable)
    return found


def _assign(variables: list[Any], state: dict[str, Array]) -> bool:
    values = [state[name] for name in sorted(state)]
    if [tuple(v.shape) for v in variables] != [v.shape for v in values]:
        return False
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    return True
