"""The deployments as their README starts them: a whole Prefect server, a worker, a schedule, an event."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows.scenarios import SCENARIOS
from tasks.settings import StoreConfig
from tasks.shared_server import free_ports
from tasks.storage import Store, list_models, list_versions, open_store, resolve
from tasks.verification import read_verdicts
from tests.e2e.deployments.production import (
    CREATE_POOL,
    DEPLOY,
    ENDED,
    INSTALL,
    ROOT,
    SMALL,
    START_WORKER,
    Prefect,
    Worker,
    at_least,
    eventually,
    running,
    tail,
)

pytestmark = pytest.mark.e2e

QUICK = {"data": {"source": "nope.npz"}}  # fails before TensorFlow is needed


def test_a_scheduled_run_publishes_and_its_event_starts_the_proof(prefect: Prefect, worker: Worker, store: Store) -> None:
    scenario, downstream = prefect.deployment("saved-model"), prefect.deployment("return")

    with prefect.scheduled(scenario, datetime.now(UTC) + timedelta(seconds=10), SMALL):
        trained = worker.finished(scenario)
    returned = worker.finished(downstream)

    assert trained["auto_scheduled"] and trained["created_by"]["type"] == "SCHEDULE"
    assert trained["state"]["type"] == "COMPLETED", worker.complaint(trained)
    assert returned["created_by"]["type"] == "AUTOMATION"
    assert returned["state"]["type"] == "COMPLETED", worker.complaint(returned)
    (version,) = list_versions(store, "saved-model")
    assert returned["parameters"]["reference"] == f"saved-model@{version}"
    assert {v.passed for v in read_verdicts(store, "saved-model", version)} == {True}
    assert resolve(store, "saved-model@latest") == ("saved-model", version)

    epochs = eventually(lambda: at_least(2, prefect.log(trained, "epoch ")), "one line of the log for each epoch")
    assert [line.partition(":")[0] for line in epochs] == ["epoch 1 of 2", "epoch 2 of 2"]
    assert prefect.artifacts(trained) >= {("training-saved-model", "progress"), ("model-card-saved-model", "markdown")}
    assert prefect.artifacts(returned) >= {("verdict-saved-model", "markdown"), ("fidelity-saved-model", "table")}
    # By this tag the automation `no fresh version` knows that a schedule published it.
    (published,) = prefect.events("roundtrip.version.published", worker.since)
    roles = {r["prefect.resource.id"]: r["prefect.resource.role"] for r in published["related"]}
    assert roles["prefect.tag.auto-scheduled"] == "tag" and roles[f"prefect.flow-run.{trained['id']}"] == "flow-run"
    assert roles[f"prefect.deployment.{scenario['id']}"] == "deployment"
    # Both tell that they live, and by which tag an automation knows them.
    for run in (trained, returned):
        beats = prefect.events(
            "prefect.flow-run.heartbeat", worker.since, **{"prefect.resource.id": f"prefect.flow-run.{run['id']}"}
        )
        assert beats and "prefect.tag.roundtrip" in {r["prefect.resource.id"] for r in beats[0]["related"]}


def test_bad_input_fails_the_run_with_our_message_publishes_nothing_and_is_told(
    prefect: Prefect, worker: Worker, store: Store
) -> None:
    scenario = prefect.deployment("weights-h5")
    # As a schedule tags its runs.
    prefect.run(scenario, {"data": {"source": "nope.npz"}}, "auto-scheduled").raise_for_status()

    run = worker.finished(scenario)

    assert run["state"]["type"] == "FAILED"
    assert "There is no file nope.npz." in run["state"]["message"]
    assert list_models(store) == []
    alarm = worker.finished(prefect.deployment("notify"))
    assert alarm["name"] == f"Failed: the scheduled run {run['name']}"
    assert "There is no file nope.npz." in str(alarm["parameters"]["details"])


def test_what_was_published_to_another_store_is_returned_from_there(prefect: Prefect, worker: Worker, store: Store) -> None:
    elsewhere = StoreConfig(url=f"{store.url}/elsewhere")
    prefect.run(prefect.deployment("full-h5"), SMALL | {"store": elsewhere.model_dump()}).raise_for_status()

    returned = worker.finished(prefect.deployment("return"))

    assert returned["state"]["type"] == "COMPLETED", worker.complaint(returned)
    assert [m.latest is not None for m in list_models(open_store(elsewhere))] == [True]


def test_late_runs_begin_once_when_a_worker_comes_and_two_schedules_do_not_collide(
    prefect: Prefect, s3_environment: dict[str, str], tmp_path: Path
) -> None:
    since, due = datetime.now(UTC), datetime.now(UTC) + timedelta(seconds=5)
    waits, gives_way = prefect.deployment("weights-h5"), prefect.deployment("gc")
    output, (port,) = tmp_path / "worker.log", free_ports(1)
    environment = {**prefect.environment, **s3_environment, "PREFECT_WORKER_WEBSERVER_PORT": str(port)}

    def runs(*states: str) -> list[dict[str, Any]]:
        """The four runs that were due, once each of them is in one of the states."""
        found = [run for name in ("weights-h5", "gc") for run in prefect.runs(name, since) if run["auto_scheduled"]]
        due_now = [run for run in found if datetime.fromisoformat(run["expected_start_time"]) < due + timedelta(hours=1)]
        there = len(due_now) == 4 and all({run["state"]["name"], run["state"]["type"]} & set(states) for run in due_now)
        return due_now if there else []

    with ExitStack() as schedules:
        for deployment, parameters in ((waits, QUICK), (waits, QUICK), (gives_way, {}), (gives_way, {})):
            schedules.enter_context(prefect.scheduled(deployment, due, parameters))
            due += timedelta(milliseconds=1)  # the server takes the same time twice for one schedule
        eventually(lambda: runs("Late"), "four runs that are late, for there is no worker")
        assert not healthy(port)
        with running(f"{START_WORKER} --with-healthcheck", environment, output):
            ended = eventually(lambda: runs(*ENDED), "the end of four runs", lambda: tail(output))
            assert healthy(port), "the image asks the worker for its health by this command"

    first, second = sorted((r for r in ended if r["deployment_id"] == waits["id"]), key=lambda r: str(r["start_time"]))
    assert {first["state"]["type"], second["state"]["type"]} == {"FAILED"}
    assert first["run_count"] == second["run_count"] == 1
    assert first["end_time"] <= second["start_time"], "the second waits for the slot of the first"
    states = sorted(run["state"]["type"] for run in ended if run["deployment_id"] == gives_way["id"])
    assert states == ["CANCELLED", "COMPLETED"], "of two that would find the same, one is enough"


def healthy(port: int) -> bool:
    """What the image's HEALTHCHECK says of the worker at a port."""
    (check,) = re.findall(r"HEALTHCHECK.*\\\n +CMD (\[.*\])", (ROOT / "deployments" / "Dockerfile").read_text())
    _, *arguments = json.loads(check)
    environment = os.environ | {"PREFECT_WORKER_WEBSERVER_PORT": str(port)}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, check=False).returncode == 0


