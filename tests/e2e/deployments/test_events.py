"""Events: an outside publisher's starts the proof; verdicts and promotions are told; alarms are raised without a worker."""

from __future__ import annotations

import json
import queue
import re
import shlex
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.automations import SHIPPED, install
from flows.cli import cli
from flows.notify import notify
from tasks.errors import InputError
from tasks.storage import Store, layout, resolve
from tasks.verification import read_verdicts
from tests import bundles
from tests.e2e.deployments.production import ROOT, Prefect, Worker, eventually
from tests.storage.samples import put

pytestmark = pytest.mark.e2e


def test_a_version_from_outside_is_proved_promoted_and_refused_once_it_is_damaged(
    prefect: Prefect, worker: Worker, store: Store, tmp_path: Path
) -> None:
    manifest = bundles.foreign(store, tmp_path / "bundle")
    reference, resource = f"model@{manifest.version}", f"roundtrip.version.{manifest.version}"
    payload = json.dumps({"model": "model", "version": manifest.version})

    def told(what: str, run: dict[str, Any]) -> dict[str, Any] | None:
        """The event that a run emitted."""
        events = prefect.events(f"roundtrip.version.{what}", worker.since)
        return next((event for event in events if event["payload"]["flow_run"] == run["id"]), None)

    # As the README has it for publishers outside of this project.
    prefect.command(
        f"prefect event emit roundtrip.version.published --resource-id {resource} --payload {shlex.quote(payload)}"
    )
    returned = worker.finished(prefect.deployment("return"))

    assert returned["state"]["type"] == "COMPLETED", worker.complaint(returned)
    assert returned["parameters"]["reference"] == reference
    verified = eventually(lambda: told("verified", returned), "the event of the verdict")
    promoted = eventually(lambda: told("promoted", returned), "the event of the alias")
    ids = {verdict.id for verdict in read_verdicts(store, "model", manifest.version)}
    uri = store.uri(layout.bundle("model", manifest.version)).rstrip("/")
    common = {"model": "model", "version": manifest.version, "uri": uri, "format": "keras-archive", "store": {}}
    common |= {"flow_run": returned["id"], "alias": "latest"}
    assert common.items() <= verified["payload"].items()
    assert verified["payload"]["verdict"]["id"] in ids and verified["payload"]["verdict"]["passed"] is True
    assert common.items() <= promoted["payload"].items() and promoted["payload"]["reason"] == "verified"
    assert verified["resource"]["roundtrip.model"] == "model"
    for event in (verified, promoted):
        roles = {r["prefect.resource.role"]: r["prefect.resource.id"] for r in event["related"]}
        assert roles["flow-run"] == f"prefect.flow-run.{returned['id']}" and roles["model"] == "roundtrip.model.model"

    # The worker's cache has the file as it was: only who looks into the store sees this.
    damaged = next(file for file in manifest.files if file.path.startswith("model/"))
    put(store, layout.file(layout.bundle("model", manifest.version), damaged.path), b"x" * damaged.size)
    prefect.run(prefect.deployment("reverify"), {}).raise_for_status()
    again = worker.finished(prefect.deployment("reverify"))

    assert again["state"]["type"] == "FAILED", worker.complaint(again)
    assert reference in again["state"]["message"] and "is not what was published" in again["state"]["message"]
    assert ("reverified", "table") in prefect.artifacts(again)
    (refused,) = eventually(lambda: prefect.events("roundtrip.version.refused", worker.since), "the event of the refusal")
    assert (
        refused["payload"]["verdict"]["intact"] is False and "is not what was published" in refused["payload"]["reasons"][0]
    )
    assert resolve(store, "model") == ("model", manifest.version), "the alias stays until a person moves it"
    alarm = worker.finished(prefect.deployment("notify"))
    assert alarm["state"]["type"] == "COMPLETED", worker.complaint(alarm)
    assert alarm["name"] == f"Refused: {reference}, and `latest` points at it"
    assert alarm["parameters"]["details"]["verdict"]["id"] == refused["payload"]["verdict"]["id"]
    assert prefect.artifacts(alarm) == {("notification", "markdown")}


