"""An S3 server without storage, to see what a client alone can do: puts are forgotten, gets come from a folder's files."""

from __future__ import annotations

import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

_BUFFER = 1 << 20


class Sink(BaseHTTPRequestHandler):
    """Takes every signature; knows puts, uploads in parts, ranged gets, and lists, empty before the first upload."""

    protocol_version = "HTTP/1.1"
    folder = Path()
    filled = False

    def do_PUT(self) -> None:
        """Read the body and forget it."""
        if self.headers.get("Expect"):
            self.send_response_only(100)
            self.end_headers()
        self._swallow()
        self._answer(b"", {"ETag": '"0"'})

    def do_POST(self) -> None:
        """Begin or complete an upload in parts."""
        self._swallow()
        begins = "uploads" in parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        Sink.filled |= not begins
        self._answer(
            b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
            if begins
            else b"<CompleteMultipartUploadResult><ETag>0</ETag></CompleteMultipartUploadResult>",
            {"x-amz-checksum-algorithm": self.headers["x-amz-checksum-algorithm"]} if begins else None,
        )

    def do_HEAD(self) -> None:
        """Size of a file."""
        self._answer(b"", {"ETag": '"0"'}, length=self._file().stat().st_size)

    def do_GET(self) -> None:
        """A list, or bytes of a file."""
        query = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        if "list-type" in query or "uploads" in query:
            self._answer(self._list(query["prefix"][0]))
            return
        with self._file().open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            wanted = self.headers.get("Range", f"bytes=0-{size - 1}").removeprefix("bytes=").split("-")
            start, end = int(wanted[0]), min(int(wanted[1] or size - 1), size - 1)
            self.send_response(206 if "Range" in self.headers else 200)
            self.send_header("Content-Length", str(end - start + 1))
            self.send_header("Content-Range", f"bytes {start}-{end}/{size}")
            self.send_header("ETag", '"0"')
            self.send_header("Last-Modified", "Mon, 23 Nov 2026 00:00:00 GMT")
            self.end_headers()
            self.wfile.flush()
            while start <= end:
                start += os.sendfile(self.connection.fileno(), file.fileno(), start, end - start + 1)

    def _list(self, prefix: str) -> bytes:
        items = "".join(
            f"<Contents><Key>{prefix.rstrip('/')}/{path.name}</Key><Size>{path.stat().st_size}</Size><ETag>0</ETag>"
            "<LastModified>2026-11-23T00:00:00Z</LastModified></Contents>"
            for path in self.folder.iterdir()
            if Sink.filled
        )
        return f"<ListBucketResult><IsTruncated>false</IsTruncated>{items}</ListBucketResult>".encode()

    def _file(self) -> Path:
        return self.folder / urlsplit(self.path).path.rpartition("/")[2]

    def _swallow(self) -> None:
        left = int(self.headers.get("Content-Length", 0))
        buffer = memoryview(bytearray(min(_BUFFER, left)))
        while left:
            left -= self.rfile.readinto(buffer[: min(left, len(buffer))])  # type: ignore[attr-defined]

    def _answer(self, body: bytes, headers: dict[str, str] | None = None, length: int | None = None) -> None:
        self.send_response(200)
        for name, value in (headers or {}).items():
            if value:
                self.send_header(name, value)
        self.send_header("Last-Modified", "Mon, 23 Nov 2026 00:00:00 GMT")
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""
        del format, arguments


def main() -> None:
    """Serve the files of a folder; the port is printed."""
    Sink.folder = Path(sys.argv[1])
    with ThreadingHTTPServer(("127.0.0.1", 0), Sink) as server:
        server.daemon_threads = True
        print(server.server_address[1], flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
