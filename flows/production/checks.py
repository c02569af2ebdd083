"""Does each part answer? Never only a port: a request that the part can't answer without doing what it is for."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from flows.production import databases
from flows.production.api import Api
from flows.production.parts import POOL, ROOT, WORKER, nursery_address
from flows.production.plan import Database, Plan
from tasks import nursery
from tasks.errors import RoundtripError, UnreachableError

PREFECT_YAML = ROOT / "deployments" / "prefect.yaml"
AUTOMATIONS_YAML = ROOT / "deployments" / "automations.yaml"
_SECONDS = 5.0
_SILENT = timedelta(seconds=100)  # a worker says every 30 s that it is there
_CLOCKS = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a part said.

    Attributes:
        up: Whether it does what it is for.
        detail: What was found, or why not.
        more: What else its entry in the JSON document of `status` holds.
    """

    up: bool
    detail: str
    more: Mapping[str, Any] = field(default_factory=dict)


def answers(plan: Plan, part: str) -> bool:
    """Whether a part that others wait for is ready for them."""
    quick: dict[str, Callable[[], bool]] = {
        "postgres": lambda: plan.postgres is not None and _postgres_answers(plan.postgres),
        "redis": lambda: plan.redis is not None and _redis_answers(plan.redis),
        "server": lambda: _get(f"{plan.api}/health") is not None,
    }
    return quick[part]()


def checks_of(plan: Plan, state: Mapping[str, Any]) -> dict[str, Callable[[], Answer]]:
    """The check of each part of a plan, in the order in which they come up.

    Args:
        plan: What runs.
        state: What the supervisor says of its parts.
    """
    checks: dict[str, Callable[[], Answer]] = {}
    for name in ("postgres", "redis"):
        database: Database | None = getattr(plan, name)
        if database and database.port:
            checks[name] = partial(_database, plan, name, database.port)
    checks["store"] = partial(_store, plan)
    checks["server"] = partial(_server, plan)
    if plan.redis:
        checks["services"] = partial(_process, state, "services")
    if "nursery" in state:
        checks["nursery"] = partial(_nursery, state)
    checks["worker"] = partial(_worker, plan, state)
    checks["deployments"] = partial(_deployments, plan)
    checks["automations"] = partial(_automations, plan)
    return checks


def expected_deployments(path: Path = PREFECT_YAML) -> list[str]:
    """The names of the deployments, without their flows', in the file."""
    import yaml

    return [d["name"] for d in yaml.safe_load(path.read_text())["deployments"]]


def expected_automations(deployments: Path = PREFECT_YAML, automations: Path = AUTOMATIONS_YAML) -> list[str]:
    """The names of the deployments' triggers and of the automations' file."""
    import yaml

    triggers = [t["name"] for d in yaml.safe_load(deployments.read_text())["deployments"] for t in d.get("triggers", [])]
    return triggers + [document["name"] for document in automation_documents(automations)]


def automation_documents(path: Path = AUTOMATIONS_YAML) -> list[dict[str, Any]]:
    """The automations of a file as `prefect automation create --from-file` takes it."""
    import yaml

    if not path.exists():
        return []
    document = yaml.safe_load(path.read_text()) or []
    if isinstance(document, dict):
        document = document.get("automations", [document])
    return list(document)


def _database(plan: Plan, name: str, port: int) -> Answer:
    up = answers(plan, name)
    return Answer(up, f"127.0.0.1:{port}" + ("" if up else " does not answer"))


