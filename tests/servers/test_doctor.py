"""`python -m flows doctor`, as a user runs it, against servers that are fit and unfit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.settings import StoreConfig
from tasks.shared_server import free_ports
from tasks.storage import open_store
from tasks.storage.connection.client import make_client
from tasks.storage.guarantees.diagnosis import diagnose
from tests.e2e.commands import Home, Result
from tests.servers.conftest import Server
from tests.servers.policies import PREFIX

pytestmark = pytest.mark.servers


def _doctor(folder: Path, environment: dict[str, str], *arguments: str) -> Result:
    return Home(folder, environment).run("doctor", "--json", *arguments)


def _statuses(result: Result, area: str) -> dict[str, str]:
    return {check["name"]: check["status"] for check in result.document["checks"] if check["area"] == area}


def test_a_fit_store_is_found_fit_and_left_as_it_was(ceph: Server, tmp_path: Path) -> None:
    result = _doctor(tmp_path, ceph.environment("doctor"))

    assert result.code == 0, result.out
    assert set(result.document["checks"][0]) == {"area", "name", "status", "detail", "advice"}
    found = _statuses(result, "store")
    assert {name for name, status in found.items() if status != "ok"} == {"damaged uploads are refused"}
    assert found["put if absent"] == found["cost"] == "ok"
    assert open_store(StoreConfig(url=f"s3://{ceph.bucket}/doctor"), ceph.access()).keys("") == []


def test_a_store_that_ignores_put_if_absent_is_found_unfit(rclone: Server, tmp_path: Path) -> None:
    result = _doctor(tmp_path, rclone.environment("doctor"))

    assert result.code == 4
    problems = {name for name, status in _statuses(result, "store").items() if status == "problem"}
    assert problems == {"put if absent", "one of 20 writers wins"}


def test_a_store_that_does_not_answer_is_said_beside_what_else_was_found(ceph: Server, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    result = _doctor(tmp_path, ceph.environment() | {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}"})

    assert result.code == 4
    assert _statuses(result, "store") == {"store": "problem"}
    assert _statuses(result, "installation")["Python"] == "ok"


def test_who_may_only_read_is_told_what_that_is_enough_for(enforcing: Server, tmp_path: Path) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "reader", "AWS_SECRET_ACCESS_KEY": "reader-secret"}
    result = _doctor(tmp_path, enforcing.environment(PREFIX) | keys)

    assert result.code == 0, result.out
    found = _statuses(result, "store")
    assert (found["access"], found["guarantees"]) == ("warning", "warning")
    assert "put if absent" not in found


def test_a_publisher_may_run_the_whole_suite(enforcing: Server) -> None:
    config = StoreConfig(url=f"s3://{enforcing.bucket}/{PREFIX}")
    access = enforcing.access("publisher", "publisher-secret")
    store = open_store(config, access)

    found = {check.name: check.status for check in diagnose(store, config, access, write=True, thorough=False)}

    assert "problem" not in found.values(), found
    assert found["access"] == found["one of 20 writers wins"] == "ok"
    assert store.keys(".roundtrip/") == []


def test_no_write_only_asks(seaweedfs: Server) -> None:
    store = seaweedfs.store()
    methods: set[str] = set()
    store.client.meta.events.register("before-send.s3", lambda request, **_: methods.add(request.method))

    found = {check.name: check.status for check in diagnose(store, StoreConfig(), None, write=False, thorough=False)}

    assert methods <= {"GET", "HEAD"} and "GET" in methods
    assert (found["access"], found["guarantees"]) == ("ok", "warning")


def test_a_versioned_bucket_is_cleaned_too_and_what_it_costs_is_said(moto: Server) -> None:
    versioned = Server("moto", moto.endpoint, moto.access_key, moto.secret_key, "versioned")
    client = make_client(versioned.access(), StoreConfig())
    client.create_bucket(Bucket="versioned")
    client.put_bucket_versioning(Bucket="versioned", VersioningConfiguration={"Status": "Enabled"})
    store = versioned.store()

    found = {check.name: check for check in diagnose(store, StoreConfig(), None, write=True, thorough=False)}

    assert found["bucket versioning"].status == "warning"
    left = client.list_object_versions(Bucket="versioned", Prefix=store.prefix)
    assert not left.get("Versions") and not left.get("DeleteMarkers")


@pytest.mark.parametrize(
    ("rule", "status"),
    [
        ({"Expiration": {"Days": 30}, "Filter": {"Prefix": ""}}, "problem"),
        ({"Expiration": {"Days": 30}, "Filter": {"Prefix": "logs/"}}, "ok"),
        ({"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 3}, "Filter": {"Prefix": ""}}, "ok"),
    ],
)
def test_a_rule_that_would_end_models_is_a_problem(moto: Server, rule: dict[str, Any], status: str) -> None:
    client = make_client(moto.access(), StoreConfig())
    rules: Any = {"Rules": [{"ID": "rule", "Status": "Enabled"} | rule]}
    client.put_bucket_lifecycle_configuration(Bucket=moto.bucket, LifecycleConfiguration=rules)
    try:
        checks = list(diagnose(moto.store(), StoreConfig(), None, write=False, thorough=False))
    finally:
        client.delete_bucket_lifecycle(Bucket=moto.bucket)

    assert [check.status for check in checks if check.name == "bucket lifecycle"] == [status]


def test_it_starts_no_tensorflow(seaweedfs: Server, tmp_path: Path) -> None:
    doctor = "from flows.cli import cli; cli(['doctor', '--json'], standalone_mode=False)"
    code = f"import sys; {doctor}; print('tensorflow' in sys.modules)"
    process = Home(tmp_path, seaweedfs.environment("imports")).python("-c", code)

    out, err = process.communicate(timeout=240)

    assert out.strip().endswith("False"), out + err
