"""Find the supervisor, start it, end it; and let programs at a desk use what it runs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flows.production.parts import NO_MORE_RUNS, ROOT, nursery_address
from flows.production.plan import Plan, folder, logs_folder
from tasks.errors import UnreachableError
from tasks.nursery import ADDRESS
from tasks.settings import STORE_VARIABLE
from tasks.shared_server import MARK, is_free

_START_SECONDS = 60.0
_PAUSE = 0.1


def running() -> int | None:
    """The supervisor's process id, where it lives; believed only while it holds its lock."""
    lock = folder() / "supervisor.lock"
    if not lock.exists() or is_free(lock):
        return None
    # Written by whoever holds the lock, right after it was taken.
    deadline = time.monotonic() + _START_SECONDS
    while not (said := lock.read_text()).endswith("\n"):
        if is_free(lock) or time.monotonic() > deadline:
            return None
        time.sleep(_PAUSE)
    return int(said)


def state() -> dict[str, Any]:
    """What the supervisor says of its parts: `{part: {"pid", "since", "restarts", "ended"}}`; empty where there is none."""
    if running() is None:
        return {}
    try:
        document: dict[str, Any] = json.loads((folder() / "state.json").read_text())
    except FileNotFoundError:
        return {}
    return document


def start(*, detached: bool) -> subprocess.Popen[bytes]:
    """Start the supervisor of the kept plan; returns when it has its lock.

    Args:
        detached: Whether it outlives this process and its terminal.

    Raises:
        UnreachableError: It ended at once; with its last words.
    """
    log = logs_folder() / "supervisor.log"
    with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.production.supervisor"],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # Ctrl-C and the end of a terminal are for us; we tell it what to do.
            start_new_session=True,
            env=os.environ | ({} if detached else {"ROUNDTRIP_UP_PARENT": str(os.getpid())}),
        )
    deadline = time.monotonic() + _START_SECONDS
    while running() != process.pid:
        if process.poll() is not None or time.monotonic() > deadline:
            last = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
            raise UnreachableError(f"The supervisor did not start. Its last words, from {log}:\n{last}")
        time.sleep(_PAUSE)
    return process


def stop(seconds: float) -> bool:
    """End the supervisor and all parts, in order where `seconds` are enough. Returns whether they were."""
    lock = folder() / "supervisor.lock"
    pid = running()
    if pid is None:
        return True
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while not is_free(lock):
        if time.monotonic() > deadline:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)  # the kernel takes its parts with it
            while not is_free(lock):
                time.sleep(_PAUSE)
            return False
        time.sleep(_PAUSE)
    return True


def stop_worker(seconds: float) -> None:
    """End the worker alone; the server stays for what has to be told to it."""
    pid = running()
    deadline = time.monotonic() + seconds
    while pid is not None and state().get("worker", {}).get("pid") is not None and time.monotonic() < deadline:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, NO_MORE_RUNS)
        time.sleep(_PAUSE)


def kill_what_is_left() -> int:
    """Kill flow processes that outlived their worker; found by the mark in their environment. Returns their number."""
    mark, killed = f"{MARK}={folder()}".encode(), 0
    for process, environment in _environments():
        if mark in environment:
            with contextlib.suppress(OSError):
                os.kill(process, signal.SIGKILL)
                killed += 1
    return killed


def runs_with_a_process() -> set[str]:
    """Ids of the flow runs that a process on this machine carries, whoever started it."""
    variable = b"PREFECT__FLOW_RUN_ID="
    found = (line for _, environment in _environments() for line in environment if line.startswith(variable))
    return {line.removeprefix(variable).decode() for line in found}


def _environments() -> Iterator[tuple[int, list[bytes]]]:
    """The processes that live and that we may look at, with the lines of their environments."""
    for place in Path("/proc").glob("[0-9]*"):  # nothing elsewhere than on Linux
        with contextlib.suppress(OSError):
            if (place / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
                yield int(place.name), (place / "environ").read_bytes().split(b"\0")


def adopt() -> str | None:
    """Let this process and its children use the server that `up` runs, and its nursery; returns the API's address.

    None where `up` does not run, or where it works on another store than this process: its events would be about
    versions that nobody finds.
    """
    if running() is None:
        return None
    plan = Plan.load()
    if plan is None or plan.store != os.environ.get(STORE_VARIABLE, ""):
        return None
    os.environ["PREFECT_API_URL"] = plan.api
    os.environ["PREFECT_API_AUTH_STRING"] = plan.login
    os.environ.setdefault(ADDRESS, str(nursery_address()))
    return plan.api
