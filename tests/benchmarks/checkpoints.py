"""What checkpoints cost: the same training with and without, one checkpoint an epoch of 10 s or more, in turns.

Wall seconds decide; CPU seconds of the process that trains, its uploads included, tell more on a machine that others use.
The store is the embedded one, whose server shares the processors with the training: with a store elsewhere it costs less.
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

_SECONDS = 10.0  # an epoch's least
_EPOCHS = 3
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

    rows, overheads = [], []
    for hidden in (64, 1024, 8192):
        probe, _, _ = train(of(1_000), hidden, 2, kept=False)
        count = int(min(16_000, 1_000 * _SECONDS / probe.history.seconds[-1])) // _BATCH * _BATCH
        # A small model's epoch is short whatever the data: then a checkpoint comes after as many as take 10 s.
        epoch = probe.history.seconds[-1] * count / 1_000
        together = max(1, round(_SECONDS / epoch))
        dataset = of(count)
        found: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
        for _ in range(rounds):
            for kept in (False, True):
                every = {"checkpoint_epochs": together, "checkpoint_seconds": None}
                found[kept].append(train(dataset, hidden, _EPOCHS * together, kept, **every)[1:])
        without, with_ = (statistics.median(wall for wall, _ in found[kept]) for kept in (False, True))
        less, more = (statistics.median(cpu for _, cpu in found[kept]) for kept in (False, True))
        size = 4 * 3 * probe.model.count_params()
        overheads.append(with_ / without - 1)
        rows.append(
            {"parameters": probe.model.count_params(), "checkpoint_mb": size / 1e6, "checkpoints": _EPOCHS}
            | {"seconds_between": without / _EPOCHS, "without_s": without, "with_s": with_, "overhead": overheads[-1]}
            | {"cpu_without_s": less, "cpu_with_s": more, "cpu_overhead": more / less - 1}
        )
    return rows, {f"overhead, {rows[i]['checkpoint_mb']:.3g} MB": bar(value, "<= 0.03") for i, value in enumerate(overheads)}
