"""Processes full of publishers and promoters, all at one model at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from tasks.storage import Manifest, Store, advance_latest, embedded, move_alias
from tasks.verification.verdict import record
from tests.faults.world import Clients, verdict_of
from tests.storage.samples import published

MODEL = "digits"


def crowd(
    access: embedded.Access, prefix: str, folder: Path, publishers: int, versions: list[str], verdicts: list[str], start: Any
) -> None:
    """One process: so many publishers, each of which lets its version pass, and a promoter for each of these versions."""
    clients = Clients(access)
    store = clients.store(access.endpoint, prefix)
    work: list[Callable[[], None]] = [partial(_publish, store, folder / str(n)) for n in range(publishers)]
    work += [partial(_promote, store, *each) for each in zip(versions, verdicts, strict=True)]
    with ThreadPoolExecutor(max_workers=len(work)) as pool:
        start.wait()
        for future in [pool.submit(each) for each in work]:
            future.result()


def _publish(store: Store, folder: Path) -> None:
    manifest: Manifest = published(store, folder)
    verdict = verdict_of(manifest)
    record(store, verdict)
    advance_latest(store, manifest.model, manifest.version, verdict.id)


def _promote(store: Store, version: str, verdict: str) -> None:
    move_alias(store, MODEL, "production", version, verdict, "promoted")
