"""What uvicorn serves: Prefect's own application, imported without garbage collection, which takes a fifth off its start."""

from __future__ import annotations

import multiprocessing
from typing import Any

from tasks.children import quick_imports
from tasks.nursery import die_with_parent

with quick_imports():
    from prefect.server.api import server


def create_app() -> Any:
    """Prefect's API as an ASGI application."""
    if multiprocessing.parent_process():  # one of uvicorn's several: it must not outlive the one that owns the port
        die_with_parent()
    with quick_imports():
        return server.create_app()
