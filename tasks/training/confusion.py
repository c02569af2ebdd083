"""Which class a trained classifier takes for which, counted on its validation data."""

from __future__ import annotations

from typing import Any

import numpy as np

from tasks.data import Dataset, rows
from tasks.data.dataset import Array, take
from tasks.training.run import Trained

# More classes are no picture any more, and more examples no other one.
_MOST_CLASSES = 25
_MOST_EXAMPLES = 10_000
_BATCH = 256
_WORDS = ("crossentropy", "accuracy", "hinge")


def confusion(trained: Trained, dataset: Dataset) -> list[list[int]]:
    """Count predicted classes (columns) by true class (rows), on at most 10,000 validation examples.

    Args:
        trained: Its model is called eagerly, so that nothing is traced for it.
        dataset: Its validation part is used.

    Returns:
        A square of counts; empty for what is no classifier (as its loss and metrics say) and for more than 25 classes.
    """
    model = trained.model
    if not _classifies(trained) or not isinstance(dataset.y_val, np.ndarray):
        return []
    from tasks.definitions.build import as_tensors, fixed_batch

    fixed = fixed_batch(model)
    size, count = fixed or _BATCH, min(rows(dataset.x_val), _MOST_EXAMPLES)
    count -= count % size if fixed else 0
    parts = [slice(start, min(start + size, count)) for start in range(0, count, size)]
    outputs = [model(as_tensors(take(dataset.x_val, part)), training=False) for part in parts]
    if not outputs or isinstance(outputs[0], dict | list | tuple):
        return []
    predicted, classes = _predicted(model, np.concatenate([np.asarray(o, np.float32) for o in outputs]))
    true = _true(dataset.y_val[:count], classes)
    if predicted is None or true is None or classes > _MOST_CLASSES:
        return []
    counts = np.bincount(true * classes + predicted, minlength=classes**2)
    return [[int(count) for count in row] for row in counts.reshape(classes, classes)]


def _classifies(trained: Trained) -> bool:
    """Whether loss or metrics are a classifier's: outputs alone don't tell, three quantiles look like three classes."""
    loss = getattr(trained.model, "loss", None)
    said = [loss if isinstance(loss, str) else getattr(loss, "name", None) or getattr(loss, "__name__", "")]
    said += trained.history.curves
    return any(word in str(text).replace("_", "").lower() for text in said for word in _WORDS)


def _predicted(model: Any, outputs: Array) -> tuple[Array | None, int]:
    """The class of each example `(rows,) int64`, and how many classes there are; None for what is no vector of scores."""
    if outputs.ndim == 1:
        outputs = outputs[:, None]
    if outputs.ndim != 2:  # noqa: PLR2004
        return None, 0
    if outputs.shape[1] > 1:
        return outputs.argmax(-1), outputs.shape[1]
    logits = getattr(model.loss, "from_logits", None)
    if logits is None:
        logits = bool(outputs.min() < 0 or outputs.max() > 1)
    return (outputs[:, 0] > (0.0 if logits else 0.5)).astype(np.int64), 2


def _true(y: Array, classes: int) -> Array | None:
    """The true class of each example `(rows,) int64`; None where the targets are no classes."""
    if y.ndim == 2 and classes > 1 and y.shape[1] == classes:  # noqa: PLR2004  # one column a class
        return y.argmax(-1) if bool((y.sum(-1) == 1).all()) else None
    if y.shape[1:] not in {(), (1,)} or y.dtype.kind not in "biuf":
        return None
    flat = y.reshape(-1)
    labels = flat.astype(np.int64)
    return labels if bool((labels == flat).all() and labels.min() >= 0 and labels.max() < classes) else None