def test_the_form_describes_and_bounds_every_field(prefect: Prefect) -> None:
    for name in ("saved-model", "weights-h5", "full-h5"):
        definitions = prefect.deployment(name)["parameter_openapi_schema"]["definitions"]
        model = "SubclassedConfig" if name == "saved-model" else "ModelConfig"
        for config in ("DataConfig", model, "TrainingConfig", "StoreConfig"):
            assert all(field["description"] for field in definitions[config]["properties"].values()), config
        epochs = definitions["TrainingConfig"]["properties"]["epochs"]
        assert (epochs["type"], epochs["minimum"], epochs["default"]) == ("integer", 1, 5)
    assert prefect.deployment("return")["parameter_openapi_schema"]["required"] == ["reference"]


def test_a_parameter_out_of_bounds_starts_no_run(prefect: Prefect) -> None:
    answer = prefect.run(prefect.deployment("full-h5"), {"training": {"epochs": 0}})

    assert answer.status_code == httpx.codes.CONFLICT
    assert "0 is less than the minimum of 1" in answer.json()["detail"]


def test_deploying_records_no_folder_no_secret_and_no_schedule_that_costs(prefect: Prefect) -> None:
    schedules = {}
    for name in (*SCENARIOS, "return", "reverify", "gc", "fidelity", "notify"):
        deployment = prefect.deployment(name)
        (step,) = deployment["pull_steps"]
        assert step == {"prefect.deployments.steps.set_working_directory": {"directory": "."}}
        env = {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
        assert deployment["job_variables"] == {"working_dir": ".", "env": env}
        assert deployment["concurrency_options"]["collision_strategy"] in {"ENQUEUE", "CANCEL_NEW"}
        assert "roundtrip" in deployment["tags"] and deployment["description"]
        schedules |= {f"{name} {s['slug']}": s["active"] for s in deployment["schedules"]}
    assert [name for name, active in schedules.items() if active] == ["reverify weekly"]
    assert len(schedules) == 6


def test_deploying_again_pauses_the_schedule_and_keeps_one_of_each_trigger(prefect: Prefect) -> None:
    (nightly,) = prefect.deployment("saved-model")["schedules"]
    prefect.command(f"prefect deployment schedule resume saved-model/saved-model {nightly['id']}")
    assert prefect.deployment("saved-model")["schedules"][0]["active"]
    before = sorted(prefect.automations())

    prefect.command(DEPLOY)

    assert [s["active"] for s in prefect.deployment("saved-model")["schedules"]] == [False]
    assert sorted(prefect.automations()) == before
    assert len(before) == len(set(before)) and "return what was published" in before


def test_the_readme_names_the_commands_that_are_tested_here() -> None:
    readme = (ROOT / "deployments" / "README.md").read_text()

    assert all(command in readme for command in (CREATE_POOL, DEPLOY, INSTALL, START_WORKER))
