"""One suite of guarantees, the doctor's own, on each server that Roundtrip is said to work on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tasks.errors import DeniedError
from tasks.storage.guarantees.checks import GUARANTEES, Guarantee
from tasks.storage.guarantees.conformance import check_store, examine, run
from tests.servers.conftest import Server

pytestmark = pytest.mark.servers

# What a server is known not to do, of what is merely wanted.
_KNOWN = {
    ("ceph", "damaged uploads are refused"),  # Ceph 16 checks MD5 alone
    ("moto", "damaged uploads are refused"),
    ("moto", "a wrong signature is refused"),
}


@pytest.mark.parametrize("guarantee", GUARANTEES, ids=lambda g: g.name.replace(" ", "-"))
def test_the_server_keeps(server: Server, guarantee: Guarantee) -> None:
    scratch = server.store()

    check = run(guarantee, scratch)

    expected = "warning" if (server.name, guarantee.name) in _KNOWN else "ok"
    assert check.status == expected, check.detail
    assert replace(scratch, prefix=scratch.prefix.partition("/")[0] + "/").keys("") == []


def test_a_server_that_ignores_put_if_absent_is_refused_with_one_clear_error(rclone: Server) -> None:
    store = rclone.store()

    with pytest.raises(DeniedError) as refusal:
        check_store(store)

    assert str(refusal.value) == (
        f"The store at {rclone.endpoint} ignores `If-None-Match: *`: it overwrote an object that it was asked to keep. "
        "Versions could be lost on it. Use a server that honours it: Amazon S3, Ceph RGW, MinIO, SeaweedFS, R2."
    )
    assert store.keys("") == []


def test_the_suite_says_what_such_a_server_lacks_and_what_it_has(rclone: Server) -> None:
    found = {check.name: check.status for check in examine(rclone.store(), thorough=False)}

    problems = {name for name, status in found.items() if status == "problem"}
    assert problems == {"put if absent", "one of 20 writers wins"}
    assert found["a cut-off upload is not seen"] == "ok"
