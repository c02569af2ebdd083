"""The supervisor: one process that owns the parts, starts each when what it needs answers, and brings back what dies.

It holds `supervisor.lock` as long as it lives and the embedded store with it. Its parts die with it, whatever kills it: the
next `up` finds nothing of the old ones but what they stored. SIGTERM ends the parts in the reverse order of their start, the
worker first; SIGUSR1 ends the worker alone. `python -m flows.production.supervisor` runs it; the plan must be there.
"""

from __future__ import annotations

import ctypes
import fcntl
import logging
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from flows.production import checks
from flows.production.parts import NO_MORE_RUNS, ROOT, Part, parts_of
from flows.production.plan import Plan, folder, logs_folder, write_private
from tasks.folders import data_folder
from tasks.shared_server import SharedServer

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0  # before a part is started again; doubled each time
_SETTLED = 60.0  # a part that lived so long starts with the shortest pause again
_TICK, _WAITING_TICK = 5.0, 0.25
_LOG_BYTES = 10 * 2**20
_LOCK_ATTEMPTS = 40
_PR_SET_PDEATHSIG = 1

log = logging.getLogger("supervisor")


class Supervised:
    """One part, now running or soon again."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.restarts = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._since = 0.0
        self._pause, self._not_before = _FIRST_PAUSE, 0.0
        self._ended: str | None = None
        self._held = False

    @property
    def runs_now(self) -> bool:
        """Whether its process is there."""
        return self._process is not None

    @property
    def settled(self) -> bool:
        """Whether its process is there, or shall not be."""
        return self._process is not None or self._held

    def tend(self, now: float, answers: Callable[[str], bool]) -> bool:
        """Notice its end, and start it where it is time; whether anything changed."""
        if self._process is not None:
            code = self._process.poll()
            if code is None:
                return False
            self._process = None
            self._ended = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            lived = now - self._since
            self._pause = _FIRST_PAUSE if lived > _SETTLED else min(2 * self._pause, _LONGEST_PAUSE)
            self._not_before = now + self._pause
            self.restarts += 1
            log.warning("%s ended after %.0f s: %s; again in %.1f s", self.part.name, lived, self._ended, self._pause)
            return True
        if self._held or not self.due(now) or not all(answers(need) for need in self.part.needs):
            return False
        self._start(now)
        return True

    def due(self, now: float) -> bool:
        """Whether the pause after its last end is over."""
        return now >= self._not_before

    def stop(self) -> None:
        """End it for good, in order where it can."""
        self._held = True
        if self._process is None:
            return
        self._process.send_signal(self.part.stop)
        try:
            self._process.wait(self.part.grace)
        except subprocess.TimeoutExpired:
            log.warning("%s did not end within %.0f s and is killed", self.part.name, self.part.grace)
            self._process.kill()
            self._process.wait()
        self._process, self._ended = None, "stopped"
        log.info("%s is stopped", self.part.name)

    def keep_log_small(self) -> None:
        """Move a log that grew to `NAME.log.1`, under the feet of whoever appends to it."""
        path = _log_of(self.part.name)
        if path.exists() and path.stat().st_size > _LOG_BYTES:
            path.with_name(f"{path.name}.1").write_bytes(path.read_bytes())
            os.truncate(path, 0)

    def to_json(self) -> dict[str, Any]:
        """What `state.json` says of it."""
        pid = self._process.pid if self._process else None
        return {"pid": pid, "since": self._since if pid else None, "restarts": self.restarts, "ended": self._ended}

    def _start(self, now: float) -> None:
        with os.fdopen(os.open(_log_of(self.part.name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "wb") as output:
            try:
                self._process = subprocess.Popen(
                    self.part.command,
                    env=dict(self.part.environment),
                    cwd=ROOT if self.part.user is None else "/",
                    user=self.part.user,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    preexec_fn=_as_a_part,
                )
            except OSError as error:
                self._ended, self._not_before = str(error), now + _LONGEST_PAUSE
                log.error("%s can't be started: %s", self.part.name, error)
                return
        self._since = now
        log.info("%s is process %d", self.part.name, self._process.pid)


class Store:
    """The supervisor's hold on the embedded store, which it shares with all programs of this user."""

    def __init__(self) -> None:
        from tasks.storage.embedded import recipe

        self._recipe = recipe
        self._server = self._take()
        self._since, self._restarts = time.time(), 0

    def tend(self) -> bool:
        """Start it again where it died; whether it did."""
        if self._server.alive():
            return False
        log.warning("the store died and is started again")
        dead, self._server = self._server, self._take()
        dead.close()
        self._since, self._restarts = time.time(), self._restarts + 1
        return True

    def stop(self) -> None:
        """Let go of it: it stops with its last user."""
        self._server.close()

    def to_json(self) -> dict[str, Any]:
        """What `state.json` says of it."""
        return {"pid": None, "since": self._since, "restarts": self._restarts, "ended": None}

    def _take(self) -> SharedServer:
        return SharedServer(data_folder() / "store", self._recipe)


