"""The smallest policies are enough for their role, and for nothing else, on servers that enforce them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from tasks.errors import ForbiddenError
from tasks.settings import StoreConfig
from tasks.storage import (
    Retention,
    Store,
    advance_latest,
    carry_out,
    fetch,
    layout,
    open_store,
    plan,
    publish,
    read_manifest,
    remove_version,
    resolve,
)
from tasks.storage.guarantees.conformance import check_store
from tasks.storage.manifest import Manifest
from tasks.verification.verdict import not_intact, record
from tests.servers.conftest import Server
from tests.servers.policies import PREFIX, ROLES
from tests.storage.samples import manifest_of, published, put, write
from tests.storage.test_trials import let_pass, tried

pytestmark = pytest.mark.servers

_LARGE = {"model/weights.bin": b"w" * (17 * 2**20), "probe.npz": b"p"}


Opened = Callable[[str], Store]


@pytest.fixture
def opened(enforcing: Server) -> Opened:
    """Opens the store as one of the roles."""
    place = StoreConfig(url=f"s3://{enforcing.bucket}/{PREFIX}")
    return lambda role: open_store(place, enforcing.access(role, f"{role}-secret"))


@pytest.fixture
def version(opened: Opened, tmp_path: Path) -> Manifest:
    """A version that `latest` points at; nobody but its publisher and its returner wrote it."""
    manifest = published(opened("publisher"), tmp_path / "bundle")
    assert advance_latest(opened("returner"), "digits", manifest.version, "v")
    return manifest


@pytest.mark.parametrize("role", ["reader", "returner", "operator"])
def test_who_may_read_finds_and_fetches(role: str, opened: Opened, version: Manifest, tmp_path: Path) -> None:
    store = opened(role)

    found = read_manifest(store, *resolve(store, "digits@latest"))

    assert found == version
    assert (fetch(store, found, tmp_path / "here") / "probe.npz").read_bytes() == b"p" * 300


def test_a_publisher_checks_the_store_and_publishes_small_and_large(opened: Opened, tmp_path: Path) -> None:
    store = opened("publisher")

    check_store(store)
    small = published(store, tmp_path / "small")
    large = published(store, tmp_path / "large", _LARGE)

    assert [read_manifest(store, "digits", m.version) for m in (small, large)] == [small, large]
    assert store.keys(".roundtrip/") == []


def test_a_publisher_keeps_checkpoints_and_removes_them(opened: Opened) -> None:
    store = opened("publisher")
    key = layout.checkpoint("digits", "run", 1, "id") + layout.CHECKPOINT

    store.put_if_absent(key, b"a checkpoint")
    kept = store.keys(layout.checkpoints("digits"))
    store.delete_all(kept)

    assert kept == [key]
    assert store.keys(layout.checkpoints("digits")) == []


def test_a_returner_writes_verdicts_and_moves_aliases(opened: Opened, tmp_path: Path) -> None:
    newer = published(opened("publisher"), tmp_path / "bundle")
    store = opened("returner")

    record(store, not_intact(newer, "a test"))

    assert advance_latest(store, "digits", newer.version, "v")


def test_an_operator_removes_versions_trials_and_what_a_dead_publisher_left(
    opened: Opened, version: Manifest, tmp_path: Path
) -> None:
    unneeded, dead = published(opened("publisher"), tmp_path / "unneeded"), layout.new_version()
    put(opened("publisher"), layout.bundle("digits", dead) + "probe.npz", b"half a version")
    expired = tried(opened("publisher"), tmp_path / "trial")
    let_pass(opened("publisher"), expired)
    store = opened("operator")

    freed = remove_version(store, "digits", unneeded.version)
    planned = plan(store, Retention(leftovers_older_than=timedelta(0)), ["digits"])
    results = carry_out(store, planned)

    assert freed.objects > len(unneeded.files)
    for gone in (dead, expired):
        assert [done.skipped for done in results if gone in done.removal.subject] == [None]
    assert store.keys(layout.bundle("digits", dead)) == [layout.manifest("digits", dead)]
    assert read_manifest(store, *resolve(store, "digits@latest")) == version


@pytest.mark.parametrize("role", ["reader", "returner", "operator"])
def test_only_a_publisher_publishes(role: str, opened: Opened, tmp_path: Path) -> None:
    manifest = manifest_of(write(tmp_path / "bundle"))

    with pytest.raises(ForbiddenError, match="denies PutObject"):
        publish(opened(role), tmp_path / "bundle", manifest)


@pytest.mark.parametrize("role", ["reader", "publisher"])
def test_who_did_not_return_it_moves_no_alias(role: str, opened: Opened, tmp_path: Path) -> None:
    newer = published(opened("publisher"), tmp_path / "bundle")
    store = opened(role)

    with pytest.raises(ForbiddenError, match="denies PutObject"):
        record(store, not_intact(newer, "a test"))
    with pytest.raises(ForbiddenError):
        advance_latest(store, "digits", newer.version, "v")


@pytest.mark.parametrize("role", ["reader", "returner", "publisher"])
def test_only_an_operator_deletes(role: str, opened: Opened, version: Manifest) -> None:
    with pytest.raises(ForbiddenError, match="denies DeleteObject"):
        opened(role).delete(layout.manifest("digits", version.version))


@pytest.mark.parametrize("role", ROLES)
def test_nobody_sees_the_rest_of_the_bucket(role: str, enforcing: Server) -> None:
    outside = open_store(StoreConfig(url=f"s3://{enforcing.bucket}/elsewhere"), enforcing.access(role, f"{role}-secret"))

    with pytest.raises(ForbiddenError):
        outside.keys("")
    with pytest.raises(ForbiddenError):
        outside.put_if_absent("key", b"x")
