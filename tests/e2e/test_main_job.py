"""The main job as a user meets it: nothing configured, one command, then the commands that follow."""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from tests.e2e.commands import ROOT, Home, Result, end_of, listens, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

SCENARIOS = ["saved-model", "weights-h5", "full-h5"]
VERDICT = {
    "passed", "intact", "safe", "loads", "weights_equal", "outputs_equal", "max_abs_diff", "resumable", "findings",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Job:
    home: Home
    result: Result
    left: list[str]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Job]:
    """The main job, run once, as README has it: from the checkout, with nothing on the import path."""
    home = Home(tmp_path_factory.mktemp("home"), {})
    result = home.run("--json", cwd=ROOT, PYTHONPATH="")
    yield Job(home, result, [" ".join(p.cmdline()) for p in home.processes()])
    for process in home.processes():  # only what a failed test left
        process.kill()


@pytest.fixture(scope="module")
def runs(job: Job) -> list[dict[str, Any]]:
    assert job.result.code == 0, job.result.err
    return job.result.document["runs"]


def assert_nothing_runs(home: Home, seconds: float = 1.0) -> None:
    assert until(lambda: not home.processes(), seconds), [" ".join(p.cmdline()) for p in home.processes()]
    assert [port for port in home.ports() if listens(port)] == []


# The job


def test_the_job_runs_the_three_scenarios(runs: list[dict[str, Any]]) -> None:
    assert [run["scenario"] for run in runs] == SCENARIOS
    assert [run["model"] for run in runs] == SCENARIOS


def test_each_run_has_the_documented_members(runs: list[dict[str, Any]]) -> None:
    for run in runs:
        assert {"scenario", "model", "version", "uri", "bytes", "metrics", "verdict"} <= run.keys()
        assert run["verdict"].keys() >= VERDICT
        assert run["uri"] == f"s3://models/{run['model']}/versions/{run['version']}"
        assert run["bytes"] > 100_000


@pytest.mark.parametrize("number", range(3), ids=SCENARIOS)
def test_each_verdict_passed_in_all_points(runs: list[dict[str, Any]], number: int) -> None:
    verdict = runs[number]["verdict"]
    for point in ("passed", "intact", "safe", "loads", "weights_equal", "outputs_equal"):
        assert verdict[point] is True, point
    assert verdict["max_abs_diff"] == 0.0
    assert verdict["findings"] == []
    # A SavedModel is a graph that can't be trained on.
    assert verdict["resumable"] is (None if number == 0 else True)


def test_the_models_learned_something(runs: list[dict[str, Any]]) -> None:
    for run in runs:
        assert 0.9 < run["metrics"]["val_accuracy"] <= 1.0


def test_every_process_that_verified_is_another_one(runs: list[dict[str, Any]]) -> None:
    assert len({run["verdict"]["environment"]["pid"] for run in runs}) == 3


def test_the_job_prints_one_document_and_tells_its_progress_on_stderr(job: Job) -> None:
    assert job.result.out.startswith("{")
    assert job.result.out.rstrip().endswith("}")
    for scenario in SCENARIOS:
        assert f"{scenario}: epoch 5/5" in job.result.err
    assert "Traceback" not in job.result.err


def test_the_job_leaves_no_process_and_no_port(job: Job) -> None:
    assert job.left == []
    assert [port for port in job.home.ports() if listens(port)] == []


# What follows, in the same home


def test_no_run_sends_heartbeats_to_a_server_that_watches_none(job: Job, runs: list[dict[str, Any]]) -> None:
    """Each flow would wait at its end for the thread that sends them."""
    with contextlib.closing(sqlite3.connect(job.home.folder / "data/roundtrip/prefect/prefect.db")) as database:
        events = {name for (name,) in database.execute("SELECT DISTINCT event FROM events")}
    assert "prefect.flow-run.Completed" in events
    assert "prefect.flow-run.heartbeat" not in events


def test_list_shows_the_models_of_the_job(job: Job, runs: list[dict[str, Any]]) -> None:
    result = job.home.run("list", "--json")
    assert result.code == 0, result.err
    shown = {m["model"]: m["latest"] for m in result.document["models"]}
    assert {run["model"]: run["version"] for run in runs}.items() <= shown.items()
    assert_nothing_runs(job.home)


def test_show_tells_a_version_in_words(job: Job, runs: list[dict[str, Any]]) -> None:
    result = job.home.run("show", f"weights-h5@{runs[1]['version']}", COLUMNS="200")
    assert result.code == 0, result.err
    for words in (runs[1]["uri"], "latest", "tasks.definitions.builtin:mlp", "passed", "TensorFlow"):
        assert words in result.out
    assert result.err == ""


