"""A production that a benchmark can look into: the parts of `up`, started one by one, and workers with one place each.

Requests to the API are counted by the server itself (`counted_app`), those to the store by a proxy where one is asked for.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from flows.production import checks, databases
from flows.production.api import Api
from flows.production.parts import POOL, ROOT, Part, client_environment, parts_of
from flows.production.plan import decide, folder, logs_folder
from tasks.nursery import die_with_parent
from tests.benchmarks.counted_app import FILE, NOT_COUNTED

_PATIENCE = 600.0
_INSTALL = """
from flows.production.install import install
from flows.production.plan import Plan
install(Plan.load())
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """What had been counted at a moment.

    Attributes:
        api: Requests to Prefect's API, by method and path; messages over its websockets as SOCKET.
        rows: In each table of the database (PostgreSQL only).
        sizes: Bytes: of the database, of Redis' memory, and of the store's objects.
        cpu: Seconds of `server` (with databases) and `workers`, descendants included.
    """

    at: float
    api: Counter[str]
    rows: Counter[str]
    sizes: Counter[str]
    cpu: dict[str, float]


@dataclass
class Machines:
    """Server, databases and workers; the store is the one that this process' environment names."""

    postgres: bool
    api_servers: int = 1
    running: list[tuple[str, subprocess.Popen[bytes]]] = field(default_factory=list)

    def __enter__(self) -> Self:
        os.environ["XDG_DATA_HOME"] = tempfile.mkdtemp(prefix="roundtrip-benchmark-")
        Path(os.environ["XDG_DATA_HOME"]).chmod(0o711)  # for PostgreSQL's user
        own = "start" if self.postgres else None
        self.plan = decide(None, None, own, own, {}, self.api_servers)
        for place in (folder(), logs_folder(), folder() / "prefect"):
            place.mkdir(mode=0o700, parents=True)
        if self.plan.postgres and self.plan.redis:
            databases.prepare_postgres(folder() / "postgres", self.plan.postgres)
            databases.prepare_redis(folder() / "redis", self.plan.redis)
        self.plan.save()
        self.requests, self.api = folder() / "requests", Api(self.plan)
        self.requests.touch()
        *parts, self._worker = parts_of(self.plan, os.environ)
        assert self._worker.name == "worker"
        for part in parts:
            for need in part.needs:
                self._until(lambda need=need: checks.answers(self.plan, need), need)
            self._start(part.name, part, [word.replace("flows.server_app:", "tests.benchmarks.counted_app:")
                                          for word in part.command])  # fmt: skip
        self._until(lambda: checks.answers(self.plan, "server"), "server")
        subprocess.run([sys.executable, "-c", _INSTALL], cwd=ROOT, env=self.client(), check=True)
        self._shipped = {d["id"]: d["global_concurrency_limit"]["limit"] for d in self.ask("/deployments/filter")}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for _, process in reversed(self.running):
            with suppress(psutil.Error):
                for child in psutil.Process(process.pid).children(recursive=True):
                    with suppress(psutil.Error):
                        child.kill()
            process.kill()
            process.wait()
        if error is None:
            shutil.rmtree(os.environ["XDG_DATA_HOME"], ignore_errors=True)

    def client(self) -> dict[str, str]:
        """The environment of a program that uses server and store."""
        return os.environ | client_environment(self.plan)

    @contextmanager
    def workers(self, count: int) -> Iterator[None]:
        """So many workers, each with one place."""
        before = len(self.running)
        for number in range(count):
            name = f"worker-{number}"
            options = f"--pool {POOL} --type process --limit 1 --name {name}"
            self._start(name, self._worker, [sys.executable, "-m", "prefect", "worker", "start", *options.split()])
        names = {f"worker-{number}" for number in range(count)}
        started = time.time()
        self._until(lambda: names <= self._online(started), "workers")
        try:
            yield
        finally:
            for _, process in self.running[before:]:
                process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(60)
                process.kill()
                process.wait()
            del self.running[before:]

    def limit_runs(self, most: int | None) -> None:
        """So many runs of each deployment at a time; None is what prefect.yaml says: one of each scenario, two returns."""
        for deployment, shipped in self._shipped.items():
            self.api.patch(f"/deployments/{deployment}", {"concurrency_limit": most or shipped})

    def switch_automations_off(self) -> None:
        """From now on no event starts anything."""
        for automation in self.ask("/automations/filter"):
            self.api.patch(f"/automations/{automation['id']}", {"enabled": False})

    def submit(self, scenario: str, parameters: Mapping[str, Any]) -> str:
        """Have a deployment run; the run's id."""
        deployment = self.api.get(f"/deployments/name/{scenario}/{scenario}{NOT_COUNTED}")["id"]
        run = self.api.post(f"/deployments/{deployment}/create_flow_run", {"parameters": dict(parameters)})
        return str(run["id"])

    def ended(self, flow: str) -> list[dict[str, Any]]:
        """All runs of a flow that ended, the newest first."""
        question = {
            "flows": {"name": {"any_": [flow]}},
            "flow_runs": {"state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED"]}}},
        }
        return list(self.ask("/flow_runs/filter", question | {"sort": "END_TIME_DESC"}))

    def wait_for(self, flow: str, count: int) -> None:
        """Return when so many runs of a flow have completed."""

        def there() -> bool:
            runs = self.ended(flow)
            lost = [run["state"] for run in runs if run["state"]["type"] != "COMPLETED"]
            assert not lost, lost
            return len(runs) >= count

        self._until(there, f"{count} runs of {flow}")

    def ask(self, path: str, body: Any = None) -> Any:
        """A question of the benchmark itself, which is not counted."""
        return self.api.post(path + NOT_COUNTED, body)

    def look(self) -> Seen:
        """Count everything."""
        api = Counter(self.requests.read_text().splitlines())
        rows, sizes = asyncio.run(self._rows()) if self.plan.postgres else (Counter[str](), Counter[str]())
        if self.plan.redis:
            import redis

            sizes["redis"] = int(redis.Redis.from_url(self.plan.redis.url).info("memory")["used_memory"])  # type: ignore[index]
        else:
            sizes["database"] = sum(path.stat().st_size for path in (folder() / "prefect").glob("prefect.db*"))
        cpu = {"server": 0.0, "workers": 0.0}
        for name, process in self.running:
            cpu["workers" if name.startswith("worker") else "server"] += cpu_of(process.pid)
        return Seen(time.monotonic(), api, rows, sizes, cpu)

    def settle(self) -> None:
        """Return when the server has written what it has to write: events come late."""
        before, since = -1, time.monotonic()
        while (now := asyncio.run(self._rows())[0].total()) != before and time.monotonic() < since + 60:
            before = now
            time.sleep(4)

    async def _rows(self) -> tuple[Counter[str], Counter[str]]:
        import asyncpg

        assert self.plan.postgres is not None
        database = await asyncpg.connect(self.plan.postgres.url.replace("+asyncpg", ""))
        try:
            tables = [row[0] for row in await database.fetch("select tablename from pg_tables where schemaname = 'public'")]
            rows = Counter({table: await database.fetchval(f'select count(*) from "{table}"') for table in tables})
            await database.execute("checkpoint")
            return rows, Counter({"database": await database.fetchval("select pg_database_size('prefect')")})
        finally:
            await database.close()

    def _online(self, since: float) -> set[str]:
        pool = self.ask("/work_pools/roundtrip/workers/filter")
        return {w["name"] for w in pool if w["status"] == "ONLINE" and _seconds(w["last_heartbeat_time"]) > since - 1}

    def _start(self, name: str, part: Part, command: list[str]) -> None:
        with (logs_folder() / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                command, env=dict(part.environment) | {FILE: str(self.requests)}, user=part.user,
                cwd="/" if part.user else ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=die_with_parent,
            )  # fmt: skip
        self.running.append((name, process))

    def _until(self, condition: Any, what: str) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not condition():
            dead = [name for name, process in self.running if process.poll() is not None]
            assert not dead, f"{dead[0]} died:\n{(logs_folder() / f'{dead[0]}.log').read_text()[-3000:]}"
            assert time.monotonic() < deadline, f"still not: {what}; {logs_folder()} has the logs"
            time.sleep(0.3)


def cpu_of(pid: int) -> float:
    """CPU seconds of a process and all that it started; what ended counts where its parent has waited for it."""
    total = 0.0
    with suppress(psutil.Error):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.Error):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
    return total


def _seconds(moment: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(moment).timestamp()


def requests_of(after: Seen, before: Seen) -> tuple[int, int]:
    """Requests over HTTP, and messages over websockets."""
    found = after.api - before.api
    messages = sum(number for name, number in found.items() if name.startswith("SOCKET"))
    return found.total() - messages, messages


def per(after: Counter[str], before: Counter[str], count: int) -> dict[str, float]:
    """How much of each came for each of `count`, the most first."""
    return {name: round(number / count, 2) for name, number in (after - before).most_common()}
