"""What the processes that run flows at a desk have in common: Prefect's engine, imported once for all, and one client."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module

from prefect.context import SyncClientContext
from prefect.settings import temporary_settings

from flows.server import API_URL, UNWATCHED

# What Prefect imports when the first flow runs, and we when a store is opened: a quarter of a CPU second, which each process
# would spend again, just when servers and training need both cores.
_LATE = (
    "anyio._backends._asyncio", "boto3.s3.inject", "botocore.retries.standard", "fastapi.encoders", "obstore.store",
    "prefect.engine", "prefect.flow_engine", "prefect.task_engine", "prefect.utilities.visualization",
)  # fmt: skip

for _name in _LATE:
    import_module(_name)


@contextmanager
def one_client() -> Iterator[None]:
    """One client of Prefect's for all flows of this process, made before there is something to do."""
    with ExitStack() as around:
        if os.environ.get(UNWATCHED, "none") == os.environ.get(API_URL):
            # A desk's own server runs no automation that would miss a heartbeat, and each flow waits at its end for the
            # thread that sends them, which sleeps for whole seconds. Nor does it have a browser as a client, which tokens
            # are for.
            around.enter_context(
                temporary_settings({"flows.heartbeat_frequency": None, "client.csrf_support_enabled": False})
            )
        around.enter_context(SyncClientContext.get_or_create())
        yield
