"""Two workers, each the whole command, train one model: the chief publishes it, and a single process returns it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tasks.shared_server import free_ports
from tasks.storage import Store, layout, read_manifest, resolve
from tests import samples
from tests.e2e.commands import Home, end_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

SCENARIOS = ("saved-model", "full-h5")  # the custom loop, and `fit`


@pytest.fixture
def home(tmp_path: Path, s3_environment: dict[str, str], warm: dict[str, str]) -> Home:
    return Home(tmp_path, s3_environment | warm)


def clusters() -> list[str]:
    """`TF_CONFIG` of two workers on this machine."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    return [json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}) for index in range(2)]


def job(folder: Path) -> list[str]:
    data = samples.classes(rows=40 + 3 * 33 + 1)
    np.savez(folder / "data.npz", x=data.x, y=data.y)
    training = ["--epochs", "1", "--batch-size", "33", "--strategy", "multi-worker", "--no-rehearsal"]
    return ["run", *SCENARIOS, "--data", str(folder / "data.npz"), *training, "--json"]


def test_two_workers_train_one_model_and_the_chief_publishes_it(home: Home, store: Store) -> None:
    workers = [home.start(*job(home.folder), TF_CONFIG=config) for config in clusters()]
    chief, other = (end_of(worker) for worker in workers)

    assert chief.code == 0, chief.err
    assert other.code == 0, other.err
    for run in chief.document["runs"]:
        assert (run["verdict"]["passed"], run["verdict"]["weights_equal"], run["latest"]) == (True, True, True)
    assert other.document["runs"] == []
    assert [(f["scenario"], f["worker"], f["workers"]) for f in other.document["followed"]] == [
        (scenario, 1, 2) for scenario in SCENARIOS
    ]
    for name in SCENARIOS:
        assert len(store.folders(layout.versions(name))) == 1
        (note,) = read_manifest(store, *resolve(store, name)).training.notes
        assert note.startswith("trained by 2 replicas (multi-worker: 2 workers), each of which took 16 or 17 of")
