"""A training to be killed: `python -m tests.training.killed LOOP CASE NAME [MOMENT]`, with checkpoints in `ROUNDTRIP_STORE`.

Prints `epoch N` when an epoch is done and, in the end, a digest of every bit of the model and of its history. With a moment
it kills itself while it writes the checkpoint of the third epoch: `commit`, before the last request; `N`, after N ms.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import threading
from dataclasses import replace
from typing import Any

import numpy as np

from tasks.storage import Store, StoredCheckpoints, open_store
from tasks.training import Checkpointing, Epoch, TrainingConfig
from tasks.training.identity import Identity
from tasks.training.snapshot import Snapshot
from tests import samples
from tests.training.process import DATA, FASTEST, LOOPS

EPOCHS = 8
LETHAL = 3
_ALWAYS = {"epochs": EPOCHS, "batch_size": 48, "checkpoint_epochs": 1, "checkpoint_seconds": None}
_WORSE = replace(DATA, y_val=(np.asarray(DATA.y_val) + 1) % 3)  # every epoch makes the validation worse

CASES: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "plain": ("dropout_and_normalization", DATA, {}),
    "early-stopping": ("dropout_and_normalization", _WORSE, {"early_stopping": 5, "learning_rate": 0.05}),
    "mixed-precision": ("mixed_precision", DATA, {"compiler": "graph"}),
}


def die() -> None:
    """As if from outside: nothing is cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)


class Telling(StoredCheckpoints):
    """Says when a checkpoint is kept."""

    def __init__(self, store: Store, model: str) -> None:
        super().__init__(store, model)
        self.last, self.changed = 0, threading.Condition()

    def keep(self, identity: Identity, snapshot: Snapshot) -> None:
        super().keep(identity, snapshot)
        with self.changed:
            self.last = snapshot.progress.epoch
            self.changed.notify()

    def wait_for(self, epoch: int) -> None:
        with self.changed:
            self.changed.wait_for(lambda: self.last >= epoch)


class DiesAtCommit(Store):
    """A store whose client is killed right before it would commit."""

    def put_if_absent(self, key: str, body: bytes) -> None:
        del key, body
        die()


class Deadly(Telling):
    """Dies while it writes the checkpoint of one epoch."""

    def __init__(self, store: Store, model: str, moment: str) -> None:
        super().__init__(store, model)
        self.moment = moment

    def keep(self, identity: Identity, snapshot: Snapshot) -> None:
        if snapshot.progress.epoch == LETHAL:
            if self.moment == "commit":
                self.store = DiesAtCommit(self.store.client, self.store.bucket, self.store.prefix, self.store.endpoint)
            else:
                threading.Timer(int(self.moment) / 1000, die).start()
        super().keep(identity, snapshot)
        if snapshot.progress.epoch == LETHAL:
            threading.Event().wait()  # for the timer, had it been too late


def main(loop: str, case: str, name: str, moment: str = "") -> None:
    """Train, and print what came of it."""
    builder, data, more = CASES[case]
    config = TrainingConfig.model_validate(_ALWAYS | {"compiler": FASTEST[loop]} | more)
    definition, model = samples.defined(builder, data)
    keeper = Deadly(open_store(), name, moment) if moment else Telling(open_store(), name)
    begun: list[int] = []

    def report(epoch: Epoch) -> None:
        begun.append(epoch.number)
        if len(begun) > 1:  # whoever kills after this line knows that the epoch before was kept
            keeper.wait_for(epoch.number - 1)
        print(f"epoch {epoch.number}", flush=True)

    keeping = Checkpointing(keeper, definition, "here", lambda line: print(line, flush=True))
    trained = LOOPS[loop](model, data, config, report, checkpointing=keeping)
    curves = json.dumps(trained.history.curves, sort_keys=True).encode()
    print("digest", hashlib.sha256(b"".join([*samples.bits(trained.model), curves])).hexdigest(), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
