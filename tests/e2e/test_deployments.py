"""The deployments as their README starts them: a whole Prefect server, a worker, a schedule, an event."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil
import pytest

from tasks.nursery import die_with_parent
from tasks.settings import StoreConfig
from tasks.shared_server import free_ports
from tasks.storage import Store, list_models, list_versions, open_store, resolve
from tasks.verification import read_verdicts

pytestmark = pytest.mark.e2e

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
CREATE_POOL = "prefect work-pool create roundtrip --type process"
DEPLOY = "prefect --no-prompt deploy --all --prefect-file deployments/prefect.yaml"
START_WORKER = "prefect worker start --pool roundtrip --type process"
SMALL = {"data": {"rows": 200}, "training": {"epochs": 2}}
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
MARK = "ROUNDTRIP_TEST_PROCESS"


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
    assert [v.passed for v in read_verdicts(store, "saved-model", version)] == [True]
    assert resolve(store, "saved-model@latest") == ("saved-model", version)

    epochs = eventually(lambda: _at_least(2, prefect.log(trained, "epoch ")), "one line of the log for each epoch")
    assert [line.partition(":")[0] for line in epochs] == ["epoch 1 of 2", "epoch 2 of 2"]
    assert prefect.artifacts(trained) >= {("training-saved-model", "progress"), ("model-card-saved-model", "markdown")}
    assert prefect.artifacts(returned) >= {("verdict-saved-model", "markdown"), ("fidelity-saved-model", "table")}


def test_bad_input_fails_the_run_with_our_message_and_publishes_nothing(
    prefect: Prefect, worker: Worker, store: Store
) -> None:
    scenario = prefect.deployment("weights-h5")
    answer = prefect.run(scenario, {"data": {"source": "nope.npz"}})
    answer.raise_for_status()

    run = worker.finished(scenario)

    assert run["state"]["type"] == "FAILED"
    assert "There is no file nope.npz." in run["state"]["message"]
    assert list_models(store) == []


def test_what_was_published_to_another_store_is_returned_from_there(prefect: Prefect, worker: Worker, store: Store) -> None:
    elsewhere = StoreConfig(url=f"{store.url}/elsewhere")
    prefect.run(prefect.deployment("full-h5"), SMALL | {"store": elsewhere.model_dump()}).raise_for_status()

    returned = worker.finished(prefect.deployment("return"))

    assert returned["state"]["type"] == "COMPLETED", worker.complaint(returned)
    assert [m.latest is not None for m in list_models(open_store(elsewhere))] == [True]


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


def test_deploying_records_no_folder_no_secret_and_no_active_schedule(prefect: Prefect) -> None:
    deployments = {name: prefect.deployment(name) for name in ("saved-model", "weights-h5", "full-h5", "return")}

    for deployment in deployments.values():
        (step,) = deployment["pull_steps"]
        assert step == {"prefect.deployments.steps.set_working_directory": {"directory": "."}}
        assert deployment["job_variables"] == {"working_dir": "."}
        assert deployment["concurrency_options"]["collision_strategy"] == "ENQUEUE"
    schedules = {s["slug"]: s["active"] for d in deployments.values() for s in d["schedules"]}
    assert schedules == {"nightly": False}


def test_deploying_again_pauses_the_schedule_and_keeps_one_trigger(prefect: Prefect) -> None:
    (nightly,) = prefect.deployment("saved-model")["schedules"]
    prefect.command(f"prefect deployment schedule resume saved-model/saved-model {nightly['id']}")
    assert prefect.deployment("saved-model")["schedules"][0]["active"]

    prefect.command(DEPLOY)

    assert [s["active"] for s in prefect.deployment("saved-model")["schedules"]] == [False]
    assert prefect.automations() == ["return what was published"]


def test_the_readme_names_the_commands_that_are_tested_here() -> None:
    readme = (ROOT / "deployments" / "README.md").read_text()

    assert all(command in readme for command in (CREATE_POOL, DEPLOY, START_WORKER))


class Patient(httpx.HTTPTransport):
    """Asks again where the server says 503, as Prefect's own client does: SQLite was locked (FACTS.md)."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        for _ in range(10):
            response = super().handle_request(request)
            if response.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            response.read()
            time.sleep(1)
        return response


