"""A server that the programs of this user share: it starts with the first of them and stops with the last.

Two lock files in the server's folder carry the whole protocol, because the kernel releases a lock however its holder died:

- `users.lock`: every program that uses the server holds it *shared*;
- `server.lock`: the watcher, a small process beside the server, holds it *exclusively* as long as it lives.

The watcher starts the server and then waits for `users.lock` exclusively: it gets it the moment nobody uses the server any
more, and stops it. A program that was killed with SIGKILL therefore stops its servers like any other. A program that comes
while the watcher is stopping waits for that, then starts anew.

This module runs on its own as the watcher (`python shared_server.py FOLDER`) with nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_STOP_SECONDS = 8.0
_GRPC_OFFSET = 10_000  # where SeaweedFS puts the gRPC port of each HTTP port
# In the environment of what a worker of `flows.production` starts, so that it can be ended with it; of no shared server.
MARK = "ROUNDTRIP_UP"


def free_ports(count: int) -> list[int]:
    """Ports on 127.0.0.1 that nobody listens on now, `count` of them, with the port 10,000 above each free too."""
    ports: list[int] = []
    with contextlib.ExitStack() as held:
        while len(ports) < count:
            listener = held.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
            if port < 2**16 - _GRPC_OFFSET and port - _GRPC_OFFSET not in ports and port_is_free(port + _GRPC_OFFSET):
                ports.append(port)
    return ports


def ports_are_free(ports: list[int]) -> bool:
    """Whether a server could listen on each of these ports of 127.0.0.1 now, and 10,000 above it."""
    return all(port_is_free(number) for port in ports for number in (port, port + _GRPC_OFFSET))


def port_is_free(port: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1 now."""
    with socket.socket() as probe:
        # What a server that was killed a moment ago leaves behind is no reason: servers bind like this.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class SharedServer:
    """This program's hold on a shared server; `state` is what the starter wrote down for all users.

    `recipe(folder)` is called only by the program that starts the server. It prepares the folder and returns
    `{"command": [...], "env": {...}, "state": {...}, "stop": "SIGTERM", "socket": 7}`; the file that keeps it is for the
    owner's eyes alone. `socket` is a descriptor, of a port that is held from now on: the server gets it under that number.
    """

    def __init__(self, folder: Path, recipe: Callable[[Path], dict[str, Any]]) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._users = os.open(folder / "users.lock", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._users, fcntl.LOCK_SH)
        try:
            self.state: dict[str, Any] = self._join_or_start(recipe)
        except BaseException:
            os.close(self._users)
            raise

    def alive(self) -> bool:
        """Whether the watcher, and so the server, still runs."""
        return not is_free(self._folder / "server.lock")

    def log_tail(self, lines: int = 3) -> str:
        """The last words of the server, for an error message."""
        log = self._folder / "server.log"
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else ""

    def close(self) -> None:
        """Let go of the server; where this was its last user, done when the server is gone and its ports are free."""
        if self._users < 0:
            return
        fcntl.flock(self._users, fcntl.LOCK_UN)
        deadline = time.monotonic() + _STOP_SECONDS + 2
        while self.alive() and time.monotonic() < deadline:
            try:
                # Nobody can share the lock while the watcher has it to itself, which means that it is stopping.
                fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if self._others_hold():
                    break
            else:
                fcntl.flock(self._users, fcntl.LOCK_UN)
            time.sleep(0.005)
        os.close(self._users)
        self._users = -1

    def _others_hold(self) -> bool:
        try:
            fcntl.flock(self._users, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        fcntl.flock(self._users, fcntl.LOCK_UN)
        return True

    def _join_or_start(self, recipe: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
        with locked(self._folder / "start.lock"):
            if is_free(self._folder / "server.lock"):
                plan = recipe(self._folder)
                path = self._folder / "server.json"
                path.unlink(missing_ok=True)
                with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                    json.dump(plan, file)
                subprocess.Popen(
                    [sys.executable, "-I", "-S", __file__, str(self._folder)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                    cwd="/",
                    env={name: value for name, value in os.environ.items() if name != MARK},
                    pass_fds=_socket_of(plan),
                )
                for descriptor in _socket_of(plan):
                    os.close(descriptor)  # the port is the server's, and free when that has ended
                self._await_watcher()
            state: dict[str, Any] = json.loads((self._folder / "server.json").read_text())["state"]
            return state

    def _await_watcher(self) -> None:
        deadline = time.monotonic() + 30
        while not self.alive():
            if time.monotonic() > deadline:
                raise RuntimeError(f"The watcher of the server in {self._folder} did not start within 30 seconds.")
            time.sleep(0.005)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file exclusively, after whoever holds it now."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def is_free(lock: Path) -> bool:
    """Whether nobody holds a lock file exclusively."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)


def _socket_of(plan: dict[str, Any]) -> tuple[int, ...]:
    return (plan["socket"],) if "socket" in plan else ()


def _watch(folder: Path) -> None:
    """The watcher: hold `server.lock`, run the server, stop it when nobody holds `users.lock`."""
    import ctypes  # only the watcher needs it
    import threading

    # Whoever waits for `users.lock` must find that there is no server: so `server.lock` goes first. That is also the order
    # in which the kernel closes what a killed process held, the youngest first.
    users = os.open(folder / "users.lock", os.O_RDWR | os.O_CREAT, 0o600)
    own = os.open(folder / "server.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(own, fcntl.LOCK_EX)  # a reader that tests the lock holds it for an instant
    plan = json.loads((folder / "server.json").read_text())
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            plan["command"],
            env={**os.environ, **plan["env"]},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=_socket_of(plan),
            preexec_fn=lambda: ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0),
        )

    for descriptor in _socket_of(plan):
        os.close(descriptor)

    def unused() -> None:
        fcntl.flock(users, fcntl.LOCK_EX)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.Signals[plan.get("stop", "SIGTERM")])
        try:
            server.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)

    threading.Thread(target=unused, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    server.wait()  # crashed, or stopped by `unused`
    os.close(own)
    os._exit(0)


if __name__ == "__main__":
    _watch(Path(sys.argv[1]))
