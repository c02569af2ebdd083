"""Transactions on SQLite come one after the other, and a statement that failed halts nobody."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiosqlite
import pytest
import sqlalchemy as sa
from prefect.server.database.configurations import AioSqliteConfiguration
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine

from flows.turns import take_turns

READ, WRITE = sa.text("SELECT count(*) FROM t"), sa.text("INSERT INTO t VALUES (1)")


@pytest.fixture(autouse=True)
def turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Taken by the test alone."""
    monkeypatch.setattr(AioSqliteConfiguration, "begin_transaction", AioSqliteConfiguration.begin_transaction)
    monkeypatch.setattr(aiosqlite.Cursor, "_execute", aiosqlite.Cursor._execute)
    take_turns()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "prefect.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE t (x)")
        database.execute("PRAGMA journal_mode = WAL")
    return path


@asynccontextmanager
async def prefects(file: Path) -> AsyncIterator[tuple[AioSqliteConfiguration, AsyncEngine]]:
    configuration = AioSqliteConfiguration(connection_url=f"sqlite+aiosqlite:///{file}")
    engine = await configuration.engine()
    yield configuration, engine
    await engine.dispose()


def test_whoever_reads_before_another_one_writes_can_still_write(file: Path) -> None:
    seen = []

    async def writes(configuration: AioSqliteConfiguration, engine: AsyncEngine) -> None:
        session = await configuration.session(engine)
        async with session, configuration.begin_transaction(session):
            seen.append((await session.execute(READ)).scalar())
            await asyncio.sleep(0.05)
            await session.execute(WRITE)

    async def all_at_once() -> None:
        async with prefects(file) as (configuration, engine):
            await asyncio.gather(*(writes(configuration, engine) for _ in range(5)))

    asyncio.run(all_at_once())
    assert seen == [0, 1, 2, 3, 4]


def test_a_transaction_within_another_one_does_not_wait_for_its_end(file: Path) -> None:
    async def within() -> int | None:
        async with prefects(file) as (configuration, engine):
            outer, inner = await configuration.session(engine), await configuration.session(engine)
            async with asyncio.timeout(10), outer, inner, configuration.begin_transaction(outer):
                await outer.execute(READ)
                async with configuration.begin_transaction(inner):
                    return (await inner.execute(READ)).scalar()

    assert asyncio.run(within()) == 0


def test_a_cursor_that_failed_is_freed_while_its_connection_waits(file: Path) -> None:
    """As in the server: the loop must be there for who holds the lock of the database, while others wait for it."""

    async def freed_meanwhile() -> bool:
        engine = create_async_engine(f"sqlite+aiosqlite:///{file}", connect_args={"timeout": 10})
        async with AsyncSession(engine) as holder, engine.connect() as waiter:
            await holder.execute(WRITE)
            await waiter.exec_driver_sql("PRAGMA busy_timeout = 0")
            await refused(waiter)
            await waiter.exec_driver_sql("PRAGMA busy_timeout = 10000")
            waiting = asyncio.create_task(waiter.execute(WRITE))
            await asyncio.sleep(0.5)
            gc.collect()
            in_time = not waiting.done()
            await holder.commit()
            await waiting
        await engine.dispose()
        return in_time

    async def refused(connection: AsyncConnection) -> None:
        """A failure that only the garbage collector frees, for it belongs to a cycle."""
        try:
            await connection.execute(WRITE)
        except OperationalError as error:
            kept: list[object] = [error]
            kept.append(kept)

    assert asyncio.run(freed_meanwhile())
