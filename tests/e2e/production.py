"""A local production in a home of its own, as `python -m flows up` starts it, and what a test asks it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.e2e.commands import Home, Result, until

ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
SMALL = {"data": {"rows": 200}, "training": {"epochs": 1}, "rehearsal": False}
PATIENCE = 300.0
_PAUSE = 0.4  # between two looks, which cost the server the time that they wait for


@dataclass(frozen=True, slots=True)
class Production:
    """What `up` started in this home."""

    home: Home

    @property
    def folder(self) -> Path:
        return self.home.folder / "data" / "roundtrip" / "up"

    @property
    def plan(self) -> Any:
        return json.loads((self.folder / "plan.json").read_text())

    def up(self, *more: str) -> Result:
        """Bring it up, or what of it is missing."""
        result = self.home.run("up", "--json", *more, seconds=2 * PATIENCE)
        assert result.code == 0, result.out + result.err
        return result

    def status(self) -> Any:
        return self.home.run("status", "--json").document

    def is_whole(self, part: str = "", restarts: int = 0) -> bool:
        """Whether all is up, after a part was started again so often."""
        state = self.parts()
        return state.get(part, {}).get("restarts", 0) >= restarts and bool(self.status()["up"])

    def parts(self) -> dict[str, Any]:
        """The supervisor's word on its parts."""
        return json.loads((self.folder / "state.json").read_text())  # type: ignore[no-any-return]

    def pid(self, part: str) -> int:
        """The process of a part; of the store, the server itself."""
        if part == "supervisor":
            return int((self.folder / "supervisor.lock").read_text())
        if part == "store":
            return next(p.pid for p in self.home.processes() if Path(p.cmdline()[0]).name == "weed")
        return int(self.parts()[part]["pid"])

    def kill(self, part: str) -> None:
        os.kill(self.pid(part), signal.SIGKILL)

    def api(self) -> httpx.Client:
        plan = self.plan
        return httpx.Client(
            base_url=f"http://127.0.0.1:{plan['port']}/api",
            auth=("roundtrip", plan["password"]),
            timeout=120,
            verify=False,  # plain HTTP; else each reads all certificates first, for 0.05 s
        )

    def submit(self, deployment: str, parameters: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        """Have a deployment run."""
        with self.api() as api:
            found = api.get(f"/deployments/name/{deployment}/{deployment}").raise_for_status().json()
            answer = api.post(f"/deployments/{found['id']}/create_flow_run", json={"parameters": parameters, **more})
            return answer.raise_for_status().json()  # type: ignore[no-any-return]

    def run(self, identity: str) -> dict[str, Any]:
        with self.api() as api:
            return api.get(f"/flow_runs/{identity}").raise_for_status().json()  # type: ignore[no-any-return]

    def reaches(self, identity: str, states: set[str]) -> dict[str, Any]:
        """The run, once it is in one of these states."""
        assert until(lambda: self.run(identity)["state"]["type"] in states, PATIENCE, _PAUSE), self.complaint(identity)
        return self.run(identity)

    def completes(self, deployment: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """A run that has succeeded."""
        run = self.reaches(self.submit(deployment, parameters)["id"], ENDED)
        assert run["state"]["type"] == "COMPLETED", self.complaint(run["id"])
        return run

    def runs_of(self, flow: str) -> list[dict[str, Any]]:
        with self.api() as api:
            question = {"flows": {"name": {"any_": [flow]}}, "sort": "START_TIME_ASC"}
            return api.post("/flow_runs/filter", json=question).raise_for_status().json()  # type: ignore[no-any-return]

    def complaint(self, identity: str) -> str:
        return f"{self.run(identity)['state']}\n{self.home.run('logs', '-n', '40').out}"

    def listening(self) -> set[tuple[str, int]]:
        """Where its processes can be reached."""
        found = set()
        for process in self.home.processes():
            for connection in process.net_connections("inet"):
                if connection.status == psutil.CONN_LISTEN or not connection.raddr:
                    found.add((connection.laddr.ip, connection.laddr.port))
        return found

    def end(self) -> None:
        """Whatever a test left behind."""
        self.home.run("down", "--timeout", "0")
        for process in self.home.processes():
            process.kill()
