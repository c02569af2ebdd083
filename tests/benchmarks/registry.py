"""The registry's operations as a store grows: requests and seconds, on the embedded SeaweedFS.

One model with 10 to 10,000 versions, each of which was `latest` once; then 1 to 1,000 models of three versions. Versions
are made as cheaply as a store allows, by their keys alone; what is measured runs the project's own functions.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.benchmarks.harness import bar

_VERSIONS = (10, 100, 1_000, 10_000)
_MODELS = (10, 100, 1_000)
_FILES = {"model/weights.bin": b"w" * 100, "probe.npz": b"p" * 100}


@dataclass(slots=True)
class _Meter:
    """Counts the requests of a client."""

    requests: int = 0

    def __call__(self, **_: Any) -> None:
        self.requests += 1

    def of(self, function: Callable[[], object], rounds: int) -> tuple[int, float]:
        """Requests of one call, and the median of its seconds."""
        seconds = []
        for _ in range(rounds):
            self.requests = 0
            started = time.perf_counter()
            function()
            seconds.append(time.perf_counter() - started)
        return self.requests, statistics.median(seconds)


def measure(rounds: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows of requests and median seconds, and the bars of the issue."""
    os.environ["XDG_DATA_HOME"] = tempfile.mkdtemp(prefix="roundtrip-benchmark-")
    os.environ.pop("ROUNDTRIP_STORE", None)
    from tasks.storage import open_store  # after the folder is set

    store = open_store()
    meter = _Meter()
    store.client.meta.events.register("before-send.s3", meter)
    rows: list[dict[str, Any]] = []
    for count in _VERSIONS:
        place = replace(store, prefix=f"{uuid.uuid4().hex}/")
        newest = _fill(place, "digits", count)
        rows += _of_one_model(place, count, newest, meter, rounds)
    for count in _MODELS:
        place = replace(store, prefix=f"{uuid.uuid4().hex}/")
        for number in range(count):
            _fill(place, f"model-{number:04}", 3)
        rows += _of_many_models(place, count, meter, rounds)
    return rows, _bars(rows)


def _of_one_model(store: Any, count: int, newest: str, meter: _Meter, rounds: int) -> list[dict[str, Any]]:
    from tasks.errors import NotFoundError
    from tasks.storage import Retention, advance_latest, layout, list_models, plan, publish, remove_version, resolve
    from tests.proofs import proved
    from tests.storage.samples import manifest_of, write

    folder = write(Path(tempfile.mkdtemp(prefix="roundtrip-benchmark-")), _FILES)
    published: list[str] = []

    def publish_one() -> None:
        manifest = manifest_of(folder)
        publish(store, folder, manifest)
        published.append(manifest.version)

    def promote_one() -> None:
        advance_latest(store, "digits", published.pop(0), "verdict")

    def missing() -> None:
        try:
            resolve(store, "digits@nobody")
        except NotFoundError:
            return

    operations: dict[str, Callable[[], object]] = {
        "resolve digits@latest": lambda: resolve(store, "digits@latest"),
        "resolve an alias that is not there": missing,
        "publish (2 files)": publish_one,
        "record a verdict": lambda: proved(store, "digits", newest),
        "promote": promote_one,
        "show": lambda: _show(store, "digits"),
        "list": lambda: list_models(store),
        "gc, plan": lambda: plan(store, Retention(keep_last=count)),
        "rm": lambda: remove_version(store, "digits", _unpinned(layout, store)),
    }
    return [_row(f"1 model, {count:,} versions", name, *meter.of(run, rounds)) for name, run in operations.items()]


def _of_many_models(store: Any, count: int, meter: _Meter, rounds: int) -> list[dict[str, Any]]:
    from tasks.storage import Filter, Retention, list_models, plan, resolve

    operations: dict[str, Callable[[], object]] = {
        "resolve model-0000@latest": lambda: resolve(store, "model-0000@latest"),
        "list": lambda: list_models(store),
        "list 'model-000*'": lambda: list_models(store, Filter(names=("model-000*",))),
        "gc, plan": lambda: plan(store, Retention(keep_last=3)),
    }
    return [_row(f"{count:,} models, 3 versions", name, *meter.of(run, rounds)) for name, run in operations.items()]


def _show(store: Any, model: str) -> None:
    """What `python -m flows show MODEL` reads."""
    from tasks.storage import alias_history, list_versions, read_manifest
    from tasks.verification import read_verdicts

    version = list_versions(store, model)[-1]
    read_manifest(store, model, version)
    read_verdicts(store, model, version)
    alias_history(store, model, "latest", limit=10)


def _unpinned(layout: Any, store: Any) -> str:
    """A version that can be removed: one of the first, which the index names first."""
    for key in store.keys(layout.index("digits"), limit=50):
        version, form, _ = layout.read_index(key.rpartition("/")[2])
        if form:
            return str(version)
    raise AssertionError("nothing to remove")


def _fill(store: Any, model: str, count: int) -> str:
    """Versions of a model, each of which was `latest` in its turn; the newest."""
    from tasks.storage import layout
    from tasks.storage.aliases import Revision
    from tests.storage.samples import manifest_of, put, write

    folder = write(Path(tempfile.mkdtemp(prefix="roundtrip-benchmark-")), _FILES)
    versions = sorted(layout.new_version() for _ in range(count))
    body = manifest_of(folder, model, versions[-1]).model_dump_json(indent=1).encode()
    objects: list[tuple[str, bytes]] = []
    for number, version in enumerate(versions):
        revision = Revision(alias="latest", number=number, version=version, newest=version, verdict=version,
                            reason="verified", at=datetime.now(UTC))  # fmt: skip
        objects += [(layout.bundle(model, version) + name, content) for name, content in _FILES.items()]
        objects += [
            (layout.manifest(model, version), body.replace(versions[-1].encode(), version.encode())),
            (layout.indexed(model, version, "saved-model", 200), b""),
            (layout.revision(model, "latest", number), revision.model_dump_json().encode()),
        ]
    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(lambda each: put(store, *each), objects))
    return versions[-1]


def _row(where: str, what: str, requests: int, seconds: float) -> dict[str, Any]:
    return {"where": where, "what": what, "requests": requests, "seconds": round(seconds, 4)}


def _bars(rows: list[dict[str, Any]]) -> dict[str, Any]:
    def of(what: str) -> list[int]:
        return [row["requests"] for row in rows if row["what"].startswith(what)]

    publish, promote = of("publish"), of("promote")
    return {
        "requests to resolve an alias, at most": bar(max(of("resolve digits") + of("resolve model")), "<= 2"),
        "requests to publish, with 10,000 versions to with 10": bar(publish[-1] / publish[0], "<= 1"),
        "requests to promote, with 10,000 versions to with 10": bar(promote[-1] / promote[0], "<= 1"),
    }
