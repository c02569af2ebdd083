"""Inspection: seconds for a small bundle, the whole command included; gigabytes a second for large files of each type."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from tests.benchmarks.harness import bar

_LARGE = 2**30
_FEW = 100 * 2**20


def measure(rounds: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows of medians over rounds, and the bars of the issue."""
    from tasks.safety import inspect_bundle, inspect_path
    from tasks.safety.findings import Inspection

    def clocked(inspect: Any) -> tuple[float, Inspection]:
        times = []
        for _ in range(rounds):
            started = time.perf_counter()
            found = inspect()
            times.append(time.perf_counter() - started)
        assert not found.findings, found.findings
        return statistics.median(times), found

    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        small = _bundles(Path(scratch) / "small")
        for name, (folder, manifest) in small.items():
            seconds, found = clocked(lambda folder=folder, manifest=manifest: inspect_bundle(folder, manifest))
            rows.append({"what": f"bundle {name}", "bytes": found.bytes, "seconds": round(seconds, 4)})
        for name, path in _large(Path(scratch) / "large").items():
            seconds, found = clocked(lambda path=path: inspect_path(path))
            rate = found.bytes / seconds / 1e9
            row = {"what": f"large {name}", "bytes": found.bytes, "seconds": round(seconds, 4), "gb_per_s": round(rate, 2)}
            rows.append(row)
    bars = {
        "slowest small bundle, seconds": bar(max(r["seconds"] for r in rows if r["what"].startswith("bundle")), "<= 0.3"),
        "slowest large file, GB/s": bar(min(r["gb_per_s"] for r in rows if "gb_per_s" in r), ">= 1"),
    }
    return rows, bars


def _bundles(folder: Path) -> dict[str, Any]:
    """A bundle of the built-in definitions in every format."""
    from tasks.definitions.build import MLP, SUBCLASSED
    from tasks.errors import InputError
    from tasks.serialization import FORMATS
    from tests import bundles, samples

    data = samples.classes()
    models = {builder: samples.trained(builder, data) for builder in (MLP, SUBCLASSED)}
    made = {}
    for name in FORMATS:
        for builder, trained in models.items():
            place = folder / name / builder.rpartition(":")[2]
            place.mkdir(parents=True)
            try:
                made[f"{name} {place.name}"] = place, bundles.written(*trained, data, name, place)
            except InputError:
                continue  # a format that does not take this definition, or lacks its extra
    return made


def _large(folder: Path) -> dict[str, Path]:
    """Files of a gigabyte, ten tensors each."""
    import h5py
    import numpy as np

    folder.mkdir()
    tensor = np.random.default_rng(0).random(_FEW // 8).astype(np.float64)
    count = _LARGE // _FEW
    with h5py.File(folder / "model.weights.h5", "w") as file:
        for i in range(count):
            file[f"layers/dense_{i}/vars/0"] = tensor
    with zipfile.ZipFile(folder / "model.keras", "w") as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", '{"class_name": "Sequential", "module": "keras", "config": {"layers": []}}')
        archive.write(folder / "model.weights.h5", "model.weights.h5")
    np.savez(folder / "state.npz", allow_pickle=False, **{f"a{i}": tensor for i in range(count)})
    checkpoint = folder / "checkpoint"
    import tensorflow as tf

    tf.train.Checkpoint(v=[tf.Variable(tensor) for _ in range(count)]).write(str(checkpoint / "ckpt"))
    return {
        "HDF5": folder / "model.weights.h5",
        ".keras": folder / "model.keras",
        ".npz": folder / "state.npz",
        "checkpoint": checkpoint,
    }
