"""The parts of a local production: how each is started, what it waits for, how it is stopped. In the order of their start.

The embedded store is no part: it belongs to all programs of this user (`tasks.shared_server`), and the supervisor is one of
those that hold it.
"""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from flows.libraries import LATE
from flows.production import databases
from flows.production.plan import OFF, Plan, folder
from tasks.nursery import ADDRESS, standing_command
from tasks.shared_server import MARK

ROOT = Path(__file__).resolve().parents[2]
POOL = "roundtrip"
WORKER = "local"
# Prefect's own 10 and 30 seconds are for thousands of runs; here an event's run would wait for them.
_SWIFT_WORKER = {"PREFECT_WORKER_QUERY_SECONDS": "2"}
_SWIFT_SERVER = {"PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "5"}
# What a run imports before it comes to us, or later: all that costs.
LIBRARIES = (
    "tensorflow", "h5py", "prefect", "prefect.artifacts", "prefect.futures", "prefect.deployments", "boto3", "platformdirs",
    *LATE,
)  # fmt: skip
NO_MORE_RUNS = signal.SIGUSR1  # to the supervisor: end the worker, which is the last part, and keep the others
# Of Prefect's own, these would point the parts somewhere else than at one another.
_FOREIGN = ("PREFECT_API_", "PREFECT_PROFILE", "PREFECT_HOME", "PREFECT_UI_", "PREFECT__", "PREFECT_CLOUD_")


@dataclass(frozen=True, slots=True)
class Part:
    """One process of the production.

    Attributes:
        needs: Parts that must answer before this one is started.
        stop: The signal that ends it in order.
        grace: Seconds that it has for that.
        user: Who it runs as, where that is not us.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    needs: tuple[str, ...] = ()
    stop: signal.Signals = signal.SIGTERM
    grace: float = 15.0
    user: str | None = None


def parts_of(plan: Plan, inherited: Mapping[str, str]) -> list[Part]:
    """The parts of this plan; `inherited` is the environment of `up`, which holds the user's own settings."""
    clean = without_foreign(inherited)
    found = []
    if plan.postgres and plan.postgres.port:
        command = databases.postgres_command(folder() / "postgres", plan.postgres.port)
        # Its orderly end waits for nobody: SIGINT is what it calls a fast shutdown.
        found.append(Part("postgres", command, clean, stop=signal.SIGINT, user=databases.other_user()))
    if plan.redis and plan.redis.port:
        found.append(Part("redis", (databases.redis_program(), str(folder() / "redis" / "redis.conf")), clean))
    needs = tuple(part.name for part in found)
    # What `prefect server start` runs in the end, as at a desk, but with UI and services.
    uvicorn = (
        sys.executable, "-m", "uvicorn", "--app-dir", str(ROOT), "--factory", "flows.server_app:create_app",
        "--host", "127.0.0.1", "--port", str(plan.port), "--log-level", "warning", "--lifespan", "on",
        "--timeout-graceful-shutdown", "2",
    )  # fmt: skip
    server = _SWIFT_SERVER | clean | _server_environment(plan)
    if plan.redis:
        only = server | {"PREFECT__SERVER_WEBSERVER_ONLY": "1"}
        command = _several(uvicorn, plan) if plan.api_servers > 1 else uvicorn
        found.append(Part("server", command, only, needs))
        services = (sys.executable, "-m", "prefect", "server", "services", "start")
        found.append(Part("services", services, server, ("server",), signal.SIGINT))
    else:
        found.append(Part("server", uvicorn, server, needs))
    if sys.platform == "linux" and clean.get(ADDRESS) != OFF:
        command, defaults = standing_command(nursery_address(), *LIBRARIES)
        clean |= {ADDRESS: str(nursery_address())}
        # At once: the server, for whose start everybody waits, takes one processor.
        found.append(Part("nursery", command, defaults | clean | client_environment(plan)))
    worker = (sys.executable, "-m", "flows.production.worker")
    here = _SWIFT_WORKER | clean | client_environment(plan) | {MARK: str(folder())}
    found.append(Part("worker", worker, here, ("server",)))
    return found


def nursery_address() -> Path:
    """The socket of the nursery that serves the runs of the worker, and the jobs at a desk that use this production."""
    return folder() / "nursery.sock"


def _several(uvicorn: tuple[str, ...], plan: Plan) -> tuple[str, ...]:
    """Several processes at one port; tables and blocks are made before by one alone."""
    # It kills a process that does not answer within 5 s by default, which on a busy machine is a healthy one too.
    several = (*uvicorn, "--workers", str(plan.api_servers), "--timeout-worker-healthcheck", "20")
    if _database_is_made(plan):
        return several
    return ("sh", "-c", f"{shlex.join((sys.executable, '-m', 'flows.server_app'))} && exec {shlex.join(several)}")


def without_foreign(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment without what would point Prefect somewhere else."""
    return {name: value for name, value in environment.items() if not name.startswith(_FOREIGN)}


def client_environment(plan: Plan) -> dict[str, str]:
    """How the worker, the flows and our own helpers reach the server."""
    return {
        "PREFECT_HOME": str(folder() / "prefect"),
        "PREFECT_API_URL": plan.api,
        "PREFECT_API_AUTH_STRING": plan.login,
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",
        # What the server says while PostgreSQL starts again, and what Prefect's client would take for final.
        "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500",
        "DO_NOT_TRACK": "1",
    }


def remember_database(plan: Plan) -> None:
    """A server of this version of Prefect came up on its database: tables and blocks are there."""
    database = _own_database(plan)
    if database:
        (database.parent / "made-by").write_text(version("prefect"))


def _database_is_made(plan: Plan) -> bool:
    database = _own_database(plan)
    if database is None or not database.exists():
        return False
    made = database.parent / "made-by"
    return made.exists() and made.read_text() == version("prefect")


def _own_database(plan: Plan) -> Path | None:
    """Where the database lies, unless it is somebody else's, who may empty it."""
    if plan.postgres is None:
        return folder() / "prefect" / "prefect.db"
    return folder() / "postgres" / "data" if plan.postgres.port else None


def _server_environment(plan: Plan) -> dict[str, str]:
    home = folder() / "prefect"
    unmade = str(plan.api_servers == 1 and not _database_is_made(plan))  # `_several` does it before
    environment = {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": plan.postgres.url
        if plan.postgres
        else f"sqlite+aiosqlite:///{_own_database(plan)}",
        "PREFECT_SERVER_DATABASE_MIGRATE_ON_START": unmade,
        "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": unmade,
        "PREFECT_SERVER_MEMOIZE_BLOCK_AUTO_REGISTRATION": "false",  # else it imports all integrations, to find no new block
        "PREFECT_SERVER_API_AUTH_STRING": plan.login,
        # On disk: a server that is restarted must not forget who holds which slot, for their runs would be ended.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(home / "ui"),
        "PREFECT__SERVER_FINAL": "1",
        "DO_NOT_TRACK": "1",
    }
    if plan.redis:
        environment |= {
            "PREFECT_SERVER_EVENTS_MESSAGING_BROKER": "prefect_redis.messaging",
            "PREFECT_SERVER_EVENTS_MESSAGING_CACHE": "prefect_redis.messaging",
            "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING": "prefect_redis.ordering",
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect_redis.lease_storage",
            "PREFECT_REDIS_MESSAGING_URL": plan.redis.url,
            "PREFECT_SERVER_DOCKET_URL": plan.redis.url,
        }
    return environment
