"""The ways in which one request can fail, and when they strike."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from tests.faults.proxy import Answer, Line, label, passed_on


class When(StrEnum):
    """How long a fault lasts."""

    ONCE = "once"  # a second attempt finds nothing wrong
    ALWAYS = "always"  # that request fails as often as it is sent, all others pass
    ONWARDS = "onwards"  # it and everything after it fails


@dataclass(frozen=True, slots=True)
class Recorded:
    """A request of a clean run: what it is, which one of those alike, and how many bytes went up and came down."""

    label: str
    occurrence: int
    up: int
    down: int

    @property
    def has_digest(self) -> bool:
        """Whether a digest travels with its bytes; lists and the XML of multipart uploads have none."""
        return not self.label.startswith("POST") and (self.label.startswith("PUT") or "?" not in self.label)

    @property
    def is_document(self) -> bool:
        """Whether it is written by put-if-absent."""
        return self.label.startswith("PUT") and self.label.endswith(".json")

    def __str__(self) -> str:
        return self.label + (f" #{self.occurrence + 1}" if self.occurrence else "")


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to fail.

    Attributes:
        spoil: What is done to the request.
        strikes: Whether there is anything to spoil about a request.
        silent: The client learns of it by its read time-out only.
        done: The server did what it was asked; only the answer says otherwise, or nothing.
        damages: Bytes arrive, and are not those that were sent.
        lasts: From then on, it is another thing than a store that is gone.
    """

    name: str
    spoil: Callable[[Line], None]
    strikes: Callable[[Recorded], bool] = lambda _: True
    silent: bool = False
    done: bool = False
    damages: bool = False
    lasts: bool = False

    def __str__(self) -> str:
        return self.name


def error_answer(status: int, code: str) -> Answer:
    """What an S3 server says where it fails."""
    body = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>injected</Message>'
        "<RequestId>0</RequestId></Error>"
    ).encode()
    return Answer(status, code, (("Content-Type", "application/xml"), ("Content-Length", str(len(body)))), body)


def _flipped(body: bytes) -> bytes:
    spoiled = bytearray(body)
    spoiled[len(body) // 2] ^= 1
    return bytes(spoiled)


def _instead(status: int, code: str) -> Callable[[Line], None]:
    return lambda line: line.reply(error_answer(status, code))


def _afterwards(status: int, code: str) -> Callable[[Line], None]:
    def spoil(line: Line) -> None:
        line.forward()
        line.reply(error_answer(status, code))

    return spoil


def _reset_up(line: Line) -> None:
    line.forward_half()
    line.drop(reset=True)


def _reset_down(line: Line) -> None:
    line.reply(line.forward(), cut=True)
    line.drop(reset=True)


def _cut_off(line: Line) -> None:
    line.reply(line.forward(), cut=True)
    line.drop()


def _lost(line: Line) -> None:
    line.forward()
    line.drop()


def _late(line: Line) -> None:
    line.forward()
    line.hang()


def _flip_up(line: Line) -> None:
    line.reply(line.forward(replace(line.request, body=_flipped(line.request.body))))


def _flip_down(line: Line) -> None:
    answer = line.forward()
    line.reply(replace(answer, body=_flipped(answer.body)) if answer.body else answer)


def _shortened(line: Line) -> None:
    answer = line.forward()
    body = answer.body[: len(answer.body) // 2]
    head = tuple((k, v) for k, v in answer.head if k != "Content-Length")
    line.reply(replace(answer, body=body, head=(*head, ("Content-Length", str(len(body))))))


def _twice(line: Line) -> None:
    line.forward()
    line.reply(line.forward())


def _forgotten(line: Line) -> None:
    """A store that completed an upload, lost the answer, and knows nothing of the upload when it is asked again."""
    line.forward()
    line.reply(error_answer(404, "NoSuchUpload"))


def _has_up(request: Recorded) -> bool:
    return request.up > 0


def _has_down(request: Recorded) -> bool:
    return request.down > 0


def _puts(request: Recorded) -> bool:
    return request.label.startswith("PUT")


def _completes(request: Recorded) -> bool:
    return request.label.startswith("POST") and request.label.endswith("?uploadId")


FAULTS = (
    Fault("connection closed", lambda line: line.drop()),
    Fault("reset while sending", _reset_up, _has_up, lasts=True),
    Fault("reset while receiving", _reset_down, _has_down, done=True),
    Fault("answer lost", _lost, done=True, lasts=True),
    Fault("500", _instead(500, "InternalError")),
    Fault("500 though done", _afterwards(500, "InternalError"), done=True),
    Fault("503 SlowDown", _instead(503, "SlowDown")),
    Fault("429", _instead(429, "TooManyRequests")),
    Fault("409 though done", _afterwards(409, "ConditionalRequestConflict"), _puts, done=True, lasts=True),
    Fault("404 though completed", _forgotten, _completes, done=True),
    Fault("time-out, not done", lambda line: line.hang(), silent=True),
    Fault("time-out, though done", _late, silent=True, done=True),
    Fault("body cut off", _cut_off, _has_down),
    Fault("body shortened", _shortened, _has_down, damages=True, lasts=True),
    Fault("byte flipped up", _flip_up, _has_up, damages=True, lasts=True),
    Fault("byte flipped down", _flip_down, _has_down, damages=True, lasts=True),
    Fault("sent twice", _twice, done=True, lasts=True),
)


class Spoiler:
    """Does a fault to the request that is its target, and to those after it where the fault lasts."""

    def __init__(self, fault: Fault, target: Recorded, when: When) -> None:
        self._fault, self._target, self._when = fault, target, when
        self._seen: Counter[str] = Counter()
        self._lock = threading.Lock()
        self.struck = 0

    def __call__(self, line: Line) -> None:
        if self._hits(line):
            self._fault.spoil(line)
        else:
            passed_on(line)

    def _hits(self, line: Line) -> bool:
        name = label(line.request)
        with self._lock:
            occurrence = self._seen[name]
            self._seen[name] += 1
            same = name == self._target.label
            hit = {
                When.ONCE: same and occurrence == self._target.occurrence,
                When.ALWAYS: same and occurrence >= self._target.occurrence,
                When.ONWARDS: self.struck > 0 or (same and occurrence >= self._target.occurrence),
            }[self._when]
            # What comes down is known only when it has come; `_flip_down` leaves an empty body alone.
            hit = hit and (same or self._fault.strikes(Recorded(name, occurrence, len(line.request.body), 1)))
            self.struck += hit
            return hit


class Recorder:
    """Writes down the requests of a clean run."""

    def __init__(self) -> None:
        self.requests: list[Recorded] = []
        self._lock = threading.Lock()

    def __call__(self, line: Line) -> None:
        answer = line.forward()
        name = label(line.request)
        with self._lock:
            occurrence = sum(r.label == name for r in self.requests)
            self.requests.append(Recorded(name, occurrence, len(line.request.body), len(answer.body)))
        line.reply(answer)
