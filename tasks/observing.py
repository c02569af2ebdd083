"""Whom a log line and a trace are about: every record and span of a run names its model, version and flow run.

A log record gets the attributes `roundtrip_model`, `roundtrip_version` and `roundtrip_flow_run`, whichever library wrote it,
and its `message` in whole; a formatter that writes JSON shows them. Prefect's own writes a record's attributes as they are,
and that is without our help a text with `%s` in it and what belongs there. The span that is current, where OpenTelemetry is
on, gets `roundtrip.model` and so on.
"""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from contextvars import ContextVar

_here: ContextVar[dict[str, str] | None] = ContextVar("subject", default=None)
# For threads that were started without the context, such as those of a transfer. A process has one run at a time: a worker
# starts one for each, and a desk's processes take theirs one after another.
_newest: dict[str, str] = {}


def about(*, flow_run: str | None = None, model: str | None = None, version: str | None = None) -> None:
    """Say whom everything from now on is about, in this context; what is not named is not known."""
    named = {"flow_run": flow_run, "model": model, "version": version}
    subject = {name: value for name, value in named.items() if value}
    _here.set(subject)
    _newest.clear()
    _newest.update(subject)
    # Whoever traces imported it; nobody else shall wait for it.
    trace = sys.modules.get("opentelemetry.trace")
    if trace is not None:
        trace.get_current_span().set_attributes({f"roundtrip.{name}": value for name, value in subject.items()})


def name_subjects() -> None:
    """Let Python's logging make records with our attributes, on top of whatever makes them now."""
    make = logging.getLogRecordFactory()
    if getattr(make, "names_the_subject", False):
        return

    def named(*args: object, **kwargs: object) -> logging.LogRecord:
        record = make(*args, **kwargs)
        subject = _here.get()
        with suppress(TypeError, ValueError, KeyError):  # arguments that don't fit; the handler will complain
            record.message = record.getMessage()
        # Prefixed: `logging` raises where the `extra` of some library has a name that is there already.
        record.__dict__.update({f"roundtrip_{name}": value for name, value in (subject or _newest).items()})
        return record

    named.names_the_subject = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(named)
