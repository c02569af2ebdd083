"""Encryption, storage class, tags and requester pays are on every object and every request, whoever makes them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import InputError
from tasks.settings import StoreConfig
from tasks.storage import Store, advance_latest, fetch, open_store, resolve
from tasks.storage.guarantees.conformance import check_store
from tasks.storage.guarantees.diagnosis import diagnose
from tasks.verification.verdict import not_intact, record
from tests.faults.proxy import Line, Proxy, passed_on
from tests.servers.conftest import Server
from tests.storage.samples import published

pytestmark = pytest.mark.servers

_LARGE = {"model/weights.bin": b"w" * (17 * 2**20), "probe.npz": b"p"}
_KEY = "arn:aws:kms:us-east-1:123456789012:key/models"


def _journey(store: Store, folder: Path) -> None:
    """Everything that is written and read between a training and its proof."""
    check_store(store)
    manifest = published(store, folder / "bundle", _LARGE)
    record(store, not_intact(manifest, "a test"))
    advance_latest(store, "digits", manifest.version, "v")
    resolve(store, "digits@latest")
    fetch(store, manifest, folder / "back")


def test_every_object_is_written_with_the_options(moto: Server, tmp_path: Path) -> None:
    options = {"encryption": "aws:kms", "kms_key": _KEY, "storage_class": "STANDARD_IA", "tags": "team=vision&cost=42"}
    store = moto.store(**options)

    _journey(store, tmp_path)

    keys = store.keys("")
    assert len(keys) == 7  # two files, a manifest, its line in the index, a verdict, a hold, a revision
    for key in keys:
        where: Any = {"Bucket": store.bucket, "Key": store.prefix + key}
        head = store.client.head_object(**where)
        assert (head["ServerSideEncryption"], head["SSEKMSKeyId"], head["StorageClass"]) == ("aws:kms", _KEY, "STANDARD_IA")
        tags = store.client.get_object_tagging(**where)["TagSet"]
        assert {tag["Key"]: tag["Value"] for tag in tags} == {"team": "vision", "cost": "42"}, key


def test_every_request_agrees_to_pay(moto: Server, tmp_path: Path) -> None:
    proxy = Proxy(moto.endpoint)
    store = replace(moto, endpoint=proxy.url).store(requester_pays="true")
    heard: list[str] = []
    silent: list[str] = []

    def listen(line: Line) -> None:
        heard.append(line.request.method)
        if line.request.header("x-amz-request-payer") != "requester":
            silent.append(f"{line.request.method} {line.request.target}")
        passed_on(line)

    proxy.case(store.prefix.rstrip("/")).intercept = listen
    _journey(store, tmp_path)
    proxy.close()

    assert len(heard) > 10  # by boto3 and by obstore
    assert silent == []


def test_the_environment_names_them_and_a_parameter_wins(moto: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in moto.environment("env").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ROUNDTRIP_STORE_ENCRYPTION", "AES256")
    monkeypatch.setenv("ROUNDTRIP_STORE_STORAGE_CLASS", "GLACIER_IR")
    store = open_store(StoreConfig(storage_class="STANDARD_IA"))

    store.put_if_absent("key", b"x")

    head = store.client.head_object(Bucket=store.bucket, Key=f"{store.prefix}key")
    assert (head["ServerSideEncryption"], head["StorageClass"]) == ("AES256", "STANDARD_IA")


def test_the_doctor_says_whether_the_server_applies_them(seaweedfs: Server, ceph: Server) -> None:
    def said(server: Server, **options: str) -> tuple[str, str]:
        found = diagnose(server.store(**options), StoreConfig.model_validate(options), None, write=True, thorough=False)
        return next((check.status, check.detail) for check in found if check.name == "options")

    assert said(seaweedfs, storage_class="STANDARD_IA", tags="team=vision") == ("ok", "applied: StorageClass, TagCount")
    status, detail = said(ceph, encryption="aws:kms")
    assert status == "problem" and "PutObject" in detail, detail


@pytest.mark.parametrize(
    ("variable", "value", "why"),
    [
        ("ROUNDTRIP_STORE_ENCRYPTION", "rot13", "AES256"),
        ("ROUNDTRIP_STORE_STORAGE_CLASS", "DEEP_ARCHIVE", "can't be read back at once"),
        ("ROUNDTRIP_STORE_TAGS", "team", "bad query field"),
        ("ROUNDTRIP_STORE_REQUESTER_PAYS", "perhaps", "boolean"),
    ],
)
def test_a_value_that_can_not_be_is_named_with_its_variable(
    variable: str, value: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)

    with pytest.raises(InputError, match=f"{variable}='{value}' can't be used: .*{why}"):
        StoreConfig().completed()
