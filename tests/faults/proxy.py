"""An HTTP proxy between an S3 client and a real S3 server, which records requests and spoils those it is told to.

Requests go on byte for byte, `Host` included, for SigV4 signs it: the server checks the signature against the name that
the client used, whatever address it listens on itself. One proxy serves all cases of a session; a case is found by its
store prefix, which stands in the path or the query of every one of its requests.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import socketserver
import struct
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol

_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?=/|%2F)")
_IDLE_SECONDS = 60.0
_VERSION = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
_HOP_BY_HOP = {"transfer-encoding", "connection", "keep-alive", "content-length"}


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came.

    Attributes:
        head: Name and value of each header, as sent.
        body: With its framing where it came in chunks.
    """

    method: str
    target: str
    head: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str:
        """A header's value, empty where there is none."""
        return next((value for key, value in self.head if key.lower() == name.lower()), "")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said, whole."""

    status: int
    reason: str
    head: tuple[tuple[str, str], ...]
    body: bytes


class Line(Protocol):
    """Both ends of one request in flight, for whoever decides about it."""

    request: Request

    def forward(self, request: Request | None = None) -> Answer:
        """Send the request (or another) to the server; its whole answer."""

    def forward_half(self) -> None:
        """Send the head and half of the body to the server, then break that connection."""

    def reply(self, answer: Answer, *, cut: bool = False) -> None:
        """Give the client an answer; half of its body where `cut`."""

    def drop(self, *, reset: bool = False) -> NoReturn:
        """Close the client's connection, with RST where `reset`."""

    def hang(self) -> NoReturn:
        """Say nothing until the client goes away."""


Interception = Callable[[Line], None]


def passed_on(line: Line) -> None:
    """What happens to a request that nothing is done to."""
    line.reply(line.forward())


@dataclass(slots=True)
class Case:
    """The requests of one store prefix. `intercept` decides about each; requests in flight are counted."""

    prefix: str
    intercept: Interception = passed_on
    requests: list[str] = field(default_factory=list)
    _in_flight: int = 0
    _quiet: threading.Condition = field(default_factory=threading.Condition)

    @contextlib.contextmanager
    def handling(self) -> Iterator[None]:
        """Count one request as in flight."""
        with self._quiet:
            self._in_flight += 1
        try:
            yield
        finally:
            with self._quiet:
                self._in_flight -= 1
                self._quiet.notify_all()

    def settle(self) -> None:
        """Return when the server has answered all that was forwarded, so that nothing more can appear."""
        with self._quiet:
            assert self._quiet.wait_for(lambda: self._in_flight == 0, timeout=3 * _IDLE_SECONDS), (
                f"{self.prefix}: still in flight"
            )


class Proxy:
    """Listens on loopback as long as it is open."""

    def __init__(self, upstream: str) -> None:
        host, _, port = upstream.removeprefix("http://").partition(":")
        self.upstream = (host, int(port))
        self.cases: dict[str, Case] = {}
        proxy = self

        class Handler(_Handler):
            """Of this proxy."""

            def find(self, request: Request) -> Case:
                return proxy.find(request)

            def connect(self) -> http.client.HTTPConnection:
                return http.client.HTTPConnection(*proxy.upstream, timeout=_IDLE_SECONDS)

        self._server = _Server(Handler)
        self.address = ("127.0.0.1", int(self._server.server_address[1]))
        self.url = "http://{}:{}".format(*self.address)
        self._stopping = threading.Lock()
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def case(self, prefix: str) -> Case:
        """Watch the requests of a store prefix from now on."""
        self.cases[prefix] = Case(prefix)
        return self.cases[prefix]

    def find(self, request: Request) -> Case:
        """The case of a request; a deletion of many keys names them in its body."""
        match = _ID.search(request.target) or ("?delete" in request.target and _ID.search(request.body.decode()))
        return self.cases.get(match[0], _NOBODYS) if match else _NOBODYS

    def stop_listening(self) -> None:
        """From now on connections are refused; those that are open go on."""
        with self._stopping:
            if self._thread.is_alive():
                self._server.shutdown()
                self._thread.join()
                self._server.server_close()

    def another(self) -> Proxy:
        """A second one before the same server."""
        return Proxy("http://{}:{}".format(*self.upstream))

    def run_dry(self) -> None:
        """Close, and return when nothing more that a client sent can reach the server. The clients must be gone."""
        self.stop_listening()
        self._server.wait()

    def close(self) -> None:
        """Stop, and give the port back."""
        self.stop_listening()


_NOBODYS = Case("")


