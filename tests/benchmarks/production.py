"""What production costs: Prefect's part of a run, runs an hour of one and more workers, and what grows with what.

The model is tiny (784-64-10, 160 examples, one epoch, no rehearsal), so that what is measured is everything around it. A
*model* is two runs: `weights-h5`, which publishes it, and `return`, which the event of that starts and which proves it.
Store and machine are shared by all parts; each row has the machine's load when it was measured.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.benchmarks.harness import bar, python, run
from tests.benchmarks.machines import Machines, Seen, cpu_of, per, requests_of
from tests.own_store import s3_variables

SMALL = {"data": {"rows": 200}, "training": {"epochs": 1}, "rehearsal": False}
MODELS = 6  # of one crew of workers
GROWTH, GROWTH_SECONDS = (1, 5, 25, 100), 900.0  # models, of two runs each
IDLE_SECONDS = 20.0
_PLAIN = Path(__file__).parent / "plain"
Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Crew:
    """Workers with one place each, and what they work with; `limits` are those of prefect.yaml, else there are none."""

    postgres: bool
    workers: int
    api_servers: int = 1
    limits: bool = False

    def __str__(self) -> str:
        limits = ", limits as shipped" if self.limits else ""
        return f"workers: {self.workers}, API servers: {self.api_servers}, {_database(self.postgres)}{limits}"


CREWS = (
    Crew(False, 1), Crew(False, 2), Crew(True, 1), Crew(True, 2), Crew(True, 4), Crew(True, 2, limits=True), Crew(True, 2, 2)
)  # fmt: skip


def measure(rounds: int) -> tuple[Rows, dict[str, Any]]:
    """All of it, and the bars: what a model costs must not grow with the number of models."""
    rows: Rows = []
    with a_store() as store:
        rows += overhead(rounds)
        for api_servers, postgres in ((1, False), (1, True), (2, True)):
            rows += crews(api_servers, postgres)
        grown = growth(store)
    return rows + grown, bars(grown)


@dataclass(frozen=True, slots=True)
class Place:
    """The store of all programs of the benchmark, and the way to it that is counted."""

    requests: list[tuple[str, str]]
    by_proxy: Mapping[str, str]

    def size(self) -> Counter[str]:
        """Objects, and the sum of their bytes."""
        from tasks.storage import open_store

        store = open_store()
        pages = store.client.get_paginator("list_objects_v2").paginate(Bucket=store.bucket, Prefix=store.prefix)
        sizes = [each["Size"] for page in pages for each in page.get("Contents", [])]
        return Counter({"objects": len(sizes), "store": sum(sizes)})


@contextmanager
def a_store() -> Iterator[Place]:
    """A new place in an embedded store of the benchmark's own."""
    for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME"):
        os.environ[name] = tempfile.mkdtemp(prefix="roundtrip-benchmark-")
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    from tasks.storage import embedded  # after the folders are set
    from tests.storage.proxy import proxy

    server = embedded.running()
    os.environ |= s3_variables(server.access)
    with proxy(server.access.endpoint) as passing:
        yield Place(passing.seen, {"AWS_ENDPOINT_URL_S3": passing.endpoint})
    server.close()


def overhead(rounds: int) -> Rows:
    """The same work by plain calls of the rooms, by the flows, and by a worker; and how long each step of the way takes."""
    rows: Rows = []
    for what in ("train", "return"):
        plain = [run(python(str(_PLAIN / "rooms.py"), what, f"plain-{n}"), {"PYTHONPATH": "."}) for n in range(rounds)]
        rows.append(_row(f"{what}: plain calls of the rooms", wall_s=_middle(r.wall for r in plain),
                         cpu_s=_middle(r.cpu for r in plain)))  # fmt: skip
    for postgres in (False, True):
        with Machines(postgres) as machines:
            with machines.workers(1):
                ways = [_one(machines, f"deployed-{n}") for n in range(rounds)]
            rows += [
                _row(f"{_database(postgres)}, one run at a time: {step}", seconds=_middle(way[step] for way in ways))
                for step in ways[0]
            ]
            machines.switch_automations_off()
            rows += [_by_flows(machines, what, rounds) for what in ("train", "return")]
    return rows


