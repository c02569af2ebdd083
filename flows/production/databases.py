"""PostgreSQL and Redis where `up` runs them itself, from the installed programs (Debian: `postgresql`, `redis-server`)."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

from flows.production.plan import USER, Database
from tasks.errors import InputError, UnreachableError

_DEBIAN = "/usr/lib/postgresql"
_SECONDS = 120
# Who runs PostgreSQL where we are root: it refuses to be root itself.
_POSTGRES_USER = "postgres"


def postgres_program(name: str) -> str:
    """The newest installed program of PostgreSQL.

    Raises:
        InputError: There is none.
    """
    found = shutil.which(name)
    installed = sorted(Path(_DEBIAN).glob(f"*/bin/{name}"), key=lambda p: float(p.parts[-3]))
    if found is None and not installed:
        raise InputError(f"--postgres start needs PostgreSQL's server, and there is no {name} in PATH or {_DEBIAN}/*/bin. "
                         "Install it (Debian: `apt-get install postgresql`), or give the URL of another.")  # fmt: skip
    # `initdb` is in PATH where somebody put it there: that is the version that they want.
    return found or str(installed[-1])


def redis_program() -> str:
    """The installed Redis server.

    Raises:
        InputError: There is none.
    """
    found = shutil.which("redis-server")
    if found is None:
        raise InputError("--redis start needs the program redis-server, and there is none in PATH. "
                         "Install it (Debian: `apt-get install redis-server`), or give the URL of another.")  # fmt: skip
    return found


def other_user() -> str | None:
    """The user that runs PostgreSQL, where it is not the one that runs us.

    Raises:
        InputError: We are root and there is no such user.
    """
    if os.geteuid() != 0:
        return None
    try:
        pwd.getpwnam(_POSTGRES_USER)
    except KeyError:
        raise InputError(
            f"PostgreSQL refuses to run as root, and there is no user {_POSTGRES_USER}. Run `up` as an ordinary user."
        ) from None
    return _POSTGRES_USER


def prepare_postgres(folder: Path, database: Database) -> None:
    """Make the cluster with its one user and Prefect's empty database, where it is not there yet.

    Raises:
        InputError: PostgreSQL is not installed, or its user can't reach the folder.
        UnreachableError: It can't be made; with what PostgreSQL says.
    """
    initdb = postgres_program("initdb")
    user = other_user()
    folder.mkdir(mode=0o700, exist_ok=True)
    if user:
        shutil.chown(folder, user)
        _open_the_way(folder, user)
    if (folder / "data" / "PG_VERSION").exists():
        return
    made = folder / "making"
    shutil.rmtree(made, ignore_errors=True)  # of an attempt that was interrupted
    with tempfile.NamedTemporaryFile("w", dir=folder) as password:
        password.write(database.password)
        password.flush()
        if user:
            shutil.chown(password.name, user)
        command = [initdb, "-D", str(made), "-U", USER, "-A", "scram-sha-256", f"--pwfile={password.name}",
                   "--no-locale", "--encoding=UTF8"]  # fmt: skip
        done = subprocess.run(command, user=user, cwd="/", capture_output=True, text=True, check=False, timeout=_SECONDS)
    if done.returncode == 0:
        # Without a server: whoever waits for PostgreSQL finds the database there.
        single = [postgres_program("postgres"), "--single", "-D", str(made), "postgres"]
        done = subprocess.run(
            single, input="create database prefect\n", user=user, cwd="/",
            capture_output=True, text=True, check=False, timeout=_SECONDS,
        )  # fmt: skip
    if done.returncode:
        raise UnreachableError(f"PostgreSQL's database can't be made in {made}:\n{done.stderr.strip()}")
    made.rename(folder / "data")


def postgres_command(folder: Path, port: int) -> tuple[str, ...]:
    """PostgreSQL on loopback alone, with no socket in the file system."""
    return (
        postgres_program("postgres"), "-D", str(folder / "data"), "-p", str(port),
        "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "max_connections=200",
    )  # fmt: skip


def prepare_redis(folder: Path, database: Database) -> None:
    """Write Redis' configuration: on loopback alone, with a password, every message on disk within a second."""
    redis_program()
    folder.mkdir(mode=0o700, exist_ok=True)
    lines = ["bind 127.0.0.1", f"port {database.port}", f"requirepass {database.password}", f"dir {folder}",
             "appendonly yes", "daemonize no", "protected-mode yes"]  # fmt: skip
    path = folder / "redis.conf"
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write("\n".join(lines) + "\n")


def _open_the_way(folder: Path, user: str) -> None:
    """Let PostgreSQL's user pass through our own two folders, which root made for itself alone; not into them."""
    for ours in (folder.parent, folder.parent.parent):
        ours.chmod(ours.stat().st_mode | 0o011)
    blocked = [place for place in folder.parents if not place.stat().st_mode & 0o001]
    if blocked:
        raise InputError(
            f"PostgreSQL refuses to run as root, and the user {user} can't pass through {blocked[-1]}. Run `up` as an "
            "ordinary user, or set XDG_DATA_HOME to a folder that all can pass through, such as /var/lib."
        )
