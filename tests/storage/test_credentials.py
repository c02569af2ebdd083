"""Where credentials come from: the AWS SDK's own variables, profiles and roles, with nothing of ours in between."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import DeniedError
from tasks.storage import Store, open_store

_METADATA = "/latest/meta-data/iam/security-credentials/"


@pytest.fixture
def nothing(s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """A store, its address and its region, but no credentials; what they would be."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    return s3_environment


def test_a_profile(nothing: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text(_profile("models", nothing))
    monkeypatch.setenv("AWS_PROFILE", "models")

    assert _works(open_store())


def test_a_profile_that_names_the_server_too(
    nothing: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    endpoint = nothing["AWS_ENDPOINT_URL_S3"]
    (tmp_path / "credentials").write_text(_profile("models", nothing))
    (tmp_path / "config").write_text(f"[profile models]\nregion = eu-west-1\nendpoint_url = {endpoint}\n")
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_PROFILE", "models")

    store = open_store()

    assert (store.endpoint, store.client.meta.region_name) == (endpoint, "eu-west-1")
    assert _works(store)


def test_the_role_of_a_container(nothing: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    with _serving({"/role": _role(nothing)}) as address:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{address}/role")

        assert _works(open_store())


def test_the_role_of_an_instance(nothing: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"/latest/api/token": "a token", _METADATA: "trainer", f"{_METADATA}trainer": _role(nothing)}
    with _serving(answers) as address:
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", address)

        assert _works(open_store())


def test_no_credentials_at_all(nothing: dict[str, str]) -> None:
    with pytest.raises(DeniedError, match=r"No AWS credentials for s3://.*Set AWS_PROFILE, or AWS_ACCESS_KEY_ID"):
        open_store()


def test_a_role_that_can_not_be_had(nothing: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    with _serving({}) as address:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{address}/role")

        with pytest.raises(DeniedError, match="No AWS credentials for s3://"):
            open_store()


def test_a_secret_is_in_no_error_and_no_representation(nothing: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "wrong-secret-that-nobody-may-see"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", nothing["AWS_ACCESS_KEY_ID"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)

    with pytest.raises(DeniedError) as refusal:
        open_store()

    chain: list[BaseException] = [refusal.value]
    while (cause := chain[-1].__cause__) is not None:
        chain.append(cause)
    assert len(chain) > 1
    assert not [error for error in chain if secret in repr(error) + str(error)]


def _works(store: Store) -> bool:
    store.put_if_absent("key", b"mine")
    return store.get("key") == b"mine"


def _profile(name: str, credentials: dict[str, str]) -> str:
    key, secret = credentials["AWS_ACCESS_KEY_ID"], credentials["AWS_SECRET_ACCESS_KEY"]
    return f"[{name}]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n"


def _role(credentials: dict[str, str]) -> str:
    return json.dumps(
        {
            "Code": "Success",
            "AccessKeyId": credentials["AWS_ACCESS_KEY_ID"],
            "SecretAccessKey": credentials["AWS_SECRET_ACCESS_KEY"],
            "Token": "",  # SeaweedFS knows no session of this key
            "Expiration": (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
    )


@contextmanager
def _serving(answers: dict[str, str]) -> Iterator[str]:
    """A stand-in for the service that hands out roles; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = answers.get(self.path)
            self.send_response(200 if answer is not None else 404)
            self.end_headers()
            self.wfile.write((answer or "").encode())

        do_PUT = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
