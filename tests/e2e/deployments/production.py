"""A whole Prefect server with the deployments, a worker, and what a test asks them; as the README of deployments says."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil
import pytest

from tasks.nursery import die_with_parent

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[3]
CREATE_POOL = "prefect work-pool create roundtrip --type process"
DEPLOY = "prefect --no-prompt deploy --all --prefect-file deployments/prefect.yaml"
INSTALL = "python -m flows.automations"
START_WORKER = "prefect worker start --pool roundtrip --type process"
SMALL = {"data": {"rows": 200}, "training": {"epochs": 2}}
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
MARK = "ROUNDTRIP_TEST_PROCESS"


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

    def run(self, deployment: Mapping[str, Any], parameters: Mapping[str, Any], *tags: str) -> httpx.Response:
        body = {"parameters": parameters, "tags": tags}
        return self.api.post(f"/deployments/{deployment['id']}/create_flow_run", json=body)

    def cancel(self, runs: list[dict[str, Any]]) -> None:
        """End runs that nobody began, so that the next test's worker does not find them."""
        for run in runs:
            state = {"type": "CANCELLED", "name": "Cancelled"}
            self.api.post(f"/flow_runs/{run['id']}/set_state", json={"state": state, "force": True}).raise_for_status()

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

    def runs(self, name: str, since: datetime) -> list[dict[str, Any]]:
        """The runs of a deployment that were created since then, in the order in which they were."""
        found = self._all("flow_runs", deployment_id=self.deployment(name)["id"])
        fresh = [run for run in found if datetime.fromisoformat(run["created"]) > since]
        return sorted(fresh, key=lambda run: str(run["created"]))

    def state(self, run: Mapping[str, Any]) -> dict[str, Any]:
        """The state of a run as it is now."""
        return self.api.get(f"/flow_runs/{run['id']}").raise_for_status().json()["state"]  # type: ignore[no-any-return]

    def emit(self, event: str, resource: str, *tags: str, **more: Any) -> None:
        """Send an event, as anybody may."""
        related = [{"prefect.resource.id": f"prefect.tag.{tag}", "prefect.resource.role": "tag"} for tag in tags]
        labels = {"prefect.resource.id": resource, **more.pop("labels", {})}
        body = {"occurred": datetime.now(UTC).isoformat(), "event": event, "resource": labels, "related": related, **more}
        self.api.post("/events", json=[body | {"id": str(uuid.uuid4())}]).raise_for_status()

    def events(self, name: str, since: datetime, **labels: str) -> list[dict[str, Any]]:
        """The events of a name since then, whose resource has these labels, in their order."""
        wanted = {"event": {"name": [name]}, "occurred": {"since": since.isoformat()}, "order": "ASC"}
        answer = self.api.post("/events/filter", json={"filter": wanted, "limit": 50}).raise_for_status()
        return [e for e in answer.json()["events"] if labels.items() <= e["resource"].items()]

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
            assert self.process.poll() is None, tail(self.output)
            return self.prefect.finished(deployment, self.since)

        return eventually(look, f"the end of a run of {deployment['name']}", lambda: tail(self.output))

    def complaint(self, run: Mapping[str, Any]) -> str:
        return f"{run['state']}\n{tail(self.output)}"


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
        left = _with(MARK, mark)
        for orphan in left:
            orphan.kill()
        psutil.wait_procs(left, timeout=10)
        assert not _with(MARK, mark)


def eventually(look: Callable[[], T], what: str, context: Callable[[], str] = str, seconds: float = 240.0) -> T:
    """What `look` returns, as soon as it is something; fails the test after a deadline."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > deadline:
            pytest.fail(f"Waited {seconds:.0f} s for {what}.\n{context()}")
        time.sleep(0.4)
    return found


def _argv(command: str) -> list[str]:
    name, *arguments = shlex.split(command)
    # The console script, as users call it: unlike `python -m`, it does not add the folder to the module path.
    return [str(Path(sys.executable).with_name(name)), *arguments]


def processes_of(run: Mapping[str, Any]) -> list[psutil.Process]:
    """The processes of a flow run, and all that they started."""
    return _with("PREFECT__FLOW_RUN_ID", run["id"])


def _with(variable: str, value: str) -> list[psutil.Process]:
    """The processes that have a variable in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(variable) == value:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
            continue
    return found


def at_least(count: int, lines: list[str]) -> list[str] | None:
    return lines if len(lines) >= count else None


def tail(output: Path) -> str:
    return "\n".join(output.read_text(errors="replace").splitlines()[-40:])
