"""One Prefect server and one nursery for the end-to-end tests that do not start their own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import httpx
import psutil
import pytest

from flows.production.parts import LIBRARIES
from flows.server import PrefectServer
from tasks import nursery
from tests.e2e.commands import Home, end_of, until


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


@pytest.fixture
def api(prefect_server: dict[str, str]) -> Iterator[httpx.Client]:
    """That server's API, as its owner asks it."""
    user, _, password = prefect_server["PREFECT_API_AUTH_STRING"].partition(":")
    url = prefect_server["PREFECT_API_URL"]
    with httpx.Client(base_url=url, auth=(user, password), timeout=120) as client:
        yield client


@pytest.fixture(scope="session")
def warm(prefect_server: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """That server, and a nursery that stands, as under `up`: commands import neither TensorFlow nor Prefect themselves.

    What is forked from it has no test's home in its environment, and so is not among `Home.processes`: here it is seen to.
    """
    folder = tmp_path_factory.mktemp("nursery")
    address = folder / "nursery.sock"
    command, environment = nursery.standing_command(address, *LIBRARIES)
    with (folder / "log").open("wb") as log:
        standing = subprocess.Popen(
            command, env=environment | Home(folder, prefect_server).environment(), stdout=log, stderr=log,
            preexec_fn=nursery.die_with_parent,
        )  # fmt: skip
        assert until(address.exists, 120), (folder / "log").read_text()
        try:
            values = prefect_server | {nursery.ADDRESS: str(address)}
            served = "from tasks import nursery; print(nursery.standing() is not None)"
            assert end_of(Home(folder, values).python("-c", served)).out == "True\n"
            yield values
            assert until(lambda: psutil.Process(standing.pid).children() == [], 15), "somebody left a process behind"
        finally:
            standing.kill()
            standing.wait()
