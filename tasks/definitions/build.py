"""From a reference to a built Keras model, the same way wherever it is built."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, Field

from tasks.data import Arrays, Dataset
from tasks.data.dataset import each, rows, take
from tasks.definitions.fingerprint import Definition, architecture, fingerprint
from tasks.errors import InputError
from tasks.forms import place
from tasks.references import absolute, place_of, resolve

MLP = "tasks.definitions.builtin:mlp"
SUBCLASSED = "tasks.definitions.builtin:subclassed"
_BUILDER = "Which callable returns the Keras model."
_Builder = (
    Annotated[Literal["tasks.definitions.builtin:mlp", "tasks.definitions.builtin:subclassed"], Field(title="Built in")]
    | Annotated[
        str,
        Field(title="Yours", min_length=3, description="Its reference: module:callable or path/to/file.py:callable."),
    ]
)


class ModelConfig(BaseModel):
    """Which model a run builds."""

    model_config = {"frozen": True}

    builder: _Builder = Field(
        default=MLP,
        description=_BUILDER,
        json_schema_extra=place(0),
    )
    arguments: dict[str, Any] = Field(
        default_factory=dict,
        description='Arguments of the builder, as JSON: {"hidden": 128}. What it calls input_shape and outputs is taken '
        "from the data where it is not given.",
        json_schema_extra=place(1),
    )


class SubclassedConfig(ModelConfig):
    """Which model a run of the custom loop builds; where only arguments are given, they are the subclassed one's."""

    builder: _Builder = Field(default=SUBCLASSED, description=_BUILDER, json_schema_extra=place(0))


def define(config: ModelConfig, dataset: Dataset) -> tuple[Definition, Any]:
    """Fix every argument of a definition, build it once and take its fingerprint.

    Returns:
        The definition, and the model that was built for it (on the first examples of the dataset).

    Raises:
        InputError: The reference, its arguments or what it returns can't be used.
    """
    takes = parameters(config.builder)
    arguments = _defaults(takes) | _from_data(takes, dataset) | config.arguments
    bare = Definition(reference=absolute(config.builder), arguments=arguments)
    model = build(bare, take(dataset.x, slice(0, 2)))
    return bare.model_copy(update={"fingerprint": fingerprint(model), "config": architecture(model)}), model


def build(definition: Definition, sample: Arrays, scope: Callable[[], AbstractContextManager[Any]] = nullcontext) -> Any:
    """Build a definition's model and call it once on a sample, so that every variable exists.

    `build(input_shape)` is no substitute for the call: after it, `load_weights` on a subclassed model loads nothing
    and raises nothing (keras 3.15, FACTS S2).

    Args:
        definition: What to build; its fingerprint is not looked at here.
        sample: At least one example, `(rows, ...)`.
        scope: Where its variables come to be, such as a distribution strategy's.

    Raises:
        InputError: The builder raised, returned no Keras model, or the model can't take the sample.
    """
    import keras  # seconds

    builder, signature = resolve(definition.reference), _signature(definition.reference)
    try:
        signature.bind(**definition.arguments)
    except TypeError as error:
        raise InputError(
            f"{definition.reference} can't be called with {definition.arguments}: {error}. Its signature is {signature}; "
            "`--model-arg NAME=VALUE` gives an argument."
        ) from None
    # Automatic names (`dense_3`) count on from whatever was built before in this process. From a clean state the same
    # definition gives the same variable paths everywhere. Never within a scope: it would end there, unseen.
    keras.backend.clear_session()
    try:
        with scope():
            model = builder(**definition.arguments)
    except Exception as error:
        said = f"{type(error).__name__}: {error}{place_of(error)}"
        raise InputError(f"{definition.reference} raised {said}") from error
    if not isinstance(model, keras.Model):
        raise InputError(f"{definition.reference} returned {type(model).__name__}, not a keras.Model.")
    try:
        with scope():
            if isinstance(model, keras.Sequential) and not model.built and not isinstance(sample, dict):
                # Built by its first call, its input would be fixed to this sample's number of rows.
                model.build((None, *sample.shape[1:]))
            model(as_tensors(_whole_batch(model, sample)), training=False)
    except Exception as error:
        shapes = {name or "x": f"{array.shape[1:]} {array.dtype}" for name, array in each(sample).items()}
        raise InputError(
            f"The model of {definition.reference} can't be called on the data (examples of {shapes}): "
            f"{type(error).__name__}: {error}{place_of(error)}"
        ) from error
    return model


def parameters(reference: str) -> Mapping[str, inspect.Parameter]:
    """What a builder takes, by name.

    Raises:
        InputError: There is no such builder, or it does not tell.
    """
    return _signature(reference).parameters


def fixed_batch(model: Any) -> int | None:
    """The number of rows that a model takes and no other (a stateful recurrent one, say), or None where any will do."""
    try:
        inputs = model.inputs or []
    except AttributeError:  # a subclass that was not called symbolically has none
        return None
    return next((int(i.shape[0]) for i in inputs if i.shape and i.shape[0]), None)


def as_tensors(arrays: Arrays) -> Any:
    """The arrays as tensors, one or by name."""
    import tensorflow as tf  # seconds

    if isinstance(arrays, dict):
        return {name: tf.constant(array) for name, array in arrays.items()}
    return tf.constant(arrays)


def _whole_batch(model: Any, sample: Arrays) -> Arrays:
    count = fixed_batch(model)
    return sample if count is None else take(sample, np.arange(count) % rows(sample))


def _signature(reference: str) -> inspect.Signature:
    try:
        return inspect.signature(resolve(reference))
    except ValueError:  # some callables written in C
        raise InputError(f"{reference} does not tell its arguments; wrap it in a function of your own.") from None


def _defaults(parameters: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    """The builder's own defaults, kept so that a later change of a default is seen and named."""
    defaults = {n: p.default for n, p in parameters.items() if p.default is not p.empty}
    return {n: list(v) if isinstance(v, tuple) else v for n, v in defaults.items() if _is_plain(v)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(v) for v in value)
    return value is None or isinstance(value, str | int | float | bool)


def _from_data(parameters: Mapping[str, inspect.Parameter], dataset: Dataset) -> dict[str, Any]:
    """Values for the parameters `input_shape` and `outputs`, where the builder has them."""
    if isinstance(dataset.x, dict) or isinstance(dataset.y, dict):
        return {}
    offered: dict[str, Any] = {"input_shape": list(dataset.x.shape[1:])}
    if dataset.y.dtype.kind in "iub" and dataset.y.shape[1:] in {(), (1,)}:
        offered["outputs"] = (
            int(max(dataset.y.max(), dataset.y_val.max() if isinstance(dataset.y_val, np.ndarray) else 0)) + 1
        )
    else:
        offered["outputs"] = int(dataset.y.shape[-1]) if dataset.y.ndim > 1 else 1
    return {name: value for name, value in offered.items() if name in parameters}
