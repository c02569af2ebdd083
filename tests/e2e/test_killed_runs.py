"""A whole job that is killed and run again ends with the weights of one that never was."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

from tasks.storage import Store, layout, list_versions, read_manifest, resolve
from tests.e2e.commands import ROOT, Home, end_of, until

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
    rng = np.random.default_rng(0)
    path = folder / "data.npz"
    np.savez(path, x=rng.standard_normal((200, 8)).astype(np.float32), y=rng.integers(0, 3, 200))
    return path


class Run:
    """A run of a deployment of `weights-h5`, executed as a worker does, but in a process that the test holds."""

    def __init__(self, api: httpx.Client, deployment: str, name: str) -> None:
        training = {"epochs": 25, "compiler": "eager", "checkpoint_epochs": 1, "checkpoint_seconds": None}
        parameters = {"data": {"rows": 200}, "training": training, "name": name}
        # A server on SQLite answers 503 where it is busy; Prefect's own client asks again too.
        body = {"parameters": parameters, "idempotency_key": name}
        for _ in range(5):
            created = api.post(f"/deployments/{deployment}/create_flow_run", json=body)
            if created.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            time.sleep(2)
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
def api(prefect_server: dict[str, str]) -> Iterator[httpx.Client]:
    user, _, password = prefect_server["PREFECT_API_AUTH_STRING"].partition(":")
    with httpx.Client(base_url=prefect_server["PREFECT_API_URL"], auth=(user, password), timeout=120) as client:
        yield client


@pytest.fixture
def deployment(api: httpx.Client) -> str:
    flow = api.post("/flows/", json={"name": "weights-h5"}).raise_for_status().json()["id"]
    step = {"prefect.deployments.steps.set_working_directory": {"directory": str(ROOT)}}
    body = {"name": uuid.uuid4().hex, "flow_id": flow, "entrypoint": "flows.weights_h5.weights_h5", "pull_steps": [step]}
    created = api.post("/deployments/", json=body | {"path": str(ROOT)})
    return created.raise_for_status().json()["id"]  # type: ignore[no-any-return]


def test_a_flow_run_that_was_killed_goes_on_when_prefect_runs_it_again(
    home: Home, store: Store, api: httpx.Client, deployment: str
) -> None:
    undisturbed, killed = Run(api, deployment, "whole"), Run(api, deployment, "killed")
    whole, first = undisturbed.execute(home), killed.execute(home)
    assert until(lambda: bool(committed(store, "killed")), 240)
    killed.kill()
    first.communicate()  # what a worker starts sees its flow die, and says so
    assert killed.read()["state"]["type"] == "CRASHED"
    killed.set_state("SCHEDULED", force=True)  # the button Retry in Prefect's UI
    assert store.folders(layout.versions("killed")) == []

    again, _ = killed.execute(home).communicate()
    end, _ = whole.communicate()

    for run, said, times in ((killed, again, 2), (undisturbed, end, 1)):
        found = run.read()
        assert (found["state"]["type"], found["run_count"]) == ("COMPLETED", times), said
    assert until(lambda: any(line.startswith("resumed after epoch") for line in killed.log()), 30)
    one, other = (read_manifest(store, name, *list_versions(store, name)) for name in ("whole", "killed"))
    assert one.carried.weights == other.carried.weights
    assert one.carried.curves == other.carried.curves
    assert other.flow_run == killed.id
    assert store.keys(layout.checkpoints("killed")) == []
