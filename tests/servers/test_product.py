"""What Roundtrip does with a store, by its own code, on each server: not only single requests."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tasks.errors import ConflictError, NotFoundError, UnsafeError
from tasks.storage import (
    Store,
    advance_latest,
    alias_history,
    fetch,
    layout,
    list_models,
    list_versions,
    move_alias,
    publish,
    read_manifest,
    resolve,
)
from tasks.storage.guarantees.conformance import check_store
from tests.servers.conftest import Server
from tests.storage.samples import manifest_of, published, put, write

pytestmark = pytest.mark.servers

_MIB = 2**20


@pytest.fixture
def place(server: Server) -> Store:
    return server.store()


def test_a_version_of_small_empty_and_large_files_comes_back_byte_for_byte(place: Store, tmp_path: Path) -> None:
    files = {
        "model/large.bin": hashlib.shake_128(b"seed").digest(35 * _MIB + 7),
        "model/empty": b"",
        "model/variables/名前 +%.bin": b"unicode",
        "probe.npz": b"p" * 300,
    }
    check_store(place)

    manifest = published(place, tmp_path / "bundle", files)
    folder = fetch(place, read_manifest(place, "digits", manifest.version), tmp_path / "back")

    assert {name: (folder / name).read_bytes() for name in files} == files
    assert not place.keys(".roundtrip/")


def test_a_version_is_committed_once(place: Store, tmp_path: Path) -> None:
    manifest = published(place, tmp_path / "bundle")
    other = manifest.model_copy(update={"flow_run": "somebody else's"})

    with pytest.raises(ConflictError):
        publish(place, tmp_path / "bundle", other)

    assert read_manifest(place, "digits", manifest.version) == manifest


def test_versions_and_aliases_are_listed_and_resolved(place: Store, tmp_path: Path) -> None:
    first, second = (published(place, tmp_path / name) for name in ("a", "b"))
    for manifest in (first, second):
        assert advance_latest(place, "digits", manifest.version, "v")
    move_alias(place, "digits", "stable", first.version, "v", "a test")

    assert list_versions(place, "digits") == [first.version, second.version]
    assert resolve(place, "digits") == ("digits", second.version)
    assert resolve(place, "digits@stable") == ("digits", first.version)
    (summary,) = list_models(place)
    assert (summary.model, summary.versions, summary.latest) == ("digits", 2, second.version)
    with pytest.raises(NotFoundError, match="no alias 'best'"):
        resolve(place, "digits@best")


def test_the_history_of_racing_promoters_is_one_line(place: Store, tmp_path: Path) -> None:
    versions = [published(place, tmp_path / str(number)).version for number in range(6)]

    with ThreadPoolExecutor(max_workers=6) as pool:
        list(pool.map(lambda version: move_alias(place, "digits", "best", version, "v", "race"), versions))

    history = alias_history(place, "digits", "best")
    assert [revision.number for revision in history] == [5, 4, 3, 2, 1, 0]
    assert {revision.version for revision in history} == set(versions)


def test_a_file_that_was_changed_in_the_store_is_not_handed_over(place: Store, tmp_path: Path) -> None:
    manifest = manifest_of(write(tmp_path / "bundle"))
    publish(place, tmp_path / "bundle", manifest)
    put(place, layout.bundle("digits", manifest.version) + "probe.npz", b"q" * 300)

    with pytest.raises(UnsafeError, match="is not what was published"):
        fetch(place, manifest, tmp_path / "back")

    assert not (tmp_path / "back").exists()
