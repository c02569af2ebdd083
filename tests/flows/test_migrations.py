"""The tables of a new Prefect server: those that Prefect makes, or none of ours."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from prefect.settings import (
    PREFECT_SERVER_DATABASE_CONNECTION_URL,
    PREFECT_SERVER_DATABASE_MIGRATE_ON_START,
    temporary_settings,
)

from flows import migrations

PREFECTS = (
    "import asyncio; from prefect.server.database import provide_database_interface as p; asyncio.run(p().create_db())"
)
OURS = "import flows.migrations; flows.migrations.make_tables()"


def schema(file: Path) -> dict[tuple[str, str], list[str]]:
    """Each table, index and trigger, and the lines that make it, of which constraints come in any order."""
    with sqlite3.connect(file) as connection:
        found = connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
    return {(kind, name): sorted(line.strip(" \t,") for line in (sql or "").splitlines()) for kind, name, sql in found}


@pytest.mark.e2e
def test_they_are_those_of_prefects_own_migrations(tmp_path: Path) -> None:
    files = [tmp_path / "ours.db", tmp_path / "prefects.db"]

    for file, code in zip(files, (OURS, PREFECTS), strict=True):
        url = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{file}", "PREFECT_HOME": str(tmp_path)}
        done = subprocess.run([sys.executable, "-c", code], env=os.environ | url, capture_output=True, text=True, check=True)
        assert "itself" not in done.stderr

    ours, prefects = (schema(file) for file in files)
    assert ours == prefects
    assert len(ours) > 200  # tables and indexes
    versions = [sqlite3.connect(file).execute("SELECT * FROM alembic_version").fetchall() for file in files]
    assert versions[0] == versions[1] and len(versions[0]) == 1


def test_a_failure_leaves_no_file_and_the_server_to_make_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def half(file: Path) -> None:
        file.write_bytes(b"half of it")
        raise RuntimeError("no such migration")

    monkeypatch.setattr(migrations, "_migrate", half)
    (tmp_path / "prefect.db.draft").write_bytes(b"of a server that was killed")
    make(tmp_path / "prefect.db")

    assert list(tmp_path.iterdir()) == []
    assert "no such migration" in caplog.text


def test_a_database_that_is_there_is_prefects_to_bring_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "_migrate", lambda file: file.write_bytes(b"new"))
    (tmp_path / "old.db").write_bytes(b"old")

    for name in ("old.db", "new.db"):
        make(tmp_path / name)

    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"old.db": b"old", "new.db": b"new"}


def make(file: Path) -> None:
    """As the server that is told to use this file does when it starts."""
    url = f"sqlite+aiosqlite:///{file}"
    with temporary_settings({PREFECT_SERVER_DATABASE_CONNECTION_URL: url, PREFECT_SERVER_DATABASE_MIGRATE_ON_START: True}):
        migrations.make_tables()