def _postgres_answers(database: Database) -> bool:
    ready = [databases.postgres_program("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(database.port)]
    return subprocess.run(ready, check=False, timeout=30).returncode == 0


def _redis_answers(database: Database) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", database.port or 0), _SECONDS) as connection:
            connection.sendall(f"AUTH {database.password}\r\nPING\r\n".encode())
            said = b""
            while said.count(b"\n") < 2:  # noqa: PLR2004
                more = connection.recv(256)
                if not more:
                    break
                said += more
    except OSError:
        return False
    return said == b"+OK\r\n+PONG\r\n"


def _store(plan: Plan) -> Answer:
    from tasks.storage import embedded, open_store  # 0.6 s

    try:
        if plan.store:
            return Answer(True, "yours", {"url": open_store().url, "endpoint": None})
        access = embedded.last_access()
        embedded.read_sentinel(access)
    except RoundtripError as error:
        return Answer(False, str(error), {"url": plan.store or f"s3://{embedded.BUCKET}"})
    return Answer(True, access.endpoint, {"url": f"s3://{access.bucket}", "endpoint": access.endpoint})


def _server(plan: Plan) -> Answer:
    addresses = {"url": plan.api, "ui": plan.ui}
    try:
        Api(plan, _SECONDS).post("/flows/count")  # needs the password, and the database
    except UnreachableError as error:
        return Answer(False, str(error), addresses)
    if b"<html" not in (_get(plan.ui) or b"").lower():
        return Answer(False, f"{plan.ui} shows no UI", addresses)
    several = f", {plan.api_servers} processes" if plan.api_servers > 1 else ""
    return Answer(True, plan.ui + several, addresses)


def _process(state: Mapping[str, Any], part: str) -> Answer:
    pid = state.get(part, {}).get("pid")
    return Answer(True, f"process {pid}") if pid else Answer(False, _ended(state, part))


def _nursery(state: Mapping[str, Any]) -> Answer:
    here = _process(state, "nursery")
    if not here.up:
        return here
    try:
        nursery.connected(nursery_address()).close()
    except OSError:
        return Answer(False, f"{here.detail} still imports")
    return here


def _worker(plan: Plan, state: Mapping[str, Any]) -> Answer:
    here = _process(state, "worker")
    if not here.up:
        return here
    try:
        pools = {pool["name"]: pool for pool in Api(plan, _SECONDS).post("/work_pools/filter")}
        workers = Api(plan, _SECONDS).post(f"/work_pools/{POOL}/workers/filter") if POOL in pools else []
    except UnreachableError as error:
        return Answer(False, str(error))
    # One that was started anew has the name of the last one: only what it said itself counts.
    since = datetime.fromtimestamp(state["worker"]["since"], UTC) - _CLOCKS
    newest = max((datetime.fromisoformat(w["last_heartbeat_time"]) for w in workers if w["name"] == WORKER), default=None)
    if newest is None or newest < since:
        return Answer(False, f"{here.detail} has not reported to the server yet")
    if datetime.now(UTC) - newest > _SILENT:
        return Answer(False, f"{here.detail} said nothing to the server since {newest:%H:%M:%S} UTC")
    paused = f"; the pool {POOL} is paused: `prefect work-pool resume {POOL}`" if pools[POOL]["is_paused"] else ""
    return Answer(True, f"{here.detail}, pool {POOL}{paused}", {"paused": pools[POOL]["is_paused"]})


def _deployments(plan: Plan) -> Answer:
    try:
        flows = {flow["id"]: flow["name"] for flow in Api(plan, _SECONDS).post("/flows/filter")}
        there = Api(plan, _SECONDS).post("/deployments/filter")
    except UnreachableError as error:
        return Answer(False, str(error))
    entries = [
        {
            "name": f"{flows.get(d['flow_id'], '?')}/{d['name']}",
            "paused": d["paused"],
            "schedules": sum(s["active"] for s in d["schedules"]),
        }
        for d in there
    ]
    entries.sort(key=lambda entry: str(entry["name"]))
    return _all_there(expected_deployments(), [d["name"] for d in there], {"list": entries})


def _automations(plan: Plan) -> Answer:
    try:
        there = Api(plan, _SECONDS).post("/automations/filter")
    except UnreachableError as error:
        return Answer(False, str(error))
    entries = [{"name": a["name"], "enabled": a["enabled"]} for a in there]
    answer = _all_there(expected_automations(), [a["name"] for a in there], {"list": entries})
    paused = "".join(f"; paused: `prefect automation resume '{a['name']}'`" for a in there if not a["enabled"])
    return replace(answer, detail=answer.detail + paused)


def _all_there(expected: list[str], there: list[str], more: Mapping[str, Any]) -> Answer:
    missing = sorted(set(expected) - set(there))
    if missing:
        return Answer(False, f"missing: {', '.join(missing)}; `python -m flows up` makes them", more)
    return Answer(True, f"{len(there)}", more)


def _ended(state: Mapping[str, Any], part: str) -> str:
    ended = state.get(part, {}).get("ended")
    return f"ended ({ended}) and is started again" if ended else "is not started yet"


def _get(url: str) -> bytes | None:
    with contextlib.suppress(OSError, ValueError):
        request = urllib.request.Request(url, headers={"Accept": "text/html,application/json"})
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
            content: bytes = answer.read()
            return content
    return None
