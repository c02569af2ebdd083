"""What the doctor says that steps cost is what they cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.storage import Store, advance_latest, fetch, open_store, publish, read_manifest, resolve
from tasks.storage.aliases import current
from tasks.storage.guarantees.diagnosis import REQUESTS
from tasks.verification.verdict import not_intact, record
from tests.faults.proxy import Line, Proxy, label, passed_on
from tests.storage.samples import manifest_of, write

_FILES = {f"model/{number}": b"x" * 1000 for number in range(8)}


@pytest.fixture
def watched(s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Store, list[str]]]:
    """A store behind a proxy, and the requests that came through it, by whichever client."""
    proxy = Proxy(s3_environment["AWS_ENDPOINT_URL_S3"])
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
    store = open_store()
    requests: list[str] = []

    def listen(line: Line) -> None:
        requests.append(label(line.request))
        passed_on(line)

    proxy.case(store.prefix.rstrip("/")).intercept = listen
    yield store, requests
    proxy.close()


@contextmanager
def _counted(requests: list[str], into: Counter[str]) -> Iterator[None]:
    """Count requests as Amazon charges them: those that write or list, and those that read."""
    before = len(requests)
    yield
    for request in requests[before:]:
        reads = request.startswith(("GET", "HEAD")) and "?list-type" not in request
        into["reads" if reads else "writes"] += 1


def test_the_requests_of_each_step_are_as_the_doctor_says(watched: tuple[Store, list[str]], tmp_path: Path) -> None:
    store, requests = watched
    older, manifest = (manifest_of(write(tmp_path / name, _FILES)) for name in ("older", "newer"))
    publish(store, tmp_path / "older", older)
    advance_latest(store, "digits", older.version, "v")
    counts: dict[str, Counter[str]] = {name: Counter() for name in ("publish", "resolve", "return")}

    with _counted(requests, counts["publish"]):
        publish(store, tmp_path / "newer", manifest)
    with _counted(requests, counts["resolve"]):
        resolve(store, "digits@latest")
    with _counted(requests, counts["return"]):
        resolve(store, "digits@latest")
        found = read_manifest(store, "digits", manifest.version)
        fetch(store, found, tmp_path / "back")
        record(store, not_intact(manifest, "a test"))
        advance_latest(store, "digits", manifest.version, "v")
        current(store, "digits", "latest")  # for the events of the verdict

    assert {(name, c["writes"], c["reads"]) for name, c in counts.items()} == set(REQUESTS)
