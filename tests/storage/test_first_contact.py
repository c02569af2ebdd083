"""A store that is none, or not there, is named at once, with what is wrong with it."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import DeniedError, InputError, UnreachableError
from tasks.shared_server import free_ports
from tasks.storage import open_store

_PATIENT = 60  # seconds; that of a client for long transfers, and so of a first contact that was not made


@pytest.fixture
def at(s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets the address of the store."""
    return lambda endpoint: monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)


def test_a_port_where_nobody_listens(at: Any) -> None:
    (port,) = free_ports(1)
    at(f"http://127.0.0.1:{port}")

    with pytest.raises(UnreachableError, match=f"127.0.0.1:{port} does not answer: Connection refused. Is it up"):
        open_store()


def test_a_host_that_does_not_exist(at: Any) -> None:
    at("http://no-such-host.invalid:9000")

    with pytest.raises(UnreachableError, match=r"no-such-host.invalid:9000 does not answer: .*Check AWS_ENDPOINT_URL"):
        open_store()


@pytest.mark.timeout(_PATIENT)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_port_that_takes_connections_and_never_answers(at: Any, scheme: str) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        at(f"{scheme}://127.0.0.1:{listener.getsockname()[1]}")

        with pytest.raises(UnreachableError, match="does not answer: it takes the connection and says nothing"):
            open_store()


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, b"<!doctype html><p>no such page"),
        (200, b"<!doctype html><p>welcome"),
        (200, b"<html></html>"),
        (200, b""),
        (403, b"forbidden"),
        (400, b"Client sent an HTTP request to an HTTPS server."),
    ],
)
def test_a_web_server_that_is_no_s3_server(at: Any, status: int, body: bytes) -> None:
    with _web_server(status, body) as port:
        at(f"http://127.0.0.1:{port}")

        with pytest.raises(UnreachableError, match=rf"127.0.0.1:{port} is not an S3 server: .*Check AWS_ENDPOINT_URL_S3"):
            open_store()


def test_a_server_that_is_busy_is_left_to_the_patient_client(at: Any) -> None:
    with _web_server(503, b"") as port:
        at(f"http://127.0.0.1:{port}")

        assert open_store().endpoint == f"http://127.0.0.1:{port}"


def test_tls_where_the_server_speaks_none(at: Any) -> None:
    with _web_server(200, b"") as port:
        at(f"https://127.0.0.1:{port}")

        with pytest.raises(UnreachableError, match="If it speaks plain HTTP, write http:// in AWS_ENDPOINT_URL_S3"):
            open_store()


def test_no_tls_where_the_server_speaks_it(at: Any, certificate: Path) -> None:
    with _web_server(200, b"", certificate) as port:
        at(f"http://127.0.0.1:{port}")

        with pytest.raises(UnreachableError, match=r"it hangs up. If it speaks TLS, write https:// in AWS_ENDPOINT_URL_S3"):
            open_store()


def test_a_certificate_of_an_unknown_authority(at: Any, certificate: Path) -> None:
    with _web_server(200, b"", certificate) as port:
        at(f"https://127.0.0.1:{port}")

        with pytest.raises(UnreachableError, match=r"certificate verify failed.*Set AWS_CA_BUNDLE"):
            open_store()


def test_an_address_that_is_no_url(at: Any) -> None:
    at("127.0.0.1:9000")

    with pytest.raises(InputError, match=r"Invalid endpoint: 127.0.0.1:9000"):
        open_store()


def test_a_proxy_that_is_not_there(at: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = free_ports(1)
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
    at("http://store.invalid")

    with pytest.raises(UnreachableError, match=r"the proxy can't be reached \(Connection refused\). Check HTTPS_PROXY"):
        open_store()


def test_wrong_credentials_are_not_retried_as_bad_luck(at: Any, s3_environment: dict[str, str], monkeypatch: Any) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")

    with pytest.raises(DeniedError, match="refuses the credentials"):
        open_store()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate that it signed itself, in one file."""
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    openssl = shutil.which("openssl")
    assert openssl, "no openssl"
    subject = ["-subj", "/CN=127.0.0.1", "-days", "2", "-newkey", "rsa:2048", "-nodes"]
    command = [openssl, "req", "-x509", *subject, "-keyout", str(file), "-out", str(file.with_suffix(".crt"))]
    subprocess.run(command, check=True, capture_output=True)
    file.write_text(file.read_text() + file.with_suffix(".crt").read_text())
    return file


@contextmanager
def _web_server(status: int, body: bytes, certificate: Path | None = None) -> Iterator[int]:
    """A server that gives one answer to everything; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()
