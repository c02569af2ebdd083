"""Transactions on SQLite come one after the other, and a statement that failed halts nobody."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
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
    """Prefect's own, but SQLite waits for nobody."""
    configuration = AioSqliteConfiguration(connection_url=f"sqlite+aiosqlite:///{file}")
    engine = await configuration.engine()
    sa.event.listen(engine.sync_engine, "connect", lambda made, _: made.cursor().execute("PRAGMA busy_timeout = 0"))
    yield configuration, engine
    await engine.dispose()


def test_whoever_comes_while_another_one_writes_has_its_turn(file: Path) -> None:
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


def test_nobody_writes_between_what_a_transaction_reads_and_what_it_writes(file: Path) -> None:
    """Not those either who begin no transaction, as the server's keeper of events."""

    async def reads_and_writes() -> None:
        async with prefects(file) as (configuration, engine):
            session = await configuration.session(engine)
            async with session, configuration.begin_transaction(session):
                await session.execute(READ)
                with sqlite3.connect(file, timeout=0) as other, pytest.raises(sqlite3.OperationalError, match="locked"):
                    other.execute(str(WRITE))
                await session.execute(WRITE)

    asyncio.run(reads_and_writes())


@pytest.mark.parametrize("begun", [True, False], ids=["a transaction", "a session"])
def test_what_reads_within_a_transaction_does_not_wait_for_its_end(file: Path, begun: bool) -> None:
    """As Prefect does where it tells of a work queue that was paused."""

    async def within() -> int | None:
        async with prefects(file) as (configuration, engine):
            outer, inner = await configuration.session(engine), await configuration.session(engine)
            async with asyncio.timeout(10), outer, inner, configuration.begin_transaction(outer):
                await outer.execute(WRITE)
                async with configuration.begin_transaction(inner) if begun else nullcontext():
                    return (await inner.execute(READ)).scalar()

    assert asyncio.run(within()) == 0


def test_a_cursor_that_failed_is_freed_while_its_connection_waits(file: Path) -> None:
    """As in the server: the loop must be there for who holds the lock of the database, while others wait for it."""

    async def wait_and_write() -> int | None:
        engine = create_async_engine(f"sqlite+aiosqlite:///{file}")
        async with AsyncSession(engine) as holder, engine.connect() as waiter:
            await holder.execute(WRITE)
            await waiter.exec_driver_sql("PRAGMA busy_timeout = 0")
            await refused(waiter)
            await waiter.exec_driver_sql("PRAGMA busy_timeout = 10000")
            waiting = asyncio.create_task(waiter.execute(WRITE))
            await asyncio.sleep(0.5)
            gc.collect()
            await holder.commit()
            await waiting
            found: int | None = (await waiter.execute(READ)).scalar()
        await engine.dispose()
        return found

    async def refused(connection: AsyncConnection) -> None:
        """A failure that only the garbage collector frees, for it belongs to a cycle."""
        try:
            await connection.execute(WRITE)
        except OperationalError as error:
            kept: list[object] = [error]
            kept.append(kept)

    assert asyncio.run(wait_and_write()) == 2
