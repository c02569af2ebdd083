"""Every scenario by the command, and what the rehearsal keeps out of the store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flows.scenarios import MAIN_JOB, SCENARIOS
from tasks.serialization import FORMATS
from tests import samples
from tests.e2e.commands import ROOT, Home, end_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

BEYOND = [name for name in SCENARIOS if name not in MAIN_JOB]
MODELS = ROOT / "tests" / "silent_models.py"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, warm: dict[str, str]) -> Home:
    return Home(tmp_path_factory.mktemp("home"), warm)


def run_hidden(folder: Path) -> list[str]:
    """Train the model of S8, whose weights Keras does not find, and store its weights."""
    data = samples.classes()
    np.savez(folder / "data.npz", x=data.x, y=data.y)
    return ["run", "weights-h5", "--model", f"{MODELS}:hidden", "--data", str(folder / "data.npz"), "--epochs", "1"]


def test_every_format_has_its_scenario() -> None:
    assert set(SCENARIOS) == set(FORMATS)


def test_each_scenario_is_published_and_proved(home: Home) -> None:
    result = end_of(home.start("run", *BEYOND, "--epochs", "1", "--json"), seconds=800)

    assert result.code == 0, result.err
    runs = {run["scenario"]: run for run in result.document["runs"]}
    assert list(runs) == BEYOND
    for name, run in runs.items():
        verdict = run["verdict"]
        assert (verdict["passed"], verdict["outputs_equal"], run["latest"]) == (True, True, True), name
        # Exports fold weights into others: not measured is not false.
        assert verdict["weights_equal"] is (True if "weights" in FORMATS[name].promises else None)


def test_what_can_not_be_returned_is_not_published(home: Home) -> None:
    refused = home.run(*run_hidden(home.folder), "--name", "lost")
    listed = home.run("list", "--json")

    assert refused.code == 1
    assert refused.errors == [
        "error: lost was not published: brought back from weights-h5, it is not the model that was trained."
    ]
    assert "kernel: other values" in refused.err
    assert "held under a name that Keras uses itself" in refused.err
    assert "lost" not in [m["model"] for m in listed.document["models"]]


def test_without_a_rehearsal_the_return_finds_it_and_latest_stays_where_it_was(home: Home) -> None:
    result = home.run(*run_hidden(home.folder), "--name", "late", "--no-rehearsal", "--json")
    listed = home.run("list", "--json")

    assert result.code == 1
    assert result.document["runs"][0]["verdict"]["weights_equal"] is False
    assert [m["latest"] for m in listed.document["models"] if m["model"] == "late"] == [None]
