"""Bring everything up: decide, start, install, and wait until each part answers."""

from __future__ import annotations

import os
import subprocess
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec

from flows.production import checks, contact, databases, parts
from flows.production.api import Api
from flows.production.checks import Answer
from flows.production.install import install
from flows.production.plan import OFF, START, Plan, decide, folder, logs_folder
from tasks.errors import InputError, UnreachableError
from tasks.settings import STORE_VARIABLE

_PAUSE = 0.2
_SCHEDULER = "scheduling"  # beside the parts: a server can answer and never schedule a run, nor hear an event
_LATER = (_SCHEDULER, "deployments", "automations")  # when the server answers
_LAST_LINES = 12
_EVENT_SECONDS = 60.0
_NO_EVENTS = "no event would start `return`. `python -m flows logs server` may say why."

Show = Callable[[str, Answer, float], None]


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the command line asks for; None is: as it was."""

    port: int | None = None
    postgres: str | None = None
    redis: str | None = None


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
    plan = decide(before, wishes.port, wishes.postgres, wishes.redis, os.environ)
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
    started = time.monotonic()
    found: dict[str, Answer] = {}
    # Our own helpers ask this server, whatever else is configured.
    for name in os.environ.keys() - parts.without_foreign(os.environ).keys():
        del os.environ[name]
    os.environ.update(parts.client_environment(plan))
    beside: dict[str, Future[Answer]] = {} if plan.store else {"store": _beside(_embedded_store)}
    while True:
        checking = checks.checks_of(plan, contact.state())
        if "server" in found and _SCHEDULER not in beside:
            parts.remember_database(plan)
            beside |= {_SCHEDULER: _beside(partial(_scheduling, plan))}
            beside |= dict.fromkeys(("deployments", "automations"), _beside(partial(_installed, plan)))
        missing = [name for name in [*checking, _SCHEDULER] if name not in found]
        for name in missing:
            if name in _LATER and name not in beside:
                continue
            if name in beside:
                if not beside[name].done():
                    continue
                answer = beside[name].result()
            if name in checking:
                answer = checking[name]()
            if answer.up:
                found[name] = answer
                show(name, answer, time.monotonic() - started)
        if len(found) == len(checking) + 1:
            return found
        if contact.running() is None:
            raise UnreachableError(f"The supervisor died. Its last words:\n{last_words('supervisor')}")
        if time.monotonic() - started > seconds:
            raise UnreachableError(
                f"Not up after {seconds:.0f} s: {', '.join(missing)}. The last words of {missing[0]}:\n"
                f"{last_words(missing[0])}\nAll of it: `python -m flows logs {missing[0]}`."
            )
        time.sleep(_PAUSE)


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
    if plan.store != os.environ.get(STORE_VARIABLE, ""):
        raise InputError(f"It is up already, on {plan.store or 'the embedded store'}, not on {STORE_VARIABLE}. {first}")


def _beside(work: Callable[[], Answer]) -> Future[Answer]:
    """Do something beside the rest, which an interruption does not wait for."""
    future: Future[Answer] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def _installed(plan: Plan) -> Answer:
    install(plan)
    return Answer(True, "installed")


def _embedded_store() -> Answer:
    from tasks.storage import embedded

    store = embedded.running()
    return Answer(True, store.access.endpoint, {"url": f"s3://{store.access.bucket}", "endpoint": store.access.endpoint})


def _scheduling(plan: Plan) -> Answer:
    """Have an event kept and a run scheduled, and look for them."""
    from prefect.client.orchestration import get_client  # 1.4 s, while the deployments are made

    from flows.prefect_health import check_scheduler

    kept = _hears(plan)
    with get_client(sync_client=True) as client:
        check = check_scheduler(client)
    if check.status != "ok":
        raise UnreachableError(f"The server answers, but its scheduler {check.detail}. {check.advice}")
    return Answer(True, f"{check.detail}; keeps events, within {kept:.0f} s")


def _hears(plan: Plan) -> float:
    """Emit an event and look for it: without its event services a server takes it, and it starts nothing."""
    api, began, identity = Api(plan), time.monotonic(), str(uuid.uuid4())
    occurred, resource = datetime.now(UTC).isoformat(), {"prefect.resource.id": "roundtrip.up"}
    api.post("/events", [{"id": identity, "occurred": occurred, "event": "roundtrip.up", "resource": resource}])
    while not api.post("/events/filter", {"filter": {"id": {"id": [identity]}}, "limit": 1})["events"]:
        if time.monotonic() - began > _EVENT_SECONDS:
            raise UnreachableError(f"The server answers, but kept no event within {_EVENT_SECONDS:.0f} s: {_NO_EVENTS}")
        time.sleep(_PAUSE)
    return time.monotonic() - began
