from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from tasks.errors import ConflictError, NotFoundError, PinnedError
from tasks.storage import (
    Store,
    advance_latest,
    alias_history,
    layout,
    list_models,
    list_versions,
    move_alias,
    publish,
    read_manifest,
    remove_model,
    remove_version,
    resolve,
    take_away,
)
from tasks.storage.holds import hold
from tasks.storage.manifest import REMOVED
from tasks.storage.upkeep.removal import remove_leftover
from tests.storage.samples import FILES, manifest_of, published, put, write

NO_TIME = timedelta(0)
DAY = timedelta(days=1)


@pytest.fixture
def version(store: Store, tmp_path: Path) -> str:
    """A published version of `digits` with a verdict."""
    version = published(store, tmp_path / "bundle").version
    put(store, f"{layout.verdicts('digits', version)}{layout.new_version()}.json", b"{}")
    return version


def left_of(store: Store, version: str) -> set[str]:
    return {key for key in store.keys("digits/") if version in key}


def marks_of(version: str) -> set[str]:
    return {layout.manifest("digits", version), layout.indexed_as_removed("digits", version)}


# one version


def test_of_a_removed_version_only_its_marks_are_left(store: Store, version: str) -> None:
    freed = remove_version(store, "digits", version)

    assert left_of(store, version) == marks_of(version)
    assert freed.objects == len(FILES) + 4  # its manifest, its verdict, its line in the index, the end of its log
    assert freed.bytes > sum(map(len, FILES.values()))
    with pytest.raises(NotFoundError, match=f"digits@{version} was removed"):
        read_manifest(store, "digits", version)
    assert list_models(store) == []


def test_a_removed_version_never_comes_back(store: Store, version: str, tmp_path: Path) -> None:
    remove_version(store, "digits", version)

    with pytest.raises(ConflictError, match="publish again"):
        publish(store, tmp_path / "bundle", manifest_of(tmp_path / "bundle", version=version))
    assert list_models(store) == []


def test_removing_again_is_no_error_and_finishes_what_was_begun(store: Store, version: str) -> None:
    remove_version(store, "digits", version)
    put(store, layout.bundle("digits", version) + "model/late", b"from a publisher that did not know")

    assert remove_version(store, "digits", version).objects == 1
    assert left_of(store, version) == marks_of(version)


def test_a_version_that_never_was_is_not_found(store: Store, version: str) -> None:
    with pytest.raises(NotFoundError, match="There is no version"):
        remove_version(store, "digits", layout.new_version())


def test_a_version_with_an_alias_stays_and_the_message_says_how_to_let_go(store: Store, version: str) -> None:
    move_alias(store, "digits", "production", version, "verdict", "x")
    before = left_of(store, version)

    with pytest.raises(PinnedError, match=r"is 'production', so it stays.*rollback digits.*rm digits@production"):
        remove_version(store, "digits", version)
    assert left_of(store, version) == before
    take_away(store, "digits", "production", "x")
    remove_version(store, "digits", version)


def test_a_version_that_an_alias_left_can_go(store: Store, version: str, tmp_path: Path) -> None:
    other = published(store, tmp_path / "other").version
    for target in (version, other):
        move_alias(store, "digits", "production", target, "verdict", "x")

    remove_version(store, "digits", version)

    assert resolve(store, "digits@production") == ("digits", other)
    assert list_versions(store, "digits") == [other]


def test_a_promotion_that_died_half_way_pins_the_version_until_it_is_finished(store: Store, version: str) -> None:
    hold(store, "digits", version, "production", 0)

    with pytest.raises(PinnedError, match=rf"promote digits@{version} --alias production"):
        remove_version(store, "digits", version)
    move_alias(store, "digits", "production", version, "verdict", "again")
    take_away(store, "digits", "production", "x")
    remove_version(store, "digits", version)


def test_an_alias_that_was_moved_before_there_were_holds_pins_too(store: Store, version: str) -> None:
    move_alias(store, "digits", "production", version, "verdict", "x")
    store.delete_all(store.keys(layout.holds("digits", version)))

    with pytest.raises(PinnedError):
        remove_version(store, "digits", version)


