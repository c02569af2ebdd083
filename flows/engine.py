"""What the processes that run flows at a desk have in common: Prefect's engine, imported once for all, and one client."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from prefect.context import SyncClientContext, refresh_global_settings_context
from prefect.logging.configuration import setup_logging
from prefect.settings import get_current_settings

from flows.libraries import LATE
from flows.server import API_URL, UNWATCHED
from tasks import nursery

# A quarter of a CPU second, which each process would spend again, just when servers and training need both cores.
for _name in LATE:
    import_module(_name)

if nursery.stood():
    # Prefect was set up when that nursery began. Flows and tasks take settings when they are made, so before they are.
    refresh_global_settings_context()
    setup_logging(incremental=False)


@contextmanager
def one_client() -> Iterator[None]:
    """One client of Prefect's for all flows of this process, made before there is something to do."""
    if _server_is_ours():
        # A desk's own server runs no automation that would miss a heartbeat, and each flow waits at its end for the thread
        # that sends them, which sleeps for whole seconds. Nor does it have a browser as a client, which tokens are for.
        # In place: Prefect's way makes a copy of all settings, for 0.04 s, and this process is the desk's alone.
        settings = get_current_settings()
        settings.flows.heartbeat_frequency = None
        settings.client.csrf_support_enabled = False
    with SyncClientContext.get_or_create():
        yield


def at_desk(flow: Any) -> Any:
    """Tell a flow where its results would be kept, and give it back.

    Else it asks the server, thrice a run; a desk's own has no place for them.
    """
    results = get_current_settings().results
    if _server_is_ours() and results.default_storage_block is None:
        flow.persist_result = results.persist_by_default
        flow.result_storage = results.local_storage_path
    return flow


def _server_is_ours() -> bool:
    return os.environ.get(UNWATCHED, "none") == os.environ.get(API_URL)