def crews(api_servers: int, postgres: bool) -> Rows:
    """Runs an hour of more and more workers, all models asked for at once."""
    rows: Rows = []
    with Machines(postgres, api_servers) as machines:
        for crew in [crew for crew in CREWS if (crew.postgres, crew.api_servers) == (postgres, api_servers)]:
            machines.limit_runs(None if crew.limits else 100)
            done = len(machines.ended("return"))
            with machines.workers(crew.workers):
                before = machines.look()
                for _ in range(MODELS):
                    machines.submit("weights-h5", SMALL | {"name": f"m{uuid.uuid4().hex[:8]}"})
                machines.wait_for("return", done + MODELS)
                after = machines.look()
                rows.append(_crew(crew, before, after) | _idle(machines))
    return rows


def growth(store: Place) -> Rows:
    """What each model adds, in a production that has had 2, 10, 50, 200 runs."""
    rows: Rows = []
    with Machines(True) as machines:
        machines.switch_automations_off()
        driver = subprocess.Popen(
            python(str(_PLAIN / "many.py")),
            env=machines.client() | store.by_proxy | {"PYTHONPATH": "."},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert driver.stdin and driver.stdout
        driver.stdout.readline()
        began, done = time.monotonic(), 0
        before, size = machines.look(), store.size()
        del store.requests[:]
        for target in GROWTH:
            left, pace = GROWTH_SECONDS - (time.monotonic() - began), (time.monotonic() - began) / max(done, 1)
            fits = min(target, done + int(left / pace)) if done > 1 else target
            if fits <= done:
                break
            driver.stdin.write(f"{fits}\n")
            driver.stdin.flush()
            assert driver.stdout.readline().strip() == str(fits)
            seconds = time.monotonic() - before.at
            machines.settle()
            after, size_now = machines.look(), store.size()
            rows.append(_grown(done, fits, before, after, size, size_now, list(store.requests), seconds))
            before, size, done = machines.look(), size_now, fits
            del store.requests[:]
        driver.stdin.close()
        driver.wait(60)
    return rows


def bars(grown: Rows) -> dict[str, Any]:
    """What the last models added, to what the first did."""
    second, last = grown[1], grown[-1]
    return {
        f"{what} a model, of the last runs to of runs 3 to 10": bar(last[what] / second[what], "<= 1.2")
        for what in ("api_requests", "socket_messages", "database_rows", "s3_requests", "store_bytes")
    }


def _by_flows(machines: Machines, what: str, rounds: int) -> dict[str, Any]:
    """The flows in a process of their own, and what the server has to do for them."""
    runs, servers = [], []
    for n in range(rounds):
        before = machines.look()
        name = f"flows-{id(machines)}-{n}"
        runs.append(run(python(str(_PLAIN / "flow.py"), what, name), machines.client() | {"PYTHONPATH": "."}))
        servers.append(machines.look().cpu["server"] - before.cpu["server"])
    return _row(f"{what}: the flow, {_database(machines.postgres)}", wall_s=_middle(r.wall for r in runs),
                cpu_s=_middle(r.cpu for r in runs), server_cpu_s=_middle(servers))  # fmt: skip


def _one(machines: Machines, name: str) -> dict[str, float]:
    """Seconds of each step on the way of one model through the worker."""
    worker = machines.running[-1][1].pid
    cpu, done = cpu_of(worker), len(machines.ended("return"))
    first = machines.submit("weights-h5", SMALL | {"name": name})
    machines.wait_for("return", done + 1)
    second = machines.ended("return")[0]["id"]
    (published,) = machines.ask("/events/filter", {"filter": {
        "event": {"name": ["roundtrip.version.published"]},
        "any_resource": {"id": [f"prefect.flow-run.{first}"]},
    }})["events"]  # fmt: skip
    told = datetime.fromisoformat(published["occurred"])
    one, two = _moments(machines, first), _moments(machines, second)
    return {
        "asked for to taken by the worker": _between(one["SCHEDULED"], one["PENDING"]),
        "taken by the worker to the flow's begin": _between(one["PENDING"], one["RUNNING"]),
        "taken by the worker to its first task": _between(one["PENDING"], one["task"]),
        "first task to the run's end": _between(one["task"], one["COMPLETED"]),
        "published to the downstream run made": _between(told, two["SCHEDULED"]),
        "published to the downstream run taken": _between(told, two["PENDING"]),
        "published to the downstream run's first task": _between(told, two["task"]),
        "asked for to proved": _between(one["SCHEDULED"], two["COMPLETED"]),
        "CPU seconds of worker and both runs": cpu_of(worker) - cpu,
    }


def _moments(machines: Machines, identity: str) -> dict[str, datetime]:
    """When a run came into each state first, and when its first task began."""
    states = machines.api.get(f"/flow_run_states/?flow_run_id={identity}")
    found = {
        s["type"]: datetime.fromisoformat(s["timestamp"]) for s in sorted(states, key=lambda s: s["timestamp"], reverse=True)
    }
    tasks: Rows = []
    while not tasks:  # they come late
        tasks = machines.ask("/task_runs/filter", {"flow_runs": {"id": {"any_": [identity]}}})
        time.sleep(0.5)
    return found | {"task": min(datetime.fromisoformat(t["start_time"]) for t in tasks if t["start_time"])}


def _idle(machines: Machines) -> dict[str, float]:
    """What workers that have nothing to do ask, and what server and databases do all the same."""
    before = machines.look()
    time.sleep(IDLE_SECONDS)
    after = machines.look()
    seconds = after.at - before.at
    return {
        "idle_requests_a_minute": round(requests_of(after, before)[0] * 60 / seconds, 1),
        "idle_server_cores": round((after.cpu["server"] - before.cpu["server"]) / seconds, 2),
    }


def _crew(crew: Crew, before: Seen, after: Seen) -> dict[str, Any]:
    seconds = after.at - before.at
    requests, messages = requests_of(after, before)
    return _row(
        str(crew),
        models=MODELS,
        seconds=round(seconds, 1),
        runs_an_hour=round(2 * MODELS * 3600 / seconds),
        server_cpu_s_a_model=round((after.cpu["server"] - before.cpu["server"]) / MODELS, 2),
        workers_cpu_s_a_model=round((after.cpu["workers"] - before.cpu["workers"]) / MODELS, 2),
        api_requests_a_model=round(requests / MODELS),
        socket_messages_a_model=round(messages / MODELS),
        rows_a_model=round((after.rows - before.rows).total() / MODELS) if after.rows else None,
        database_bytes_a_model=round((after.sizes["database"] - before.sizes["database"]) / MODELS),
        most_requests=json.dumps(dict(list(per(after.api, before.api, MODELS).items())[:10])),
        most_rows=json.dumps(dict(list(per(after.rows, before.rows, MODELS).items())[:10])),
    )


def _grown(
    done: int, target: int, before: Seen, after: Seen, size: Counter[str], size_now: Counter[str],
    s3: list[tuple[str, str]], seconds: float,
) -> dict[str, Any]:  # fmt: skip
    count = target - done
    requests, messages = requests_of(after, before)
    kinds = Counter(f"{method} list" if "list-type" in path else method for method, path in s3)
    return _row(
        f"models {done + 1} to {target}, runs {2 * done + 1} to {2 * target}, PostgreSQL",
        seconds_a_model=round(seconds / count, 2),
        api_requests=round(requests / count, 1),
        socket_messages=round(messages / count, 1),
        database_rows=round((after.rows - before.rows).total() / count, 1),
        database_bytes=round((after.sizes["database"] - before.sizes["database"]) / count),
        redis_bytes=round((after.sizes["redis"] - before.sizes["redis"]) / count),
        s3_requests=round(len(s3) / count, 1),
        objects=round((size_now["objects"] - size["objects"]) / count, 1),
        store_bytes=round((size_now["store"] - size["store"]) / count),
        server_cpu_s=round((after.cpu["server"] - before.cpu["server"]) / count, 2),
        by_request=json.dumps(per(after.api, before.api, count)),
        by_table=json.dumps(per(after.rows, before.rows, count)),
        by_s3=json.dumps({kind: round(number / count, 1) for kind, number in kinds.most_common()}),
    )


def _row(what: str, **figures: Any) -> dict[str, Any]:
    row = {"what": what, **figures, "load": round(os.getloadavg()[0], 1)}
    print(json.dumps(row), file=sys.stderr, flush=True)  # it takes half an hour
    return row


def _database(postgres: bool) -> str:
    return "PostgreSQL" if postgres else "SQLite"


def _between(first: datetime, second: datetime) -> float:
    return (second - first).total_seconds()


def _middle(values: Any) -> float:
    return round(statistics.median(values), 2)
