"""The parts of `up` that need no server: what is decided, and how the supervisor treats a part."""

from __future__ import annotations

import os
import re
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from flows.commands.logs import logs
from flows.production import contact, plan, supervisor, worker
from flows.production.parts import MARK, Part, parts_of
from flows.production.plan import Database, Plan, decide
from flows.server import PrefectServer
from tasks.errors import InputError, UnreachableError
from tests.e2e.commands import until


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    plan.logs_folder().mkdir(parents=True)


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_plan_comes_back_as_it_was_kept_and_for_its_owner_alone() -> None:
    kept = decide(None, None, "start", "start", {"ROUNDTRIP_STORE": "s3://bucket/prefix"})
    kept.save()

    assert Plan.load() == kept
    assert stat.S_IMODE((plan.folder() / "plan.json").stat().st_mode) == 0o600


def test_ports_passwords_and_databases_stay_what_they_were() -> None:
    first = decide(None, None, "start", None, {})

    assert decide(first, None, None, None, {}) == first
    assert decide(first, None, "start", None, {}) == first
    assert decide(first, None, "off", None, {}).postgres is None


def test_a_remembered_port_that_is_taken_is_left_and_a_wanted_one_is_an_error(taken: int) -> None:
    assert decide(Plan(taken, "secret"), None, None, None, {}).port != taken
    with pytest.raises(InputError, match=f"--port {taken}"):
        decide(None, taken, None, None, {})


def test_a_postgres_url_becomes_the_one_that_prefect_takes() -> None:
    database = decide(None, None, "postgres://me:pw@db:5432/prefect", None, {}).postgres

    assert database is not None
    assert (database.url, database.port) == ("postgresql+asyncpg://me:pw@db:5432/prefect", None)


@pytest.mark.parametrize(("option", "postgres", "redis"), [("--postgres", "mysql://a:hush@b/c", None),
                                                           ("--redis", "start", "http://a:hush@b")])  # fmt: skip
def test_what_is_no_such_url_is_refused_without_repeating_its_password(
    option: str, postgres: str, redis: str | None
) -> None:
    with pytest.raises(InputError, match=option) as refused:
        decide(None, None, postgres, redis, {})

    assert "hush" not in str(refused.value)


def test_redis_without_postgres_is_refused() -> None:
    with pytest.raises(InputError, match="Add --postgres"):
        decide(None, None, None, "redis://127.0.0.1:6379/0", {})


def test_several_api_servers_need_redis_and_are_remembered() -> None:
    with pytest.raises(InputError, match="Add --redis"):
        decide(None, None, "start", None, {}, 2)
    two = decide(None, None, "start", "start", {}, 2)

    assert decide(two, None, None, None, {}).api_servers == 2
    assert decide(two, None, None, "off", {}, 1).api_servers == 1
    with pytest.raises(InputError, match="back to --api-servers 1"):
        decide(two, None, None, "off", {})


def test_several_api_servers_make_the_tables_once_before_they_start() -> None:
    several = Plan(4200, "secret", postgres=Database("postgresql+asyncpg://h/p"), redis=Database("redis://h"), api_servers=2)

    server = next(part for part in parts_of(several, {}) if part.name == "server")

    assert server.command[:2] == ("sh", "-c")
    assert re.fullmatch(r".+ -m flows.server_app && exec .+ --workers 2 .+", server.command[2])
    assert server.environment["PREFECT_SERVER_DATABASE_MIGRATE_ON_START"] == "False"
    assert server.environment["PREFECT_SERVER_REGISTER_BLOCKS_ON_START"] == "False"


def test_no_setting_of_the_user_points_a_part_elsewhere() -> None:
    theirs = {"PREFECT_API_URL": "https://api.prefect.cloud", "PREFECT_API_KEY": "key", "PREFECT_PROFILE": "cloud",
              "PREFECT_LOGGING_LEVEL": "DEBUG", "AWS_PROFILE": "mine"}  # fmt: skip
    mine = Plan(4200, "secret")

    parts = {part.name: part for part in parts_of(mine, theirs)}

    assert list(parts) == ["server", "nursery", "worker"]
    worker = parts["worker"].environment
    assert worker["PREFECT_API_URL"] == mine.api
    assert "PREFECT_API_KEY" not in worker
    assert "PREFECT_PROFILE" not in worker
    assert (worker["PREFECT_LOGGING_LEVEL"], worker["AWS_PROFILE"]) == ("DEBUG", "mine")
    assert not [word for part in parts.values() for word in part.command if "secret" in word]


