"""What checkpoints cost: the same training with and without, one checkpoint an epoch of 10 s or more, in turns.

Between two lie ten CPU seconds, so ten seconds or more where one processor trains. Wall seconds are what a user waits for;
CPU seconds of the process that trains, its uploads included, are steady on a machine that others use too.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
import uuid
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from tests.benchmarks.harness import bar

_SECONDS = 10.0  # of CPU time between two checkpoints
_CHECKPOINTS = 3
_BATCH = 32


def measure(rounds: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows of medians over rounds, and the bar of the issue."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"XDG_DATA_HOME": f"{folder}/data", "XDG_CACHE_HOME": f"{folder}/cache"}
        from tasks.storage import embedded, open_store

        server = embedded.running()
        try:
            return _measure(rounds, open_store())
        finally:
            server.close()


def _measure(rounds: int, store: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    from tasks.data import DataConfig, Dataset, load_dataset
    from tasks.data.dataset import take
    from tasks.definitions import ModelConfig, define
    from tasks.storage import StoredCheckpoints
    from tasks.training import Checkpointing, Trained, TrainingConfig, train_with_custom_loop

    whole = load_dataset(DataConfig(rows=20_000))

    def of(rows: int) -> Dataset:
        x, y = (take(part, slice(0, rows)) for part in (whole.x, whole.y))
        val = (take(part, slice(0, 256)) for part in (whole.x_val, whole.y_val))
        return Dataset(x, y, *val, whole.source, f"{rows}")

    def train(dataset: Dataset, hidden: int, epochs: int, kept: bool, **every: Any) -> tuple[Trained, float, float]:
        config = TrainingConfig(epochs=epochs, batch_size=_BATCH, compiler="graph", **every)
        definition, model = define(ModelConfig(arguments={"hidden": hidden}), dataset)
        keeper = StoredCheckpoints(store, f"model-{uuid.uuid4().hex}")
        started, cpu = time.perf_counter(), time.process_time()
        trained = train_with_custom_loop(
            model, dataset, config, checkpointing=Checkpointing(keeper, definition, "", print) if kept else None
        )
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        if trained.run:
            keeper.forget(trained.run)
        return trained, seconds, cpu

    rows, bars = [], {}
    for hidden in (64, 1024, 8192):
        # What an epoch of so many examples costs, without what the first one compiles.
        count = 16_000 if hidden == 64 else 4_000
        short, long = (train(of(count), hidden, epochs, kept=False)[2] for epochs in (1, 3))
        together = max(1, round(_SECONDS / ((long - short) / 2)))
        dataset, every = of(count), {"checkpoint_epochs": together, "checkpoint_seconds": None}
        found: dict[bool, list[tuple[Trained, float, float]]] = {True: [], False: []}
        for _ in range(rounds):
            for kept in (False, True):
                found[kept].append(train(dataset, hidden, _CHECKPOINTS * together, kept, **every))
        wall, cpu = ({kept: statistics.median(run[i] for run in found[kept]) for kept in found} for i in (1, 2))
        size = 4 * 3 * found[True][0][0].model.count_params() / 1e6
        rows.append(
            {"checkpoint_mb": size, "checkpoints": _CHECKPOINTS, "wall_s_between": wall[False] / _CHECKPOINTS}
            | {"wall_without_s": wall[False], "wall_with_s": wall[True], "wall_overhead": wall[True] / wall[False] - 1}
            | {"cpu_without_s": cpu[False], "cpu_with_s": cpu[True], "cpu_overhead": cpu[True] / cpu[False] - 1}
        )
        for what, seconds in (("wall", wall), ("CPU", cpu)):
            bars[f"{what} overhead, {size:.3g} MB"] = bar(seconds[True] / seconds[False] - 1, "<= 0.03")
    return rows, bars
