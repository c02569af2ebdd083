"""A version returned under another Keras, by a real environment that uv builds: minutes, so one environment only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import pytest

from tasks.storage import Store, layout, resolve
from tests.e2e.commands import Home
from tests.storage.samples import published

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]

OLD = "keras==3.13.*"


@pytest.fixture
def home(tmp_path: Path, s3_environment: dict[str, str], warm: dict[str, str]) -> Home:
    return Home(tmp_path, s3_environment | warm)


def test_an_older_keras_brings_back_the_weights_but_not_the_whole_file_and_moves_no_alias(home: Home, store: Store) -> None:
    trained = home.run("run", "weights-h5", "full-h5", "--epochs", "1", "--name", "digits", "--json")
    assert trained.code == 0, trained.err
    names = [run["model"] for run in trained.document["runs"]]
    before = {name: len(store.keys(layout.aliases(name))) for name in names}

    good = home.run("return", "digits-weights-h5", "--with", OLD, "--json", seconds=1200)
    bad = home.run("matrix", "digits-full-h5", "--with", OLD, "--with", "keras==9.9", "--json", seconds=600)

    assert good.code == 0, good.err
    verdict = good.document["verdict"]
    assert (verdict["passed"], verdict["weights_equal"], verdict["outputs_equal"]) == (True, True, True)
    assert verdict["elsewhere"] == OLD
    assert verdict["environment"]["keras"].startswith("3.13.")
    assert good.document["latest"] is False

    assert bad.code == 1, bad.err
    old, none = bad.document["rows"]
    assert (old["passed"], old["loads"], old["keras"][:5]) == (False, False, "3.13.")
    assert f"stored by Keras {keras.__version__}" in old["why"] and f"this is Keras {old['keras']}" in old["why"]
    assert "unexpected keyword argument" in old["why"]
    assert (none["passed"], none["keras"]) == (False, None)
    assert "keras==9.9" in none["why"]
    assert json.loads(bad.out)["trained"]["keras"] == keras.__version__

    assert {name: len(store.keys(layout.aliases(name))) for name in names} == before
    for name in names:
        elsewhere = [key for key in store.keys(layout.verdicts(name, resolve(store, name)[1])) if layout.is_elsewhere(key)]
        assert len(elsewhere) == 1


def test_an_environment_that_cannot_be_had_is_wrong_input(home: Home, store: Store) -> None:
    manifest = published(store, home.folder / "bundle")  # what it is does not matter: it comes to no proof
    version = f"{manifest.model}@{manifest.version}"

    results: dict[str, Any] = {
        "There is no Python /nowhere/python": home.run("return", version, "--python", "/nowhere/python", "--json"),
        "is no requirement": home.run("return", version, "--with", "--pre", "--json"),
        "one --python at a time": home.run("return", version, "--python", "3.11", "--python", "3.12", "--json"),
        "Name at least one environment": home.run("matrix", version, "--json"),
    }

    for words, result in results.items():
        assert result.code == 2, result.err
        assert result.document["error"]["kind"] == "input"
        assert words in result.document["error"]["message"]
