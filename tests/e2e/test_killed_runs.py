"""A whole job that is killed and run again ends with the weights of one that never was."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.storage import Store, layout, read_manifest, resolve
from tests.e2e.commands import Home, end_of, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

JOB = ("run", "weights-h5", "--epochs", "25", "--checkpoint-every", "1", "--compiler", "eager", "--json", "--name")


@pytest.fixture
def home(tmp_path: Path, s3_environment: dict[str, str], prefect_server: dict[str, str]) -> Home:
    return Home(tmp_path, s3_environment | prefect_server)


def committed(store: Store, model: str) -> list[str]:
    return [key for key in store.keys(layout.checkpoints(model)) if key.endswith(layout.CHECKPOINT)]


def test_a_killed_job_goes_on_when_it_is_run_again_and_leaves_no_checkpoint(home: Home, store: Store) -> None:
    data = ("--data", str(_data(home.folder)))
    whole = home.start(*JOB, "whole", *data)
    killed = home.start(*JOB, "killed", *data)
    assert until(lambda: bool(committed(store, "killed")), 200)
    killed.kill()
    end_of(killed)
    assert store.folders(layout.versions("killed")) == []

    again = home.run(*JOB, "killed", *data, seconds=500)
    undisturbed = end_of(whole, 500)

    assert undisturbed.code == 0, undisturbed.err
    assert again.code == 0, again.err
    assert "weights-h5: resumed after epoch " in again.err
    assert "resumed" not in undisturbed.err
    one, other = (read_manifest(store, *resolve(store, name)) for name in ("whole", "killed"))
    assert one.carried.weights == other.carried.weights
    assert one.carried.optimizer == other.carried.optimizer
    assert one.carried.curves == other.carried.curves
    assert other.training.notes[0].startswith("resumed after epoch ")
    assert store.keys(layout.checkpoints("whole")) == store.keys(layout.checkpoints("killed")) == []


def _data(folder: Path) -> Path:
    import numpy as np

    rng = np.random.default_rng(0)
    path = folder / "data.npz"
    np.savez(path, x=rng.standard_normal((200, 8)).astype(np.float32), y=rng.integers(0, 3, 200))
    return path
