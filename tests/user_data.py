"""Data as users bring it, for references such as `tests.user_data:pair`."""

from __future__ import annotations

from typing import Any

import numpy as np

X = np.arange(48, dtype=np.float64).reshape(12, 4)
Y = np.arange(12) % 3


def pair() -> Any:
    return X, Y


def split() -> Any:
    return (X[:8], Y[:8]), (X[8:], Y[8:])


def split_of_other_widths() -> Any:
    return (X[:8], Y[:8]), (X[8:, :3], Y[8:])


def short_targets() -> Any:
    return X, Y[:-1]


def with_nan() -> Any:
    x = X.copy()
    x[7, 2] = np.nan
    return x, Y


def sorted_by_class() -> Any:
    return np.arange(200, dtype=np.float32)[:, None], np.repeat([0, 1], 100)


def nothing() -> Any:
    return X[:0], Y[:0]


def one_row() -> Any:
    return X[:1], Y[:1]


def ragged() -> Any:
    return [[1.0], [1.0, 2.0], [1.0]], [0, 1, 2]


def objects() -> Any:
    return np.array([{}, {}], dtype=object), np.array([0, 1])


def wrong_type() -> Any:
    return "images"


def broken() -> Any:
    raise ZeroDivisionError("the disk is on fire")


def _tf(x: Any = X, y: Any = Y) -> Any:
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((x, y))


def tf_unbatched() -> Any:
    return _tf()


def tf_batched() -> Any:
    return _tf().batch(5)


def tf_dict() -> Any:
    return _tf({"left": X, "right": X[:, :2]}, {"label": Y}).batch(5)


def tf_endless() -> Any:
    return _tf().repeat()


def tf_inputs_only() -> Any:
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(X)


def dict_inputs() -> Any:
    return {"left": X, "right": X[:, :2]}, Y


def dict_inputs_of_other_lengths() -> Any:
    return {"left": X, "right": X[:-1]}, Y
