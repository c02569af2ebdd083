"""Every order in which the requests of a promotion or a choice and of a removal can reach the store, and every place to die.

Two processes are two greenlets that give way before each request (but for the lists of what is to be deleted, which decide
nothing). The invariant is checked after every write, so each prefix of an order stands for one or both of them dying there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest
from greenlet import getcurrent, greenlet

from tasks.errors import ConflictError, NotFoundError, PinnedError
from tasks.storage import Store, layout, move_alias, remove_version, trials
from tasks.storage.aliases import aliases
from tasks.storage.holds import is_committed
from tasks.storage.index import listed
from tasks.storage.upkeep.removal import remove_trial
from tests.storage.memory import MemoryStore

OLD, NEW = "0192f0c1-0000-7000-8000-000000000001", "0192f0c1-0000-7000-8000-000000000002"
FILES = ("model/a", "probe.npz")
Process = Callable[[Store], object]
REFUSALS = (ConflictError, NotFoundError, PinnedError)


def with_two_versions() -> MemoryStore:
    """`latest` points at the old one, so that the promotion of the new one is not the first."""
    memory = MemoryStore()
    store = cast("Store", memory)
    for version in (OLD, NEW):
        for name in FILES:
            memory.put(layout.bundle("m", version) + name, b"file")
        memory.put(layout.manifest("m", version), b"a manifest, surely longer")
        memory.put(layout.indexed("m", version, "full-h5", 1), b"")
    move_alias(store, "m", "latest", OLD, "verdict", "x")
    return memory


def assert_nothing_is_broken(memory: MemoryStore) -> None:
    """As an independent reader sees it: it looks at the keys alone."""
    before, memory.before = memory.before, lambda _: None
    store = cast("Store", memory)
    for alias, version in aliases(store, "m").items():
        assert is_committed(store, "m", version), f"{alias} points at nothing"
    for each in listed(store, "m"):
        assert is_committed(store, "m", each.version), "what is listed can be seen"
    for version in (OLD, NEW):
        if is_committed(store, "m", version):
            assert all(layout.bundle("m", version) + name in memory.objects_ for name in FILES), "a version is whole or gone"
    memory.before = before


class Race:
    """Runs processes in every order of their requests, one order after the other."""

    def __init__(self, prepare: Callable[[], MemoryStore], *processes: Process) -> None:
        self.prepare, self.processes = prepare, processes
        self.orders = 0
        self.ends: set[tuple[str, ...]] = set()

    def run(self, most: int) -> None:
        """Depth first: the next order differs from the last one at the latest point possible."""
        choices: list[tuple[int, int]] = []  # taken, of how many
        while True:
            self._once(choices)
            self.orders += 1
            assert self.orders <= most, "more orders than foreseen"
            while choices and choices[-1][0] == choices[-1][1] - 1:
                choices.pop()
            if not choices:
                return
            choices[-1] = choices[-1][0] + 1, choices[-1][1]

    def _once(self, choices: list[tuple[int, int]]) -> None:
        memory = self.prepare()
        scheduler = getcurrent()
        ends = [""] * len(self.processes)

        def live(number: int, process: Process) -> None:
            try:
                process(cast("Store", memory))
                ends[number] = "done"
            except REFUSALS as refusal:
                ends[number] = type(refusal).__name__

        memory.before = lambda _: scheduler.switch()
        running = [greenlet(lambda n=n, p=p: live(n, p)) for n, p in enumerate(self.processes)]
        at = 0
        seen = dict(memory.objects_)
        while alive := [each for each in running if not each.dead]:
            if len(alive) > 1:
                if at == len(choices):
                    choices.append((0, len(alive)))
                alive[choices[at][0]].switch()
                at += 1
            else:
                alive[0].switch()
            if memory.objects_ != seen:
                assert_nothing_is_broken(memory)
                seen = dict(memory.objects_)
        self.ends.add(tuple(ends))


def promote_new(store: Store) -> None:
    move_alias(store, "m", "latest", NEW, "verdict", "x")


def promote_new_under_a_new_name(store: Store) -> None:
    move_alias(store, "m", "production", NEW, "verdict", "x")


def remove_new(store: Store) -> None:
    remove_version(store, "m", NEW)


def with_a_trial() -> MemoryStore:
    memory = with_two_versions()
    trials.mark(cast("Store", memory), "m", NEW, trials.Trial(sweep="one", seconds=1))
    return memory


def choose_new(store: Store) -> None:
    trials.choose(store, "m", NEW, b"why")


def collect_new(store: Store) -> None:
    remove_trial(store, "m", NEW)


@pytest.mark.parametrize(
    ("prepare", "keeper", "remover", "refusal", "least"),
    [
        (with_two_versions, promote_new, remove_new, "PinnedError", 500),
        (with_two_versions, promote_new_under_a_new_name, remove_new, "PinnedError", 500),
        (with_a_trial, choose_new, collect_new, "ConflictError", 50),
        (with_a_trial, promote_new, collect_new, "ConflictError", 50),
    ],
)
def test_in_no_order_is_what_was_kept_removed(
    prepare: Callable[[], MemoryStore], keeper: Process, remover: Process, refusal: str, least: int
) -> None:
    race = Race(prepare, keeper, remover)

    race.run(most=20_000)

    assert race.orders > least
    # Either may win; where both lose nothing happened, and trying again decides.
    assert {("done", refusal), ("NotFoundError", "done")} <= race.ends
    assert race.ends <= {("done", refusal), ("NotFoundError", "done"), ("NotFoundError", refusal)}
