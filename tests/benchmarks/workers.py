"""What becomes of a training by two workers when one is killed: how soon the other ends, how, and what was published.

Then the same two run again: they go on from the last checkpoint, and the chief publishes.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.harness import bar
from tests.own_store import s3_variables

_ENDS_WITHIN = 60.0  # seconds
_SCENARIOS = ("saved-model", "full-h5")  # the custom loop, and `fit`


def measure(rounds: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A row for each loop and for each of the two that is killed, `rounds` times."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"XDG_DATA_HOME": f"{folder}/data", "XDG_CACHE_HOME": f"{folder}/cache", "PREFECT_HOME": folder}
        from flows.server import PrefectServer
        from tasks.storage import embedded

        prefect, store = PrefectServer(), embedded.running()
        try:
            prefect.wait_until_up()
            return _measure(rounds, Path(folder), store.access)
        finally:
            store.close()
            prefect.close()


def _measure(rounds: int, folder: Path, access: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    from tasks.storage import layout, list_versions, open_store, read_manifest
    from tests.e2e.commands import Home, end_of, until

    environment = s3_variables(access, "workers")
    os.environ |= environment
    store = open_store()
    names = ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE", "DO_NOT_TRACK")
    home = Home(folder, environment | {name: os.environ[name] for name in names})

    def both(scenario: str, name: str) -> list[Any]:
        training = ["--epochs", "30", "--batch-size", "32", "--checkpoint-every", "1", "--strategy", "multi-worker"]
        return [
            home.start("run", scenario, *training, "--name", name, "--json", TF_CONFIG=config) for config in two_workers()
        ]

    rows = []
    for scenario in _SCENARIOS:
        for victim, word in enumerate(("chief", "other")):
            for i in range(rounds):
                name = f"{scenario}-{word}-{i}"
                workers = both(scenario, name)
                until(lambda name=name: bool(store.keys(layout.checkpoints(name))), 120)
                workers[victim].kill()
                started = time.monotonic()
                left = end_of(workers[1 - victim])
                seconds = time.monotonic() - started
                workers[victim].communicate()
                published = len(store.folders(layout.versions(name)))
                chief, other = (end_of(worker) for worker in both(scenario, name))
                notes = [note for v in list_versions(store, name) for note in read_manifest(store, name, v).training.notes]
                rows.append(
                    {"loop": scenario, "killed": word, "other_ended_s": seconds, "exit_code": left.code}
                    | {"said": left.document["error"]["message"][:120], "published": published}
                    | {"again": (chief.code, other.code), "resumed": any(n.startswith("resumed after") for n in notes)}
                )
    good = [r["exit_code"] == 4 and not r["published"] and r["again"] == (0, 0) and r["resumed"] for r in rows]
    return rows, {
        "the other one ends": bar(max(r["other_ended_s"] for r in rows), f"<= {_ENDS_WITHIN:g}"),
        "ends with 4, nothing published, goes on when run again": bar(sum(good) / len(good), ">= 1"),
    }


def two_workers() -> list[str]:
    """`TF_CONFIG` of each of two workers on this machine."""
    from tasks.shared_server import free_ports

    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    return [json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": i}}) for i in range(2)]
