"""The embedded store over its own end, which is a SIGKILL."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tasks.storage.embedded import BUCKET, EmbeddedStore, _plain_client

pytestmark = pytest.mark.servers
_LIVES = 4
_SENT = 100  # objects that a life takes before it is ended in the middle of the next ones


def test_each_start_takes_writes_at_once_and_has_all_that_was_acknowledged(tmp_path: Path) -> None:
    acknowledged: dict[str, bytes] = {}
    for life in range(_LIVES):
        store = EmbeddedStore(tmp_path)
        store.wait_until_up()
        client = _plain_client(store.access)  # gives a request 10 s, once
        client.put_object(Bucket=BUCKET, Key=f"first-{life}", Body=b"at once", IfNoneMatch="*")
        for key, body in acknowledged.items():
            assert client.get_object(Bucket=BUCKET, Key=key)["Body"].read() == body
        enough = threading.Event()
        writer = threading.Thread(target=_write, args=(client, life, acknowledged, enough))
        writer.start()
        assert enough.wait(60)
        store.close()
        writer.join(60)
    assert len(acknowledged) >= _LIVES * _SENT


def _write(client: Any, life: int, acknowledged: dict[str, bytes], enough: threading.Event) -> None:
    """Write until the server is gone."""
    for number in range(10_000):
        key, body = f"{life}/{number}", f"{life} {number} ".encode() * 1000
        try:
            client.put_object(Bucket=BUCKET, Key=key, Body=body)
        except (BotoCoreError, ClientError):
            return
        acknowledged[key] = body
        if number == _SENT:
            enough.set()
