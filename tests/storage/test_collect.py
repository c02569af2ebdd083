from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from tasks.storage import (
    Plan,
    Retention,
    Store,
    advance_latest,
    carry_out,
    fetch,
    layout,
    list_models,
    list_versions,
    move_alias,
    plan,
    publish,
    read_manifest,
    remove_version,
)
from tasks.storage.holds import end, entries
from tests.storage.samples import FILES, manifest_of, published, put, write

AT_ONCE = Retention(leftovers_older_than=timedelta(0))
DAY = Retention()


def what(planned: Plan) -> list[tuple[str, str]]:
    return [(removal.what, removal.subject) for removal in planned.removals]


def versions_of(store: Store, folder: Path, count: int) -> list[str]:
    return [published(store, folder / str(number)).version for number in range(count)]


def test_a_clean_store_has_no_garbage(store: Store, tmp_path: Path) -> None:
    versions_of(store, tmp_path, 2)
    put(store, "notes/readme.txt", b"not ours")
    put(store, "digits/notes.txt", b"not ours")
    put(store, "digits/versions/backup/manifest.json", b"not ours")

    planned = plan(store, AT_ONCE)

    assert planned.removals == []
    assert planned.kept == {"nothing says that it may go": 2}


def test_a_plan_changes_nothing(store: Store, tmp_path: Path) -> None:
    versions_of(store, tmp_path, 3)
    put(store, layout.bundle("digits", layout.new_version()) + "model/x", b"half")
    before = store.keys("")

    assert len(plan(store, Retention(keep_last=1, leftovers_older_than=timedelta(0))).removals) == 3
    assert store.keys("") == before


def test_versions_that_no_policy_keeps_go_and_the_others_stay_whole(store: Store, tmp_path: Path) -> None:
    one, two, three, four = versions_of(store, tmp_path, 4)
    advance_latest(store, "digits", one, "verdict")

    planned = plan(store, Retention(keep_last=1))
    done = carry_out(store, planned)

    assert what(planned) == [("version", f"digits@{two}"), ("version", f"digits@{three}")]
    assert planned.kept == {"has an alias": 1, "one of the last 1": 1}
    assert [each.skipped for each in done] == [None, None]
    assert all(each.bytes > each.removal.bytes for each in done), "the end of the version's log goes too"
    assert list_versions(store, "digits") == [one, four]
    for version in (one, four):
        fetch(store, read_manifest(store, "digits", version), tmp_path / "to" / version)


def test_young_versions_stay(store: Store, tmp_path: Path) -> None:
    versions_of(store, tmp_path, 2)

    planned = plan(store, Retention(keep_last=0, keep_younger_than=timedelta(hours=1)))

    assert (planned.removals, planned.kept) == ([], {"younger than 1h": 2})


def test_a_version_that_was_promoted_after_the_plan_stays(store: Store, tmp_path: Path) -> None:
    one, two, _ = versions_of(store, tmp_path, 3)
    planned = plan(store, Retention(keep_last=1))
    move_alias(store, "digits", "production", one, "verdict", "just now")

    done = carry_out(store, planned)

    assert [(each.removal.subject, bool(each.skipped)) for each in done] == [
        (f"digits@{one}", True),
        (f"digits@{two}", False),
    ]
    assert "is 'production', so it stays" in (done[0].skipped or "")
    fetch(store, read_manifest(store, "digits", one), tmp_path / "to")


def test_patterns_choose_the_models(store: Store, tmp_path: Path) -> None:
    for model in ("digits", "digits-v2", "letters"):
        for number in range(2):
            published(store, tmp_path / model / str(number), model=model)
    put(store, ".roundtrip/probe-1", b"x")

    planned = plan(store, Retention(keep_last=1, leftovers_older_than=timedelta(0)), ["digits*"])

    assert [subject.partition("@")[0] for _, subject in what(planned)] == ["digits", "digits-v2"]


def test_what_a_dead_publisher_left_goes_when_it_is_old(store: Store, tmp_path: Path) -> None:
    dead = layout.new_version()
    put(store, layout.bundle("digits", dead) + "model/weights.bin", b"half")

    young = plan(store, DAY)
    assert (young.removals, young.publishing) == ([], [f"digits@{dead}"])

    planned = plan(store, AT_ONCE)
    assert what(planned) == [("leftover", f"digits@{dead}")]
    assert planned.removals[0].why.startswith("never committed, nothing heard of it for")
    carry_out(store, planned)
    assert plan(store, AT_ONCE).removals == []


def test_a_publisher_that_commits_between_plan_and_removal_wins(store: Store, tmp_path: Path) -> None:
    manifest = manifest_of(write(tmp_path / "bundle"))
    plans: list[Plan] = []

    publish(store, tmp_path / "bundle", manifest, lambda _: plans.append(plan(store, AT_ONCE)))
    assert what(plans[-1]) == [("leftover", f"digits@{manifest.version}")]
    (done,) = carry_out(store, plans[-1])

    assert "written by somebody else first" in (done.skipped or "")
    fetch(store, manifest, tmp_path / "to")


