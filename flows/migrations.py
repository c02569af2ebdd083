"""The tables of a new server, in two fifths of the time: Prefect's own migrations, over SQLite's own driver.

Prefect runs its migrations, a hundred and more, through an asynchronous driver: each of 8,700 statements goes to another
thread and back. That took 9 s, for which the first command on a machine waited. Here the same migrations run in the same
order without it. Prefect then looks, as ever, for those that are missing, and finds none.
"""

from __future__ import annotations

import logging
import os
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


def make_tables() -> None:
    """Make the database that this process' settings name, where it is one of SQLite that is not there yet.

    It appears when it is whole. Where it can't be made so, the server makes it itself, as it would have.
    """
    from prefect.settings import get_current_settings
    from sqlalchemy.engine import make_url

    settings = get_current_settings().server.database
    url = make_url(settings.connection_url.get_secret_value()) if settings.connection_url else None
    if not settings.migrate_on_start or url is None or url.get_backend_name() != "sqlite":
        return
    file = Path(url.database or ":memory:")
    if file.name == ":memory:" or file.exists():
        return
    draft = file.with_name(f"{file.name}.draft")
    draft.unlink(missing_ok=True)  # of a server that was killed
    try:
        _migrate(draft)
        with draft.open("rb") as written:
            os.fsync(written.fileno())
        draft.rename(file)
    except Exception as error:  # whatever it is, Prefect's own way is left
        log.warning("Prefect makes its tables itself, for the quick way failed: %s", error)
    finally:
        draft.unlink(missing_ok=True)


def _migrate(file: Path) -> None:
    """What `prefect server database upgrade` does (prefect/server/database/_migrations/env.py)."""
    import sqlalchemy as sa
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory
    from prefect.server.database import provide_database_interface
    from prefect.server.database.alembic_commands import alembic_config

    database = provide_database_interface()
    config = alembic_config()
    script = ScriptDirectory.from_config(config)
    script.version_locations = [str(database.orm.versions_dir)]
    # Nobody reads the draft of a process that died: it needs no journal, and the disk need not have each transaction.
    engine = sa.create_engine(f"sqlite:///{file}", poolclass=sa.pool.NullPool)
    sa.event.listen(engine, "connect", _without_journal)
    sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))

    def upgrade(revision: Any, _: Any) -> Any:
        return script._upgrade_revs("head", revision)

    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        context = stack.enter_context(EnvironmentContext(config, script, fn=upgrade))
        connection = stack.enter_context(engine.connect())
        warnings.filterwarnings("ignore", "Skipped unsupported reflection of expression-based index", sa.exc.SAWarning)
        context.configure(
            connection=connection,
            target_metadata=database.Base.metadata,
            render_as_batch=True,
            transaction_per_migration=True,
        )
        with context.begin_transaction():
            context.run_migrations()


def _without_journal(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # SQLAlchemy begins and ends transactions, not the driver
    for pragma in ("journal_mode = OFF", "synchronous = OFF", "foreign_keys = OFF"):
        connection.execute(f"PRAGMA {pragma}")
