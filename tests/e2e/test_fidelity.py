"""The table of what survives, measured here and now, is the one that the project shows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tasks.verification.fidelity.document import table_markdown
from tests.e2e.commands import ROOT, Home, Result, end_of
from tests.e2e.fidelity_table import README, SHOWN, expected, summary

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3600)]  # a minute on two quiet processors

# One for each way in which a format loses something, so that the table fits into CI. The last test measures the whole of it.
SOME = ("norm-dropout", "without-config", "loss-parameters", "string-lookup", "mixed-precision")
# The exports are alike in what they lose, and so are the formats of weights alone.
FORMATS = ("saved-model", "weights-h5", "full-h5", "keras-archive", "checkpoint", "onnx")


def facts(cells: list[dict[str, Any]]) -> dict[str, Any]:
    keys = ("kept", "status", "survives", "alone")
    return {f"{c['definition']}, {c['format']}": {key: c[key] for key in keys} for c in cells}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, warm: dict[str, str]) -> Home:
    return Home(tmp_path_factory.mktemp("home"), warm)


@pytest.fixture(scope="module")
def measured(home: Home) -> Iterator[Result]:
    """Some of the built-in definitions, and one whose processes die."""
    chosen = [argument for name in SOME for argument in ("--definition", name)]
    chosen += [argument for name in FORMATS for argument in ("--format", name)]
    own = ["--model", "tests.e2e.fidelity_models:deadly", "--data", "tasks.definitions.families.plain:classes"]
    result = end_of(home.start("fidelity", "--json", *chosen, *own, cwd=ROOT), seconds=1500)
    assert result.code == 0, result.err
    yield result
    assert home.processes() == []


def test_the_table_that_is_shown_is_the_one_that_is_tested() -> None:
    assert SHOWN.read_text() == table_markdown(expected())
    assert summary(expected()) in README.read_text()


def test_every_cell_is_as_the_table_says(measured: Result) -> None:
    cells = [c for c in measured.document["cells"] if c["definition"] in SOME]
    wanted = facts([c.model_dump() for c in expected().cells if c.definition in SOME and c.format in FORMATS])
    assert facts(cells) == wanted


def test_a_cell_that_crashes_is_a_result_and_no_end(measured: Result) -> None:
    cells = {c["format"]: c for c in measured.document["cells"] if c["definition"] == "deadly"}
    assert (cells["weights-h5"]["status"], cells["saved-model"]["status"]) == ("crashed", "kept")
    assert cells["weights-h5"]["why"].startswith("saving: The process was killed by SIGSEGV")


def test_the_table_is_in_the_store_as_json_and_html(measured: Result, home: Home) -> None:
    folder = "." + measured.document["uri"].rpartition("/.")[2]
    read = "import sys; from tasks.storage import open_store; print(open_store().get(sys.argv[1]).decode())"
    found = {name: end_of(home.python("-c", read, f"{folder}{name}")).out for name in ("table.json", "table.html")}
    assert json.loads(found["table.json"])["cells"] == measured.document["cells"]
    assert found["table.html"].startswith("<!doctype html>")


@pytest.mark.benchmark
def test_every_cell_of_the_whole_table_is_as_it_says(home: Home) -> None:
    result = end_of(home.start("fidelity", "--json"), seconds=3600)
    assert facts(result.document["cells"]) == facts([c.model_dump() for c in expected().cells])
