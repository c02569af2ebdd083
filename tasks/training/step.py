"""One training step, the same in the custom loop and wherever 'it can be trained on' is put to the test."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any


@contextmanager
def put_back(variables: Iterable[Any]) -> Iterator[None]:
    """Give variables their values back at the end, whatever was done to them."""
    import tensorflow as tf  # seconds

    # On a CPU nothing is copied here: an operation that updates a variable writes it anew while somebody else holds what was
    # read (`PrepareToUpdateVariable` in TensorFlow's training_op_helpers.h). A GPU's memory is too dear for that.
    with tf.device("CPU"):
        kept = [(variable, tf.identity(variable)) for variable in variables]
    try:
        yield
    finally:
        for variable, value in kept:
            variable.assign(value)


def recurrent_states(model: Any) -> list[Any]:
    """The states of a model's stateful recurrent layers, which Keras lists among no variables."""
    layers = [layer for layer in model._flatten_layers() if getattr(layer, "stateful", False)]
    states = [state for layer in layers for state in getattr(layer, "states", None) or [] if hasattr(state, "assign")]
    listed = {id(variable) for variable in model.variables}
    return [state for state in states if id(state) not in listed]


def trained_state(model: Any) -> list[Any]:
    """All variables of a compiled model that a training changes, its optimizer's too."""
    return [*model.variables, *recurrent_states(model), *model.optimizer.variables]


def build_optimizer(model: Any) -> None:
    """Make sure that a compiled model's optimizer has its variables.

    Never a second time: Keras' `LossScaleOptimizer.build` would add its step and its scale once more, as new ones.
    """
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)


def overridden(model: Any, *methods: str) -> list[str]:
    """Which of these methods of `keras.Model` a model's author wrote anew."""
    import keras

    return [name for name in methods if getattr(type(model), name) is not getattr(keras.Model, name)]


def build_state(model: Any, x: Any, y: Any) -> None:
    """Make all that a compiled model's optimizer, loss and metrics keep, from the shapes of a batch; nothing is computed.

    Else the first trace of a training step makes it, and TensorFlow has to trace that step once more. So it goes where Keras
    can't tell it from shapes.

    Args:
        model: Built and compiled.
        x: Inputs, `(batch, ...)`.
        y: Targets, `(batch, ...)`.
    """
    with suppress(Exception):
        model._symbolic_build(data_batch=(x, y))


def gradient_step(model: Any, x: Any, y: Any, weight: Any = None) -> tuple[Any, Any]:
    """Take one optimizer step on a batch; call it inside a `tf.function` for speed.

    Loss weights, regularization, several outputs and loss scaling are the model's and its optimizer's own.

    Args:
        model: Built and compiled.
        x: Inputs, `(batch, ...)`.
        y: Targets, `(batch, ...)`.
        weight: What the loss counts in the sum over replicas, a scalar; by default there is nothing to sum.

    Returns:
        The predictions before the step and their loss (a scalar).
    """
    import tensorflow as tf  # seconds

    with tf.GradientTape() as tape:
        predicted = model(x, training=True)
        loss = model.compute_loss(x=x, y=y, y_pred=predicted, training=True)
        scaled = model.optimizer.scale_loss(loss if weight is None else loss * tf.cast(weight, loss.dtype))
    variables = model.trainable_variables
    model.optimizer.apply(tape.gradient(scaled, variables), variables)
    return predicted, loss
