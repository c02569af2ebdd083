"""Which runs of a worker are forked from the nursery, and what they are told."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse

from flows.production.parts import ROOT
from flows.production.process_worker import NurseryJobConfiguration
from flows.worker_run import RUN_SETTINGS
from tasks import nursery

OURS = "flows.weights_h5.weights_h5"


@pytest.fixture(autouse=True)
def _standing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(nursery.ADDRESS, "/there")


def prepared(
    entrypoint: str = OURS, folder: Path | None = ROOT, command: str | None = None, **env: str
) -> NurseryJobConfiguration:
    configuration = NurseryJobConfiguration(working_dir=folder, command=command, env=env)
    deployment = DeploymentResponse(name="some", flow_id=uuid4(), entrypoint=entrypoint)
    configuration.prepare_for_flow_run(FlowRun(flow_id=uuid4()), deployment)
    return configuration


def is_forked(configuration: NurseryJobConfiguration) -> bool:
    return "flows.worker_run" in str(configuration.command)


def test_a_run_of_our_flows_in_our_folder_is_forked_and_keeps_its_own_settings() -> None:
    found = prepared(PREFECT_LOGGING_LEVEL="DEBUG", OTHER="too")

    assert is_forked(found)
    assert json.loads(str(found.env[RUN_SETTINGS])) == {"PREFECT_LOGGING_LEVEL": "DEBUG"}


def test_any_other_run_is_prefects(tmp_path: Path) -> None:
    """`flows` can't be imported elsewhere, or is another package there; and hooks would run in the worker."""
    for found in (
        prepared(entrypoint="theirs.py:flow"), prepared(folder=tmp_path), prepared(folder=None),
        prepared(PREFECT_RUNNER_AUTO_INSTALL_DEPENDENCIES="true"),
    ):  # fmt: skip
        assert not is_forked(found)
        assert not found._command_configured
        assert RUN_SETTINGS not in found.env
    assert prepared(command="theirs").command == "theirs"


@pytest.mark.parametrize("address", ["off", ""])
def test_without_a_nursery_every_run_is_prefects(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv(nursery.ADDRESS, address)

    assert not prepared()._command_configured