# an alias


def test_an_alias_that_was_taken_away_is_not_found_and_keeps_its_history(store: Store, version: str) -> None:
    move_alias(store, "digits", "production", version, "verdict", "x")
    take_away(store, "digits", "production", "not needed")

    with pytest.raises(NotFoundError, match=r"no alias 'production', and no other"):
        resolve(store, "digits@production")
    assert [r.version for r in alias_history(store, "digits", "production")] == [None, version]


def test_latest_that_was_taken_away_comes_back_with_a_newer_version_only(store: Store, version: str, tmp_path: Path) -> None:
    advance_latest(store, "digits", version, "verdict")
    take_away(store, "digits", "latest", "x")

    assert not advance_latest(store, "digits", version, "verdict")
    newer = published(store, tmp_path / "newer").version
    assert advance_latest(store, "digits", newer, "verdict")


# a model


def test_a_removed_model_is_gone_with_its_aliases(store: Store, version: str, tmp_path: Path) -> None:
    other = published(store, tmp_path / "other").version
    advance_latest(store, "digits", version, "verdict")
    move_alias(store, "digits", "production", other, "verdict", "x")
    hold(store, "digits", other, "staging", 0)
    published(store, tmp_path / "letters", model="letters")

    freed = remove_model(store, "digits")

    assert freed.objects >= 2 * len(FILES)
    assert [m.model for m in list_models(store)] == ["letters"]
    with pytest.raises(NotFoundError, match="There is no model 'digits'"):
        resolve(store, "digits")
    with pytest.raises(NotFoundError, match="There is no model 'digits'"):
        remove_model(store, "digits")


def test_a_model_of_the_same_name_starts_again(store: Store, version: str, tmp_path: Path) -> None:
    advance_latest(store, "digits", version, "verdict")
    remove_model(store, "digits")
    again = published(store, tmp_path / "again").version

    assert advance_latest(store, "digits", again, "verdict")
    assert list_versions(store, "digits") == [again]
    assert resolve(store, "digits") == ("digits", again)


# leftovers


def test_a_leftover_goes_when_it_is_old(store: Store) -> None:
    version = layout.new_version()
    put(store, layout.bundle("digits", version) + "model/weights.bin", b"half")

    with pytest.raises(ConflictError, match="is being published"):
        remove_leftover(store, "digits", version, DAY)
    assert remove_leftover(store, "digits", version, NO_TIME).objects == 1
    assert left_of(store, version) == marks_of(version)


def test_a_version_that_was_committed_meanwhile_is_no_leftover(store: Store, version: str) -> None:
    before = left_of(store, version)

    with pytest.raises(ConflictError, match="written by somebody else first"):
        remove_leftover(store, "digits", version, NO_TIME)
    assert left_of(store, version) == before


def test_a_publisher_that_was_taken_for_dead_is_told_and_nothing_is_half_there(store: Store, tmp_path: Path) -> None:
    manifest = manifest_of(write(tmp_path / "bundle"))
    taken: list[str] = []

    def take(_: int) -> None:
        if not taken:
            taken.append(manifest.version)
            remove_leftover(store, "digits", manifest.version, NO_TIME)

    with pytest.raises(ConflictError, match=r"removed as a leftover while it was being published.*publish again"):
        publish(store, tmp_path / "bundle", manifest, take)
    assert store.get(layout.manifest("digits", manifest.version)) == REMOVED
    assert list_models(store) == []


def test_a_publisher_of_one_large_file_is_alive_by_its_parts(store: Store) -> None:
    version = layout.new_version()
    key = layout.bundle("digits", version) + "model/large"
    where = {"Bucket": store.bucket, "Key": store.prefix + key}
    upload = store.client.create_multipart_upload(**where)["UploadId"]
    store.client.upload_part(**where, UploadId=upload, PartNumber=1, Body=b"part")

    with pytest.raises(ConflictError, match="is being published"):
        remove_leftover(store, "digits", version, DAY)
    assert remove_leftover(store, "digits", version, NO_TIME).bytes == 4
    assert list(store.uploads("")) == []
