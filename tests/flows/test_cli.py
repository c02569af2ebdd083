"""The command line itself: parsing, help, errors; nothing here starts a server or a process that trains."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from flows.cli import cli
from flows.commands.common import model_parameter, say
from flows.scenarios import MAIN_JOB, SCENARIOS, scenario_flow
from tasks.errors import InputError
from tests.safety.hostile import onnx, proto


def test_help_needs_neither_tensorflow_nor_prefect() -> None:
    code = "import sys, flows.cli; print(sorted({'tensorflow', 'keras', 'prefect', 'boto3', 'numpy'} & sys.modules.keys()))"

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert found.strip() == "[]"


@pytest.mark.parametrize("command", [[], *([name] for name in sorted(cli.commands))])
def test_each_command_explains_itself(command: list[str]) -> None:
    result = CliRunner().invoke(cli, [*command, "--help"])

    assert result.exit_code == 0
    assert "--json" in result.output
    assert "\\b" not in result.output


def test_help_names_every_scenario() -> None:
    text = CliRunner().invoke(cli, ["run", "--help"]).output

    assert all(name in text for name in SCENARIOS)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_is_the_flow_of_its_name(name: str) -> None:
    assert scenario_flow(name).name == name


def test_without_a_command_the_first_three_scenarios_run() -> None:
    assert MAIN_JOB == ("saved-model", "weights-h5", "full-h5") == tuple(SCENARIOS)[:3]


def test_model_arguments_are_json_where_they_can_be() -> None:
    pairs = ["hidden=64", "rate=0.5", "flag=true", "sizes=[1, 2]", "activation=relu", "path=a=b"]

    arguments = model_parameter(None, pairs)["arguments"]

    assert arguments == {
        "hidden": 64,
        "rate": 0.5,
        "flag": True,
        "sizes": [1, 2],
        "activation": "relu",
        "path": "a=b",
    }


def test_a_hostile_name_neither_steers_the_terminal_nor_breaks_the_table(tmp_path: Path) -> None:
    name = "\x1b[2K\x1b[1A[bold]x[/bold][/nothing]"
    path = onnx(tmp_path / "model.onnx", proto(1, proto(3, name) + proto(4, "PyOp") + proto(7, "ai.evil\x1b[8m")))

    done = subprocess.run(
        [sys.executable, "-m", "flows", "inspect", str(path)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"COLUMNS": "300"},
    )

    assert done.returncode == 3
    assert "\x1b" not in done.stdout
    assert r"\x1b[2K\x1b[1A[bold]x[/bold][/nothing]" in done.stdout


def test_an_error_that_quotes_a_hostile_name_does_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    say(InputError("two lines:\n  \x1b]0;title\x07"))
    assert capsys.readouterr().err == "error: two lines:\n  \\x1b]0;title\\x07\n"


@pytest.mark.parametrize("pair", ["hidden", "=3", "two words=3"])
def test_a_model_argument_that_is_no_pair_is_refused(pair: str) -> None:
    with pytest.raises(InputError, match="KEY=VALUE"):
        model_parameter(None, [pair])


def test_wrong_usage_as_json_is_one_document_with_exit_code_2() -> None:
    command = [sys.executable, "-m", "flows", "run", "no-such-scenario", "--json"]

    result = subprocess.run(command, capture_output=True, text=True, check=False)

    error = json.loads(result.stdout)["error"]
    assert (result.returncode, error["exit_code"], error["kind"]) == (2, 2, "input")
    assert "no-such-scenario" in error["message"]
