"""A desk's server lets go of nobody who is being served, and of nothing that its application does at its end."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

PROGRAM = """
import asyncio, sys
import uvicorn
from flows.prompt_server import PromptServer

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("application ended", flush=True)
        await send({"type": "lifespan.shutdown.complete"})
        return
    print("asked", flush=True)
    await asyncio.sleep(0.3)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"done"})

PromptServer(uvicorn.Config(app, fd=int(sys.argv[1]), log_level="error", lifespan="on")).run()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["sigterm", "sigint"])
def test_who_is_being_served_is_answered_and_then_it_ends(number: signal.Signals) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        server = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(held.fileno())], stdout=subprocess.PIPE, text=True, pass_fds=[held.fileno()]
        )
    assert server.stdout is not None
    try:
        with ThreadPoolExecutor(1) as pool, socket.create_connection(("127.0.0.1", port)):  # one that asks nothing
            answer = pool.submit(lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=30).read())
            assert server.stdout.readline() == "asked\n"
            server.send_signal(number)
            assert answer.result() == b"done"
            assert server.stdout.read() == "application ended\n"
            assert server.wait(30) == -number
    finally:
        server.kill()
        server.communicate()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
