"""Trials: what a sweep published and did not choose is never `latest`, and goes when its time is over."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path

import pytest

from tasks.errors import NotFoundError
from tasks.storage import (
    Manifest,
    Retention,
    Store,
    advance_latest,
    carry_out,
    commit,
    layout,
    list_versions,
    move_alias,
    plan,
    remove_version,
    resolve,
    trials,
    upload_files,
)
from tasks.storage.holds import end
from tasks.storage.trials import Trial
from tests.storage.samples import manifest_of, published, write

LONG, OVER = Trial(sweep="one", seconds=3600), Trial(sweep="one", seconds=1e-6)


def tried(store: Store, folder: Path, trial: Trial = OVER) -> str:
    """A trial, published in the order in which a sweep does it; its version."""
    manifest: Manifest = upload_files(store, folder, manifest_of(write(folder)))
    trials.mark(store, "digits", manifest.version, trial)
    return commit(store, manifest).version


def let_pass(store: Store, version: str) -> None:
    """Wait until a trial's moment is over by the server's clock, which tells whole seconds."""
    (mark,) = store.objects(layout.trial("digits", version))
    while store.now() <= mark.modified:
        time.sleep(0.05)


def what(store: Store, retention: Retention | None = None) -> list[tuple[str, str]]:
    return [(r.what, r.subject.partition("@")[2]) for r in plan(store, retention or Retention()).removals]


def test_a_trial_is_not_latest_and_once_chosen_it_is(store: Store, tmp_path: Path) -> None:
    version = tried(store, tmp_path)

    assert not advance_latest(store, "digits", version, "verdict")
    trials.choose(store, "digits", version, b"why")

    assert advance_latest(store, "digits", version, "verdict")
    assert resolve(store, "digits") == ("digits", version)


def test_a_trial_goes_when_its_time_is_over_and_no_earlier(store: Store, tmp_path: Path) -> None:
    early, late = tried(store, tmp_path / "early"), tried(store, tmp_path / "late", LONG)
    chosen, ours = tried(store, tmp_path / "chosen"), published(store, tmp_path / "ours").version
    trials.choose(store, "digits", chosen, b"why")
    let_pass(store, chosen)

    planned = plan(store, Retention())
    carry_out(store, planned)

    assert [(r.what, r.subject) for r in planned.removals] == [("trial", f"digits@{early}")]
    assert planned.kept == {"a trial of a sweep, for a while": 1, "nothing says that it may go": 2}
    assert sorted(list_versions(store, "digits")) == sorted([late, chosen, ours])
    assert store.keys(layout.trials("digits", early)) == []


def test_a_trial_that_was_promoted_by_hand_is_a_version_like_any_other(store: Store, tmp_path: Path) -> None:
    version, other = tried(store, tmp_path / "one"), published(store, tmp_path / "other").version
    let_pass(store, version)
    move_alias(store, "digits", "staging", version, "verdict", "promoted")
    assert what(store) == []

    move_alias(store, "digits", "staging", other, "verdict", "promoted")

    assert what(store) == []
    assert what(store, Retention(keep_last=0)) == [("version", version)]


def test_no_policy_counts_a_trial(store: Store, tmp_path: Path) -> None:
    versions = [published(store, tmp_path / name).version for name in "abc"]
    newest = tried(store, tmp_path / "trial", LONG)

    assert what(store, Retention(keep_last=2)) == [("version", versions[0])]
    assert newest in list_versions(store, "digits")


def test_a_trial_that_is_chosen_after_the_plan_stays(store: Store, tmp_path: Path) -> None:
    version = tried(store, tmp_path)
    let_pass(store, version)
    planned = plan(store, Retention())
    trials.choose(store, "digits", version, b"why")

    (done,) = carry_out(store, planned)

    assert done.skipped == f"digits@{version} was chosen meanwhile."
    assert list_versions(store, "digits") == [version]


def test_a_trial_that_is_promoted_after_the_plan_stays(store: Store, tmp_path: Path) -> None:
    version = tried(store, tmp_path)
    let_pass(store, version)
    planned = plan(store, Retention())
    move_alias(store, "digits", "staging", version, "verdict", "promoted")

    (done,) = carry_out(store, planned)

    assert done.skipped == f"digits@{version} was promoted meanwhile."
    assert resolve(store, "digits@staging") == ("digits", version)


def test_a_trial_whose_removal_died_before_it_began_is_chosen_by_nobody_and_goes(store: Store, tmp_path: Path) -> None:
    version = tried(store, tmp_path)
    let_pass(store, version)
    trials.expire(store, "digits", version)

    with pytest.raises(NotFoundError, match="larger --keep"):
        trials.choose(store, "digits", version, b"why")
    assert not advance_latest(store, "digits", version, "verdict")
    carry_out(store, plan(store, Retention()))
    assert store.keys(layout.bundle("digits", version)) == [layout.manifest("digits", version)]


def test_a_choice_that_comes_too_late_says_so(store: Store, tmp_path: Path) -> None:
    version = tried(store, tmp_path)
    let_pass(store, version)
    carry_out(store, plan(store, Retention()))

    with pytest.raises(NotFoundError, match="larger --keep"):
        trials.choose(store, "digits", version, b"why")
    assert what(store) == [("remains", version)], "and what it left is known to gc"


@pytest.mark.parametrize("died_after", ["mark", "files"])
def test_a_sweep_that_dies_before_the_commit_leaves_a_leftover(store: Store, tmp_path: Path, died_after: str) -> None:
    manifest = manifest_of(write(tmp_path))
    trials.mark(store, "digits", manifest.version, LONG)
    if died_after == "files":
        upload_files(store, tmp_path, manifest)

    planned = plan(store, Retention(leftovers_older_than=timedelta(0)))
    carry_out(store, planned)

    assert [(r.what, r.subject) for r in planned.removals] == [("leftover", f"digits@{manifest.version}")]
    assert not [key for key in store.keys(layout.bundle("digits", manifest.version)) if "manifest" not in key]


def test_a_removal_that_died_half_way_is_finished(store: Store, tmp_path: Path) -> None:
    version = tried(store, tmp_path)
    let_pass(store, version)
    end(store, "digits", version, [])

    carry_out(store, plan(store, Retention()))

    assert store.keys(layout.bundle("digits", version)) == [layout.manifest("digits", version)]


def test_a_trial_can_be_removed_by_name(store: Store, tmp_path: Path) -> None:
    version = tried(store, tmp_path, LONG)
    remove_version(store, "digits", version)
    assert store.keys(layout.trials("digits", version)) == []


def test_another_attempt_at_publishing_marks_it_again(store: Store) -> None:
    version = layout.new_version()
    trials.mark(store, "digits", version, LONG)
    trials.mark(store, "digits", version, LONG)
    assert trials.read(store, layout.trial("digits", version)) == LONG
