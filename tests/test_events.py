"""The four events: their form is a contract with automations and with publishers outside of this project."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from tasks import events
from tasks.settings import StoreConfig
from tasks.storage import Revision, VersionRef
from tests.bundles import bare_manifest
from tests.proofs import verdict_on

MANIFEST = bare_manifest("weights-h5").model_copy(update={"flow_run": "the-run-that-trained"})
REF = VersionRef(
    model="digits", version=MANIFEST.version, uri=f"s3://b/digits/versions/{MANIFEST.version}", bytes=1, format="weights-h5"
)
STORE = StoreConfig(url="s3://b", aws_credentials="a-block")
COMMON = {
    "model": "digits",
    "version": REF.version,
    "uri": REF.uri,
    "format": "weights-h5",
    "store": {"url": "s3://b", "aws_credentials": "a-block"},
    "flow_run": "this-run",
}


def related(event: events.Event) -> dict[str, str]:
    return {each["prefect.resource.role"]: each["prefect.resource.id"] for each in event.related}


def judged(**changes: Any) -> events.Event:
    verdict = verdict_on("digits", REF.version).model_copy(update=changes)
    return events.judged(REF, verdict, MANIFEST, STORE, "this-run", "latest")


def test_every_event_names_version_store_and_run_in_the_same_words() -> None:
    revision = Revision(
        alias="production",
        number=3,
        version=REF.version,
        newest=REF.version,
        verdict="v",
        reason="promoted",
        at=datetime.now(UTC),
    )
    four = [
        events.published(REF, STORE, "this-run"),
        judged(),
        judged(passed=False),
        events.promoted(REF, revision, MANIFEST, STORE, "this-run"),
    ]

    assert [each.name for each in four] == [
        f"roundtrip.version.{w}" for w in ("published", "verified", "refused", "promoted")
    ]
    for event in four:
        assert event.payload.items() >= COMMON.items()
        assert event.resource == {
            "prefect.resource.id": f"roundtrip.version.{REF.version}",
            "prefect.resource.name": f"digits@{REF.version}",
            "roundtrip.model": "digits",
            "roundtrip.format": "weights-h5",
        }
        assert related(event)["model"] == "roundtrip.model.digits"
        json.dumps(event.payload)
    assert four[3].payload["alias"] == "production"
    assert related(four[3])["alias"] == "roundtrip.alias.digits.production"


def test_what_became_of_a_version_is_linked_to_the_run_that_published_it() -> None:
    assert related(judged())["published-by"] == "prefect.flow-run.the-run-that-trained"
    assert "published-by" not in related(events.published(REF, STORE, "this-run"))


def test_a_version_that_no_flow_run_published_is_linked_to_none() -> None:
    verdict = verdict_on("digits", REF.version)
    event = events.judged(REF, verdict, bare_manifest("weights-h5"), STORE, None, None)

    assert set(related(event)) == {"model"}


def test_a_refusal_says_why_and_stays_small_whatever_the_reasons_are() -> None:
    event = judged(passed=False, reasons=["x" * 10**6] * 1000)

    assert event.name == events.REFUSED
    assert len(json.dumps(event.payload)) < 10_000 and event.payload["reasons"][0].startswith("xxx")


def test_exceptions_that_somebody_made_are_told_with_the_verdict() -> None:
    assert "allowed" not in judged().payload["verdict"]
    assert judged(allowed=["code:Lambda"]).payload["verdict"]["allowed"] == ["code:Lambda"]
