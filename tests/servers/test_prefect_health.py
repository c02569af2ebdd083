"""A Prefect server that answers and never schedules a run is found out."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.prefect_health import check_prefect
from tasks.shared_server import free_ports
from tests.e2e.commands import listens
from tests.servers.processes import Processes, until

pytestmark = pytest.mark.servers


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Processes, dict[str, str]]]:
    """A server without its services, and what starts them beside it."""
    (port,) = free_ports(1)
    environment = {
        **os.environ,
        "PREFECT_HOME": str(tmp_path),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{tmp_path / 'prefect.db'}",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    with Processes() as processes:
        command = ["server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-services"]
        processes.start([sys.executable, "-m", "prefect", *command], environment, tmp_path / "server.log")
        until(lambda: listens(port), "the server listens")
        url = f"http://127.0.0.1:{port}/api"
        monkeypatch.setenv("PREFECT_API_URL", url)
        with temporary_settings({PREFECT_API_URL: url}):  # Prefect read its settings when a test before this imported it
            yield processes, environment


def test_the_scheduler_is_put_to_the_test(server: tuple[Processes, dict[str, str]], tmp_path: Path) -> None:
    processes, environment = server

    without = {check.name: check.status for check in check_prefect(write=True, patience=2)}
    processes.start([sys.executable, "-m", "prefect", "server", "services", "start"], environment, tmp_path / "services.log")
    with_it = {check.name: check.status for check in check_prefect(write=True, patience=400)}

    assert without == {"server": "ok", "version": "ok", "late runs": "ok", "scheduler": "problem"}
    assert with_it == without | {"scheduler": "ok"}


def test_a_server_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = free_ports(1)
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{port}/api")

    (check,) = check_prefect(write=True)

    assert (check.name, check.status) == ("server", "problem")
    assert f"http://127.0.0.1:{port}/api does not answer" in check.detail
