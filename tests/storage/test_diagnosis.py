"""What the doctor says that steps cost is what they cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tasks.storage import Store, advance_latest, fetch, publish, read_manifest, resolve
from tasks.storage.diagnosis import REQUESTS
from tasks.verification.verdict import not_intact, record
from tests.storage.samples import manifest_of, write

_FILES = {f"model/{number}": b"x" * 1000 for number in range(8)}


@contextmanager
def _counted(store: Store, into: Counter[str]) -> Iterator[None]:
    """Count requests as Amazon charges them: those that write or list, and those that read."""

    def count(request: Any, event_name: str, **_: Any) -> None:
        operation = event_name.rpartition(".")[2]
        into["reads" if operation in {"GetObject", "HeadObject"} else "writes"] += 1

    store.client.meta.events.register("before-send.s3", count)
    yield
    store.client.meta.events.unregister("before-send.s3", count)


def test_the_requests_of_each_step_are_as_the_doctor_says(store: Store, tmp_path: Path) -> None:
    older, manifest = (manifest_of(write(tmp_path / name, _FILES)) for name in ("older", "newer"))
    publish(store, tmp_path / "older", older)
    advance_latest(store, "digits", older.version, "v")
    counts: dict[str, Counter[str]] = {name: Counter() for name in ("publish", "resolve", "return")}

    with _counted(store, counts["publish"]):
        publish(store, tmp_path / "newer", manifest)
    with _counted(store, counts["resolve"]):
        resolve(store, "digits@latest")
    with _counted(store, counts["return"]):
        resolve(store, "digits@latest")
        found = read_manifest(store, "digits", manifest.version)
        fetch(store, found, tmp_path / "back")
        record(store, not_intact(manifest, "a test"))
        advance_latest(store, "digits", manifest.version, "v")

    # Files go past boto3, one request each.
    counts["publish"]["writes"] += len(manifest.files)
    counts["return"]["reads"] += len(found.files)
    assert {(name, c["writes"], c["reads"]) for name, c in counts.items()} == set(REQUESTS)
