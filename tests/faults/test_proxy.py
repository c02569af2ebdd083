"""What the campaigns take for granted of the proxy."""

from __future__ import annotations

import socket
import threading
import time
import uuid

from tests.faults.proxy import Line, Proxy

_CLIENTS = 10
_SECONDS = 0.2  # that a request takes


def test_a_proxy_that_ran_dry_lets_nothing_more_pass_of_what_the_dead_have_sent() -> None:
    proxy = Proxy("http://127.0.0.1:9")  # nothing is sent on
    prefix = uuid.uuid4().hex
    passed: list[Line] = []
    asked = threading.Event()

    def pass_slowly(line: Line) -> None:
        asked.set()
        time.sleep(_SECONDS)
        passed.append(line)

    proxy.case(prefix).intercept = pass_slowly
    for _ in range(_CLIENTS):
        with socket.create_connection(proxy.address) as client:
            client.sendall(f"GET /models/{prefix}/latest.json HTTP/1.1\r\n\r\n".encode())
    assert asked.wait(30)
    proxy.run_dry()
    seen = len(passed)
    time.sleep(2 * _SECONDS)
    assert 0 < seen == len(passed)
