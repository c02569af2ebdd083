"""`up`, `status`, `down`: a whole local production."""

from __future__ import annotations

import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from subprocess import Popen
from typing import TYPE_CHECKING, Any

import click

from flows.commands.common import common, print_json, quiet
from tasks.errors import NotFoundError, UnreachableError

if TYPE_CHECKING:
    from flows.production.checks import Answer
    from flows.production.drain import Drained
    from flows.production.plan import Plan

_DRAIN_SECONDS = 60.0
_STOP_SECONDS = 90.0  # of the parts, which have their own limits within
_SAY_SECONDS = 5.0


@click.command()
@click.option("--port", type=click.IntRange(1024, 65535), help="Of UI and API. Default: 4200, or one that is free.")
@click.option(
    "--postgres",
    metavar="URL|start|off",
    envvar="ROUNDTRIP_POSTGRES",
    help="PostgreSQL in place of SQLite: somebody's, or one that `up` runs from the installed programs.",
)
@click.option(
    "--redis",
    metavar="URL|start|off",
    envvar="ROUNDTRIP_REDIS",
    help="Redis between the server and its services, which become a process of their own. Needs --postgres.",
)
@click.option(
    "--api-servers",
    type=click.IntRange(1, 64),
    help="Processes that answer at the one port; more than one needs --redis. Default: 1.",
)
@click.option("--foreground", is_flag=True, help="Stay, and stop everything at the end: for systemd and other managers.")
@click.option("--timeout", type=click.FloatRange(min=1), default=300.0, show_default=True, help="Seconds until all is up.")
@common
def up(
    port: int | None,
    postgres: str | None,
    redis: str | None,
    api_servers: int | None,
    foreground: bool,
    timeout: float,
    as_json: bool,
    debug: bool,
) -> None:
    r"""Start a whole production here: server with UI, scheduler and events, store, worker, deployments, automations.

    Returns when each part has answered, and prints where the UI is and how to log in. Everything listens on 127.0.0.1
    alone, with passwords that were made for you, and keeps running in the background; what dies is started again.
    Runs, models and schedules survive `down` and a reboot. Where it is up already, `up` brings back what is missing.

    While it is up, the other commands (`run`, `return`, `list`) use its server and its store by themselves. With
    ROUNDTRIP_STORE set, its worker uses that store in place of the embedded one.

    --postgres, --redis and --api-servers are remembered; `off` (and 1) goes back. A URL with a password belongs into the
    variables ROUNDTRIP_POSTGRES and ROUNDTRIP_REDIS, for everybody on the machine can read arguments.

    \b
    Examples:
      python -m flows up
      python -m flows up --postgres start --redis start
      python -m flows up --postgres start --redis start --api-servers 2
      python -m flows up --foreground        (deployments/README.md has a systemd unit)
    """
    quiet(debug)
    from flows import show_production as screen
    from flows.production import contact, rise
    from flows.production.plan import folder
    from tasks.shared_server import locked

    def show(name: str, answer: Answer, seconds: float) -> None:
        click.echo(screen.progress(name, answer, seconds), err=True)

    configured = os.environ.get("PREFECT_API_URL")
    folder().mkdir(mode=0o700, parents=True, exist_ok=True)
    began = time.monotonic()
    with locked(folder() / "up.lock"):
        plan, supervisor = rise.begin(rise.Wishes(port, postgres, redis, api_servers), detached=not foreground)
        if supervisor is None and foreground:
            raise UnreachableError("It is up already, in the background. Run `python -m flows down` first.")
        with _ended_unless_up(supervisor):
            found = rise.wait_until_up(plan, timeout, show)
    if as_json:
        print_json(_document(plan, found, contact.state()) | {"already": supervisor is None})
    else:
        click.echo("It is up already." if supervisor is None else f"Up, in {time.monotonic() - began:.0f} s.")
        click.echo(screen.addresses(plan, found["store"].more))
        if configured and configured != plan.api:
            click.echo(f"PREFECT_API_URL is {configured}: programs of this shell use that server, not this one.", err=True)
    if foreground and supervisor:
        _stay(plan, supervisor, as_json=as_json)


@click.command()
@click.option("--login", is_flag=True, help="Print the line that the UI's login asks for, and nothing else.")
@click.option("--exports", is_flag=True, help="Print the variables by which other programs reach server and store.")
@common
def status(login: bool, exports: bool, as_json: bool, debug: bool) -> None:
    r"""Ask each part of what `up` started for an answer.

    Exits with 0 where all of it is up, else with 4.

    \b
    Examples:
      python -m flows status
      python -m flows status --login
      eval "$(python -m flows status --exports)" && prefect flow-run ls
    """
    quiet(debug)
    from flows import show_production as screen
    from flows.production import checks, contact
    from flows.production.plan import Plan
    from flows.show import out

    plan = Plan.load()
    if login or exports:
        if plan is None:
            raise NotFoundError("`up` was never run here, so there is no login yet. Run `python -m flows up`.")
        click.echo(plan.login if login else "\n".join(_exports(plan)))
        return
    state = contact.state()
    is_up = plan is not None and contact.running() is not None
    if plan is None or not is_up:
        answers = dict.fromkeys(("store", "server", "worker"), checks.Answer(False, "not running"))
    else:
        answers = {name: check() for name, check in checks.checks_of(plan, state).items()}
    if as_json:
        print_json(_document(plan, answers, state))
    elif not is_up:
        click.echo("It is not up. `python -m flows up` starts it.")
    else:
        out.print(screen.table(answers, state))
    if not is_up or not all(answer.up for answer in answers.values()):
        sys.exit(UnreachableError.exit_code)


