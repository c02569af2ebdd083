"""What a job costs under `python -m flows up`, forked from the nursery that stands there, and without one; in turns.

Scheduled: a run of `return` by the worker, as it begins them and as Prefect's own worker does. At a desk: a small training,
published and proved.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from tests.benchmarks.harness import bar

_DESK = ("run", "weights-h5", "--epochs", "1", "--json")
# With this setting our worker leaves a run to Prefect.
_PREFECTS = {"env": {"PREFECT_RUNNER_AUTO_INSTALL_DEPENDENCIES": "false"}}


def measure(rounds: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Two rows for each kind of job: median wall seconds of the job, and CPU seconds of the whole machine."""
    from tests.e2e.commands import Home
    from tests.e2e.production import Production

    with tempfile.TemporaryDirectory() as folder:
        production = Production(Home(Path(folder), {}))
        try:
            production.up()
            return _measure(rounds, production)
        finally:
            production.end()


def _measure(rounds: int, production: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    def scheduled(**more: Any) -> float:
        run = production.run(production.submit("return", {"reference": "weights-h5@latest"}, **more)["id"])
        end = production.reaches(run["id"], {"COMPLETED"})
        with production.api() as api:
            states = api.get("/flow_run_states/", params={"flow_run_id": run["id"]}).raise_for_status().json()
        taken = next(state["timestamp"] for state in states if state["type"] == "PENDING")
        return (datetime.fromisoformat(end["end_time"]) - datetime.fromisoformat(taken)).total_seconds()

    def desk(**more: str) -> float:
        started = time.perf_counter()
        assert production.home.run(*_DESK, **more).code == 0
        return time.perf_counter() - started

    jobs: dict[str, Callable[[], float]] = {
        "scheduled return, nursery": scheduled,
        "scheduled return, Prefect's own process": lambda: scheduled(job_variables=_PREFECTS),
        "desk, nursery": desk,
        "desk, one of its own": lambda: desk(ROUNDTRIP_NURSERY="off"),
    }
    desk()  # the first version
    with production.api() as api:  # no event is to start a run beside what is measured
        (downstream,) = [a for a in api.post("/automations/filter").json() if a["name"] == "return what was published"]
        api.patch(f"/automations/{downstream['id']}", json={"enabled": False}).raise_for_status()
    time.sleep(20)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, job in jobs.items():
            before = _busy()
            wall = job()
            time.sleep(2)  # its last words
            found[name].append((wall, _busy() - before))
    rows = [
        {"job": name, "wall_s": statistics.median(w for w, _ in runs), "cpu_s": statistics.median(c for _, c in runs)}
        for name, runs in found.items()
    ]
    memory = psutil.Process(production.pid("nursery")).memory_full_info()
    rows.append({"nursery": "at rest", "private_mb": memory.uss / 1e6, "rss_mb": memory.rss / 1e6})
    return rows, {
        "scheduled return, wall": bar(rows[0]["wall_s"] / rows[1]["wall_s"], "<= 0.6"),
        "scheduled return, CPU": bar(rows[0]["cpu_s"] / rows[1]["cpu_s"], "<= 0.6"),
        "desk, wall": bar(rows[2]["wall_s"] / rows[3]["wall_s"], "<= 0.7"),
        "desk, CPU": bar(rows[2]["cpu_s"] / rows[3]["cpu_s"], "<= 0.7"),
    }


def _busy() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq)
