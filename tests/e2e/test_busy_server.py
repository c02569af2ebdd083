"""A desk's Prefect server, which is on SQLite, while many write."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import httpx
import pytest

pytestmark = pytest.mark.e2e

WRITERS, RUNS = 6, 8


def test_no_request_is_refused_while_many_write(api: httpx.Client) -> None:
    def write(_: int) -> list[int]:
        flow = api.post("/flows/", json={"name": "busy"})
        codes = [flow.status_code]
        for _ in range(RUNS):
            run = api.post("/flow_runs/", json={"flow_id": flow.json()["id"], "state": {"type": "PENDING"}})
            codes.append(run.status_code)
            line = {"name": "busy", "level": 20, "message": "line", "timestamp": datetime.now(UTC).isoformat()}
            codes.append(api.post("/logs/", json=[line | {"flow_run_id": run.json()["id"]}]).status_code)
            for state in ("RUNNING", "COMPLETED"):
                change = {"state": {"type": state}}
                codes.append(api.post(f"/flow_runs/{run.json()['id']}/set_state", json=change).status_code)
        return codes

    with ThreadPoolExecutor(WRITERS) as pool:
        codes = {code for codes in pool.map(write, range(WRITERS)) for code in codes}
    assert codes <= {200, 201}


def test_a_work_queue_can_be_paused(api: httpx.Client) -> None:
    """Which Prefect tells of in the middle of its transaction, by another session."""
    queue = api.post("/work_queues/", json={"name": "paused"}).raise_for_status().json()["id"]
    api.patch(f"/work_queues/{queue}", json={"is_paused": True}, timeout=30).raise_for_status()
    assert api.get(f"/work_queues/{queue}").json()["is_paused"] is True
