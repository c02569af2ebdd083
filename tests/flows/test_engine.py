"""What a process that runs flows at a desk spares its own server, and no other one."""

from __future__ import annotations

import pytest
from prefect import flow
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH, PREFECT_RESULTS_DEFAULT_STORAGE_BLOCK, temporary_settings

from flows.engine import at_desk

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
