"""Whether a Prefect server does all that Roundtrip leaves to it: it answers, knows us, is of our version, and schedules.

A server can answer `/health` and never schedule a run (FACTS.md: with SQLAlchemy 2.1, or where its services are switched off
or died), so the scheduler is asked to do its work.
"""

from __future__ import annotations

import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

from flows.server import configured_url, local_production
from tasks.storage.guarantees.conformance import Check

_SCHEDULER_SECONDS = 30.0  # it looks every five
_NAME = "roundtrip-doctor"


def check_prefect(*, write: bool, patience: float = _SCHEDULER_SECONDS) -> Iterator[Check]:
    """Check the configured server.

    Args:
        write: Whether to put the scheduler to the test, by a deployment that is removed again and runs nothing.
        patience: Seconds that the scheduler has.
    """
    url = configured_url() or local_production()
    if url is None:
        yield Check("server", "ok", "none configured: each job starts its own on 127.0.0.1")
        return
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=5):
            pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        yield Check("server", "problem", f"{url} does not answer: {reason}", "Start it, or check PREFECT_API_URL.")
        return
    yield Check("server", "ok", f"{url} answers")
    from prefect.client.orchestration import get_client  # 1.4 s
    from prefect.exceptions import PrefectHTTPStatusError

    with get_client(sync_client=True) as client:
        try:
            yield _versions(client.api_version())
        except PrefectHTTPStatusError as error:
            answer = f"{error.response.status_code} {error.response.reason_phrase}"
            yield Check("access", "problem", f"it refuses us: {answer}", "Check PREFECT_API_AUTH_STRING or PREFECT_API_KEY.")
            return
        yield _late(client)
        if write:
            yield check_scheduler(client, patience)
        else:
            yield Check("scheduler", "warning", "not checked: that takes a deployment for a moment", "Leave out --no-write.")


def _versions(theirs: str) -> Check:
    ours = version("prefect")
    if theirs == ours:
        return Check("version", "ok", f"{theirs}, as here")
    older = _numbers(theirs) < _numbers(ours)
    status: Any = "problem" if older and _numbers(theirs)[0] < _numbers(ours)[0] else "warning"
    advice = "Update the server." if older else "Update Prefect here, or take the server's version."
    return Check("version", status, f"the server is {theirs}, this is {ours}", advice)


def _numbers(text: str) -> list[int]:
    return [int(piece) for piece in text.partition("+")[0].split(".") if piece.isdigit()]


def _late(client: Any) -> Check:
    late = client.request("POST", "/flow_runs/count", json={"flow_runs": {"state": {"name": {"any_": ["Late"]}}}}).json()
    if late:
        return Check("late runs", "warning", f"{late} flow runs should have started", "Start a worker for their work pool.")
    return Check("late runs", "ok", "none")


def check_scheduler(client: Any, patience: float = _SCHEDULER_SECONDS) -> Check:
    """Have a run scheduled: of a deployment without a work pool, so that nobody runs it, and an hour from now."""
    started = time.monotonic()
    flow = client.create_flow_from_name(_NAME)
    hourly = {"schedule": {"interval": 3600.0, "timezone": "UTC"}, "active": True}
    body = {"name": uuid.uuid4().hex, "flow_id": str(flow), "schedules": [hourly], "paused": False}
    deployment = client.request("POST", "/deployments/", json=body).json()["id"]
    try:
        question = {"deployments": {"id": {"any_": [deployment]}}}
        while not client.request("POST", "/flow_runs/count", json=question).json():
            if time.monotonic() - started > patience:
                advice = "Start `prefect server services start` beside it, and install sqlalchemy below 2.1 there."
                return Check("scheduler", "problem", f"scheduled nothing within {patience:.0f} s", advice)
            time.sleep(0.5)
    finally:
        client.delete_deployment(deployment)
        client.delete_flow(flow)
    return Check("scheduler", "ok", f"schedules, within {time.monotonic() - started:.0f} s")
