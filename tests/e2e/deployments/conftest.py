"""One server for all tests of the deployments, and a worker with a store of its own for each that asks for one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from tasks.shared_server import free_ports
from tests.e2e.deployments.production import (
    CREATE_POOL,
    DEPLOY,
    INSTALL,
    START_WORKER,
    Prefect,
    Worker,
    eventually,
    running,
    tail,
)


@pytest.fixture(scope="package")
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
        "PREFECT_SERVER_SERVICES_LATE_RUNS_LOOP_SECONDS": "1",
        "PREFECT_SERVER_SERVICES_LATE_RUNS_AFTER_SECONDS": "1",
        "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "3",
    }
    output = folder / "server.log"
    # The server of `up`, but with this folder, and faster: Prefect's own does not take turns on SQLite.
    start = f"uvicorn --app-dir . --factory flows.server_app:create_app --host 127.0.0.1 --port {port} --log-level warning"
    with running(start, environment, output) as server, httpx.Client(base_url=url, timeout=120) as api:

        def up() -> bool:
            assert server.poll() is None, tail(output)
            try:
                return api.get("/health").is_success
            except httpx.TransportError:
                return False

        eventually(up, "a Prefect server that answers", lambda: tail(output))
        deployed = Prefect(api, environment)
        deployed.command(CREATE_POOL)
        deployed.command(DEPLOY)
        deployed.command(INSTALL)
        yield deployed


@pytest.fixture
def worker(prefect: Prefect, s3_environment: dict[str, str], tmp_path: Path) -> Iterator[Worker]:
    """A worker whose environment names this test's own store."""
    output = tmp_path / "worker.log"
    with running(START_WORKER, {**prefect.environment, **s3_environment}, output) as process:
        yield Worker(prefect, process, output, datetime.now(UTC))
