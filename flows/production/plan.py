"""What the local production is made of: decided by `up`, kept in a file for the next `up`, read by all others."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from tasks.errors import InputError
from tasks.folders import data_folder
from tasks.settings import STORE_VARIABLE
from tasks.shared_server import free_ports, port_is_free

USER = "roundtrip"
DEFAULT_PORT = 4200  # Prefect's own
START, OFF = "start", "off"
_POSTGRES = ("postgresql", "postgres", "postgresql+asyncpg")  # the last is what Prefect takes
_REDIS = ("redis", "rediss")


@dataclass(frozen=True, slots=True, repr=False)
class Database:
    """A PostgreSQL or a Redis. Has no repr: its URL holds a password.

    Attributes:
        url: As Prefect takes it.
        port: Where we run it ourselves; None where somebody else does.
        password: Of the one that we run.
    """

    url: str
    port: int | None = None
    password: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class Plan:
    """What `up` decided. Has no repr: it holds a password.

    Attributes:
        port: Of the server and its UI, on 127.0.0.1.
        password: Of the user `roundtrip`.
        store: `s3://bucket/prefix`, as ROUNDTRIP_STORE said; empty for the embedded one.
        postgres: In place of SQLite.
        redis: Between the server and its services, which then are a process of their own.
        api_servers: Processes that answer at the one port.
    """

    port: int
    password: str
    store: str = ""
    postgres: Database | None = None
    redis: Database | None = None
    api_servers: int = 1

    @property
    def ui(self) -> str:
        """The address for a browser."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def api(self) -> str:
        """The address for programs: PREFECT_API_URL."""
        return f"{self.ui}/api"

    @property
    def login(self) -> str:
        """What the UI's login asks for, and PREFECT_API_AUTH_STRING."""
        return f"{USER}:{self.password}"

    def save(self) -> None:
        """Keep it."""
        write_private(folder() / "plan.json", asdict(self))

    @classmethod
    def load(cls) -> Self | None:
        """What was kept, if anything was."""
        try:
            document = json.loads((folder() / "plan.json").read_text())
        except FileNotFoundError:
            return None
        databases = {name: Database(**document[name]) if document[name] else None for name in ("postgres", "redis")}
        return cls(**document | databases)


def folder() -> Path:
    """Where all of it lies."""
    return data_folder() / "up"


def logs_folder() -> Path:
    """Where the parts write their logs."""
    return folder() / "logs"


def decide(
    before: Plan | None,
    port: int | None,
    postgres: str | None,
    redis: str | None,
    environment: Mapping[str, str],
    api_servers: int | None = None,
) -> Plan:
    """A plan for a production that is not running now; what is not asked for stays as it was.

    Args:
        before: The last plan.
        port: Of the UI, or None for the one that it had, or 4200, or any.
        postgres: A URL, `start`, `off`, or None for what it was.
        redis: The same.
        environment: Where ROUNDTRIP_STORE is looked up.
        api_servers: How many, or None for what it was.

    Raises:
        InputError: The port is taken, a URL is none, or what is asked for needs what is not.
    """
    chosen = Plan(
        port=_ui_port(before, port),
        password=before.password if before else secrets.token_urlsafe(24),
        store=environment.get(STORE_VARIABLE, ""),
        postgres=_database("--postgres", before.postgres if before else None, postgres, _POSTGRES, _own_postgres),
        redis=_database("--redis", before.redis if before else None, redis, _REDIS, _own_redis),
        api_servers=api_servers or (before.api_servers if before else 1),
    )
    if chosen.redis and not chosen.postgres:
        raise InputError(
            "--redis puts the server's services into a process of their own, and two processes on SQLite lock each other "
            "out. Add --postgres."
        )
    if chosen.api_servers > 1 and not chosen.redis:
        raise InputError(
            f"--api-servers {chosen.api_servers}: several processes hear of one another's events through Redis alone. Add "
            "--redis, or go back to --api-servers 1."
        )
    return chosen


def write_private(path: Path, document: Mapping[str, Any]) -> None:
    """Replace a JSON file in one moment; it is for the owner's eyes alone."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(document, file)
    temporary.replace(path)


def _ui_port(before: Plan | None, wanted: int | None) -> int:
    if wanted is not None:
        if not port_is_free(wanted):
            raise InputError(f"--port {wanted}: somebody listens there already. Leave --port out for one that is free.")
        return wanted
    remembered = [before.port] if before else []
    return next((port for port in (*remembered, DEFAULT_PORT) if port_is_free(port)), None) or free_ports(1)[0]


def _database(
    option: str, before: Database | None, wanted: str | None, schemes: Sequence[str], own: Callable[[Database], Database]
) -> Database | None:
    """One of the two, as it was, ours, somebody's, or none."""
    ours = before if before and before.port else None
    if wanted is None:
        return own(ours) if ours else before
    if wanted == OFF:
        return None
    if wanted == START:
        return own(ours or Database("", None, secrets.token_urlsafe(24)))
    parts = urlsplit(wanted)
    if parts.scheme not in schemes or not parts.hostname:
        # Not repeated here: it may hold a password.
        raise InputError(f"{option} takes {schemes[0]}://user:password@host:port/..., `start`, or `off`.")
    return Database(wanted.replace(f"{parts.scheme}://", f"{schemes[-1]}://", 1) if option == "--postgres" else wanted)


def _own_postgres(known: Database) -> Database:
    port = _same_or_free(known.port)
    return Database(f"postgresql+asyncpg://{USER}:{known.password}@127.0.0.1:{port}/prefect", port, known.password)


def _own_redis(known: Database) -> Database:
    port = _same_or_free(known.port)
    return Database(f"redis://:{known.password}@127.0.0.1:{port}/0", port, known.password)


def _same_or_free(port: int | None) -> int:
    return port if port and port_is_free(port) else free_ports(1)[0]
