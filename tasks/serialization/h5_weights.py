"""Load a file of HDF5 weights, and say which weights don't fit where Keras says that one object could not be loaded."""

from __future__ import annotations

import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

from tasks.definitions.fingerprint import VariableSpec
from tasks.definitions.mismatch import check_weights


def load_weights(model: Any, file: Path) -> None:
    """Load `model.weights.h5`, or the shards that `model.weights.json` lists, into a built model.

    Raises:
        MismatchError: They are not this model's; the message lists each that is missing, extra or different.
    """
    try:
        with warnings.catch_warnings():
            # The bundle carries the optimizer, and it is put back and compared.
            warnings.filterwarnings("ignore", message="Skipping variable loading for optimizer")
            model.load_weights(file)
    except Exception:
        # What this model would write into such a file has the names that the file has.
        with tempfile.TemporaryDirectory(prefix="roundtrip-expected-") as folder:
            expected = Path(folder) / "expected.weights.h5"
            model.save_weights(expected)
            check_weights(_in_file(file), _in_file(expected), file.name)
        raise


def _in_file(file: Path) -> list[VariableSpec]:
    """Every weight in a file or in its shards, by its place there without Keras' `layers/…/vars`."""
    import h5py  # 0.15 s

    found: list[VariableSpec] = []

    def visit(name: str, item: Any) -> None:
        # The optimizer's variables are in the file too, where the model was compiled.
        if isinstance(item, h5py.Dataset) and not name.startswith(("optimizer/", "_optimizer/")):
            path = "/".join(part for part in name.split("/") if part not in {"layers", "vars"})
            found.append(VariableSpec(path=path, shape=tuple(item.shape), dtype=str(item.dtype)))

    for part in _parts(file):
        with h5py.File(part, "r") as opened:
            opened.visititems(visit)
    return found


def _parts(file: Path) -> list[Path]:
    if file.suffix != ".json":
        return [file]
    shards = json.loads(file.read_text())["weight_map"].values()
    names = {name for entry in shards for name in (entry if isinstance(entry, list) else [entry])}
    # By their names alone: the index may not lead out of its folder.
    return [file.parent / Path(name).name for name in sorted(names)]
