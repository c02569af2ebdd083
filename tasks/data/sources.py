"""Where data comes from: generated, `.npz`, a callable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tasks.data.config import GENERATED, DataConfig
from tasks.data.dataset import Dataset, check_alike, check_pair, clean, digest, rows, take
from tasks.errors import InputError
from tasks.references import place_of, resolve


def load_dataset(config: DataConfig) -> Dataset:
    """Load, check and split what the configuration names.

    Args:
        config: Source, sizes and seed.

    Returns:
        The examples, split into training and validation. A source that brings no test data is shuffled by
        `config.seed` first: real datasets are often sorted by class.

    Raises:
        InputError: The source does not exist, raises, or returns something that can't be trained on.
    """
    raw = _load(config)
    if _is_split(raw):
        (x, y), (x_val, y_val) = raw
        x, y = clean(x, "x", config.source), clean(y, "y", config.source)
        x_val, y_val = clean(x_val, "x_test", config.source), clean(y_val, "y_test", config.source)
        check_pair(x_val, y_val, f"{config.source} (test)")
        check_pair(x, y, config.source)
        check_alike(x, x_val, "x", config.source)
        check_alike(y, y_val, "y", config.source)
    else:
        x, y = _pair(raw, config.source)
        x, y = clean(x, "x", config.source), clean(y, "y", config.source)
        check_pair(x, y, config.source)
        order = np.random.default_rng(config.seed).permutation(rows(x))
        held = max(1, round(len(order) * config.validation))
        if held >= len(order):
            raise InputError(f"{config.source}: {len(order)} rows are too few to hold back {config.validation:.0%}.")
        x, x_val = take(x, order[held:]), take(x, order[:held])
        y, y_val = take(y, order[held:]), take(y, order[:held])
    return Dataset(x, y, x_val, y_val, source=config.source, digest=digest(x, y, x_val, y_val))


def generate(config: DataConfig) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Examples around one random centre a class, so far apart that a small model gets most of them right, not all.

    Returns:
        x `(rows, features) float32` and y `(rows,) int64` in `[0, classes)`.
    """
    rng = np.random.default_rng(config.seed)
    centres = rng.standard_normal((config.classes, config.features), dtype=np.float32)
    y = rng.integers(0, config.classes, config.rows)
    noise = rng.standard_normal((config.rows, config.features), dtype=np.float32)
    # The distance of two centres grows with the root of the features; the noise keeps pace, and with it the difficulty.
    return centres[y] + noise * np.float32(0.22 * config.features**0.5), y


def _load(config: DataConfig) -> Any:
    if config.source == GENERATED:
        return generate(config)
    if config.source.endswith(".npz"):
        return _load_npz(Path(config.source).expanduser())
    if ":" not in config.source:
        raise InputError(
            f"{config.source!r} is no data source. Write `{GENERATED}`, a `.npz` file, `module:callable` "
            "or `path/to/file.py:callable`."
        )
    load = resolve(config.source)
    try:
        return _materialize(load(), config.source)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{config.source} raised {type(error).__name__}: {error}{place_of(error)}") from error


def _load_npz(path: Path) -> Any:
    try:
        # No pickles: an array of objects in a .npz is a program.
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise InputError(f"There is no file {path}.") from None
    except Exception as error:  # NumPy, zipfile and zlib each have errors of their own for a broken file
        raise InputError(f"{path} is not a readable .npz file: {error}") from None

    def named(letter: str) -> Any:
        parts = {n.removeprefix(f"{letter}_"): a for n, a in arrays.items() if n.startswith(f"{letter}_")}
        return arrays.get(letter, parts or None)

    if {"x_train", "y_train", "x_test", "y_test"} <= arrays.keys():
        return (arrays["x_train"], arrays["y_train"]), (arrays["x_test"], arrays["y_test"])
    if arrays.keys() == {"x_train", "y_train"}:
        return arrays["x_train"], arrays["y_train"]
    x, y = named("x"), named("y")
    if x is None or y is None:
        raise InputError(f"{path} holds {sorted(arrays)}; x and y are needed (or x_NAME, y_NAME; or x_train, ...).")
    return x, y


def _materialize(value: Any, source: str) -> Any:
    """Bring a finite tf.data.Dataset of (x, y) into memory; batched or not."""
    if not hasattr(value, "element_spec") or not hasattr(value, "unbatch"):
        return value
    if int(value.cardinality()) == -1:  # tf.data.INFINITE_CARDINALITY
        raise InputError(f"{source} is an endless tf.data.Dataset. End it with `.take(n)`.")
    if not isinstance(value.element_spec, tuple) or len(value.element_spec) != 2:  # noqa: PLR2004
        raise InputError(f"{source} is a tf.data.Dataset whose elements are not pairs (x, y).")
    targets = value.element_spec[1]
    first = next(iter(targets.values())) if isinstance(targets, dict) else targets
    inputs = value.element_spec[0]
    lead = next(iter(inputs.values())) if isinstance(inputs, dict) else inputs
    batched = lead.shape.rank and first.shape.rank and lead.shape[0] == first.shape[0]
    flat = value.unbatch() if batched else value
    columns = list(flat.batch(4096).as_numpy_iterator())

    def joined(side: int) -> Any:
        if isinstance(columns[0][side], dict):
            return {k: np.concatenate([c[side][k] for c in columns]) for k in columns[0][side]}
        return np.concatenate([c[side] for c in columns])

    return (joined(0), joined(1)) if columns else (np.empty(0), np.empty(0))


def _is_split(raw: Any) -> bool:
    pairs = isinstance(raw, tuple | list) and len(raw) == 2  # noqa: PLR2004
    return pairs and all(isinstance(part, tuple | list) and len(part) == 2 for part in raw)  # noqa: PLR2004


def _pair(raw: Any, source: str) -> tuple[Any, Any]:
    if isinstance(raw, tuple | list) and len(raw) == 2:  # noqa: PLR2004
        return raw[0], raw[1]
    raise InputError(
        f"{source} returned {type(raw).__name__}; (x, y), ((x, y), (x_test, y_test)) or a tf.data.Dataset is needed."
    )
