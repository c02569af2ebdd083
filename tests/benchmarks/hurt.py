"""A production whose parts die, and what one may ask of it all the same: each question is asked until it is answered."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import boto3
import httpx
import psutil
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from flows.production.checks import checks_of
from flows.production.contact import state as parts_now
from flows.production.plan import Plan
from tasks.errors import RoundtripError
from tests.e2e.production import ENDED, Production
from tests.faults.witness import Witness

T = TypeVar("T")

LIMIT = 300.0  # seconds; what takes longer is called stuck
# What a production says that is not all there: look again.
_NOT_NOW = (httpx.HTTPError, psutil.Error, RoundtripError, OSError, ClientError, BotoCoreError,
            StopIteration, KeyError, TypeError, ValueError)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Hurt:
    """One production, in the home that this process has as its own (`XDG_DATA_HOME`)."""

    production: Production

    def submit(self, deployment: str, key: str, parameters: dict[str, Any]) -> str:
        """Have a deployment run, once for a key, however often this had to be asked; the run's id."""

        def create() -> str:
            with self.production.api() as api:
                found = api.get(f"/deployments/name/{deployment}/{deployment}").raise_for_status().json()
                body = {"parameters": parameters, "idempotency_key": key}
                made = api.post(f"/deployments/{found['id']}/create_flow_run", json=body).raise_for_status().json()
                return str(made["id"])

        return self.must(create, f"run of {deployment}")

    def retry(self, run: str) -> None:
        """What the button of Prefect's UI does."""

        def press() -> bool:
            state = {"type": "SCHEDULED", "name": "AwaitingRetry", "message": "Retry from the UI"}
            with self.production.api() as api:
                api.post(f"/flow_runs/{run}/set_state", json={"state": state, "force": True}).raise_for_status()
            return True

        self.must(press, "retry")

    def end_of(self, run: str) -> str:
        """The state in which a run ended; empty where it did not within the limit."""

        def ended() -> str | None:
            state = str(self.production.run(run)["state"]["type"])
            return state if state in ENDED else None

        return self.once(ended, LIMIT) or ""

    def state_of(self, run: str) -> str:
        """The name of the state that a run is in."""
        return self.must(lambda: str(self.production.run(run)["state"]["name"]), "state of a run")

    def states_of(self, run: str) -> list[str]:
        """The names of all states that a run was in."""

        def look() -> list[str]:
            with self.production.api() as api:
                answer = api.get("/flow_run_states/", params={"flow_run_id": run}).raise_for_status()
            return [state["name"] for state in answer.json()]

        return self.must(look, "states of a run")

    def return_of(self, reference: str, seconds: float) -> str | None:
        """The run of `return` on a version, where there is one within a time."""

        def look() -> str | None:
            found = [run for run in self.production.runs_of("return") if run["parameters"].get("reference") == reference]
            return str(found[0]["id"]) if found else None

        return self.once(look, seconds)

    def unfinished(self) -> list[str]:
        """Runs that are over for nobody, after a last wait."""
        found: list[dict[str, Any]] = []

        def none_left() -> bool:
            question = {"flow_runs": {"state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}}}
            with self.production.api() as api:
                found[:] = api.post("/flow_runs/filter", json=question).raise_for_status().json()
            return not found

        self.once(none_left, LIMIT)
        return [f"{run['name']}: {run['state_name']}" for run in found]

    def process_of(self, run: str) -> psutil.Process | None:
        """The process of a flow run that the worker started, and not what that has started itself."""
        ours = []
        for process in self.production.home.processes():
            with suppress(psutil.Error):
                if process.environ().get("PREFECT__FLOW_RUN_ID") == run:
                    ours.append(process)
        return min(ours, key=lambda process: process.create_time(), default=None)

    def is_whole(self) -> bool:
        """Whether each part answers, as `status` asks them."""
        plan = Plan.load()
        return plan is not None and all(check().up for check in checks_of(plan, parts_now()).values())

    def witness(self) -> Witness:
        """A reader of the store with a client of its own."""
        place = self.production.home.folder / "data" / "roundtrip" / "store" / "server.json"
        access = json.loads(place.read_text())["state"]
        client = boto3.client(
            "s3",
            endpoint_url=access["endpoint"],
            aws_access_key_id=access["access_key"],
            aws_secret_access_key=access["secret_key"],
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 4}, connect_timeout=5),
        )
        return Witness(client, "models", "")

    def once(self, look: Callable[[], T], seconds: float) -> T | None:
        """What `look` gives, once it is something; None where it is nothing for so long."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with suppress(*_NOT_NOW):
                if found := look():
                    return found
            time.sleep(0.3)
        return None

    def must(self, look: Callable[[], T], what: str) -> T:
        """What `look` gives, which must be something within the limit."""
        found = self.once(look, LIMIT)
        if not found:
            raise RuntimeError(f"No {what} within {LIMIT:.0f} s.\n{self.production.home.run('logs', '-n', '30').out}")
        return found
