"""Who is refused for a moment comes again in a moment, and later where the refusals go on."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from prefect.client.base import PrefectHttpxAsyncClient

from flows import patient
from flows.patient import Patient


class Refusing:
    """An application that refuses its first requests, as Prefect does where SQLite is busy."""

    def __init__(self, refusals: int) -> None:
        self.asked = 0
        self._refusals = refusals

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked += 1
        status = 503 if self.asked <= self._refusals else 201
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"as it is"})


def ask(app: Any, times: int = 1) -> list[httpx.Response]:
    async def asking() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://desk") as client:
            return [await client.post("/flow_runs/") for _ in range(times)]

    return asyncio.run(asking())


def test_what_goes_through_is_left_alone() -> None:
    (answer,) = ask(Patient(Refusing(0)))
    assert (answer.status_code, answer.text, dict(answer.headers)) == (201, "as it is", {"content-type": "text/plain"})


def test_the_first_refusal_says_to_come_again_at_once_and_the_next_one_does_not() -> None:
    answers = ask(Patient(Refusing(3)), times=4)
    assert [a.status_code for a in answers] == [503, 503, 503, 201]
    assert [a.headers.get("retry-after") for a in answers] == ["0.05", None, None, None]


def test_the_first_refusal_after_the_machine_started_is_a_first_one(monkeypatch: Any) -> None:
    monkeypatch.setattr(patient, "time", SimpleNamespace(monotonic=lambda: 5.0))
    assert [a.headers.get("retry-after") for a in ask(Patient(Refusing(2)), times=2)] == ["0.05", None]


def test_after_a_while_without_refusals_it_is_a_first_one_again(monkeypatch: Any) -> None:
    monkeypatch.setattr(patient, "_SECONDS_BETWEEN", 0.0)
    assert [a.headers.get("retry-after") for a in ask(Patient(Refusing(2)), times=2)] == ["0.05", "0.05"]


@pytest.mark.parametrize("refusals", [1, 4])
def test_prefects_client_comes_again_at_once_and_then_has_its_own_patience(refusals: int, monkeypatch: Any) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("anyio.sleep", sleep)
    monkeypatch.setattr(patient, "time", SimpleNamespace(monotonic=lambda: 1000 + sum(slept)))
    app = Refusing(refusals)

    async def asking() -> httpx.Response:
        transport = httpx.ASGITransport(Patient(app))
        async with PrefectHttpxAsyncClient(transport=transport, base_url="http://desk", enable_csrf_support=False) as client:
            return await client.post("/flow_runs/")

    assert (asyncio.run(asking()).status_code, app.asked) == (201, 1 + refusals)
    assert 0.05 <= slept[0] < 0.1
    assert all(pause > 1 for pause in slept[1:]) and len(slept) == refusals
