"""A line with a distance: a TCP relay that hands everything on so many milliseconds late, either way.

`python -m tests.benchmarks.distance ENDPOINT MILLISECONDS` prints its port. It knows nothing of HTTP, and takes as much as
comes: what a client loses by it is the time for which it waits.
"""

from __future__ import annotations

import asyncio
import sys
from urllib.parse import urlsplit

_CHUNK = 1 << 18


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    now = asyncio.get_running_loop().time
    line: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def arrive() -> None:
        while True:
            due, body = await line.get()
            await asyncio.sleep(max(0.0, due - now()))
            if not body:
                writer.close()
                return
            writer.write(body)
            await writer.drain()

    arriving = asyncio.ensure_future(arrive())
    try:
        while body := await reader.read(_CHUNK):
            await line.put((now() + seconds, body))
    except ConnectionError:
        pass
    await line.put((now() + seconds, b""))
    await asyncio.gather(arriving, return_exceptions=True)


async def _serve(host: str, port: int, seconds: float) -> None:
    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(2 * seconds)  # the handshake
        there, back = await asyncio.open_connection(host, port)
        await asyncio.gather(_carry(reader, back, seconds), _carry(there, writer, seconds))

    server = await asyncio.start_server(connect, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    """Relay until somebody ends it."""
    place = urlsplit(sys.argv[1])
    assert place.hostname and place.port
    asyncio.run(_serve(place.hostname, place.port, float(sys.argv[2]) / 1000))


if __name__ == "__main__":
    main()
