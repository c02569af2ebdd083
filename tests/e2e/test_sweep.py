"""`python -m flows sweep` at a desk, and `--runner dask` and `ray` of `fidelity`: real processes, real servers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from tests.e2e.commands import ROOT, Home, Result, end_of, until

pytestmark = pytest.mark.e2e

_DATA = "tasks.definitions.families.plain:classes"
# The second half of the grid can't be built.
_SWEEP = ["sweep", "weights-h5", "--model", "tests.user_models:dense", "--data", _DATA, "--name", "swept", "--json",
          "--grid", "hidden=4,0", "--grid", "learning_rate=0.0001,0.05", "--grid", "epochs=2"]  # fmt: skip
_CELLS = ["fidelity", "--no-built-in", "--model", "tests.e2e.fidelity_models:deadly", "--data", _DATA, "--json",
          "--format", "saved-model", "--format", "weights-h5", "--epochs", "1", "--workers", "1"]  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, warm: dict[str, str]) -> Home:
    return Home(tmp_path_factory.mktemp("home"), warm)


@pytest.fixture(scope="module")
def swept(home: Home) -> Iterator[Result]:
    result = end_of(home.start(*_SWEEP, cwd=ROOT))
    assert result.code == 0, result.err
    yield result
    assert home.processes() == []


def test_the_best_is_proved_and_only_it_is_latest(swept: Result, home: Home) -> None:
    document = swept.document
    runs, best = document["runs"], document["best"]
    assert (document["sweep"]["metric"], document["sweep"]["goal"]) == ("val_accuracy", "max")
    assert best["parameters"] == {"hidden": 4, "learning_rate": 0.05, "epochs": 2}
    assert best["metrics"]["val_accuracy"] > runs[0]["metrics"]["val_accuracy"]
    assert best["verdict"]["passed"] is True and best["latest"] is True
    shown = home.run("show", "swept", "--json").document
    assert shown["aliases"] == {"latest": best["version"]}
    assert sorted(shown["versions"]) == sorted([runs[0]["version"], best["version"]])


def test_a_combination_that_fails_is_a_row_and_no_end(swept: Result) -> None:
    runs = swept.document["runs"]
    assert [run["parameters"]["hidden"] for run in runs] == [4, 4, 0, 0]
    assert [run["error"] and run["error"]["kind"] for run in runs] == [None, None, "input", "input"]
    assert swept.document["sweep"]["failed"] == 2


def test_gc_knows_of_the_others(swept: Result, home: Home) -> None:
    kept = home.run("gc", "swept", "--keep-last", "1", "--json").document["kept"]
    assert kept == {"has an alias": 1, "a trial of a sweep, for a while": 1}


@pytest.mark.parametrize("runner", ["dask", "ray"])
def test_cells_fan_out_over_a_cluster_on_loopback_of_which_nothing_is_left(home: Home, runner: str) -> None:
    command = home.start(*_CELLS, "--runner", runner, cwd=ROOT)
    seen: set[str] = set()
    assert until(lambda: _watched(home, seen, command), 500)
    result = end_of(command)

    assert result.code == 0, result.err
    cells: dict[str, Any] = {cell["format"]: cell for cell in result.document["cells"]}
    assert (cells["saved-model"]["status"], cells["weights-h5"]["status"]) == ("kept", "crashed")
    assert cells["weights-h5"]["why"].startswith("saving: The process was killed by SIGSEGV")
    assert seen <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"} and seen
    assert until(lambda: home.processes() == [], 15), [" ".join(p.cmdline()) for p in home.processes()]


def _watched(home: Home, seen: set[str], command: Any) -> bool:
    """Take down at which addresses anybody listens; true once the command is over."""
    for process in home.processes():
        try:
            seen |= {c.laddr.ip for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN}
        except psutil.Error:
            continue
    time.sleep(0.4)  # looking costs the processor that the others need
    return command.poll() is not None
