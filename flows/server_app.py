"""What uvicorn serves: Prefect's own application, imported without garbage collection, which takes a fifth off its start."""

from __future__ import annotations

from typing import Any

from tasks.children import quick_imports

with quick_imports():
    from prefect.server.api import server


def create_app() -> Any:
    """Prefect's API as an ASGI application."""
    with quick_imports():
        return server.create_app()
