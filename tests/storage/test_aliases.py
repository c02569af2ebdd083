from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tasks.errors import InputError, NotFoundError, UnsafeError
from tasks.storage import Store, advance_latest, alias_history, layout, move_alias, resolve
from tests.storage.memory import MemoryStore
from tests.storage.samples import put

VERSIONS = sorted(f"0192f0c1-0000-7000-8000-{number:012x}" for number in range(6))
version_ids = st.sampled_from(VERSIONS)


class WithARival(MemoryStore):
    """A store in which a rival may write just before any put-if-absent."""

    def __init__(self) -> None:
        super().__init__()
        self.rival: Callable[[], object] | None = None
        self.before = self._let_the_rival_go_first

    def _let_the_rival_go_first(self, verb: str) -> None:
        if verb == "put_if_absent" and self.rival:
            rival, self.rival = self.rival, None
            rival()


class AliasHistory(RuleBasedStateMachine):
    """Promotions, rollbacks and re-verifications in any order, each with or without a rival that is faster."""

    @initialize()
    def start(self) -> None:
        self.memory = WithARival()
        self.store = cast("Store", self.memory)
        for version in VERSIONS:
            self.memory.put(layout.manifest("m", version), b"there")
        self.pointers: list[str] = []  # of `latest`, the oldest first: what the law says
        self.seen: dict[str, tuple[bytes, datetime]] = {}

    def law_of_moving(self, version: str) -> None:
        self.pointers.append(version)
        self.newest = max(self.pointers)

    def law_of_advancing(self, version: str) -> None:
        if not self.pointers or version > max(self.pointers):
            self.pointers.append(version)

    @rule(version=version_ids)
    def a_version_passes_verification(self, version: str) -> None:
        points_there = advance_latest(self.store, "m", version, "verdict")
        self.law_of_advancing(version)
        assert points_there == (self.pointers[-1] == version)

    @rule(version=version_ids)
    def somebody_promotes_or_rolls_back(self, version: str) -> None:
        revision = move_alias(self.store, "m", "latest", version, "verdict", "by hand")
        self.law_of_moving(version)
        assert (revision.version, revision.number) == (version, len(self.pointers) - 1)

    @rule(version=version_ids, rivals=version_ids)
    def a_version_passes_while_a_rival_promotes(self, version: str, rivals: str) -> None:
        def promote() -> None:
            move_alias(self.store, "m", "latest", rivals, "verdict", "rival")
            self.law_of_moving(rivals)

        self.memory.rival = promote
        advance_latest(self.store, "m", version, "verdict")
        if self.memory.rival:  # nothing was to be written, so nothing to race for
            self.memory.rival = None
        self.law_of_advancing(version)

    @rule(version=version_ids, rivals=version_ids)
    def somebody_promotes_while_a_rivals_version_passes(self, version: str, rivals: str) -> None:
        def advance() -> None:
            advance_latest(self.store, "m", rivals, "verdict")
            self.law_of_advancing(rivals)

        self.memory.rival = advance
        move_alias(self.store, "m", "latest", version, "verdict", "by hand")
        self.law_of_moving(version)

    @invariant()
    def the_history_is_what_happened_in_its_order(self) -> None:
        history = alias_history(self.store, "m", "latest")
        assert [r.version for r in reversed(history)] == self.pointers
        assert [r.number for r in reversed(history)] == list(range(len(history)))
        if history:
            assert history[0].newest == max(self.pointers)

    @invariant()
    def nothing_that_was_written_ever_changes(self) -> None:
        assert self.seen.items() <= self.memory.objects_.items()
        self.seen = dict(self.memory.objects_)


AliasHistory.TestCase.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)
TestAliasHistory = AliasHistory.TestCase


def committed(store: Store, count: int) -> list[str]:
    """Versions of the model `m` that can be seen."""
    versions = [layout.new_version() for _ in range(count)]
    for version in versions:
        put(store, layout.manifest("m", version), b"there")
    return versions


def test_the_history_of_eight_racing_promoters_is_one_line(store: Store) -> None:
    versions = committed(store, 8)
    with ThreadPoolExecutor(max_workers=8) as pool:
        made = list(pool.map(lambda v: move_alias(store, "m", "production", v, "verdict", "race"), versions))
    history = alias_history(store, "m", "production")
    assert [r.number for r in history] == list(range(7, -1, -1))
    assert sorted(r.version for r in history) == sorted(versions)
    assert sorted(made, key=lambda r: -r.number) == history
    assert resolve(store, "m@production") == ("m", history[0].version)


def test_latest_ends_at_the_newest_whoever_verifies_last(store: Store) -> None:
    versions = committed(store, 4)
    with ThreadPoolExecutor(max_workers=4) as pool:
        list(pool.map(lambda v: advance_latest(store, "m", v, "verdict"), reversed(versions)))
    assert resolve(store, "m") == ("m", max(versions))
    pointers = [r.version for r in reversed(alias_history(store, "m", "latest"))]
    assert pointers == sorted(pointers)


def test_a_rolled_back_version_does_not_come_back_by_being_verified_again(store: Store) -> None:
    old, new, newer = sorted(committed(store, 3))
    assert advance_latest(store, "m", old, "verdict")
    assert advance_latest(store, "m", new, "verdict")
    move_alias(store, "m", "latest", old, "verdict", "rollback")
    assert not advance_latest(store, "m", new, "verdict")
    assert resolve(store, "m") == ("m", old)
    assert advance_latest(store, "m", old, "verdict")
    assert advance_latest(store, "m", newer, "verdict")
    assert [r.version for r in alias_history(store, "m", "latest")] == [newer, old, new, old]


def test_an_alias_needs_a_plain_name(store: Store) -> None:
    with pytest.raises(InputError, match="can't be a model's or an alias' name"):
        move_alias(store, "m", "a/b", VERSIONS[0], "verdict", "x")
    assert store.keys("") == []


@pytest.mark.parametrize("bad", [b"", b"not json", b'{"alias": "latest"}', b"\xff\xfe"])
def test_a_damaged_revision_is_refused_as_tampered_with(store: Store, bad: bytes) -> None:
    put(store, layout.revision("m", "latest", 0), bad)
    with pytest.raises(UnsafeError, match="latest"):
        resolve(store, "m")


def test_an_alias_that_points_out_of_the_store_is_refused(store: Store) -> None:
    revision = move_alias(store, "m", "latest", *committed(store, 1), "verdict", "x")
    evil = revision.model_copy(update={"version": "../../../../etc", "number": 1})
    put(store, layout.revision("m", "latest", 1), evil.model_dump_json().encode())
    with pytest.raises(UnsafeError, match="latest"):
        resolve(store, "m")


def test_an_alias_that_is_not_there_says_what_there_is(store: Store) -> None:
    move_alias(store, "m", "production", *committed(store, 1), "verdict", "x")
    with pytest.raises(NotFoundError, match=r"m has no alias 'staging'. It has: production"):
        resolve(store, "m@staging")
