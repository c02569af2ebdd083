"""What the tests ask a Prefect server with."""

from __future__ import annotations

import time

import httpx


class Patient(httpx.HTTPTransport):
    """Asks again where the server says 503, as Prefect's own client does: SQLite was locked (FACTS.md)."""

    def __init__(self) -> None:
        super().__init__(verify=False)  # nothing to verify here; else each reads all certificates first, for 0.05 s

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        for _ in range(10):
            response = super().handle_request(request)
            if response.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            response.read()
            time.sleep(1)
        return response
