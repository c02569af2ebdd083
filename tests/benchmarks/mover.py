"""One transfer by one client, in a process of its own: prints its seconds, CPU seconds and memory above the idle process.

`python -m tests.benchmarks.mover CLIENT up|down FOLDER BUCKET PREFIX`; the AWS SDK's variables say where and who.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tasks.storage.transfer.lanes import SENDERS

_THREADS = SENDERS  # as many as ours
Move = Callable[[], None]


def files_of(folder: Path) -> list[str]:
    """Relative paths of all files."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def ours(way: str, folder: Path, bucket: str, prefix: str) -> Move:
    """Upload and download as publish and fetch do, digests and all."""
    from tasks.settings import StoreConfig
    from tasks.storage import FileEntry, open_store
    from tasks.storage.transfer import download, upload
    from tasks.storage.transfer.wire import _line

    store = open_store(StoreConfig(url=f"s3://{bucket}"))
    _line(store)
    notes = Path(os.environ["ENTRIES"])
    if way == "down":
        entries = [FileEntry.model_validate(entry) for entry in json.loads(notes.read_text())]
        return lambda: download(store, f"{prefix}/", folder, entries)

    def up() -> None:
        sent = upload(store, folder, f"{prefix}/")
        notes.write_text(json.dumps([entry.model_dump() for entry in sent]))

    return up


def boto3(way: str, folder: Path, bucket: str, prefix: str) -> Move:
    """`upload_file` and `download_file`, one after the other, with all defaults."""
    import boto3
    from botocore.config import Config

    client = boto3.client("s3", config=Config(s3={"addressing_style": "path"}))
    if way == "up":

        def up() -> None:
            for name in files_of(folder):
                client.upload_file(str(folder / name), bucket, f"{prefix}/{name}")

        return up

    def down() -> None:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/"):
            for item in page["Contents"]:
                client.download_file(bucket, item["Key"], str(_place(folder, item["Key"].removeprefix(f"{prefix}/"))))

    return down


def obstore(way: str, folder: Path, bucket: str, prefix: str) -> Move:
    """`put` of each path and `get` into each file, as many at once as ours."""
    import obstore
    from obstore.store import S3Store

    # Its own 30 seconds a request are too few on a busy machine.
    client_options: Any = {"allow_http": True, "timeout": "10 minutes"}
    store = S3Store(bucket, virtual_hosted_style_request=False, client_options=client_options)

    def put(name: str) -> None:
        obstore.put(store, f"{prefix}/{name}", folder / name)

    def get(key: str) -> None:
        with _place(folder, key.removeprefix(f"{prefix}/")).open("wb") as file:
            for chunk in obstore.get(store, key):
                file.write(chunk)

    def move() -> None:
        with ThreadPoolExecutor(_THREADS) as pool:
            if way == "up":
                list(pool.map(put, files_of(folder)))
            else:
                keys = [item["path"] for page in obstore.list(store, prefix) for item in page]
                list(pool.map(get, keys))

    return move


def _place(folder: Path, name: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def main() -> None:
    """Move, and tell what it took."""
    client, way, folder, bucket, prefix = sys.argv[1:]
    clients: dict[str, Callable[..., Move]] = {"ours": ours, "boto3": boto3, "obstore": obstore}
    move = clients[client](way, Path(folder), bucket, prefix)
    idle, cpu, started = _usage(), time.process_time(), time.perf_counter()
    move()
    facts: dict[str, Any] = {"seconds": time.perf_counter() - started, "cpu_s": time.process_time() - cpu}
    print(json.dumps(facts | {"peak_mb": (_usage() - idle) / 1024}))


def _usage() -> int:
    """Peak memory of this program in kB. `ru_maxrss` would count the parent's, from before the exec."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


if __name__ == "__main__":
    main()
