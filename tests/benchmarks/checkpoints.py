"""What checkpoints cost a training: the processor time of one, against that of an epoch of 10 s on one processor.

Copying the state holds the training up; hashing and sending it go on beside, and cost nothing but the processor that they
take from it, which counts here in full. That is measured by itself, many times, for on a machine that others use too the
difference of two trainings is more noise than checkpoint. One pair of trainings, with and without, is shown beside it.
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

_EPOCH = 10.0  # seconds
_TIMES = 11  # checkpoints measured for each size; the first ones find memory that nobody touched before, and are dearer
_EPOCHS = 3  # of the pair of trainings
_BATCH = 32


def measure(rounds: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows of medians, and the bar of the issue for each size of state."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"XDG_DATA_HOME": f"{folder}/data", "XDG_CACHE_HOME": f"{folder}/cache"}
        from tasks.storage import StoredCheckpoints, embedded, open_store

        server = embedded.running()
        try:
            return _measure(rounds, StoredCheckpoints(open_store(), f"model-{uuid.uuid4().hex}"))
        finally:
            server.close()


def _measure(rounds: int, keeper: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    from tasks.data import DataConfig, load_dataset
    from tasks.definitions import ModelConfig, define
    from tasks.training import Checkpointing, TrainingConfig, train_with_custom_loop
    from tasks.training.identity import identity_of
    from tasks.training.snapshot import Progress, take

    dataset = load_dataset(DataConfig(rows=4_000))

    def train(hidden: int, epochs: int, kept: bool) -> tuple[Any, Any, float]:
        config = TrainingConfig(epochs=epochs, batch_size=_BATCH, checkpoint_epochs=1, checkpoint_seconds=None)
        definition, model = define(ModelConfig(arguments={"hidden": hidden}), dataset)
        checkpointing = Checkpointing(keeper, definition, "", print) if kept else None
        started = time.perf_counter()
        trained = train_with_custom_loop(model, dataset, config, checkpointing=checkpointing)
        seconds = time.perf_counter() - started
        if trained.run:
            keeper.forget(trained.run)
        return trained.model, identity_of(trained.model, definition, dataset, config, "custom", []), seconds

    rows, bars = [], {}
    for hidden in (64, 1024, 8192):
        model, identity, _ = train(hidden, 1, kept=False)
        held, cpu, wall = [], [], []
        for epoch in range(_TIMES):
            started, used = time.perf_counter(), time.process_time()
            snapshot = take(model, [], Progress(epoch=epoch + 1))
            held.append(time.perf_counter() - started)
            keeper.keep(identity, snapshot)
            wall.append(time.perf_counter() - started)
            cpu.append(time.process_time() - used)
        keeper.forget(identity.run)
        pairs = [[train(hidden, _EPOCHS, kept)[2] for kept in (False, True)] for _ in range(rounds)]
        without, with_ = (statistics.median(pair[i] for pair in pairs) for i in (0, 1))
        size = sum(array.nbytes for array in snapshot.arrays.values()) / 1e6
        rows.append(
            {"checkpoint_mb": size, "training_held_s": statistics.median(held), "until_kept_s": statistics.median(wall)}
            | {"cpu_s": statistics.median(cpu), "epochs": _EPOCHS, "wall_without_s": without, "wall_with_s": with_}
        )
        bars[f"of an epoch of 10 s, {size:.3g} MB"] = bar(statistics.median(cpu) / _EPOCH, "<= 0.03")
    return rows, bars
