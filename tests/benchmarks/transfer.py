"""Upload and download against s5cmd, obstore, boto3 and the AWS command line: a large file, a SavedModel's tree, small ones.

Every client runs in a process of its own, in turns within a round; a bar is the median over rounds of ours to the fastest
other one of that round. Ours hashes every byte and checks it at the other end; the others check what they check by default.
Python clients are timed from the call, commands as a whole. For s5cmd `uv sync --group benchmark`; for the AWS command line,
which wants another botocore, `uv tool install awscli`. What is not there is left out, and its row says so.
`TMPDIR=/dev/shm` (16 GB) takes the disk out of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from tests.benchmarks.harness import bar, python

_MIB = 2**20
_BUCKET = "models"
_CLIENTS = ("ours", "obstore", "s5cmd", "boto3", "aws s3 cp")
_TARGETS = {"1 GiB file": ">= 1", "tree of 12 files, 300 MB": ">= 1", "2,000 files of 50 kB": ">= 0.9"}
_AWAY_MS = 20
_TO_NOWHERE = ("ours", "obstore", "s5cmd", "boto3")


@dataclass(frozen=True, slots=True)
class _Took:
    """One transfer: seconds, CPU seconds of the client, peak memory above the idle process in MB."""

    seconds: float
    cpu: float
    peak: float


def measure(rounds: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows of medians, and the bars of the issue."""
    scratch = Path(tempfile.mkdtemp(prefix="roundtrip-transfer-"))
    os.environ.update(XDG_DATA_HOME=str(scratch / "data"), XDG_CACHE_HOME=str(scratch / "cache"))
    os.environ.pop("ROUNDTRIP_STORE", None)
    try:
        sources = _sources(scratch)
        rows = _ceilings(scratch)
        bars: dict[str, Any] = {}
        clients = [name for name in _CLIENTS if _installed(name)]
        rows += [{"what": f"{name} is not installed"} for name in _CLIENTS if name not in clients]
        for what, source in sources.items():
            _race(what, source, clients, rounds, partial(_seaweedfs, scratch), scratch, rows, bars)
        far, many = partial(_far_seaweedfs, scratch), [name for name in clients if name != "boto3"]  # which sends one by one
        for what in ("tree of 12 files, 300 MB", "2,000 files of 50 kB"):
            _race(f"{what}, 40 ms away", sources[what], many, rounds, far, scratch, rows, bars)
        there = [name for name in clients if name in _TO_NOWHERE]
        large = sources["1 GiB file"]
        _race("1 GiB file, no storage", large, there, rounds, partial(_null_sink, large), scratch, rows, bars)
        peak = max(row["peak_mb"] for row in rows if row["what"].endswith(": ours"))
        bars["peak memory above the idle interpreter, MB"] = bar(peak, "<= 300")
        return rows, bars
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _race(
    what: str,
    source: Path,
    clients: list[str],
    rounds: int,
    server: Callable[[], AbstractContextManager[dict[str, str]]],
    scratch: Path,
    rows: list[dict[str, Any]],
    bars: dict[str, Any],
) -> None:
    size = sum(path.stat().st_size for path in source.rglob("*") if path.is_file())
    took: dict[tuple[str, str], list[_Took]] = {(way, name): [] for way in ("up", "down") for name in clients}
    for number in range(rounds):
        # Whoever comes first finds a colder server: each round another one does.
        turn = clients[number % len(clients) :] + clients[: number % len(clients)]
        with server() as address:
            environment = address | {"ENTRIES": str(scratch / "entries.json")}
            for name in turn:
                took["up", name].append(_move(name, "up", source, f"from-{name.partition(' ')[0]}", environment))
                _say(what, "up", name, took)
            for name in turn:
                target = scratch / "down"
                target.mkdir()
                took["down", name].append(_move(name, "down", target, "from-ours", environment))
                _say(what, "down", name, took)
                _check(source, target, f"{what}: {name}")
                shutil.rmtree(target)
    for way in ("up", "down"):
        for name in clients:
            runs = took[way, name]
            rows.append({
                "what": f"{what}, {way}: {name}",
                "mb_per_s": round(size / 1e6 / statistics.median(r.seconds for r in runs)),
                "seconds": round(statistics.median(r.seconds for r in runs), 2),
                "cpu_s": round(statistics.median(r.cpu for r in runs), 2),
                "peak_mb": round(max(r.peak for r in runs)),
            })  # fmt: skip
        others = [name for name in clients if name != "ours"]
        ratios = [
            min(took[way, name][number].seconds for name in others) / took[way, "ours"][number].seconds
            for number in range(rounds)
        ]
        if others:
            bars[f"{what}, {way}: ours to the fastest other"] = bar(statistics.median(ratios), _TARGETS.get(what, ">= 1"))


def _say(what: str, way: str, name: str, took: dict[tuple[str, str], list[_Took]]) -> None:
    print(f"{what}, {way}: {name} {took[way, name][-1].seconds:.2f} s", file=sys.stderr, flush=True)


