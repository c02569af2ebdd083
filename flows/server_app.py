"""What uvicorn serves: Prefect's own application, by imports that take a fifth less time.

Run as a program it makes tables and blocks and ends: where several processes serve, all would make them at once, fail on
one another's, and take the server with them.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
from typing import Any

from flows.migrations import make_tables
from tasks.children import quick_imports
from tasks.nursery import die_with_parent

with quick_imports():
    from prefect.server.api import server
    from prefect.settings import Settings

    from flows.turns import take_turns


def create_app() -> Any:
    """Prefect's API as an ASGI application."""
    manager = multiprocessing.parent_process()
    if manager:  # one of uvicorn's several: it must not outlive the one that owns the port
        die_with_parent()
        if os.getppid() != manager.pid:
            sys.exit("The process that started this one is gone already.")
    # By this key Prefect finds an application that was made before. It takes all settings there are, twice for this one and
    # again for each of the server's own clients: 0.08 s each time.
    Settings.hash_key = lambda self: "the only one"  # type: ignore[method-assign]
    with quick_imports():
        make_tables()
        take_turns()
        return server.create_app()


async def make_database() -> None:
    """What Prefect's server does with its database when it starts."""
    from prefect.server.database import provide_database_interface
    from prefect.server.models.block_registration import run_block_auto_registration

    make_tables()
    database = provide_database_interface()
    await database.create_db()
    async with await database.session() as session:
        await run_block_auto_registration(session=session)


if __name__ == "__main__":
    die_with_parent()
    asyncio.run(make_database())
