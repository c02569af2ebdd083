"""Batches to and from models and files: names of inputs and outputs, `.npz` parts."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tasks.data import Arrays
from tasks.data.dataset import Array, each
from tasks.data.pipeline import in_batches
from tasks.definitions.build import fixed_batch
from tasks.errors import UnsafeError


def named_outputs(outputs: Any) -> Arrays:
    """What a model returned as one array or arrays by name; several without names are `output_0`, `output_1`, …."""
    if isinstance(outputs, dict):
        return {str(name): np.asarray(value) for name, value in outputs.items()}
    if isinstance(outputs, list | tuple):
        return {f"output_{i}": np.asarray(value) for i, value in enumerate(outputs)}
    return np.asarray(outputs)


def keras_predict(model: Any, x: Arrays) -> Arrays:
    """`model.predict` at the batch size that users get by default, or at the only one that the model takes."""
    batches = in_batches(x, size=fixed_batch(model) or 32)
    with _step_by_step(model):
        try:
            return named_outputs(model.predict(batches, steps=len(batches), verbose=0))
        except Exception:
            if model.run_eagerly:
                raise
        # It can't be traced; on either side it is then called eagerly, in the same batches.
        model.run_eagerly, model.predict_function = True, None
        try:
            return named_outputs(model.predict(batches, steps=len(batches), verbose=0))
        finally:
            model.run_eagerly, model.predict_function = False, None


@contextmanager
def _step_by_step(model: Any) -> Iterator[None]:
    """Let a model that takes many steps a call predict by one at a time: else its graph is traced once for each of them."""
    steps = model.steps_per_execution
    if steps == 1:
        yield
        return
    model.steps_per_execution, model.predict_function = 1, None
    try:
        yield
    finally:
        model.steps_per_execution, model.predict_function = steps, None


def flat(letter: str, arrays: Arrays) -> dict[str, Array]:
    """Names for a `.npz`: the letter for one array, `letter_name` for several."""
    return {f"{letter}_{name}" if name else letter: array for name, array in each(arrays).items()}


def nested(letter: str, arrays: dict[str, Array]) -> Arrays:
    """The reverse of `flat`."""
    if letter in arrays:
        return arrays[letter]
    return {n.removeprefix(f"{letter}_"): a for n, a in arrays.items() if n.startswith(f"{letter}_")}


def write_npz(path: Path, arrays: Mapping[str, Array]) -> None:
    """Arrays as a `.npz`, like `numpy.savez` and without the copy of each that it makes; never a pickle.

    Raises:
        ValueError: An array of Python objects.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        for name, given in arrays.items():
            array = np.asarray(given, order="C")
            if array.dtype.hasobject:
                raise ValueError(f"{name} holds Python objects.")
            with file.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array_header_1_0(entry, np.lib.format.header_data_from_array_1_0(array))
                entry.write(array.reshape(-1).view(np.uint8).data)


def read_npz(path: Path) -> dict[str, Array]:
    """All arrays of a `.npz`, never a pickle.

    Raises:
        UnsafeError: The file is not what its name says, or holds Python objects.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:
        raise UnsafeError(f"{path.name} is not a plain .npz file: {error}") from None