def _move(name: str, way: str, folder: Path, prefix: str, environment: dict[str, str]) -> _Took:
    place = f"s3://{_BUCKET}/{prefix}/"
    if name in {"s5cmd", "aws s3 cp"}:
        ends = (f"{folder}/", place) if way == "up" else (place, f"{folder}/")
        if name == "s5cmd":
            ends = ends if way == "up" else (f"{place}*", ends[1])
            command = ["s5cmd", "--log", "error", "--endpoint-url", environment["AWS_ENDPOINT_URL"], "cp", *ends]
        else:
            command = ["aws", "s3", "cp", "--recursive", "--only-show-errors", *ends]
        return _run(command, environment)
    done = subprocess.run(
        python("-m", "tests.benchmarks.mover", name, way, str(folder), _BUCKET, prefix),
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    facts = json.loads(done.stdout)
    return _Took(facts["seconds"], facts["cpu_s"], facts["peak_mb"])


def _run(command: list[str], environment: dict[str, str]) -> _Took:
    started = time.perf_counter()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = psutil.Popen(command, env=os.environ | environment)
    peak = 0
    while process.poll() is None:
        with suppress(psutil.Error):
            peak = max(peak, process.memory_info().rss)
        time.sleep(0.01)
    seconds = time.perf_counter() - started
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return _Took(seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, peak / 1e6)


def _installed(name: str) -> bool:
    return name in {"ours", "obstore", "boto3"} or shutil.which(name.partition(" ")[0]) is not None


def _environment(endpoint: str, key: str, secret: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ENDPOINT_URL_S3": endpoint,
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
    }


def _sources(scratch: Path) -> dict[str, Path]:
    folders = {name: scratch / f"source-{number}" for number, name in enumerate(_TARGETS)}
    one, tree, small = folders.values()
    _write(one / "model.bin", 1024 * _MIB)
    _write(tree / "saved_model.pb", 2 * 10**6)
    _write(tree / "variables" / "variables.index", 20_000)
    for number in range(10):
        _write(tree / "variables" / f"variables.data-{number:05d}-of-00010", 298 * 10**5)
    for number in range(2000):
        _write(small / f"{number % 20:02d}" / f"{number:04d}.bin", 50_000)
    return folders


def _write(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        while size > 0:
            size -= file.write(os.urandom(min(size, 16 * _MIB)))


def _check(source: Path, target: Path, subject: str) -> None:
    for path in source.rglob("*"):
        if path.is_file() and not _same(path, target / path.relative_to(source)):
            raise RuntimeError(f"{subject} did not bring back {path.relative_to(source)}")


def _same(one: Path, other: Path) -> bool:
    return other.is_file() and one.stat().st_size == other.stat().st_size


@contextmanager
def _seaweedfs(scratch: Path) -> Iterator[dict[str, str]]:
    """A new embedded server for each round, so that the disk holds one round at most."""
    from tasks.storage.embedded import EmbeddedStore  # after the folders are set

    folder = scratch / "store"
    folder.mkdir()
    server = EmbeddedStore(folder)
    try:
        server.wait_until_up()
        yield _environment(server.access.endpoint, server.access.access_key, server.access.secret_key)
    finally:
        server.close()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _far_seaweedfs(scratch: Path) -> Iterator[dict[str, str]]:
    """The same server at the end of a line over which a question and its answer take 40 ms."""
    with _seaweedfs(scratch) as near, _answering("distance", near["AWS_ENDPOINT_URL"], str(_AWAY_MS)) as endpoint:
        yield near | {"AWS_ENDPOINT_URL": endpoint, "AWS_ENDPOINT_URL_S3": endpoint}


@contextmanager
def _null_sink(folder: Path) -> Iterator[dict[str, str]]:
    with _answering("null_sink", str(folder)) as endpoint:
        yield _environment(endpoint, "key", "secret")


@contextmanager
def _answering(module: str, *arguments: str) -> Iterator[str]:
    """The address of a helper that prints its port."""
    command = [sys.executable, "-m", f"tests.benchmarks.{module}", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as helper:
        try:
            yield f"http://127.0.0.1:{helper.stdout.readline().strip() if helper.stdout else ''}"
        finally:
            helper.terminate()


def _ceilings(scratch: Path) -> list[dict[str, Any]]:
    """What this machine can do at most, at this moment: a hash, a copy over loopback, the disk."""
    body = os.urandom(256 * _MIB)

    def rate(work: Any) -> int:
        started = time.perf_counter()
        work()
        return round(len(body) / 1e6 / (time.perf_counter() - started))

    def loopback() -> None:
        left, right = socket.socketpair()
        sender = threading.Thread(target=lambda: (left.sendall(body), left.close()))
        sender.start()
        while right.recv(_MIB):
            pass
        sender.join()

    def disk() -> None:
        with (scratch / "disk").open("wb") as target:
            target.write(body)
            os.fsync(target.fileno())

    ceilings = {
        "SHA-256 of one core": lambda: hashlib.sha256(body).digest(),
        "loopback, one stream": loopback,
        "disk, written and synced": disk,
    }
    return [{"what": f"ceiling: {name}", "mb_per_s": rate(work)} for name, work in ceilings.items()]