@click.command()
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=_DRAIN_SECONDS,
    show_default=True,
    help="Seconds that runs have to end by themselves; what still runs then is cancelled.",
)
@common
def down(timeout: float, as_json: bool, debug: bool) -> None:
    r"""Stop what `up` started, the worker first. Runs, models, schedules and logs stay.

    No more runs are started, those that run may end, what still runs after the timeout is cancelled and marked so.

    \b
    Examples:
      python -m flows down
      python -m flows down --timeout 0
    """
    quiet(debug)
    from flows import show_production as screen
    from flows.production import contact
    from flows.production.plan import Plan, folder
    from tasks.shared_server import locked

    plan = Plan.load()
    if plan is None:
        answer: dict[str, Any] = {"was_up": False, "ended": [], "cancelled": [], "killed": 0, "clean": True}
        said = "It was never up here."
    else:
        with locked(folder() / "up.lock"):
            was_up = contact.running() is not None
            drained = _drained(plan, timeout) if was_up else None
            clean = contact.stop(_STOP_SECONDS)
            killed = contact.kill_what_is_left()
        ended, cancelled = (list(drained.ended), list(drained.cancelled)) if drained else ([], [])
        answer = {"was_up": was_up, "ended": ended, "cancelled": cancelled, "killed": killed, "clean": clean}
        said = screen.farewell(drained, killed, clean=clean) if was_up or killed else "It was not up."
    if as_json:
        print_json(answer)
    else:
        click.echo(said)


def _drained(plan: Plan, seconds: float) -> Drained | None:
    """Let the runs end, where there is a server that knows of them."""
    from flows.production.drain import drain

    last, deadline = [0.0], time.monotonic() + seconds

    def waiting(names: list[str]) -> None:
        now = time.monotonic()
        if now - last[0] > _SAY_SECONDS:
            left = max(0, deadline - now)
            click.echo(f"Waiting for {', '.join(names)}; what still runs in {left:.0f} s is cancelled", err=True)
            last[0] = now

    try:
        return drain(plan, seconds, waiting)
    except UnreachableError as error:
        click.echo(f"Runs are not waited for: {error}", err=True)
        return None


@contextmanager
def _ended_unless_up(supervisor: Popen[bytes] | None) -> Iterator[None]:
    """What was started now ends with the attempt, where that is interrupted or fails."""
    from flows.production import contact

    try:
        yield
    except BaseException:
        if supervisor:
            contact.stop(_STOP_SECONDS)
            contact.kill_what_is_left()
            supervisor.wait()
        raise


def _stay(plan: Plan, supervisor: Popen[bytes], *, as_json: bool) -> None:
    """Until Ctrl-C or SIGTERM, which are an orderly end here, or the supervisor's own end, which is none."""
    from flows.production import contact

    _notify("READY=1")
    try:
        supervisor.wait()
    except KeyboardInterrupt:
        _notify("STOPPING=1")
        _drained(plan, _DRAIN_SECONDS)
        contact.stop(_STOP_SECONDS)
        contact.kill_what_is_left()
        if not as_json:
            click.echo("Down.")
        return
    raise UnreachableError(
        "The supervisor ended, and its parts with it. `python -m flows logs supervisor` has its last words."
    )


def _notify(message: str) -> None:
    """Tell systemd, where it asked to be told."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
            connection.sendto(message.encode(), address.replace("@", "\0", 1) if address.startswith("@") else address)


def _exports(plan: Plan) -> list[str]:
    """Shell lines; they hold the passwords."""
    values = {"PREFECT_API_URL": plan.api, "PREFECT_API_AUTH_STRING": plan.login}
    if plan.store:
        values["ROUNDTRIP_STORE"] = plan.store
    else:
        from tasks.storage import embedded

        access = embedded.last_access()
        values |= {
            "AWS_ENDPOINT_URL_S3": access.endpoint,
            "AWS_ACCESS_KEY_ID": access.access_key,
            "AWS_SECRET_ACCESS_KEY": access.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
        }
    return [f"export {name}={shlex.quote(value)}" for name, value in values.items()]


def _document(plan: Plan | None, answers: Mapping[str, Answer], state: Mapping[str, Any]) -> dict[str, Any]:
    """DESIGN.md's document, with what else each part has to say."""

    def entry(name: str) -> dict[str, Any]:
        answer, known = answers[name], state.get(name, {})
        more = {key: value for key, value in answer.more.items() if key != "list"}
        return more | {"up": answer.up, "detail": answer.detail, "restarts": known.get("restarts", 0)}

    def listed(name: str) -> list[Any]:
        return list(answers[name].more.get("list", [])) if name in answers else []

    others = {name: entry(name) for name in answers if name not in {"server", "store", "worker"}}
    return {
        "up": bool(plan) and all(answer.up for answer in answers.values()),
        "prefect": {"url": plan.api if plan else None} | entry("server"),
        "store": {"url": None} | entry("store"),
        "worker": entry("worker"),
        "deployments": listed("deployments"),
        "automations": listed("automations"),
        "others": others,
    }