def label(request: Request) -> str:
    """What a request is, the same in each run: `PUT manifest.json`, `GET ?list aliases/latest/`, `POST w.bin ?uploads`."""
    path, _, raw = request.target.partition("?")
    query = dict(urllib.parse.parse_qsl(raw, keep_blank_values=True))
    place = query.get("prefix") or urllib.parse.unquote(path)
    name = re.sub(r"\d{10}\.json", "#.json", _VERSION.sub("*", re.sub(r"^.*?[0-9a-f]{32}/", "", place)))
    extra = "".join(
        f" ?{key}" + (f"={query[key]}" if key == "partNumber" else "")
        for key in ("list-type", "uploads", "uploadId", "partNumber", "delete", "key-marker")
        if key in query
    )
    bytes_ = request.header("Range")
    return f"{request.method} {name}{extra}" + (f" {bytes_}" if bytes_ else "")


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, handler: type[socketserver.BaseRequestHandler]) -> None:
        self._connections = 0
        self._none = threading.Condition()
        super().__init__(("127.0.0.1", 0), handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._none:
            self._connections += 1
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.close_request(request)  # no FIN before the RST of a connection that is to be reset
        with self._none:
            self._connections -= 1
            self._none.notify_all()

    def wait(self) -> None:
        """Return when each connection that was taken has ended."""
        with self._none:
            assert self._none.wait_for(lambda: self._connections == 0, timeout=3 * _IDLE_SECONDS), "still open"


class _Broken(Exception):
    """The client's connection is of no use any more."""


class _Handler(socketserver.StreamRequestHandler):
    """One connection of a client, kept alive over many requests, with one to the server behind it."""

    disable_nagle_algorithm = True
    request_: Request

    def find(self, request: Request) -> Case:
        raise NotImplementedError

    def connect(self) -> http.client.HTTPConnection:
        raise NotImplementedError

    def handle(self) -> None:
        self.connection.settimeout(_IDLE_SECONDS)
        self._upstream = self.connect()
        try:
            with contextlib.suppress(_Broken, ConnectionError, TimeoutError):
                while (request := self._read()) is not None:
                    case = self.find(request)
                    self.request = request
                    with case.handling():
                        case.intercept(self)
        finally:
            self._upstream.close()

    # what an interception may do

    def forward(self, request: Request | None = None) -> Answer:
        request = request or self.request
        while True:
            used = self._upstream.sock is not None
            try:
                self._send_head(request)
                self._upstream.send(request.body)
                answer = self._upstream.getresponse()
                break
            except (ConnectionError, http.client.HTTPException):
                self._upstream.close()
                if not used:  # else the server had closed an idle connection
                    raise
        body = answer.read()
        head = tuple((k, v) for k, v in answer.getheaders() if k.lower() not in _HOP_BY_HOP)
        if answer.status not in {204, 304}:
            length = answer.getheader("Content-Length") if request.method == "HEAD" else str(len(body))
            head += (("Content-Length", length or "0"),)
        if answer.will_close:
            self._upstream.close()
        return Answer(answer.status, answer.reason, head, body)

    def forward_half(self) -> None:
        self._send_head(self.request)
        self._upstream.send(self.request.body[: len(self.request.body) // 2])
        self._upstream.close()

    def reply(self, answer: Answer, *, cut: bool = False) -> None:
        head = "".join(f"{name}: {value}\r\n" for name, value in answer.head)
        body = answer.body[: len(answer.body) // 2] if cut else answer.body
        self.wfile.write(f"HTTP/1.1 {answer.status} {answer.reason}\r\n{head}\r\n".encode("latin-1") + body)

    def drop(self, *, reset: bool = False) -> NoReturn:
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise _Broken

    def hang(self) -> NoReturn:
        while self.connection.recv(4096):
            pass
        raise _Broken

    # the wire

    def _read(self) -> Request | None:
        line = self.rfile.readline(65536).decode("latin-1").split()
        if len(line) != 3:
            return None
        method, target, _ = line
        head = []
        while (raw := self.rfile.readline(65536)) not in {b"\r\n", b""}:
            name, _, value = raw.decode("latin-1").partition(":")
            head.append((name, value.strip()))
        request = Request(method, target, tuple(head), b"")
        if request.header("Expect").lower() == "100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if "chunked" in request.header("Transfer-Encoding").lower():
            body = b"".join(self._chunks())
        else:
            wanted = int(request.header("Content-Length") or 0)
            body = self.rfile.read(wanted)
            if len(body) < wanted:  # the client died
                return None
        kept = tuple((name, value) for name, value in head if name.lower() != "expect")
        return Request(method, target, kept, body)

    def _chunks(self) -> Iterator[bytes]:
        """A chunked body with its framing, trailers included."""
        while True:
            size = self.rfile.readline(65536)
            yield size
            length = int(size.partition(b";")[0], 16)
            if length == 0:
                break
            yield self.rfile.read(length + 2)
        while (line := self.rfile.readline(65536)) not in {b"\r\n", b""}:
            yield line
        yield b"\r\n"

    def _send_head(self, request: Request) -> None:
        self._upstream.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
        for name, value in request.head:
            self._upstream.putheader(name, value)
        self._upstream.endheaders()
