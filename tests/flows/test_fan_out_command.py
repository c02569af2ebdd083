"""`python -m flows fan-out`: what it takes, before any server is asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from flows.commands.fan_out import fan_out
from tasks.errors import InputError

JOB = {"scenario": "weights-h5", "name": "digits"}


@pytest.mark.parametrize(
    ("jobs", "options", "says"),
    [
        ("{", (), "Invalid JSON"),
        ("[]", (), "names no job"),
        (json.dumps([JOB, {"scenario": "weights-h5"}]), (), r"jobs.json\[1\]\['name'\]: Field required"),
        (json.dumps([JOB]), ("--params", "epochs=3"), "--params is no JSON"),
        (json.dumps([JOB]), ("--params", "[]"), "--params takes an object"),
        (json.dumps([JOB]), (), "python -m flows up"),
    ],
)
def test_what_can_not_work_is_refused_with_what_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: str, options: tuple[str, ...], says: str
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    file = tmp_path / "jobs.json"
    file.write_text(jobs)

    with pytest.raises(InputError, match=says):
        CliRunner().invoke(fan_out, [str(file), *options], catch_exceptions=False)
