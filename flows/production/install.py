"""The work pool, the deployments and the automations: made where they are missing, updated where the files changed.

What a person switched on or off in the UI stays: schedules, deployments, automations. What a file says of that counts once,
when the thing is made. (`prefect deploy` by itself sets each schedule to what the file says, every time.)
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from flows.production.api import Api
from flows.production.checks import AUTOMATIONS_YAML, PREFECT_YAML, checks_of
from flows.production.parts import POOL, ROOT, client_environment, without_foreign
from flows.production.plan import Plan, folder
from tasks.errors import UnreachableError
from tasks.nursery import die_with_parent

_SECONDS = 300


def install(plan: Plan) -> bool:
    """Make or update all of it, on a server that answers. Returns whether anything had to be done.

    Raises:
        UnreachableError: The server refused something; with what it said.
    """
    api = Api(plan)
    made = _make_pool(api)
    checks = checks_of(plan, {})
    known, digest = folder() / "installed", _digest()
    if known.exists() and known.read_text() == digest and checks["deployments"]().up and checks["automations"]().up:
        return made
    before = _Switches.read(api)
    _deploy(plan)
    # Prefect is imported now, when the environment names this server.
    from flows.automations import install as install_automations

    install_automations(AUTOMATIONS_YAML)
    before.restore(api)
    known.write_text(digest)
    return True


@dataclass(frozen=True, slots=True)
class _Switches:
    """What is on and what is off: schedules by deployment and name, paused deployments, automations by name."""

    schedules: dict[tuple[str, str], bool]
    paused: dict[str, bool]
    automations: dict[str, bool]

    @classmethod
    def read(cls, api: Api) -> _Switches:
        deployments = api.post("/deployments/filter")
        return cls(
            {(d["name"], _name(s)): s["active"] for d in deployments for s in d["schedules"]},
            {d["name"]: d["paused"] for d in deployments},
            {a["name"]: a["enabled"] for a in api.post("/automations/filter")},
        )

    def restore(self, api: Api) -> None:
        """Switch what was there before as it was."""
        for deployment in api.post("/deployments/filter"):
            name, place = deployment["name"], f"/deployments/{deployment['id']}"
            if self.paused.get(name, deployment["paused"]) != deployment["paused"]:
                api.patch(place, {"paused": self.paused[name]})
            for schedule in deployment["schedules"]:
                active = self.schedules.get((name, _name(schedule)), schedule["active"])
                if active != schedule["active"]:
                    api.patch(f"{place}/schedules/{schedule['id']}", {"active": active})
        for automation in api.post("/automations/filter"):
            enabled = self.automations.get(automation["name"], automation["enabled"])
            if enabled != automation["enabled"]:
                api.patch(f"/automations/{automation['id']}", {"enabled": enabled})


def _name(schedule: dict[str, Any]) -> str:
    return str(schedule.get("slug") or schedule["schedule"])


def _make_pool(api: Api) -> bool:
    """Make the process pool with the defaults of its kind, as `prefect work-pool create` does."""
    if any(pool["name"] == POOL for pool in api.post("/work_pools/filter")):
        return False
    kinds = api.get("/collections/views/aggregate-worker-metadata")
    template = kinds["prefect"]["process"]["default_base_job_configuration"]
    try:
        api.post("/work_pools/", {"name": POOL, "type": "process", "base_job_template": template})
    except UnreachableError:
        # The worker makes it too, where it comes first.
        if not any(pool["name"] == POOL for pool in api.post("/work_pools/filter")):
            raise
    return True


def _deploy(plan: Plan) -> None:
    """What deployments/README.md does by hand."""
    command = (sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(PREFECT_YAML))
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=without_foreign(os.environ) | client_environment(plan),
        capture_output=True,
        text=True,
        check=False,
        timeout=_SECONDS,
        preexec_fn=die_with_parent,
    )
    if done.returncode:
        raise UnreachableError(f"`prefect deploy` failed:\n{(done.stdout + done.stderr).strip()}")


def _digest() -> str:
    """Of all that a deployment is made of: the two files, and the code that gives the parameters' forms."""
    whole = hashlib.sha256(version("prefect").encode())
    sources = (path for room in ("flows", "tasks") for path in sorted((ROOT / room).rglob("*.py")))
    for path in (PREFECT_YAML, AUTOMATIONS_YAML, *sources):
        content = path.read_bytes() if path.exists() else b""
        whole.update(f"{Path(path).relative_to(ROOT)} {len(content)} ".encode() + content)
    return whole.hexdigest()
