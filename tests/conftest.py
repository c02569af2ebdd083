"""One real embedded S3 server for the session, in folders of its own; every test gets its own prefix in it."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before anything of ours is imported: no test touches the user's data, cache, store or Prefect server.
_HOME = Path(tempfile.mkdtemp(prefix="roundtrip-tests-"))
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
os.environ.update(
    XDG_DATA_HOME=str(_HOME / "data"),
    XDG_CACHE_HOME=str(_HOME / "cache"),
    PREFECT_HOME=str(_HOME / "prefect"),
    TF_CPP_MIN_LOG_LEVEL="3",
)
# Who starts pytest in a shell's background starts it deaf to Ctrl-C, and all programs of the tests with it.
signal.signal(signal.SIGINT, signal.default_int_handler)
for _name in ("ROUNDTRIP_STORE", "PREFECT_API_URL", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE"):
    os.environ.pop(_name, None)

from tasks.storage import Store, embedded, open_store  # noqa: E402  # after the environment is set
from tests.own_store import s3_variables  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def lighter_garbage() -> None:
    """Nobody looks for garbage in what is there before a module's tests.

    Every build of a model collects all garbage (Keras' `clear_session`): in 20 ms with an empty heap, in up to two seconds
    with all that the tests import and leave behind.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def home() -> Path:
    """The folder that stands in for the user's home; a child process inherits it by the environment."""
    return _HOME


@pytest.fixture(scope="session")
def s3() -> Iterator[embedded.EmbeddedStore]:
    """The embedded SeaweedFS, running."""
    server = embedded.running()
    yield server
    server.close()


@pytest.fixture
def s3_environment(s3: embedded.EmbeddedStore, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A store of its own for this test, as a user configures one."""
    values = s3_variables(s3.access)
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return values


@pytest.fixture
def store(s3_environment: dict[str, str]) -> Store:
    """A store of its own for this test, opened."""
    return open_store()
