"""Bring everything up: decide, start, install, and wait until each part answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

from flows.production import checks, contact, databases, parts
from flows.production.checks import Answer
from flows.production.install import install
from flows.production.plan import OFF, START, Plan, decide, folder, logs_folder
from tasks.errors import InputError, UnreachableError
from tasks.nursery import die_with_parent
from tasks.settings import STORE_VARIABLE

_PAUSE = 0.2
_TRIAL = "scheduling"  # beside the parts: a server can answer and never schedule a run, nor keep an event
_INSTALLED = ("deployments", "automations")  # when the server answers
_LAST_LINES = 12

Show = Callable[[str, Answer, float], None]


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the command line asks for; None is: as it was."""

    port: int | None = None
    postgres: str | None = None
    redis: str | None = None
    api_servers: int | None = None


def begin(wishes: Wishes, *, detached: bool) -> tuple[Plan, subprocess.Popen[bytes] | None]:
    """Start the supervisor where none runs.

    Returns:
        What is up or coming, and the supervisor's process where it was started now.

    Raises:
        InputError: A wish can't be had, or not without a `down`.
        UnreachableError: The supervisor or a database can't be started.
    """
    before = Plan.load()
    if contact.running() is not None:
        assert before is not None
        _must_match(before, wishes)
        return before, None
    contact.kill_what_is_left()
    plan = decide(before, wishes.port, wishes.postgres, wishes.redis, os.environ, wishes.api_servers)
    for place in (folder(), logs_folder(), folder() / "prefect"):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    if plan.postgres and plan.postgres.port:
        databases.prepare_postgres(folder() / "postgres", plan.postgres)
    if plan.redis and not find_spec("prefect_redis"):
        raise InputError("--redis needs the package prefect-redis. Run `uv sync --extra redis`.")
    if plan.redis and plan.redis.port:
        databases.prepare_redis(folder() / "redis", plan.redis)
    plan.save()
    return plan, contact.start(detached=detached)


def wait_until_up(plan: Plan, seconds: float, show: Show) -> dict[str, Answer]:
    """Install what is missing and return when every part has answered.

    Args:
        plan: What is coming up.
        seconds: How long it may take.
        show: Called with each part that is up, what it answered, and after how many seconds.

    Raises:
        UnreachableError: A part does not come; with its last words.
    """
    # Our own helpers ask this server, whatever else is configured.
    for name in os.environ.keys() - parts.without_foreign(os.environ).keys():
        del os.environ[name]
    os.environ.update(parts.client_environment(plan))
    started = time.monotonic()
    found: dict[str, Answer] = {}

    def notice(name: str, answer: Answer) -> None:
        if answer.up:
            found[name] = answer
            show(name, answer, time.monotonic() - started)

    if not plan.store:
        _wait_for_embedded_store()
    trial = _Trial()
    try:
        while True:
            checking = checks.checks_of(plan, contact.state())
            for name in [name for name in checking if name not in found]:
                if name not in _INSTALLED or trial.began:
                    notice(name, checking[name]())
            if "server" in found and not trial.began:
                parts.remember_database(plan)
                trial.begin()
                install(plan)
            if _TRIAL not in found and trial.is_over():
                notice(_TRIAL, trial.answer())
            missing = [name for name in [*checking, _TRIAL] if name not in found]
            if not missing:
                return found
            if contact.running() is None:
                raise UnreachableError(f"The supervisor died. Its last words:\n{last_words('supervisor')}")
            if time.monotonic() - started > seconds:
                raise UnreachableError(
                    f"Not up after {seconds:.0f} s: {', '.join(missing)}. The last words of {missing[0]}:\n"
                    f"{last_words(missing[0])}\nAll of it: `python -m flows logs {missing[0]}`."
                )
            time.sleep(_PAUSE)
    finally:
        trial.end()


def last_words(part: str) -> str:
    """The end of a part's log."""
    path = logs_folder() / f"{part}.log"
    return "\n".join(path.read_text(errors="replace").splitlines()[-_LAST_LINES:]) if path.exists() else "(none)"


def _must_match(plan: Plan, wishes: Wishes) -> None:
    """Refuse what would need another start: it must not look as if it had been heard."""
    first = "Run `python -m flows down` first."
    for name, wish, database in (("postgres", wishes.postgres, plan.postgres), ("redis", wishes.redis, plan.redis)):
        own, url = (database.port is not None, database.url) if database else (False, OFF)
        # The scheme may be another name of the same.
        is_so = own if wish == START else wish is None or (not own and url.rpartition("://")[2] == wish.rpartition("://")[2])
        if not is_so:
            raise InputError(f"It is up already, with another --{name}. {first}")
    if wishes.port not in {None, plan.port}:
        raise InputError(f"It is up already, on port {plan.port}. {first}")
    if wishes.api_servers not in {None, plan.api_servers}:
        raise InputError(f"It is up already, with --api-servers {plan.api_servers}. {first}")
    if plan.store != os.environ.get(STORE_VARIABLE, ""):
        raise InputError(f"It is up already, on {plan.store or 'the embedded store'}, not on {STORE_VARIABLE}. {first}")


def _wait_for_embedded_store() -> None:
    """Answering once, with its bucket made; held until this command ends, and by the supervisor."""
    from tasks.storage import embedded

    embedded.running()


class _Trial:
    """The process that puts the server to the test, beside the installation: it waits for most of its time."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    @property
    def began(self) -> bool:
        return self._process is not None

    def begin(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "flows.production.trial"],
            cwd=parts.ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_parent,
        )

    def is_over(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def answer(self) -> Answer:
        """What it found.

        Raises:
            UnreachableError: The server fails the test.
        """
        assert self._process is not None
        out, err = self._process.communicate()
        found = Answer(**json.loads(out)) if self._process.returncode == 0 else Answer(False, err.strip())
        if not found.up:
            raise UnreachableError(f"The server answers, but {found.detail}")
        return found

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
