"""Schedules that were due while no worker was up, and schedules that are due at once."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.deployments.production import ENDED, START_WORKER, Prefect, eventually, running, tail

pytestmark = pytest.mark.e2e

QUICK = {"data": {"source": "nope.npz"}}  # fails before TensorFlow is needed


def test_late_runs_begin_once_when_a_worker_comes_and_two_schedules_do_not_collide(
    prefect: Prefect, s3_environment: dict[str, str], tmp_path: Path
) -> None:
    since, due = datetime.now(UTC), datetime.now(UTC) + timedelta(seconds=5)
    waits, gives_way = prefect.deployment("weights-h5"), prefect.deployment("gc")
    output = tmp_path / "worker.log"

    def runs(*states: str) -> list[dict[str, Any]]:
        """The four runs that were due, once each of them is in one of the states."""
        found = [run for name in ("weights-h5", "gc") for run in prefect.runs(name, since) if run["auto_scheduled"]]
        due_now = [run for run in found if datetime.fromisoformat(run["expected_start_time"]) < due + timedelta(hours=1)]
        there = len(due_now) == 4 and all({run["state"]["name"], run["state"]["type"]} & set(states) for run in due_now)
        return due_now if there else []

    with ExitStack() as schedules:
        for deployment, parameters in ((waits, QUICK), (waits, QUICK), (gives_way, {}), (gives_way, {})):
            schedules.enter_context(prefect.scheduled(deployment, due, parameters))
            due += timedelta(milliseconds=1)  # the server takes the same time twice for one schedule
        eventually(lambda: runs("Late"), "four runs that are late, for there is no worker")
        with running(START_WORKER, {**prefect.environment, **s3_environment}, output):
            ended = eventually(lambda: runs(*ENDED), "the end of four runs", lambda: tail(output))

    first, second = sorted((r for r in ended if r["deployment_id"] == waits["id"]), key=lambda r: str(r["start_time"]))
    assert {first["state"]["type"], second["state"]["type"]} == {"FAILED"}
    assert first["run_count"] == second["run_count"] == 1
    assert first["end_time"] <= second["start_time"], "the second waits for the slot of the first"
    states = sorted(run["state"]["type"] for run in ended if run["deployment_id"] == gives_way["id"])
    assert states == ["CANCELLED", "COMPLETED"], "of two that would find the same, one is enough"