def test_unfinished_uploads_and_probes_go(store: Store, tmp_path: Path) -> None:
    (version,) = versions_of(store, tmp_path, 1)
    orphan = layout.new_version()
    keys = [layout.bundle("digits", v) + "model/large" for v in (version, orphan)]
    for key in [*keys, "notes/not-ours"]:
        store.client.create_multipart_upload(Bucket=store.bucket, Key=store.prefix + key)
    put(store, ".roundtrip/probe-1", b"x")
    put(store, layout.SENTINEL, b"up")

    assert plan(store, DAY).removals == []
    planned = plan(store, AT_ONCE)
    assert what(planned) == [
        ("upload", keys[0]),
        ("leftover", f"digits@{orphan}"),
        ("probe", ".roundtrip/probe-1"),
    ]
    carry_out(store, planned)

    assert [upload.key for upload in store.uploads("")] == ["notes/not-ours"]
    assert store.keys(layout.PROBES) == [layout.SENTINEL]
    assert list_versions(store, "digits") == [version]


def test_what_is_left_of_a_removed_version_goes_at_once(store: Store, tmp_path: Path) -> None:
    one, two = versions_of(store, tmp_path, 2)
    remove_version(store, "digits", one)
    put(store, f"{layout.verdicts('digits', one)}{layout.new_version()}.json", b"{}")

    planned = plan(store, DAY)
    assert what(planned) == [("remains", f"digits@{one}")]
    carry_out(store, planned)

    assert plan(store, DAY).removals == []
    assert list_versions(store, "digits") == [two]


def test_a_removal_that_died_after_any_step_is_finished(store: Store, tmp_path: Path) -> None:
    one, two = versions_of(store, tmp_path, 2)
    end(store, "digits", one, entries(store, "digits", one))
    store.put(layout.indexed_as_removed("digits", one), b"")

    assert list_versions(store, "digits") == [two], "its removal is final"
    planned = plan(store, DAY)
    assert [(r.what, r.why) for r in planned.removals] == [("remains", "its removal was begun and not finished")]
    carry_out(store, planned)

    assert not [key for key in store.keys(layout.bundle("digits", one)) if not key.endswith("manifest.json")]
    assert plan(store, DAY).removals == []


def test_verdicts_of_a_version_that_somebody_deleted_by_hand_go_when_they_are_old(store: Store, tmp_path: Path) -> None:
    (version,) = versions_of(store, tmp_path, 1)
    put(store, f"{layout.verdicts('digits', version)}{layout.new_version()}.json", b"{}")
    store.delete_all(store.keys(layout.bundle("digits", version)))

    assert plan(store, DAY).removals == []
    carry_out(store, plan(store, AT_ONCE))
    assert store.keys(layout.verdicts("digits", version)) == []


def test_versions_that_the_index_lacks_are_listed_and_added_to_it(store: Store, tmp_path: Path) -> None:
    (version,) = versions_of(store, tmp_path, 1)
    store.delete_all(store.keys(layout.index("digits")))

    assert [(m.versions, m.formats) for m in list_models(store)] == [(1, ["saved-model"])]
    planned = plan(store, DAY)
    assert planned.unlisted == [f"digits@{version}"]
    carry_out(store, planned)

    assert store.keys(layout.index("digits")) == [
        layout.indexed("digits", version, "saved-model", sum(map(len, FILES.values())))
    ]


def test_an_alias_that_points_at_nothing_is_reported(store: Store, tmp_path: Path) -> None:
    (version,) = versions_of(store, tmp_path, 1)
    advance_latest(store, "digits", version, "verdict")
    store.delete(layout.manifest("digits", version))

    assert plan(store, DAY).broken == ["digits@latest"]


def test_a_model_that_has_nothing_but_an_upload_is_found(store: Store) -> None:
    version = layout.new_version()
    key = layout.bundle("digits", version) + "model/large"
    store.client.create_multipart_upload(Bucket=store.bucket, Key=store.prefix + key)

    for patterns in ([], ["dig*"]):
        assert what(plan(store, AT_ONCE, patterns)) == [("leftover", f"digits@{version}")]
    assert plan(store, AT_ONCE, ["letters"]).removals == []


@pytest.mark.parametrize("interrupted_after", [1, 2])
def test_an_interrupted_run_is_finished_by_the_next_one(store: Store, tmp_path: Path, interrupted_after: int) -> None:
    versions = versions_of(store, tmp_path, 4)
    told: list[object] = []

    def interrupt(done: object) -> None:
        told.append(done)
        if len(told) == interrupted_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        carry_out(store, plan(store, Retention(keep_last=1)), interrupt)
    for version in list_versions(store, "digits"):
        fetch(store, read_manifest(store, "digits", version), tmp_path / "to" / version)
    carry_out(store, plan(store, Retention(keep_last=1)))

    assert list_versions(store, "digits") == versions[-1:]
    assert plan(store, Retention(keep_last=1)).removals == []
