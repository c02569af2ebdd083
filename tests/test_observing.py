"""Log records and spans say whom they are about, in every thread."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from threading import Thread
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.trace import INVALID_SPAN_CONTEXT, NonRecordingSpan

from tasks.observing import about, name_subjects


@pytest.fixture(autouse=True)
def factory() -> Iterator[None]:
    before = logging.getLogRecordFactory()
    name_subjects()
    yield
    about()
    logging.setLogRecordFactory(before)


def logged(**extra: Any) -> dict[str, Any]:
    logger = logging.getLogger("somebody.else")
    record = logger.makeRecord(logger.name, logging.INFO, __file__, 1, "hello", (), None, extra=extra)
    return {name: value for name, value in record.__dict__.items() if name.startswith("roundtrip_")}


def test_every_record_names_model_version_and_flow_run() -> None:
    about(flow_run="7", model="digits", version="1")
    assert logged() == {"roundtrip_flow_run": "7", "roundtrip_model": "digits", "roundtrip_version": "1"}


def test_what_is_not_known_any_more_is_not_named() -> None:
    about(flow_run="7", model="digits", version="1")
    about(flow_run="8", model="letters")
    assert logged() == {"roundtrip_flow_run": "8", "roundtrip_model": "letters"}


def test_a_thread_without_the_context_names_it_too() -> None:
    about(model="digits")
    found: list[dict[str, Any]] = []
    thread = Thread(target=lambda: found.append(logged()))
    thread.start()
    thread.join()
    assert found == [{"roundtrip_model": "digits"}]


def test_a_library_may_use_the_plain_names_itself() -> None:
    about(model="digits", version="1")
    assert logged(model="theirs", version=2)["roundtrip_model"] == "digits"


def test_a_record_has_its_message_in_whole_and_one_that_cannot_be_made_harms_nobody() -> None:
    make = logging.getLogRecordFactory()
    assert make("x", logging.INFO, "f", 1, "epoch %d of %d", (1, 2), None).message == "epoch 1 of 2"
    assert not hasattr(make("x", logging.INFO, "f", 1, "epoch %d", ("one",), None), "message")


def test_the_current_span_gets_the_attributes() -> None:
    class Remembering(NonRecordingSpan):
        seen: dict[str, Any] = {}  # noqa: RUF012

        def set_attributes(self, attributes: Any) -> None:
            self.seen.update(attributes)

    with trace.use_span(Remembering(INVALID_SPAN_CONTEXT)):
        about(model="digits", version="1")

    assert Remembering.seen == {"roundtrip.model": "digits", "roundtrip.version": "1"}
