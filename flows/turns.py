"""Prefect's transactions on SQLite one after the other, in the order in which they come.

Prefect begins them all as readers. Who wants to write after another one has written is then refused, however long it would
wait (https://www.sqlite.org/isolation.html): a request is answered 503, upon which Prefect's client sleeps for two seconds;
an event is looked at again, starts its run twice, or is given up after five times.

What is refused can also halt the server, for the 60 s that Prefect has SQLite wait. SQLAlchemy leaves a cursor open that
failed. Where the garbage collector frees it in the thread of the event loop, it wants the mutex of its connection; a thread
has that, which waits for the lock of the database; who holds that lock waits for the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiosqlite
from prefect.server.database.configurations import SQLITE_BEGIN_MODE, AioSqliteConfiguration
from sqlalchemy.ext.asyncio import AsyncSession, AsyncSessionTransaction


def take_turns() -> None:
    """Have Prefect's server in this process do so. On PostgreSQL it changes nothing.

    Who waits for a turn holds none of the few connections meanwhile, and comes in its order: SQLite's own waiting is asking
    again and again, and whoever asks in the right moment is next.
    """
    turn = asyncio.Lock()
    begin = AioSqliteConfiguration.begin_transaction

    @asynccontextmanager
    async def begin_in_turn(
        self: AioSqliteConfiguration, session: AsyncSession, with_for_update: bool = False
    ) -> AsyncIterator[AsyncSessionTransaction]:
        if SQLITE_BEGIN_MODE.get() is not None:  # within another one, which would wait for it for ever
            async with begin(self, session, with_for_update) as transaction:
                yield transaction
            return
        async with turn, begin(self, session, with_for_update=True) as transaction:
            await session.connection()  # Prefect begins with the first statement; the mode is for this session alone
            token = SQLITE_BEGIN_MODE.set("DEFERRED")
            try:
                yield transaction
            finally:
                SQLITE_BEGIN_MODE.reset(token)

    AioSqliteConfiguration.begin_transaction = begin_in_turn  # type: ignore[method-assign]
    aiosqlite.Cursor._execute = _execute  # type: ignore[method-assign]


async def _execute(self: aiosqlite.Cursor, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What aiosqlite has every cursor do in the thread of its connection, and closed there where it fails."""

    def execute() -> Any:
        try:
            return fn(*args, **kwargs)
        except BaseException:
            self._cursor.close()
            raise

    return await self._conn._execute(execute)  # type: ignore[no-untyped-call]
