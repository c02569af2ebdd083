"""Image, manifests, work pools, schedules and automations: linted, and held against the programs that will read them."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from functools import reduce
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml
from prefect.client.schemas.schedules import CronSchedule
from prefect.events import DeploymentEventTrigger
from prefect.events.schemas.automations import AutomationCore
from prefect.utilities.templating import find_placeholders

from flows.scenarios import SCENARIOS

FOLDER = Path(__file__).parents[2] / "deployments"
MANIFESTS = sorted((FOLDER / "kubernetes").glob("*.yaml"))
POOLS = sorted((FOLDER / "pools").glob("*.json"))
DEPLOYMENTS = {each["name"]: each for each in yaml.safe_load((FOLDER / "prefect.yaml").read_text())["deployments"]}
AUTOMATIONS = yaml.safe_load((FOLDER / "automations.yaml").read_text())["automations"]


def lint(program: str, *arguments: str | Path) -> None:
    """Run a linter, which must find nothing."""
    command = [Path(sys.executable).with_name(program), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=FOLDER.parent)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_yaml_file_is_clean() -> None:
    lint("yamllint", "--strict", FOLDER)


def test_the_image_is_built_as_hadolint_wants_it() -> None:
    lint("hadolint", FOLDER / "Dockerfile")


def test_the_image_runs_as_nobody_of_importance_and_is_asked_how_it_is() -> None:
    image = (FOLDER / "Dockerfile").read_text().rpartition("\nFROM ")[2]
    instructions = [line.partition(" ")[0] for line in image.splitlines() if re.match(r"[A-Z]+ ", line)]

    assert re.search(r"^USER 10001:10001$", image, re.MULTILINE)
    assert instructions.index("USER") < instructions.index("CMD") and instructions.count("USER") == 1
    assert "HEALTHCHECK" in instructions
    assert "compileall" in (FOLDER / "Dockerfile").read_text()


def test_no_secret_can_reach_a_layer() -> None:
    lines = (FOLDER / "Dockerfile").read_text().splitlines()
    ignored = (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()

    assert not [line for line in lines if re.match(r"(ARG|ENV) .*(SECRET|TOKEN|PASSWORD|AUTH|KEY)", line, re.IGNORECASE)]
    assert "*" in ignored and {line for line in ignored if line.startswith("!")} == {
        "!pyproject.toml", "!tasks", "!flows", "!deployments"
    }  # fmt: skip
    assert "deployments/kubernetes/secrets.yaml" in ignored
    assert "deployments/kubernetes/secrets.yaml" in (FOLDER.parent / ".gitignore").read_text().splitlines()


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_a_manifest_is_what_kubernetes_knows(path: Path) -> None:
    lint("kubernetes-validate", "--strict", "--quiet", path)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_no_pod_may_more_than_it_must(path: Path) -> None:
    for document in yaml.safe_load_all(path.read_text()):
        if document["kind"] == "Deployment":
            _is_confined(document["spec"]["template"]["spec"])
        if document["kind"] == "Secret":
            assert all("CHANGE-ME" in value or "example" in value or value == "us-east-1"
                       for value in document["stringData"].values())  # fmt: skip


def _is_confined(pod: dict[str, Any]) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True
    for container in pod["containers"]:
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]


@pytest.mark.parametrize("path", POOLS, ids=lambda path: path.stem)
def test_a_work_pool_says_what_its_worker_understands_and_names_no_variable_that_it_lacks(path: Path) -> None:
    pool = json.loads(path.read_text())
    known = json.loads(
        files("prefect.server.api.collections_data.views").joinpath("aggregate-worker-metadata.json").read_text()
    )
    (theirs,) = (workers[path.stem] for workers in known.values() if path.stem in workers)

    configuration, variables = pool["job_configuration"], set(pool["variables"]["properties"])
    theirs = theirs["default_base_job_configuration"]
    used = {p.name for p in find_placeholders(json.dumps(configuration))}
    blocks = {name for name in used if name.startswith(("prefect.blocks.", "prefect.variables."))}

    assert set(configuration) <= set(theirs["job_configuration"])
    assert variables <= set(theirs["variables"]["properties"]) | {"cpu", "memory"}
    assert used - blocks <= variables, "what is not declared stays a placeholder"
    assert variables - {"command", "env", "labels", "name"} <= used, "what is declared and used nowhere does nothing"
    assert "{{" not in json.dumps(pool["variables"])


def test_the_job_of_a_run_in_kubernetes_is_what_kubernetes_knows(tmp_path: Path) -> None:
    pool = json.loads((FOLDER / "pools" / "kubernetes.json").read_text())
    values = {name: field.get("default") for name, field in pool["variables"]["properties"].items()}
    values |= {"name": "run", "command": ["prefect", "flow-run", "execute"], "labels": {"run": "one"}}
    values |= {"env": [{"name": "PREFECT_API_URL", "value": "http://server/api"}]}

    def filled(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: filled(value) for key, value in node.items()}
        if isinstance(node, list):
            return [filled(value) for value in node]
        whole = re.fullmatch(r"{{ (\w+) }}", node) if isinstance(node, str) else None
        if whole:
            return values[whole[1]]
        return node.replace("{{ name }}", "run") if isinstance(node, str) else node

    job = filled(pool["job_configuration"]["job_manifest"])
    # Prefect's worker refuses a template without these two, at a place where Kubernetes does not know and so ignores them.
    assert [job["spec"]["template"]["spec"].pop(name) for name in ("parallelism", "completions")] == [1, 1]
    rendered = tmp_path / "job.yaml"
    rendered.write_text(yaml.safe_dump(job))

    lint("kubernetes-validate", "--strict", "--quiet", rendered)
    _is_confined(job["spec"]["template"]["spec"])


def test_every_scenario_has_a_deployment_and_every_deployment_a_flow_that_takes_its_parameters() -> None:
    assert set(SCENARIOS) | {"sweep", "return", "reverify", "gc", "fidelity", "fan-out", "notify"} == set(DEPLOYMENTS)
    for name, deployment in DEPLOYMENTS.items():
        module, _, attribute = deployment["entrypoint"].rpartition(".")
        flow = getattr(import_module(module), attribute)
        takes = inspect.signature(flow.fn).parameters
        assert flow.name == name
        given = [deployment, *deployment["schedules"], *deployment.get("triggers", [])]
        assert reduce(set.union, (set(each.get("parameters", {})) for each in given), set()) <= set(takes)


def test_every_schedule_is_a_cron_line_in_a_time_zone() -> None:
    schedules = [schedule for deployment in DEPLOYMENTS.values() for schedule in deployment["schedules"]]

    for schedule in schedules:
        CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"])
        ZoneInfo(schedule["timezone"])
        assert isinstance(schedule["active"], bool) and schedule["slug"]
    assert len({schedule["cron"] for schedule in schedules}) == len(schedules), "no two begin at the same time"


def test_every_alarm_is_waited_for_by_its_name() -> None:
    triggers = {each["name"]: each for each in DEPLOYMENTS["notify"]["triggers"]}
    alarms = [AutomationCore.model_validate(each) for each in AUTOMATIONS]

    marked, stale = (
        triggers[f"tell of {what}"]["match"]["prefect.resource.name"] for what in ("marked runs", "stale models")
    )
    assert [*marked, stale] == [alarm.name for alarm in alarms]
    for trigger in triggers.values():
        DeploymentEventTrigger.model_validate(trigger)


def test_no_automation_names_what_only_one_server_has() -> None:
    assert not re.search(r"_id:|[0-9a-f]{8}-[0-9a-f]{4}-", (FOLDER / "automations.yaml").read_text())
