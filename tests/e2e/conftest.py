"""One Prefect server for the end-to-end tests that do not start their own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from flows.server import PrefectServer


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[dict[str, str]]:
    """One Prefect server for all commands that are given one, as its own variables name it."""
    names = (
        "PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE", "DO_NOT_TRACK",
        "ROUNDTRIP_UNWATCHED",
    )  # fmt: skip
    before = {name: os.environ.get(name) for name in names}
    server = PrefectServer()
    values = {name: os.environ[name] for name in names}
    for name, value in before.items():
        os.environ.pop(name)
        if value is not None:
            os.environ[name] = value
    server.wait_until_up()
    yield values
    server.close()
