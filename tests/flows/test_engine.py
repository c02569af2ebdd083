"""What a process that runs flows at a desk spares its own server, and no other one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prefect import flow
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH, PREFECT_RESULTS_DEFAULT_STORAGE_BLOCK, temporary_settings

from flows.engine import at_desk
from tasks import nursery
from tests.e2e.commands import until

URL = "http://127.0.0.1:4200/api"


@flow
def some_flow() -> None:
    """A flow that nobody changed."""


@pytest.fixture(autouse=True)
def _server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", URL)


def test_a_desks_own_server_is_not_asked_where_results_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUNDTRIP_UNWATCHED", URL)
    ours = at_desk(some_flow.with_options())
    assert ours.result_storage == PREFECT_LOCAL_STORAGE_PATH.value()
    assert ours.persist_result is False


def test_another_server_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROUNDTRIP_UNWATCHED", raising=False)
    theirs = at_desk(some_flow.with_options())
    assert (theirs.result_storage, theirs.persist_result) == (None, None)


def test_a_place_that_the_user_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUNDTRIP_UNWATCHED", URL)
    with temporary_settings({PREFECT_RESULTS_DEFAULT_STORAGE_BLOCK: "local-file-system/theirs"}):
        theirs = at_desk(some_flow.with_options())
    assert (theirs.result_storage, theirs.persist_result) == (None, None)


_ASK = """
import os
from tasks import nursery
nursery.prepare()
out, told = os.pipe(), os.pipe()
nursery.fork("tests.flows.settings_child", dict(os.environ), (0, out[1], 2, told[1]))
os.close(out[1])
print(os.fdopen(out[0]).read())
"""


def test_a_flow_that_is_forked_from_a_nursery_that_stands_has_the_settings_of_its_own_environment(tmp_path: Path) -> None:
    address, theirs = tmp_path / "nursery.sock", {"PREFECT_LOGGING_LEVEL": "INFO", "PREFECT_API_URL": f"{URL}/theirs"}
    command, environment = nursery.standing_command(address, "prefect")
    with subprocess.Popen(command, env=environment | os.environ | theirs) as standing:
        try:
            assert until(address.exists, 120)
            mine = {"PREFECT_LOGGING_LEVEL": "ERROR", "PREFECT_TASKS_DEFAULT_RETRIES": "4", nursery.ADDRESS: str(address)}
            asked = subprocess.run(
                [sys.executable, "-c", _ASK], env=os.environ | mine, capture_output=True, text=True, check=True
            )
        finally:
            standing.kill()
    assert asked.stdout.split() == [str(standing.pid), URL, "ERROR", "4"]
