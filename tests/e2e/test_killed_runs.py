"""A whole job that is killed and run again ends with the weights of one that never was."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

from tasks.storage import Manifest, Store, embedded, layout, list_versions, open_store, read_manifest, resolve
from tests.e2e.commands import ROOT, Home, end_of, until
from tests.own_store import s3_variables

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

TRAINING = {"epochs": 25, "compiler": "eager", "checkpoint_epochs": 1, "checkpoint_seconds": None}
JOB = ("run", "weights-h5", "--epochs", "25", "--checkpoint-every", "1", "--compiler", "eager", "--json", "--name")


@dataclass(frozen=True, slots=True)
class Place:
    """Where all of them run, and what from."""

    home: Home
    store: Store
    data: str


@pytest.fixture(scope="module")
def place(s3: embedded.EmbeddedStore, warm: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("home")
    rng = np.random.default_rng(0)
    data = folder / "data.npz"
    np.savez(data, x=rng.standard_normal((200, 8)).astype(np.float32), y=rng.integers(0, 3, 200))
    with pytest.MonkeyPatch.context() as patch:
        environment = s3_variables(s3.access)
        for name, value in environment.items():
            patch.setenv(name, value)
        yield Place(Home(folder, environment | warm), open_store(), str(data))


@pytest.fixture(scope="module")
def whole(place: Place) -> Manifest:
    """What a run publishes that nobody disturbs."""
    result = place.home.run(*JOB, "whole", "--data", place.data)
    assert result.code == 0, result.err
    assert "resumed" not in result.err
    assert place.store.keys(layout.checkpoints("whole")) == []
    return read_manifest(place.store, *resolve(place.store, "whole"))


def committed(store: Store, model: str) -> list[str]:
    return [key for key in store.keys(layout.checkpoints(model)) if key.endswith(layout.CHECKPOINT)]


def assert_same_end(one: Manifest, other: Manifest, store: Store) -> None:
    """The same bits in the end, though the other was killed; and no checkpoint of it is left."""
    assert one.carried.weights == other.carried.weights
    assert one.carried.optimizer == other.carried.optimizer
    assert one.carried.curves == other.carried.curves
    assert other.training.notes[0].startswith("resumed after epoch ")
    assert store.keys(layout.checkpoints(other.model)) == []


def test_a_killed_job_goes_on_when_it_is_run_again_and_leaves_no_checkpoint(place: Place, whole: Manifest) -> None:
    job = (*JOB, "killed", "--data", place.data)
    killed = place.home.start(*job)
    assert until(lambda: bool(committed(place.store, "killed")), 200)
    killed.kill()
    end_of(killed)
    assert place.store.folders(layout.versions("killed")) == []

    again = place.home.run(*job, seconds=500)

    assert again.code == 0, again.err
    assert "weights-h5: resumed after epoch " in again.err
    assert_same_end(whole, read_manifest(place.store, *resolve(place.store, "killed")), place.store)


class Run:
    """A run of a deployment of `weights-h5`, executed as a worker does, but in a process that the test holds."""

    def __init__(self, api: httpx.Client, deployment: str, name: str, data: str) -> None:
        parameters = {"data": {"source": data}, "training": TRAINING, "name": name}
        body = {"parameters": parameters, "idempotency_key": name}
        created = api.post(f"/deployments/{deployment}/create_flow_run", json=body)
        self.api, self.id = api, created.raise_for_status().json()["id"]

    def execute(self, home: Home) -> subprocess.Popen[str]:
        self.set_state("PENDING")
        command = [str(Path(sys.executable).with_name("prefect")), "flow-run", "execute", self.id]
        return subprocess.Popen(
            command, env=home.environment(), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def kill(self) -> None:
        """SIGKILL the flow and what it started."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("PREFECT__FLOW_RUN_ID") == self.id:
                    found.append(process)
                    process.kill()
        assert found

    def set_state(self, kind: str, *, force: bool = False) -> None:
        answer = self.api.post(f"/flow_runs/{self.id}/set_state", json={"state": {"type": kind}, "force": force})
        assert answer.raise_for_status().json()["status"] == "ACCEPT"

    def read(self) -> dict[str, Any]:
        return self.api.get(f"/flow_runs/{self.id}").raise_for_status().json()  # type: ignore[no-any-return]

    def log(self) -> list[str]:
        condition = {"logs": {"flow_run_id": {"any_": [self.id]}}}
        return [line["message"] for line in self.api.post("/logs/filter", json=condition).raise_for_status().json()]


@pytest.fixture
def deployment(api: httpx.Client) -> str:
    flow = api.post("/flows/", json={"name": "weights-h5"}).raise_for_status().json()["id"]
    step = {"prefect.deployments.steps.set_working_directory": {"directory": str(ROOT)}}
    body = {"name": uuid.uuid4().hex, "flow_id": flow, "entrypoint": "flows.weights_h5.weights_h5", "pull_steps": [step]}
    created = api.post("/deployments/", json=body | {"path": str(ROOT)})
    return created.raise_for_status().json()["id"]  # type: ignore[no-any-return]


def test_a_flow_run_that_was_killed_goes_on_when_prefect_runs_it_again(
    place: Place, whole: Manifest, api: httpx.Client, deployment: str
) -> None:
    run = Run(api, deployment, "retried", place.data)
    first = run.execute(place.home)
    assert until(lambda: bool(committed(place.store, "retried")), 240)
    run.kill()
    first.communicate()  # what a worker starts sees its flow die, and says so
    assert run.read()["state"]["type"] == "CRASHED"
    run.set_state("SCHEDULED", force=True)  # the button Retry in Prefect's UI
    assert place.store.folders(layout.versions("retried")) == []

    said, _ = run.execute(place.home).communicate()

    found = run.read()
    assert (found["state"]["type"], found["run_count"]) == ("COMPLETED", 2), said
    assert until(lambda: any(line.startswith("resumed after epoch") for line in run.log()), 30)
    (version,) = list_versions(place.store, "retried")
    manifest = read_manifest(place.store, "retried", version)
    assert manifest.flow_run == run.id
    assert_same_end(whole, manifest, place.store)
