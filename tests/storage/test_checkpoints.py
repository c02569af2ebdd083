"""The store as keeper of checkpoints: whole or not at all, whatever is killed, damaged or written at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.errors import UnreachableError
from tasks.storage import Removal, Retention, Store, StoredCheckpoints, carry_out, layout, list_models, plan
from tasks.storage import checkpoints as module
from tasks.training.identity import Identity
from tasks.training.snapshot import Progress, Snapshot
from tests.storage.samples import put


def identity(**changes: Any) -> Identity:
    values = {
        "loop": "fit",
        "definition": "models.py:mlp",
        "arguments": {"hidden": 64},
        "architecture": "a",
        "source": "s",
        "compiled": "c",
        "data": "d",
        "training": {"epochs": 20},
        "callbacks": [],
        "tensorflow": "2",
        "keras": "3",
    }
    return Identity.model_validate(values | changes)


RUN = identity()


def snapshot(epoch: int) -> Snapshot:
    progress = Progress(epoch=epoch, curves={"loss": [float("nan"), 0.1]}, seconds=[1.5], callbacks=[{"own": {"a": [1]}}])
    return Snapshot(progress, {"model/00000": np.full((2, 3), epoch, np.float16), "random/python": np.arange(3)})


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def keeper(store: Store, said: list[str]) -> StoredCheckpoints:
    return StoredCheckpoints(store, "digits", said.append)


def newest_epoch(keeper: StoredCheckpoints) -> int | None:
    found = keeper.newest(RUN)
    return found.progress.epoch if found else None


def kept(keeper: StoredCheckpoints) -> list[tuple[int, str]]:
    """Epoch and file of everything that is there."""
    keys = keeper.store.keys(layout.checkpoints("digits"))
    return [(int(key.split("/")[3].partition("=")[0]), key.split("/")[4]) for key in keys]


WHOLE = ["arrays.npz", "checkpoint.json", "progress.json"]


def test_what_was_kept_comes_back_bit_for_bit(keeper: StoredCheckpoints) -> None:
    keeper.keep(RUN, snapshot(7))
    found = keeper.newest(RUN)
    assert found is not None
    assert repr(found.progress) == repr(snapshot(7).progress)  # NaN is not equal to itself
    assert {name: (a.dtype, a.tobytes()) for name, a in found.arrays.items()} == {
        name: (a.dtype, a.tobytes()) for name, a in snapshot(7).arrays.items()
    }


def test_nothing_kept_is_nothing_found(keeper: StoredCheckpoints, said: list[str]) -> None:
    assert (keeper.newest(RUN), said) == (None, [])


def test_the_newest_counts_and_the_one_before_stays(keeper: StoredCheckpoints) -> None:
    for epoch in (1, 2, 10, 11):
        keeper.keep(RUN, snapshot(epoch))
    assert newest_epoch(keeper) == 11
    assert kept(keeper) == [(epoch, name) for epoch in (10, 11) for name in WHOLE]


def test_a_checkpoint_is_no_model(keeper: StoredCheckpoints) -> None:
    keeper.keep(RUN, snapshot(1))
    assert list_models(keeper.store) == []


@pytest.mark.parametrize("missing", WHOLE)
def test_one_that_is_not_whole_is_left_out_for_the_one_before(keeper: StoredCheckpoints, missing: str) -> None:
    for epoch in (3, 4):
        keeper.keep(RUN, snapshot(epoch))
    (key,) = [k for k in keeper.store.keys(layout.checkpoints("digits")) if f"{4:010d}=" in k and k.endswith(missing)]
    keeper.store.delete(key)
    assert newest_epoch(keeper) == 3


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("body", [b"", b"{}", b"PK\x03\x04"])
def test_a_damaged_one_is_said_removed_and_left_out(
    keeper: StoredCheckpoints, said: list[str], name: str, body: bytes
) -> None:
    for epoch in (3, 4):
        keeper.keep(RUN, snapshot(epoch))
    (key,) = [k for k in keeper.store.keys(layout.checkpoints("digits")) if f"{4:010d}=" in k and k.endswith(name)]
    put(keeper.store, key, body)
    assert newest_epoch(keeper) == 3
    assert said[0].startswith("a checkpoint is left out: s3://")
    assert {epoch for epoch, _ in kept(keeper)} == {3}


def test_one_that_was_copied_from_another_run_is_left_out(keeper: StoredCheckpoints, said: list[str]) -> None:
    other = identity(data="other")
    keeper.keep(other, snapshot(9))
    for key in keeper.store.keys(layout.checkpoints("digits", other.run)):
        put(keeper.store, key.replace(other.run, RUN.run), keeper.store.get(key))
    assert keeper.newest(RUN) is None
    assert "is not what its place says" in said[0]


def test_a_writer_that_dies_before_its_commit_leaves_nothing_to_be_seen(
    keeper: StoredCheckpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper.keep(RUN, snapshot(1))

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Store, "put_if_absent", die)
        with pytest.raises(KeyboardInterrupt):
            keeper.keep(RUN, snapshot(2))
    assert {epoch for epoch, _ in kept(keeper)} == {1, 2}
    assert newest_epoch(keeper) == 1


def test_forgetting_removes_all_of_a_run_and_no_other(keeper: StoredCheckpoints) -> None:
    other = identity(data="other")
    for each in (RUN, other):
        keeper.keep(each, snapshot(5))
    put(keeper.store, layout.checkpoint("digits", RUN.run, 6, "half") + "arrays.npz", b"half")
    keeper.forget(RUN.run)
    assert newest_epoch(keeper) is None
    assert keeper.newest(other) is not None
    assert [epoch for epoch, _ in kept(keeper)] == [5, 5, 5]


def test_a_killed_run_that_was_otherwise_is_named_with_the_reason(keeper: StoredCheckpoints, said: list[str]) -> None:
    keeper.keep(identity(arguments={"hidden": 32}, data="other", training={"epochs": 10}), snapshot(5))
    assert keeper.newest(RUN) is None
    assert said[0].startswith("not resumed: the checkpoint of epoch 5 of 20")
    assert said[0].endswith(
        ": definition models.py:mlp(hidden=32), here models.py:mlp(hidden=64); epochs 10, here 20; other data"
    )


def test_two_runs_of_one_identity_at_once_leave_a_whole_checkpoint(keeper: StoredCheckpoints) -> None:
    def run(_: int) -> None:
        for epoch in range(1, 7):
            keeper.keep(RUN, snapshot(epoch))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run, range(2)))
    assert newest_epoch(keeper) == 6


def test_what_a_checkpoint_needs_on_disk_is_removed(keeper: StoredCheckpoints, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    keeper.keep(RUN, snapshot(1))
    assert newest_epoch(keeper) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_does_not_answer_is_no_empty_store(keeper: StoredCheckpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper.keep(RUN, snapshot(1))

    def unreachable(*_: Any, **__: Any) -> None:
        raise UnreachableError("gone")

    monkeypatch.setattr(module, "download", unreachable)
    with pytest.raises(UnreachableError):
        keeper.newest(RUN)
    assert kept(keeper)


# gc


def checkpoints_to_go(store: Store, older_than: timedelta) -> list[Removal]:
    planned = plan(store, Retention(checkpoints_older_than=older_than))
    assert {removal.what for removal in planned.removals} <= {"checkpoints"}
    return planned.removals


def test_gc_takes_the_checkpoints_of_a_run_that_nobody_resumed(keeper: StoredCheckpoints, store: Store) -> None:
    keeper.keep(RUN, snapshot(5))
    put(store, layout.checkpoint("digits", RUN.run, 6, "half") + "arrays.npz", b"half")

    assert checkpoints_to_go(store, timedelta(days=1)) == []
    (removal,) = checkpoints_to_go(store, timedelta(0))
    assert (removal.subject, removal.objects) == (layout.checkpoints("digits", RUN.run), 4)

    done = carry_out(store, plan(store, Retention(checkpoints_older_than=timedelta(0))))
    assert [each.objects for each in done] == [4]
    assert kept(keeper) == []


def test_gc_leaves_a_run_that_went_on_after_the_plan(keeper: StoredCheckpoints, store: Store) -> None:
    keeper.keep(RUN, snapshot(5))
    planned = plan(store, Retention(checkpoints_older_than=timedelta(0)))
    later = planned.model_copy(update={"retention": Retention(checkpoints_older_than=timedelta(days=1))})

    (done,) = carry_out(store, later)

    assert done.skipped is not None and "goes on" in done.skipped
    assert newest_epoch(keeper) == 5