@dataclass(frozen=True, slots=True)
class Prefect:
    """A running server with the deployments, and what a test asks it."""

    api: httpx.Client
    environment: Mapping[str, str]

    def deployment(self, name: str) -> dict[str, Any]:
        answer = self.api.get(f"/deployments/name/{name}/{name}").raise_for_status()
        return answer.json()  # type: ignore[no-any-return]

    @contextmanager
    def scheduled(self, deployment: Mapping[str, Any], first: datetime, parameters: Mapping[str, Any]) -> Iterator[None]:
        """Give a deployment one more, active schedule; its first run is `first`, the next one a day later."""
        schedule = {"interval": 86_400, "anchor_date": first.isoformat(), "timezone": "UTC"}
        schedules = f"/deployments/{deployment['id']}/schedules"
        body = [{"schedule": schedule, "active": True, "parameters": parameters}]
        (created,) = self.api.post(schedules, json=body).raise_for_status().json()
        try:
            yield
        finally:
            self.api.delete(f"{schedules}/{created['id']}").raise_for_status()

    def run(self, deployment: Mapping[str, Any], parameters: Mapping[str, Any]) -> httpx.Response:
        return self.api.post(f"/deployments/{deployment['id']}/create_flow_run", json={"parameters": parameters})

    def command(self, command: str) -> str:
        """What a documented command prints; it must succeed."""
        done = subprocess.run(
            _argv(command), cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def finished(self, deployment: Mapping[str, Any], since: datetime) -> dict[str, Any] | None:
        """The one run of a deployment that was created since then and is over, if there is one."""
        runs = self._all("flow_runs", deployment_id=deployment["id"])
        done = [run for run in runs if datetime.fromisoformat(run["created"]) > since and run["state"]["type"] in ENDED]
        assert len(done) <= 1
        return done[0] if done else None

    def automations(self) -> list[str]:
        answer = self.api.post("/automations/filter", json={}).raise_for_status()
        return [automation["name"] for automation in answer.json()]

    def log(self, run: Mapping[str, Any], beginning: str) -> list[str]:
        records = sorted(self._all("logs", flow_run_id=run["id"]), key=lambda r: str(r["timestamp"]))
        return [r["message"] for r in records if r["message"].startswith(beginning)]

    def artifacts(self, run: Mapping[str, Any]) -> set[tuple[str, str]]:
        return {(a["key"], a["type"]) for a in self._all("artifacts", flow_run_id=run["id"])}

    def _all(self, kind: str, **belongs_to: str) -> list[dict[str, Any]]:
        condition = {name: {"any_": [value]} for name, value in belongs_to.items()}
        answer = self.api.post(f"/{kind}/filter", json={kind: condition}).raise_for_status()
        return answer.json()  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class Worker:
    """A running worker on a store of its own."""

    prefect: Prefect
    process: subprocess.Popen[bytes]
    output: Path
    since: datetime

    def finished(self, deployment: Mapping[str, Any]) -> dict[str, Any]:
        """The deployment's run, when it is over."""

        def look() -> dict[str, Any] | None:
            assert self.process.poll() is None, _tail(self.output)
            return self.prefect.finished(deployment, self.since)

        return eventually(look, f"the end of a run of {deployment['name']}", lambda: _tail(self.output))

    def complaint(self, run: Mapping[str, Any]) -> str:
        return f"{run['state']}\n{_tail(self.output)}"


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    """A whole server (scheduler, triggers, events) with the pool and the deployments, through the documented commands."""
    folder = tmp_path_factory.mktemp("prefect")
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}/api"
    # What another test of this process set for its own server must not reach this one, nor may the module path help.
    ours = {n: v for n, v in os.environ.items() if n != "PYTHONPATH" and not n.startswith("PREFECT_")}
    environment = ours | {
        "PREFECT_HOME": str(folder),
        "PREFECT_API_URL": url,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "DO_NOT_TRACK": "1",
        # A minute by default, in which a flow's process must have started, or it is ended for having lost its slot.
        "PREFECT_SERVER_CONCURRENCY_INITIAL_DEPLOYMENT_LEASE_DURATION": "600",
        # A minute and ten seconds by default; the test has not so much time.
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "2",
        "PREFECT_WORKER_QUERY_SECONDS": "2",
    }
    output = folder / "server.log"
    start = f"prefect server start --host 127.0.0.1 --port {port}"
    with running(start, environment, output) as server, httpx.Client(base_url=url, timeout=120, transport=Patient()) as api:

        def up() -> bool:
            assert server.poll() is None, _tail(output)
            try:
                return api.get("/health").is_success
            except httpx.TransportError:
                return False

        eventually(up, "a Prefect server that answers", lambda: _tail(output))
        deployed = Prefect(api, environment)
        deployed.command(CREATE_POOL)
        deployed.command(DEPLOY)
        yield deployed


@pytest.fixture
def worker(prefect: Prefect, s3_environment: dict[str, str], tmp_path: Path) -> Iterator[Worker]:
    """A worker whose environment names this test's own store."""
    output = tmp_path / "worker.log"
    with running(START_WORKER, {**prefect.environment, **s3_environment}, output) as process:
        yield Worker(prefect, process, output, datetime.now(UTC))


@contextmanager
def running(command: str, environment: Mapping[str, str], output: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server or a worker; afterwards it and all that it started are gone, however the test ended."""
    mark = uuid.uuid4().hex
    with output.open("wb") as log:
        process = subprocess.Popen(
            ["env", "--default-signal=INT,TERM", *_argv(command)],
            cwd=ROOT,
            env={**environment, MARK: mark},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
        process.wait()
        left = _marked(mark)
        for orphan in left:
            orphan.kill()
        psutil.wait_procs(left, timeout=10)
        assert not _marked(mark)


def eventually(look: Callable[[], T], what: str, context: Callable[[], str] = str, seconds: float = 240.0) -> T:
    """What `look` returns, as soon as it is something; fails the test after a deadline."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > deadline:
            pytest.fail(f"Waited {seconds:.0f} s for {what}.\n{context()}")
        time.sleep(0.2)
    return found


def _argv(command: str) -> list[str]:
    name, *arguments = shlex.split(command)
    # The console script, as users call it: unlike `python -m`, it does not add the folder to the module path.
    return [str(Path(sys.executable).with_name(name)), *arguments]


def _marked(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
            continue
    return found


def _at_least(count: int, lines: list[str]) -> list[str] | None:
    return lines if len(lines) >= count else None


def _tail(output: Path) -> str:
    return "\n".join(output.read_text(errors="replace").splitlines()[-40:])
