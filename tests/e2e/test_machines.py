"""Many machines, as far as one can stand for them: somebody else's PostgreSQL and Redis, two API servers, two workers.

One production for this module: `up --postgres URL --redis URL --api-servers 2`, the workers by hand as on other machines,
and a fan-out over them.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows.production import databases
from flows.production.parts import NO_MORE_RUNS, POOL
from flows.production.plan import Database
from tasks.shared_server import free_ports
from tests.e2e.commands import ROOT, Home, listens, until
from tests.e2e.production import PATIENCE, SMALL, Production
from tests.servers.processes import Processes, die_with_parent

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

PASSWORD = "of-the-databases"
# Two scenarios: of each its deployment allows one run at a time.
JOBS = [
    {"scenario": "weights-h5", "name": "one"},
    {"scenario": "full-h5", "name": "two"},
    {"scenario": "nobody", "name": "three"},
]


@dataclass(frozen=True, slots=True)
class Machines:
    """The production, and the logs of its two workers."""

    production: Production
    logs: tuple[Path, Path]

    @property
    def api_servers(self) -> list[psutil.Process]:
        """The processes behind the one port."""
        children = psutil.Process(self.production.pid("server")).children()
        return [child for child in children if _lives(child) and "--multiprocessing-fork" in child.cmdline()]


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    missing = [name for name in ("redis-server", "initdb") if not _installed(name)]
    if missing and os.environ.get("CI") != "true":
        pytest.skip(f"no {', '.join(missing)}: apt-get install postgresql redis-server")
    # PostgreSQL's user must be able to pass through where we are root; pytest's folders are closed.
    folder = Path(tempfile.mkdtemp(prefix="roundtrip-machines-"))
    folder.chmod(0o711)
    postgres, redis = free_ports(2)
    home = Home(
        folder / "home",
        {
            # Not as arguments, which everybody on the machine can read.
            "ROUNDTRIP_POSTGRES": f"postgresql://roundtrip:{PASSWORD}@127.0.0.1:{postgres}/prefect",
            "ROUNDTRIP_REDIS": f"redis://:{PASSWORD}@127.0.0.1:{redis}/0",
            "PREFECT_WORKER_QUERY_SECONDS": "2",
        },
    )
    home.folder.mkdir()
    production = Production(home)
    with _databases(folder, postgres, redis), Processes() as workers:
        try:
            production.up("--api-servers", "2")
            os.kill(production.pid("supervisor"), NO_MORE_RUNS)  # its own worker would take all there is
            logs = (folder / "a.log", folder / "b.log")
            for log in logs:
                workers.start(_worker(log.stem), _elsewhere(home), log)
            assert until(lambda: all("started!" in log.read_text() for log in logs), PATIENCE), logs[0].read_text()
            yield Machines(production, logs)
        finally:
            production.end()
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def fanned_out(machines: Machines) -> Any:
    """The document of a fan-out, of which one job can't be started."""
    file = machines.production.home.folder / "jobs.json"
    file.write_text(json.dumps(JOBS))

    options = ("--params", json.dumps(SMALL), "--json")
    result = machines.production.home.run("fan-out", str(file), *options, seconds=2 * PATIENCE)

    assert result.code == 1, result.out + result.err
    return result.document


def test_up_takes_databases_that_others_run_and_starts_none(machines: Machines) -> None:
    document, folder = machines.production.status(), machines.production.folder

    assert not {"postgres", "redis"} & set(document["others"])
    assert document["others"]["services"]["up"]
    assert document["prefect"]["detail"].endswith(", 2 processes")
    assert not (folder / "postgres").exists() and not (folder / "prefect" / "prefect.db").exists()
    assert machines.production.parts()["server"]["restarts"] == 0, machines.production.home.run("logs", "server").out
    assert "another --postgres" in machines.production.home.run("up", "--postgres", "start").err


def test_what_is_fanned_out_is_trained_by_both_workers_proved_and_told(machines: Machines, fanned_out: Any) -> None:
    one, two, three = fanned_out["runs"]

    assert [(run["state"], run["proved"]) for run in (one, two)] == [("Completed", True)] * 2, fanned_out
    listed = {m["model"]: m["latest"] for m in machines.production.home.run("list", "--json").document["models"]}
    assert listed == {"one": one["version"], "two": two["version"]}
    assert all("submitting flow run" in log.read_text() for log in machines.logs)
    assert (three["state"], three["why"]) == ("Not started", "there is no deployment nobody/nobody")
    assert fanned_out["error"]["message"].startswith("Of 3 runs 2 published a version; 0 were refused")


def test_the_table_is_an_artifact_and_the_runs_are_children(machines: Machines, fanned_out: Any) -> None:
    (parent,) = machines.production.runs_of("fan-out")
    children = [machines.production.run(run["flow_run"]) for run in fanned_out["runs"][:2]]
    with machines.production.api() as api:
        question = {"artifacts": {"key": {"any_": ["fan-out"]}}}
        (artifact,) = api.post("/artifacts/filter", json=question).raise_for_status().json()

    assert parent["state"]["type"] == "FAILED"
    assert artifact["flow_run_id"] == parent["id"]
    assert [row["model"] for row in json.loads(artifact["data"])] == ["one", "two", "three"]
    assert all(child["parent_task_run_id"] for child in children)
    assert {child["idempotency_key"] for child in children} == {f"{parent['id']}-{number}" for number in (0, 1)}


def test_one_api_server_that_dies_leaves_the_other_answering_and_comes_back(machines: Machines, fanned_out: Any) -> None:
    victim, survivor = machines.api_servers
    victim.kill()

    assert machines.production.runs_of("fan-out")
    assert until(lambda: len(machines.api_servers) == 2, PATIENCE), machines.production.home.run("logs", "server").out
    assert survivor in machines.api_servers
    assert machines.production.parts()["server"]["restarts"] == 0, "uvicorn brings it back"


def test_api_servers_end_with_the_supervisor_however_it_ends(machines: Machines, fanned_out: Any) -> None:
    port, processes = machines.production.plan["port"], machines.api_servers
    machines.production.kill("supervisor")

    assert until(lambda: not listens(port) and not any(_lives(process) for process in processes), 60)


def _lives(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def _worker(name: str) -> list[str]:
    options = f"--pool {POOL} --type process --limit 1 --name {name}"
    return ["env", f"--chdir={ROOT}", sys.executable, "-m", "prefect", "worker", "start", *options.split()]


def _elsewhere(home: Home) -> dict[str, str]:
    """The environment of a worker on another machine: what `status --exports` says."""
    lines = [shlex.split(line) for line in home.run("status", "--exports").out.splitlines()]
    return home.environment(**dict(word.split("=", 1) for _, word in lines))


@contextmanager
def _databases(folder: Path, postgres: int, redis: int) -> Iterator[None]:
    """PostgreSQL and Redis, run by somebody else."""
    place, user = folder / "postgres", databases.other_user()
    databases.prepare_postgres(place, Database("", postgres, PASSWORD))
    options = f"--bind 127.0.0.1 --port {redis} --requirepass {PASSWORD}"
    commands: dict[tuple[str, ...], str | None] = {
        databases.postgres_command(place, postgres): user,
        (databases.redis_program(), *options.split(), "--save", ""): None,
    }
    running = [
        subprocess.Popen(command, user=owner, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                         preexec_fn=die_with_parent)
        for command, owner in commands.items()
    ]  # fmt: skip
    try:
        assert until(lambda: listens(postgres) and listens(redis), PATIENCE)
        yield
    finally:
        for process in running:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def _installed(program: str) -> bool:
    return shutil.which(program) is not None or any(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))
