"""`sweep` on the command line: what is refused before anything starts, and what people see."""

from __future__ import annotations

from io import StringIO
from typing import Any, get_args

import pytest
from click.testing import CliRunner
from rich.console import Console

from flows import runners, show_sweep, sweep
from flows.cli import cli
from flows.runners import check_runner
from flows.scenarios import SCENARIOS
from tasks.data import DataConfig
from tasks.errors import InputError
from tasks.settings import StoreConfig
from tasks.storage import VersionRef
from tasks.sweeps import Combination, ModelChoice, SweepPlan, Swept, Target, Tried
from tasks.training import TrainingConfig

ID = "01a20a91-4eef-7ca7-beca-f993ce4fed7a"
PLAN = SweepPlan(
    id=ID, scenario="weights-h5", grid={"learning_rate": [0.1, 0.2], "epochs": [3]}, data=DataConfig(), builds=ModelChoice(),
    training=TrainingConfig(), model="digits", store=StoreConfig(), rehearsal=True, keep_seconds=86400,
)  # fmt: skip
VERSION = VersionRef(
    model="digits", version=ID, uri=f"s3://models/digits/versions/{ID}", bytes=5, format="weights-h5",
    metrics={"val_loss": 0.5},
)  # fmt: skip
ERROR = {"kind": "training", "message": "val_loss became nan\n[/x] here", "exit_code": 1}
SWEPT = Swept(
    plan=PLAN,
    target=Target(metric="val_loss", direction="min"),
    runs=[
        Tried(combination=Combination(values={"learning_rate": 0.1, "epochs": 3}), version=VERSION, seconds=2.5),
        Tried(combination=Combination(values={"learning_rate": 0.2, "epochs": 3}), error=ERROR, seconds=1.0),
    ],
    best=0,
    seconds=4,
)


def refused(*arguments: str) -> str:
    result = CliRunner().invoke(cli, ["sweep", *arguments])
    assert result.exit_code != 0
    return str(result.exception) if isinstance(result.exception, InputError) else result.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["weights-h5"], "Missing option '--grid'"),
        (["no-such", "--grid", "epochs=1"], "'no-such' is not one of"),
        (["weights-h5", "--grid", "epochs="], "no value for epochs"),
        (["weights-h5", "--grid", "epochs"], "is not NAME=VALUE"),
        (["weights-h5", "--grid", "seed=" + ",".join(map(str, range(65)))], "65 combinations (65 seed)"),
        (["weights-h5", "--grid", "epochs=1", "--jobs", "256"], "--jobs 256: this machine has"),
        (["weights-h5", "--grid", "epochs=1", "--runner", "sparks"], "There is no runner 'sparks'"),
        (["weights-h5", "--grid", "epochs=1", "--keep", "soon"], "is not an age"),
    ],
)
def test_what_can_not_be_is_refused_before_anything_starts(arguments: list[str], said: str) -> None:
    assert said in refused(*arguments)


@pytest.mark.parametrize("name", ["dask", "ray"])
def test_a_runner_whose_package_is_missing_says_how_to_get_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(runners._PACKAGES, name, "no_such_package")
    with pytest.raises(InputError, match=f"uv sync --extra {name}"):
        check_runner(name)
    for command in (["fidelity"], ["sweep", "weights-h5", "--grid", "epochs=1"]):
        result = CliRunner().invoke(cli, [*command, "--runner", name])
        assert isinstance(result.exception, InputError) and result.exception.exit_code == 2


def test_the_form_has_every_scenario() -> None:
    assert get_args(sweep._Scenario) == tuple(SCENARIOS)


def test_the_document_keeps_its_shape() -> None:
    document = show_sweep.document(SWEPT, None)

    assert document["sweep"] == {
        "id": ID, "scenario": "weights-h5", "model": "digits", "grid": {"learning_rate": [0.1, 0.2], "epochs": [3]},
        "metric": "val_loss", "goal": "min", "combinations": 2, "failed": 1, "seconds": 4.0,
    }  # fmt: skip
    first, second = document["runs"]
    assert first == {
        "parameters": {"learning_rate": 0.1, "epochs": 3}, "scenario": "weights-h5", "model": "digits", "version": ID,
        "uri": VERSION.uri, "bytes": 5, "metrics": {"val_loss": 0.5}, "expires": None, "seconds": 2.5, "best": True,
        "error": None,
    }  # fmt: skip
    assert (second["version"], second["error"], second["best"]) == (None, ERROR, False)
    assert document["best"] == first | {"verdict": None, "latest": False, "unwritten": None}


def test_one_that_was_not_chosen_says_until_when_it_stays() -> None:
    other = SWEPT.model_copy(update={"best": None})
    document: dict[str, Any] = show_sweep.document(other, None)
    assert document["best"] is None
    assert document["runs"][0]["expires"] == "2026-11-24T22:40:24+00:00"


def test_the_table_letter_by_letter() -> None:
    console = Console(file=StringIO(), width=100)
    console.print(show_sweep.table(SWEPT))
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]

    assert lines == [
        "digits: weights-h5, min of val_loss, epochs=3, 4 s in all",
        "",
        " learning_rate  val_loss   took  version",
        " ──────────────────────────────────────────────────────────────────────────",
        f"           0.1    0.5000  2.5 s  {ID}  best",
        "           0.2         -  1.0 s  failed",
        "",
        "learning_rate=0.2 epochs=3: val_loss became nan [/x] here",
    ]
