"""`python -m flows up`: one production for this module, used, hurt, stopped and started again, with real everything."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.e2e.commands import Home, end_of, listens, until
from tests.e2e.production import ENDED, PATIENCE, SMALL, Production

pytestmark = pytest.mark.e2e

MODEL = "weights-h5"


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    started = Production(Home(tmp_path_factory.mktemp("home"), {}))
    try:
        started.up()
        yield started
    finally:
        started.end()


@pytest.fixture(scope="module")
def returned(production: Production) -> dict[str, Any]:
    """The run of `return` that the event of a published version started."""
    production.completes(MODEL, SMALL)
    assert until(lambda: bool(production.runs_of("return")), PATIENCE, 0.4), production.home.run("logs").out
    return production.reaches(production.runs_of("return")[0]["id"], {"COMPLETED", "FAILED", "CRASHED"})


def test_status_says_that_each_part_is_up(production: Production) -> None:
    result = production.home.run("status", "--json")
    document = result.document

    assert result.code == 0
    assert [document[name]["up"] for name in ("prefect", "store", "worker")] == [True] * 3
    assert document["prefect"]["url"] == f"http://127.0.0.1:{production.plan['port']}/api"
    assert document["store"]["url"] == "s3://models"
    assert {"saved-model/saved-model", "weights-h5/weights-h5", "return/return"} <= {
        d["name"] for d in document["deployments"]
    }
    assert {"name": "return what was published", "enabled": True} in document["automations"]


def test_ui_and_api_answer_to_the_login_and_to_nobody_else(production: Production) -> None:
    url = f"http://127.0.0.1:{production.plan['port']}"
    login = production.home.run("status", "--login").out.strip()
    user, _, password = login.partition(":")

    assert "<html" in httpx.get(url, headers={"Accept": "text/html"}, follow_redirects=True).text.lower()
    assert httpx.post(f"{url}/api/flows/count").status_code == httpx.codes.UNAUTHORIZED
    assert httpx.post(f"{url}/api/flows/count", auth=(user, f"{password}x")).status_code == httpx.codes.UNAUTHORIZED
    assert httpx.post(f"{url}/api/flows/count", auth=(user, password)).is_success


def test_the_event_of_a_published_version_starts_its_proof_and_moves_latest(
    production: Production, returned: dict[str, Any]
) -> None:
    listed = production.home.run("list", "--json").document["models"]

    assert returned["state"]["type"] == "COMPLETED", production.complaint(returned["id"])
    assert returned["created_by"]["type"] == "AUTOMATION"
    (model,) = [m for m in listed if m["model"] == MODEL]
    assert returned["parameters"]["reference"] == f"{MODEL}@{model['latest']}"


def test_a_command_at_a_desk_uses_what_is_up(production: Production, returned: dict[str, Any]) -> None:
    before = {run["id"] for run in production.runs_of("return")}

    result = production.home.run("return", f"{MODEL}@latest", "--json")

    assert result.code == 0, result.err
    assert result.document["verdict"]["passed"]
    (mine,) = [run for run in production.runs_of("return") if run["id"] not in before]
    assert mine["deployment_id"] is None
    assert not (production.home.folder / "data" / "roundtrip" / "prefect").exists()


def test_a_second_up_says_that_it_is_up_already(production: Production) -> None:
    before = production.pid("supervisor")

    assert production.up().document["already"]
    assert production.pid("supervisor") == before
    assert "another --postgres" in production.home.run("up", "--postgres", "start").err


def test_the_logs_tell_each_part_apart(production: Production) -> None:
    every = production.home.run("logs")
    worker = production.home.run("logs", "worker", "-n", "500")
    unknown = production.home.run("logs", "nobody")

    assert {line.split()[0] for line in every.out.splitlines() if line.strip()} >= {"supervisor", "worker", "store"}
    assert "Worker 'local' started!" in worker.out
    assert unknown.code == 5
    assert "supervisor, worker, store" in unknown.err


def test_who_follows_the_logs_ends_it_and_is_told_nothing(production: Production) -> None:
    following = production.home.start("logs", "--follow")
    assert following.stdout is not None
    following.stdout.readline()
    following.send_signal(signal.SIGINT)

    result = end_of(following)
    assert (result.code, result.err) == (130, "")


def test_every_socket_is_on_loopback(production: Production) -> None:
    listening = production.listening()

    assert (("127.0.0.1", production.plan["port"])) in listening
    assert {ip for ip, _ in listening} == {"127.0.0.1"}


def test_secrets_are_in_no_log_no_argument_and_no_file_that_others_may_read(
    production: Production, returned: dict[str, Any]
) -> None:
    store = json.loads((production.home.folder / "data/roundtrip/store/server.json").read_text())["state"]
    secrets = {"prefect": production.plan["password"].encode(), "store": store["secret_key"].encode()}
    arguments = _arguments(production.home)

    assert len(arguments) >= 5
    for name, secret in secrets.items():
        assert len(secret) > 20
        assert not [line for line in arguments if secret in line], name
    kept = {"data/roundtrip/store/server.json", "data/roundtrip/store/s3.json"}
    assert _holding(production.home, secrets) == {"prefect": {"data/roundtrip/up/plan.json"}, "store": kept}


def _arguments(home: Home) -> list[bytes]:
    arguments = []
    for process in home.processes():
        with suppress(psutil.Error):  # it has ended meanwhile
            arguments.append(" ".join(process.cmdline()).encode())
    return arguments


def _holding(home: Home, secrets: dict[str, bytes]) -> dict[str, set[str]]:
    """The files that hold each secret, which nobody else may read."""
    holding: dict[str, set[str]] = {name: set() for name in secrets}
    for path in home.folder.rglob("*"):
        try:
            mode, content = path.stat().st_mode, path.read_bytes() if path.is_file() else b""
        except FileNotFoundError:  # a temporary one
            continue
        for name, secret in secrets.items():
            if secret in content:
                holding[name].add(path.relative_to(home.folder).as_posix())
                assert stat.S_IMODE(mode) == 0o600, path
    return holding


@pytest.mark.parametrize("part", ["worker", "server", "store", "nursery"])
def test_a_part_that_is_killed_comes_back_and_the_next_run_succeeds(
    production: Production, returned: dict[str, Any], part: str
) -> None:
    endpoint = production.status()["store"]["endpoint"]
    production.kill(part)

    assert until(lambda: production.is_whole(part, restarts=1), PATIENCE, 1), production.home.run("logs").out
    assert production.status()["store"]["endpoint"] == endpoint
    production.completes("return", {"reference": f"{MODEL}@latest"})


def test_after_the_supervisor_was_killed_status_says_so_and_up_heals_and_begins_again_what_was_going_on(
    production: Production, returned: dict[str, Any]
) -> None:
    port = production.plan["port"]
    going_on = production.submit("return", {"reference": f"{MODEL}@latest"})["id"]
    production.reaches(going_on, {"PENDING", "RUNNING"})
    production.kill("supervisor")

    assert until(lambda: not listens(port), 30)
    dead = production.home.run("status", "--json")
    assert dead.code == 4
    assert not dead.document["up"]
    assert not production.up().document["already"]
    assert production.plan["port"] == port
    assert production.home.run("status").code == 0
    # Its process died with all others, and before the server had heard a heartbeat: no automation knows of it.
    assert production.reaches(going_on, ENDED)["state"]["type"] == "COMPLETED", production.complaint(going_on)


def process_of(production: Production, run: str) -> psutil.Process:
    """The process that the worker started for a run."""
    worker = psutil.Process(production.pid("worker"))
    (found,) = [p for p in worker.children() if p.environ().get("PREFECT__FLOW_RUN_ID") == run]
    return found


def forked_process(production: Production) -> psutil.Process:
    """The one that the nursery has forked, once those of the runs before have ended."""
    nursery = psutil.Process(production.pid("nursery"))
    assert until(lambda: len(nursery.children()) == 1, 30), nursery.children()
    return nursery.children()[0]


def test_a_run_is_forked_from_the_nursery_and_dies_with_the_process_that_the_worker_knows(
    production: Production, returned: dict[str, Any]
) -> None:
    assert until(production.is_whole, PATIENCE, 1), production.home.run("logs").out
    endless = production.submit(MODEL, SMALL | {"training": {"epochs": 10_000}})["id"]
    production.reaches(endless, {"RUNNING"})
    nursery, forked = psutil.Process(production.pid("nursery")), forked_process(production)
    launcher = process_of(production, endless)
    assert "flows.worker_run" in launcher.cmdline()

    launcher.kill()

    assert until(lambda: not forked.is_running(), 30)
    assert nursery.is_running()
    assert production.reaches(endless, ENDED)["state"]["type"] == "CRASHED"


def test_a_run_that_was_forked_can_be_cancelled(production: Production, returned: dict[str, Any]) -> None:
    endless = production.submit(MODEL, SMALL | {"training": {"epochs": 10_000}})["id"]
    production.reaches(endless, {"RUNNING"})
    forked = forked_process(production)

    with production.api() as api:
        body = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
        api.post(f"/flow_runs/{endless}/set_state", json=body).raise_for_status()

    assert production.reaches(endless, ENDED)["state"]["type"] == "CANCELLED"
    assert until(lambda: not forked.is_running(), 30)


def test_a_run_that_needs_another_nursery_has_a_process_of_its_own(production: Production, returned: dict[str, Any]) -> None:
    # And a setting of its own, for which the worker has another one.
    variables = {"env": {"OMP_NUM_THREADS": "1", "PREFECT_WORKER_QUERY_SECONDS": "7"}}
    nursery = psutil.Process(production.pid("nursery"))
    assert until(lambda: nursery.children() == [], 30), "a run before it goes on"
    run = production.submit("return", {"reference": f"{MODEL}@latest"}, job_variables=variables)["id"]
    production.reaches(run, {"RUNNING"})
    engine = process_of(production, run)
    assert "prefect.engine" in engine.cmdline()
    assert engine.environ()["PREFECT_WORKER_QUERY_SECONDS"] == "7"
    assert nursery.children() == []
    assert production.reaches(run, ENDED)["state"]["type"] == "COMPLETED", production.complaint(run)


def test_switches_of_the_ui_survive_a_new_installation(production: Production) -> None:
    with production.api() as api:
        deployment = api.get("/deployments/name/saved-model/saved-model").json()
        (nightly,) = deployment["schedules"]
        api.patch(f"/deployments/{deployment['id']}/schedules/{nightly['id']}", json={"active": True}).raise_for_status()
        api.post("/automations/filter").raise_for_status()
        (downstream,) = [a for a in api.post("/automations/filter").json() if a["name"] == "return what was published"]
        api.patch(f"/automations/{downstream['id']}", json={"enabled": False}).raise_for_status()
    (production.folder / "installed").unlink()

    document = production.up().document

    assert [d["schedules"] for d in document["deployments"] if d["name"] == "saved-model/saved-model"] == [1]
    assert {"name": "return what was published", "enabled": False} in document["automations"]
    assert "paused: `prefect automation resume 'return what was published'`" in document["others"]["automations"]["detail"]


def test_down_cancels_what_does_not_end_and_leaves_neither_process_nor_port(production: Production) -> None:
    endless = production.submit(MODEL, SMALL | {"training": {"epochs": 10_000}})["id"]
    production.reaches(endless, {"RUNNING"})
    ports = production.listening()

    result = production.home.run("down", "--timeout", "2", "--json")

    assert result.code == 0, result.err
    assert (len(result.document["cancelled"]), result.document["clean"]) == (1, True)
    assert until(lambda: not production.home.processes(), 30), [p.cmdline() for p in production.home.processes()]
    assert not [port for _, port in ports if listens(port)]
    assert production.home.run("status").code == 4
    assert production.home.run("down").out == "It was not up.\n"

    production.up()
    assert production.run(endless)["state"]["type"] == "CANCELLED"
    assert MODEL in [m["model"] for m in production.home.run("list", "--json").document["models"]]
    production.completes("return", {"reference": f"{MODEL}@latest"})


def test_down_lets_a_run_end(production: Production) -> None:
    run = production.submit("return", {"reference": f"{MODEL}@latest"})["id"]
    production.reaches(run, {"RUNNING"})
    name = production.run(run)["name"]

    result = production.home.run("down", "--timeout", str(PATIENCE), "--json", seconds=2 * PATIENCE)

    assert (result.document["ended"], result.document["cancelled"]) == ([name], [])
    assert f"Waiting for {name}; what still runs in {PATIENCE:.0f} s is cancelled" in result.err


def test_in_the_foreground_it_tells_its_manager_when_it_is_up_and_ends_in_order(production: Production) -> None:
    production.home.run("down", "--timeout", "0")
    address = production.home.folder / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        manager.settimeout(PATIENCE)
        up = production.home.start("up", "--foreground", NOTIFY_SOCKET=str(address))

        assert manager.recv(100) == b"READY=1"
        assert production.home.run("status").code == 0
        assert up.poll() is None
        up.send_signal(signal.SIGTERM)
        assert manager.recv(100) == b"STOPPING=1"

    out, err = up.communicate(timeout=PATIENCE)
    assert up.returncode == 0, err
    assert out.endswith("Down.\n")
    assert until(lambda: not production.home.processes(), 30), [p.cmdline() for p in production.home.processes()]


def test_an_interrupted_up_ends_what_it_started(production: Production) -> None:
    production.home.run("down", "--timeout", "0")
    up = production.home.start("up")
    assert until(
        lambda: production.folder.joinpath("state.json").exists() and len(production.home.processes()) > 3, PATIENCE
    )

    up.send_signal(signal.SIGINT)

    # For a shell both are 130. CPython ends by the signal where it came in the midst of an `exec` (a dataclass being made).
    assert up.wait(PATIENCE) in (130, -signal.SIGINT)
    assert until(lambda: not production.home.processes(), 30), [p.cmdline() for p in production.home.processes()]


@pytest.fixture
def open_home() -> Iterator[Home]:
    """A home that PostgreSQL's user can pass through where we are root: pytest's folders are closed."""
    folder = Path(tempfile.mkdtemp(prefix="roundtrip-up-"))
    folder.chmod(0o711)
    (folder / "data").mkdir(mode=0o711)
    yield Home(folder, {})
    shutil.rmtree(folder)


def test_postgres_and_redis_of_its_own(open_home: Home) -> None:
    missing = [name for name in ("redis-server", "initdb") if not _installed(name)]
    if missing and os.environ.get("CI") != "true":
        pytest.skip(f"no {', '.join(missing)}: apt-get install postgresql redis-server")
    production = Production(open_home)
    try:
        # That an event is kept and a run is scheduled on them is part of being up; test_machines.py has runs on such.
        document = production.up("--postgres", "start", "--redis", "start").document
        assert set(document["others"]) >= {"postgres", "redis", "services", "scheduling"}

        assert not (production.folder / "prefect" / "prefect.db").exists()
        assert {ip for ip, _ in production.listening()} == {"127.0.0.1"}
        secrets = {name: production.plan[name]["password"].encode() for name in ("postgres", "redis")}
        assert not [line for line in _arguments(open_home) for secret in secrets.values() if secret in line]
        assert open_home.run("down", "--json").document["clean"]
        assert until(lambda: not open_home.processes(), 30)
        plan = "data/roundtrip/up/plan.json"
        assert _holding(open_home, secrets) == {"postgres": {plan}, "redis": {plan, "data/roundtrip/up/redis/redis.conf"}}
    finally:
        production.end()


def _installed(program: str) -> bool:
    return shutil.which(program) is not None or any(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))
