"""Automations from a file, installed by name: those of `prefect automation create --from-file`, but any number of times.

`python -m flows.automations [FILE]` installs `deployments/automations.yaml`, or FILE, on the configured Prefect server.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events.schemas.automations import Automation, AutomationCore
from pydantic import ValidationError

from tasks.errors import InputError

SHIPPED = Path(__file__).parents[1] / "deployments" / "automations.yaml"


@dataclass(frozen=True, slots=True)
class Installed:
    """What became of one automation."""

    name: str
    done: Literal["created", "updated", "unchanged"]


def install(path: Path = SHIPPED) -> list[Installed]:
    """Create the automations of a file, or update those that are there by that name.

    What is as the file says is left alone: an update would make a trigger forget what it waits for. Whether an automation is
    switched on is the file's to say when it is created, and whoever paused it in the UI afterwards. One that was created
    twice would act twice, so the others of its name are removed.

    Args:
        path: YAML: one automation, a list of them, or a list under `automations`.

    Raises:
        InputError: There is no such file, or it has something else in it.
    """
    wanted = _read(path)
    with get_client(sync_client=True) as client:
        return [_install(client, automation) for automation in wanted]


def _install(client: SyncPrefectClient, wanted: AutomationCore) -> Installed:
    there = [each for each in _named(client, wanted.name) if each.name == wanted.name]
    if not there:
        client.create_automation(wanted)
        return Installed(wanted.name, "created")
    first, *others = there
    for each in others:
        client.request("DELETE", "/automations/{id}", path_params={"id": each.id})
    wanted = wanted.model_copy(update={"enabled": first.enabled})
    if _content(first) == _content(wanted):
        return Installed(wanted.name, "unchanged")
    client.update_automation(first.id, wanted)
    return Installed(wanted.name, "updated")


def _named(client: SyncPrefectClient, name: str) -> list[Automation]:
    question = {"automations": {"name": {"any_": [name]}}, "sort": "CREATED_DESC"}
    answer = client.request("POST", "/automations/filter", json=question)
    return [Automation.model_validate(each) for each in answer.json()]


def _content(automation: AutomationCore) -> dict[str, Any]:
    """What an automation does, without what the server adds; as Python's values, for its sets come in any order."""
    return AutomationCore.model_validate(automation.model_dump()).model_dump(exclude={"owner_resource"})


def _read(path: Path) -> list[AutomationCore]:
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"Can't read automations from {path}: {error}") from error
    found = document.get("automations", [document]) if isinstance(document, dict) else document
    if not isinstance(found, list) or not found:
        raise InputError(f"There are no automations in {path}.")
    try:
        return [AutomationCore.model_validate(each) for each in found]
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"An automation in {path} can't be used: {where}: {first['msg']}.") from error


if __name__ == "__main__":
    for each in install(*map(Path, sys.argv[1:])):
        click.echo(f"{each.done}  {each.name}")