def test_return_brings_a_saved_model_that_plain_tensorflow_loads(
    job: Job, runs: list[dict[str, Any]], tmp_path: Path
) -> None:
    to = tmp_path / "digits"
    result = job.home.run("return", f"saved-model@{runs[0]['version']}", "--to", str(to), "--json")
    assert result.code == 0, result.err
    document = result.document
    assert document.keys() >= {"model", "version", "uri", "path", "format", "verdict"}
    assert (document["model"], document["version"]) == ("saved-model", runs[0]["version"])
    assert (document["path"], document["format"]) == (str(to), "saved-model")
    assert document["verdict"]["passed"] is True
    assert {p.name for p in to.iterdir()} >= {"model", "probe.npz", "manifest.json"}
    program = """
import json, sys
import numpy as np, tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1] + "/model")
serve = loaded.signatures["serving_default"]
(name,) = serve.structured_input_signature[1]
probe = np.load(sys.argv[1] + "/probe.npz")
(y,) = serve(**{name: tf.constant(probe["x"])}).values()
np.save(sys.argv[2], y.numpy())
print(json.dumps(sorted(m for m in sys.modules if m.split(".")[0] in {"tasks", "flows", "prefect"})))
"""
    plain = end_of(job.home.python("-c", program, str(to), str(tmp_path / "y.npy"), cwd=tmp_path, PYTHONPATH=""))
    assert plain.code == 0, plain.err
    assert plain.document == []
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), np.load(to / "probe.npz")["y"], rtol=0, atol=1e-5)
    assert_nothing_runs(job.home)


def test_a_program_gets_its_model_without_prefect(job: Job, runs: list[dict[str, Any]]) -> None:
    program = """
import json, sys
import numpy as np
from tasks import load_model
model = load_model("full-h5")
x, y = np.random.default_rng(0).normal(size=(64, 784)).astype("float32"), np.arange(64) % 10
before = model.get_weights()[0].copy()
model.fit(x, y, verbose=0)
served = load_model("saved-model@" + sys.argv[1])
print(json.dumps({
    "outputs": np.asarray(model(x)).shape, "moved": bool((before != model.get_weights()[0]).any()),
    "served": np.asarray(served(x)).shape, "epochs": len(served.history.curves["loss"]),
    "prefect": "prefect" in sys.modules,
}))
"""
    result = end_of(job.home.python("-c", program, runs[0]["version"]))
    assert result.code == 0, result.err
    assert result.document == {"outputs": [64, 10], "moved": True, "served": [64, 10], "epochs": 5, "prefect": False}
    assert_nothing_runs(job.home)


def test_two_jobs_at_once_share_the_servers_and_both_succeed(job: Job, runs: list[dict[str, Any]]) -> None:
    arguments = ("run", "weights-h5", "--epochs", "1", "--json", "--name")
    both = [job.home.start(*arguments, name) for name in ("first", "second")]
    stores, servers = set(), set()
    while any(process.poll() is None for process in both):
        for process in job.home.processes():
            with contextlib.suppress(psutil.Error):
                line = process.cmdline()
                stores |= {process.pid} if "mini" in line else set()
                # What the server starts is a copy of it until it becomes another program.
                servers |= {process.pid} if "flows.prompt_server" in line and process.ppid() not in servers else set()
        until(lambda: all(process.poll() is not None for process in both), 0.3)
    results = [end_of(process) for process in both]
    assert [r.code for r in results] == [0, 0], [r.err for r in results]
    assert [r.document["runs"][0]["verdict"]["passed"] for r in results] == [True, True]
    assert (len(stores), len(servers)) == (1, 1)
    assert_nothing_runs(job.home)


# Ends that nobody planned


def started(home: Home, name: str, line: str) -> subprocess.Popen[str]:
    """A job that has just said a line on stderr."""
    process = home.start("run", "saved-model", "--name", name, "--epochs", "400" if "epoch" in line else "1", "--json")
    assert process.stderr is not None
    said = []
    for text in process.stderr:
        said.append(text)
        if line in text:
            return process
    raise AssertionError("".join(said))


def versions_of(home: Home, name: str) -> list[dict[str, Any]]:
    result = home.run("list", "--json")
    assert result.code == 0, result.err
    return [m for m in result.document["models"] if m["model"] == name]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_an_interrupted_job_stops_everything_and_publishes_nothing(
    job: Job, runs: list[dict[str, Any]], number: signal.Signals
) -> None:
    process = started(job.home, f"interrupted-{number}", "epoch 1/")
    process.send_signal(number)
    result = end_of(process, seconds=30)
    assert result.code == 130, result.err
    assert json.loads(result.out)["error"]["kind"] == "interrupted"
    assert "Traceback" not in result.err
    assert_nothing_runs(job.home)
    assert versions_of(job.home, f"interrupted-{number}") == []


def test_ctrl_c_during_the_proof_leaves_a_whole_version_that_is_not_latest(job: Job, runs: list[dict[str, Any]]) -> None:
    process = started(job.home, "unproved", "published")
    process.send_signal(signal.SIGINT)
    result = end_of(process, seconds=30)
    assert result.code == 130, result.err
    assert "Traceback" not in result.err
    assert_nothing_runs(job.home)
    (model,) = versions_of(job.home, "unproved")
    assert (model["versions"], model["latest"]) == (1, None)


def test_a_killed_job_takes_everything_with_it_and_publishes_nothing(job: Job, runs: list[dict[str, Any]]) -> None:
    process = started(job.home, "killed", "epoch 1/")
    assert len(job.home.processes()) >= 5, "a trainer, two watchers, two servers"
    process.kill()
    assert end_of(process).code == -signal.SIGKILL
    assert_nothing_runs(job.home, seconds=12)
    assert versions_of(job.home, "killed") == []