def test_runs_do_not_wait_as_long_as_among_thousands_unless_the_user_says_so() -> None:
    def waits(theirs: dict[str, str]) -> list[str]:
        parts = {part.name: part.environment for part in parts_of(Plan(4200, "secret"), theirs)}
        asking, place = "PREFECT_WORKER_QUERY_SECONDS", "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS"
        return [parts["worker"][asking], parts["server"][place]]

    own = {"PREFECT_WORKER_QUERY_SECONDS": "7", "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "8"}
    assert (waits({}), waits(own)) == (["2", "5"], ["7", "8"])


def test_a_nursery_stands_beside_the_worker_and_the_desk_unless_the_user_wants_none(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = Plan(4200, "secret")
    parts = {part.name: part for part in parts_of(mine, {})}

    address = parts["worker"].environment["ROUNDTRIP_NURSERY"]
    assert address in parts["nursery"].command
    assert list({part.name: part for part in parts_of(mine, {"ROUNDTRIP_NURSERY": "off"})}) == ["server", "worker"]

    mine.save()
    monkeypatch.setattr(contact, "running", lambda: 1)
    for wish, found in ((None, address), ("off", "off")):
        with pytest.MonkeyPatch.context() as desk:
            for name, value in {"PREFECT_API_URL": "", "PREFECT_API_AUTH_STRING": "", "ROUNDTRIP_NURSERY": wish}.items():
                desk.setenv(name, value or "")
            if wish is None:
                desk.delenv("ROUNDTRIP_NURSERY")
            contact.adopt()
            assert os.environ["ROUNDTRIP_NURSERY"] == found


def test_a_program_on_another_store_does_not_use_the_running_server(monkeypatch: pytest.MonkeyPatch) -> None:
    Plan(4200, "secret", store="s3://theirs").save()
    monkeypatch.setattr(contact, "running", lambda: 1)

    monkeypatch.setenv("ROUNDTRIP_STORE", "s3://mine")
    assert contact.adopt() is None
    monkeypatch.setenv("ROUNDTRIP_STORE", "s3://theirs")
    monkeypatch.setenv("PREFECT_API_URL", "")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "")
    assert contact.adopt() == "http://127.0.0.1:4200/api"
    assert os.environ["PREFECT_API_AUTH_STRING"] == "roundtrip:secret"


def test_without_a_supervisor_what_it_left_behind_is_not_believed() -> None:
    (plan.folder() / "supervisor.lock").write_text("1\n")
    (plan.folder() / "state.json").write_text('{"server": {"pid": 1}}')

    assert contact.running() is None
    assert contact.state() == {}


def _part(*code: str, needs: tuple[str, ...] = ()) -> supervisor.Supervised:
    return supervisor.Supervised(Part("part", (sys.executable, "-c", *code), dict(os.environ), needs))


def test_whoever_still_names_the_server_of_an_up_that_is_down_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = decide(None, None, None, None, {})
    kept.save()
    (plan.folder() / "supervisor.lock").touch()
    monkeypatch.setenv("PREFECT_API_URL", kept.api)

    with pytest.raises(UnreachableError, match=r"up` ran it and is down\. Run it again, or `unset PREFECT_API_URL"):
        PrefectServer().wait_until_up()


def test_a_log_in_which_nothing_is_says_so() -> None:
    (plan.logs_folder() / "server.log").touch()

    assert CliRunner().invoke(logs, ["server"]).output == "Nothing is logged yet.\n"


def test_a_part_is_started_when_what_it_needs_answers() -> None:
    part = _part("input()", needs=("server",))

    assert not part.tend(0, lambda _: False)
    assert part.to_json()["pid"] is None
    assert part.tend(0, lambda _: True)
    assert part.to_json()["pid"] is not None
    part.stop()


def test_a_part_that_dies_at_once_is_started_again_later_and_later() -> None:
    part, now, pauses = _part("raise SystemExit(3)"), 0.0, []
    for _ in range(4):
        assert part.tend(now, lambda _: True)
        assert until(partial(part.tend, now, lambda _: True), 60)  # its end
        pauses.append(next(pause / 10 for pause in range(400) if part.due(now + pause / 10)))
        now += pauses[-1]

    assert part.to_json() == {"pid": None, "since": None, "restarts": 4, "ended": "exit code 3"}
    assert pauses == [1.0, 2.0, 4.0, 8.0]


def test_a_part_that_lived_long_is_started_again_at_once() -> None:
    part = _part("raise SystemExit(3)")
    part.tend(0, lambda _: True)

    assert until(lambda: part.tend(3600, lambda _: True), 60)
    assert part.due(3600.5)
    assert not part.due(3600.4)


def test_a_part_that_was_stopped_stays_so() -> None:
    part = _part("input()")
    part.tend(0, lambda _: True)
    part.stop()

    assert not part.tend(100, lambda _: True)
    assert part.settled


def test_a_log_that_grew_large_is_moved_under_the_feet_of_its_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_LOG_BYTES", 10)
    part = _part("print('first, and quite long', flush=True); input(); print('second', flush=True)")
    log = plan.logs_folder() / "part.log"
    with log.open("ab") as writer:
        writer.write(b"first, and quite long\n")
        writer.flush()
        part.keep_log_small()
        writer.write(b"second\n")

    assert log.read_text() == "second\n"
    assert log.with_name("part.log.1").read_text() == "first, and quite long\n"


_BEFORE, _BEGAN, _AFTER = (f"2026-11-24T20:00:0{second}.000000Z" for second in range(3))


class _Server:
    """A server with a pool, its workers and its runs, that notes which state each run was given."""

    def __init__(
        self, runs: list[dict[str, Any]], *others: str, pools: Sequence[str] = ("roundtrip",), last: str = _BEFORE
    ) -> None:
        here = [{"name": name, "status": "ONLINE", "last_heartbeat_time": _AFTER} for name in ("local", *others)]
        gone = {"name": "gone", "status": "OFFLINE", "last_heartbeat_time": last}
        self.answers: dict[str, Any] = {
            "/work_pools/filter": [{"name": name} for name in pools],
            "/work_pools/roundtrip/workers/filter": [*here, gone],
            "/flow_runs/filter": runs,
        }
        self.states: dict[str, str] = {}

    def post(self, path: str, body: Any = None) -> Any:
        if path.endswith("/set_state"):
            self.states[path.split("/")[2]] = body["state"]["name"]
            if body["state"]["name"] == "Crashed":
                raise UnreachableError("a hook")
            return {"status": "ACCEPT"}
        return self.answers[path]


def _run(identity: str, state: str, count: int = 1) -> dict[str, Any]:
    times = {"start_time": _BEGAN if count else None, "expected_start_time": _BEGAN}
    return times | {
        "id": identity, "name": identity, "state_type": state, "state_name": state.capitalize(), "run_count": count,
    }  # fmt: skip


def test_runs_that_died_with_their_worker_are_begun_again_thrice_at_most_and_never_one_that_was_cancelled() -> None:
    server = _Server(
        [_run("a", "RUNNING"), _run("b", "PENDING", 0), _run("c", "RUNNING", 3), _run("d", "CANCELLING")],
    )

    worker.see_to_what_is_left(server)

    assert server.states == {"a": "AwaitingRetry", "b": "AwaitingRetry", "c": "Crashed", "d": "Cancelled"}


def test_a_run_whose_process_outlived_the_worker_goes_on() -> None:
    environment = os.environ | {"PREFECT__FLOW_RUN_ID": "alive"}
    process = subprocess.Popen([sys.executable, "-c", "input()"], env=environment, stdin=subprocess.PIPE)
    try:
        assert until(lambda: "alive" in contact.runs_with_a_process(), 10)
        server = _Server([_run("alive", "RUNNING"), _run("dead", "RUNNING")])
        worker.see_to_what_is_left(server)
    finally:
        process.kill()
        process.wait()

    assert server.states == {"dead": "AwaitingRetry"}


@pytest.mark.parametrize(
    "server",
    [
        _Server([_run("a", "RUNNING")], "another"),
        _Server([_run("a", "RUNNING")], last=_AFTER),  # the server was away and has not heard of it yet
        _Server([_run("a", "PENDING", 0)], last=_AFTER),
        _Server([_run("a", "RUNNING")], pools=()),
    ],
    ids=["online", "alive-since", "alive-since-then", "no-pool"],
)
def test_no_run_is_touched_that_may_be_another_workers(server: _Server) -> None:
    worker.see_to_what_is_left(server)

    assert server.states == {}


def test_processes_of_dead_workers_are_found_by_their_mark() -> None:
    environment = {**os.environ, MARK: str(plan.folder())}
    ours = subprocess.Popen([sys.executable, "-c", "input()"], env=environment, stdin=subprocess.PIPE)
    others = subprocess.Popen(
        [sys.executable, "-c", "input()"], env=environment | {MARK: "/elsewhere"}, stdin=subprocess.PIPE
    )
    try:
        assert until(lambda: Path(f"/proc/{ours.pid}/environ").read_bytes() != b"", 10)
        assert contact.kill_what_is_left() == 1
        assert ours.wait(10) == -9
        assert others.poll() is None
    finally:
        for process in (ours, others):
            process.kill()
            process.wait()