def test_a_promotion_at_a_desk_is_told_where_a_server_is_configured(
    prefect: Prefect, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.proofs import proved
    from tests.storage.samples import published

    since, version = datetime.now(UTC), published(store, tmp_path / "bundle").version
    proved(store, "digits", version)

    with client_of(prefect, monkeypatch):
        for _ in range(2):  # the second moves nothing, and tells nothing
            assert CliRunner().invoke(cli, ["promote", f"digits@{version}", "--alias", "production"]).exit_code == 0

    (told,) = eventually(lambda: prefect.events("roundtrip.version.promoted", since), "the event of the alias")
    assert told["payload"]["alias"] == "production" and told["payload"]["flow_run"] is None
    assert told["resource"]["prefect.resource.name"] == f"digits@{version}"


def test_the_event_of_a_publisher_without_prefect_is_taken_as_the_readme_has_it(prefect: Prefect) -> None:
    (call,) = re.findall(r"```sh\n(curl .*?)```", (ROOT / "deployments" / "README.md").read_text(), re.DOTALL)
    since, version = datetime.now(UTC).replace(microsecond=0), layout.new_version()  # as precise as `date` is
    environment = {**prefect.environment, "PREFECT_API_AUTH_STRING": "nobody:asks"}

    subprocess.run(["bash", "-euc", call.replace("VERSION", version)], env=environment, check=True, capture_output=True)

    eventually(lambda: prefect.events("roundtrip.version.published", since), "the event")
    started = eventually(lambda: prefect.runs("return", since), "the run that it starts")
    assert all(run["parameters"] == {"reference": f"digits@{version}", "store": {}} for run in started)
    prefect.cancel(started)


def test_an_alarm_is_sent_by_a_notification_block_from_the_flow_or_from_the_server_itself(
    prefect: Prefect, monkeypatch: pytest.MonkeyPatch
) -> None:
    with client_of(prefect, monkeypatch), inbox() as (url, letters):
        body = {"text": "{{subject}}: {{body}}"}
        block = CustomWebhookNotificationBlock(name="ops", url=url, json_data=body).save("ops", overwrite=True)

        notify("something is wrong", {"model": "digits"}, "custom-webhook/ops")
        assert "something is wrong" in letters.get(timeout=60) and not letters.qsize()

        automation = {
            "name": "from the server",
            "trigger": {"posture": "Reactive", "threshold": 1, "within": 0, "expect": ["test.alarm"]},
            "actions": [{"type": "send-notification", "block_document_id": str(block), "subject": "S", "body": "B"}],
        }
        there = prefect.api.post("/automations/", json=automation).raise_for_status().json()["id"]

        def letter() -> str | None:
            # Again, for the server takes up an automation some time after it answered, and what comes sooner is lost to it.
            prefect.emit("test.alarm", "test.1")
            with suppress(queue.Empty):
                return letters.get(timeout=10)
            return None

        assert "S: B" in eventually(letter, "the letter that the server sends")
        prefect.api.delete(f"/automations/{there}").raise_for_status()

        with pytest.raises(InputError, match="no Prefect block 'custom-webhook/nobody'"):
            notify("nobody is told", None, "custom-webhook/nobody")
        nobody = {"flow_runs": {"name": {"any_": ["nobody is told"]}}, "task_runs": {"name": {"like_": "send alarm"}}}

        def attempts() -> list[int]:
            return [run["run_count"] for run in prefect.api.post("/task_runs/filter", json=nobody).json()]

        eventually(
            lambda: attempts() == [1],
            "one attempt alone, for a second one would not find the block",
            lambda: str(attempts()),
        )


def test_prefects_own_command_takes_the_file_and_ours_any_number_of_times(
    prefect: Prefect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = {each["name"] for each in yaml.safe_load(SHIPPED.read_text())["automations"]}
    with client_of(prefect, monkeypatch):
        assert [each.done for each in install()] == ["unchanged"] * len(ours)

        prefect.command(f"prefect automation create --from-file {SHIPPED}")
        twice = prefect.automations()
        assert all(twice.count(name) == 2 for name in ours)
        install()
        assert all(prefect.automations().count(name) == 1 for name in ours)

        prefect.command("prefect automation pause 'crash zombies'")
        with hastened(tmp_path):
            enabled = {a["name"]: a["enabled"] for a in prefect.api.post("/automations/filter", json={}).json()}
        assert enabled["crash zombies"] is False, "whoever paused it keeps it paused"
        prefect.command("prefect automation resume 'crash zombies'")


def test_zombies_late_runs_and_stale_models_raise_alarms_though_no_worker_is_up(
    prefect: Prefect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    since = datetime.now(UTC)
    with client_of(prefect, monkeypatch), hastened(tmp_path):
        asked_for = prefect.run(prefect.deployment("fidelity"), {}).raise_for_status().json()
        news = {"labels": {"roundtrip.model": "stale"}, "payload": {"model": "stale", "version": "1"}}
        tried: list[tuple[dict[str, Any], ...]] = []
        started = time.monotonic()

        def begin() -> tuple[dict[str, Any], ...]:
            alive, dead, limbo = (run_in(prefect, state) for state in ("RUNNING", "RUNNING", "PENDING"))
            prefect.emit("prefect.flow-run.heartbeat", f"prefect.flow-run.{dead['id']}", "roundtrip")
            prefect.emit("roundtrip.version.published", "roundtrip.version.1", "auto-scheduled", **news)
            # Not by a schedule: the server reacts to a run that was only just planned by one after a quarter of an hour.
            late = prefect.run(prefect.deployment("fidelity"), {}, "auto-scheduled").raise_for_status().json()
            return alive, dead, limbo, late

        def states() -> list[list[str]]:
            return [[prefect.state(run)["name"] for run in runs] for runs in tried]

        def ended() -> tuple[dict[str, Any], ...] | None:
            # Again each minute: the server takes up a changed automation some time after it answered, and what comes sooner
            # counts by the old one. And where the machine stands still, who lives is late with its sign of life too.
            if time.monotonic() - started >= 60 * len(tried):
                tried.append(begin())
            for alive, *_ in tried:
                prefect.emit("prefect.flow-run.heartbeat", f"prefect.flow-run.{alive['id']}", "roundtrip")
            wanted = ["Running", "Crashed", "Crashed", "Skipped"]
            return next((runs for runs, seen in zip(tried, states(), strict=True) if seen == wanted), None)

        what = "the end of a zombie, of a run that never began, and of one that is too late, while one that lives goes on"
        _, dead, limbo, overdue = eventually(ended, what, lambda: f"They are {states()}.")
        assert "did not begin it" in prefect.state(limbo)["message"]
        assert "no sign of life" in prefect.state(dead)["message"]
        assert prefect.state(overdue)["type"] == "CANCELLED"
        assert prefect.state(asked_for)["name"] == "Late"

        wanted = {f"crash zombies (prefect.flow-run.{dead['id']})", "no fresh version (stale)"}
        wanted |= {f"crash what never began (prefect.flow-run.{limbo['id']})"}
        wanted |= {f"skip what is too late (prefect.flow-run.{overdue['id']})"}

        def raised() -> set[str]:
            return {run["parameters"]["subject"].removeprefix("Alarm: ") for run in prefect.runs("notify", since)}

        eventually(lambda: wanted <= raised(), "a run of `notify` for each alarm", lambda: str(raised()))
        lost = [late for *_, late in tried if late is not overdue]
        living = [alive for alive, *_ in tried if prefect.state(alive)["type"] == "RUNNING"]
        prefect.cancel([asked_for, *living, *lost, *prefect.runs("notify", since), *prefect.runs("return", since)])


def run_in(prefect: Prefect, state: str) -> dict[str, Any]:
    """A run that the server takes for being in a state, of a process that nobody started."""
    flow = prefect.deployment("weights-h5")["flow_id"]
    body = {"flow_id": flow, "tags": ["roundtrip"], "state": {"type": state, "name": state.capitalize()}}
    return prefect.api.post("/flow_runs/", json=body).raise_for_status().json()  # type: ignore[no-any-return]


@contextmanager
def inbox() -> Iterator[tuple[str, queue.Queue[str]]]:
    """A web server that takes what is sent to it, and what it took."""
    letters: queue.Queue[str] = queue.Queue()

    class Taker(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            letters.put(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(200)
            self.end_headers()

    with ThreadingHTTPServer(("127.0.0.1", 0), Taker) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", letters
        server.shutdown()


@contextmanager
def client_of(prefect: Prefect, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process as a client of the server."""
    url = prefect.environment["PREFECT_API_URL"]
    monkeypatch.setenv("PREFECT_API_URL", url)
    with temporary_settings({PREFECT_API_URL: url}):  # Prefect read its settings when a test before this imported it
        yield


@contextmanager
def hastened(folder: Path) -> Iterator[None]:
    """The shipped automations, but with fifteen seconds for hours; afterwards as they are shipped."""
    automations = yaml.safe_load(SHIPPED.read_text())["automations"]
    for each in automations:
        each["trigger"]["within"] = 15
    hasty = folder / "hasty.yaml"
    hasty.write_text(yaml.safe_dump({"automations": automations}))
    assert {each.done for each in install(hasty)} == {"updated"}
    try:
        yield
    finally:
        assert {each.done for each in install()} == {"updated"}
