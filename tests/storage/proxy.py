"""A proxy between a client and a real S3 server, to change what passes. Signatures stay valid: they name its address."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

_DENIED = b"<Error><Code>AccessDenied</Code><Message>by the test</Message></Error>"


@dataclass
class Passing:
    """What passed, and what is done to it.

    Attributes:
        seen: Method and target of each request, in their order.
        up: Given method, target and body of a request; returns the body that the server gets, or None to refuse it: 403,
            which nobody tries again.
        down: Given method, target and body of a response; returns the body that the client gets.
    """

    endpoint: str = ""
    seen: list[tuple[str, str]] = field(default_factory=list)
    up: Callable[[str, str, bytes], bytes | None] = lambda method, target, body: body
    down: Callable[[str, str, bytes], bytes] = lambda method, target, body: body

    def count(self, method: str, part: str = "") -> int:
        """Requests of a method whose target has this part."""
        return sum(1 for m, target in self.seen if m == method and part in target)


@contextmanager
def proxy(endpoint: str) -> Iterator[Passing]:
    """A proxy before the server at `endpoint`."""
    server = urlsplit(endpoint)
    passing = Passing()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            passing.seen.append((self.command, self.path))
            changed = passing.up(self.command, self.path, body)
            if changed is None:
                self.send_response(403)
                self.send_header("Content-Length", str(len(_DENIED)))
                self.end_headers()
                self.wfile.write(_DENIED)
                return
            upstream = http.client.HTTPConnection(server.hostname or "", server.port, timeout=60)
            headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
            upstream.request(self.command, self.path, changed, headers)
            answer = upstream.getresponse()
            back = passing.down(self.command, self.path, answer.read())
            upstream.close()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in {"content-length", "transfer-encoding", "connection", "date", "server"}:
                    self.send_header(name, value)
            length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(back))
            self.send_header("Content-Length", length or "0")
            self.end_headers()
            self.wfile.write(back)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_one

        def log_message(self, format: str, *arguments: Any) -> None:
            del format, arguments

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as front:
        passing.endpoint = f"http://127.0.0.1:{front.server_address[1]}"
        thread = threading.Thread(target=front.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield passing
        finally:
            front.shutdown()
            thread.join()