def supervise(plan: Plan, wake: int, asked: Callable[[], set[int]]) -> None:
    """Keep all parts running until a signal asks to stop.

    Args:
        plan: Which parts.
        wake: Readable whenever something may have happened.
        asked: The signals that came so far.
    """
    store = None if plan.store else Store()
    all_parts = [Supervised(part) for part in parts_of(plan, os.environ)]
    tell(all_parts, store)
    while not asked() & {signal.SIGTERM, signal.SIGINT}:
        if NO_MORE_RUNS in asked() and all_parts[-1].runs_now:
            all_parts[-1].stop()
            tell(all_parts, store)
        now = time.time()
        changes = [part.tend(now, lambda name: checks.answers(plan, name)) for part in all_parts]
        if store:
            changes.append(store.tend())
        if any(changes):
            tell(all_parts, store)
        for part in all_parts:
            part.keep_log_small()
        settled = all(part.settled for part in all_parts)
        if select.select([wake], [], [], _TICK if settled else _WAITING_TICK)[0]:
            os.read(wake, 4096)
    for part in reversed(all_parts):
        part.stop()
    if store:
        store.stop()


def tell(parts: Sequence[Supervised], store: Store | None) -> None:
    """Write down what runs."""
    document = {part.part.name: part.to_json() for part in parts} | ({"store": store.to_json()} if store else {})
    write_private(folder() / "state.json", document)


def main() -> None:
    """Run the supervisor of the kept plan."""
    os.umask(0o077)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    lock = os.open(folder() / "supervisor.lock", os.O_RDWR | os.O_CREAT, 0o600)
    if not _taken(lock):
        sys.exit("Another supervisor is running.")
    (folder() / "state.json").unlink(missing_ok=True)
    os.ftruncate(lock, 0)
    os.write(lock, f"{os.getpid()}\n".encode())
    parent = os.environ.pop("ROUNDTRIP_UP_PARENT", None)
    if parent:
        _die_with_parent()
        if parent != str(os.getppid()):
            sys.exit("Whoever started the supervisor is gone already.")
    asked: set[int] = set()
    wake, woken = os.pipe()
    for end in (wake, woken):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for number in (signal.SIGTERM, signal.SIGINT, NO_MORE_RUNS):
        signal.signal(number, lambda number, _: asked.add(number))
    plan = Plan.load()
    assert plan is not None
    supervise(plan, wake, lambda: asked)
    log.info("all parts are stopped")


def _taken(lock: int) -> bool:
    """Whether the lock became ours; whoever tests it holds it for an instant."""
    for _ in range(_LOCK_ATTEMPTS):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05)
        else:
            return True
    return False


def _as_a_part() -> None:
    """In a part before its program: it dies with the supervisor, and hears signals that a shell in between had ignored."""
    _die_with_parent()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _log_of(part: str) -> Path:
    return logs_folder() / f"{part}.log"


if __name__ == "__main__":
    main()
