"""Patience with a database that is busy, on the server's side."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any

_AT_ONCE = (b"retry-after", b"0.05")
_SECONDS_BETWEEN = 60.0  # longer than any pause of the client's

Message = MutableMapping[str, Any]


class Patient:
    """An ASGI application in front of Prefect's: who is refused for a moment is told to come again in a moment.

    A transaction that read before another one committed can't write any more on SQLite, however long it waits. Prefect
    answers 503 then, upon which its client sleeps for two seconds, and goes through: one run in twenty at a desk met that.
    Where one refusal follows another the database is busy for longer, and the client's own growing pauses are right, which
    last a minute in all.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._last = -math.inf  # the clock may begin with the machine, a moment ago

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        """Serve one connection."""

        async def answer(message: Message) -> None:
            if message.get("status") == HTTPStatus.SERVICE_UNAVAILABLE:
                before, self._last = self._last, time.monotonic()
                if self._last - before > _SECONDS_BETWEEN:
                    message = {**message, "headers": [*message.get("headers", ()), _AT_ONCE]}
            await send(message)

        await self._app(scope, receive, answer)
