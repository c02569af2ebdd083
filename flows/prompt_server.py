"""The process of a desk's Prefect server, which ends when it is told to.

uvicorn looks ten times a second whether it was told to end, and then sleeps a tenth of a second in which connections may
close. The clients of a desk have ended before, and the job waits for this process: 0.15 s of seven.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import uvicorn

_TICK_SECONDS = 0.1  # uvicorn renews the date that it sends each tenth time
_POLL_SECONDS = 0.005
_PATIENCE_SECONDS = 1.0  # with clients that are still there
# A connection that the server closes in the very moment in which a client asks something costs that client two seconds.
# Prefect's client gives up what was idle for 25 s, Prefect's server after 5 s.
_KEEP_ALIVE_SECONDS = 60


class PromptServer(uvicorn.Server):
    """uvicorn's server without its waits."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._wake: Callable[[], object] = lambda: None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal came."""
        super().handle_exit(sig, frame)
        self._wake()

    async def main_loop(self) -> None:
        """Serve until a signal comes."""
        told = asyncio.Event()
        self._wake = partial(asyncio.get_running_loop().call_soon_threadsafe, told.set)
        ticks = 0
        while not await self.on_tick(ticks):
            ticks += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TICK_SECONDS):
                    await told.wait()

    async def shutdown(self, sockets: Any = None) -> None:
        """Take no more connections, close the idle ones, give the others a second to finish, and end the application."""
        del sockets  # it has one, by its descriptor
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while (self.server_state.connections or self.server_state.tasks) and time.monotonic() < deadline:
            await asyncio.sleep(_POLL_SECONDS)
        for task in self.server_state.tasks:
            task.cancel()
        await self.lifespan.shutdown()


def main() -> None:
    """Serve Prefect's application on the socket whose descriptor the command line names."""
    from flows.server_app import create_app

    config = uvicorn.Config(
        create_app,
        factory=True,
        fd=int(sys.argv[1]),
        log_level="warning",
        lifespan="on",
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
    )
    PromptServer(config).run()


if __name__ == "__main__":
    main()
