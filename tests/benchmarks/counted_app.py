"""Prefect's server as `up` runs it, but each request and each websocket message that comes in is a line of a file."""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from flows.server_app import create_app as create_prefect

FILE = "ROUNDTRIP_BENCHMARK_REQUESTS"
NOT_COUNTED = "?benchmark"  # behind the paths of the benchmark's own questions
_NAMES = re.compile(r"(?<=/)[0-9a-f]{8}-[0-9a-f-]{27}|(?<=/name/).+|(?<=work_pools/)(?!filter|count)[^/]+")

Message = MutableMapping[str, Any]


def create_app() -> Any:
    """The application, counted."""
    prefect = create_prefect()
    file = os.open(os.environ[FILE], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    async def counted(
        scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        path = _NAMES.sub("*", str(scope.get("path", "")))

        async def receiving() -> Message:
            message = await receive()
            if message["type"] == "websocket.receive":
                os.write(file, f"SOCKET {path}\n".encode())
            return message

        if scope["type"] == "http" and scope["query_string"] != NOT_COUNTED.encode()[1:]:
            os.write(file, f"{scope['method']} {path}\n".encode())
        await prefect(scope, receiving, send)

    return counted
