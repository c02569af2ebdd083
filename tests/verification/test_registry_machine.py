"""The registry against a model in memory: whatever is done in whatever order, on a real store.

Hypothesis publishes, verifies, promotes, rolls back, removes and collects garbage; after each step the store must say what
the model says, and hold nothing that is half there.
"""

from __future__ import annotations

import tempfile
import uuid
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from tasks.errors import ConflictError, NotFoundError, PinnedError, VerificationFailed
from tasks.storage import (
    Retention,
    Store,
    advance_latest,
    alias_history,
    carry_out,
    layout,
    list_models,
    list_versions,
    plan,
    publish,
    read_manifest,
    remove_model,
    remove_version,
    resolve,
    take_away,
)
from tasks.verification import promote, roll_back
from tests.proofs import proved
from tests.storage.samples import manifest_of, put, write

ALIASES = ("latest", "production")
picks = st.integers(0, 5)


@dataclass
class Law:
    """What the registry holds, as a person would tell it."""

    versions: list[str] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)
    passed: dict[str, bool] = field(default_factory=dict)
    # Of each alias: its states, the last one of which counts; and the newest version that it ever pointed at.
    states: dict[str, list[str | None]] = field(default_factory=lambda: {name: [] for name in ALIASES})
    newest: dict[str, str] = field(default_factory=lambda: dict.fromkeys(ALIASES, ""))
    moves: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ALIASES, 0))

    def at(self, alias: str) -> str | None:
        return self.states[alias][-1] if self.states[alias] else None

    def pinned(self, version: str) -> bool:
        return version in {self.at(alias) for alias in ALIASES}

    def move(self, alias: str, version: str | None) -> None:
        self.states[alias].append(version)
        self.newest[alias] = max(self.newest[alias], version or "")
        self.moves[alias] += 1

    def remove(self, version: str) -> None:
        self.versions.remove(version)
        self.gone.add(version)


class Registry(RuleBasedStateMachine):
    """One model of a store of its own."""

    shared: ClassVar[Store]

    @initialize()
    def start(self) -> None:
        self.store = replace(self.shared, prefix=f"{uuid.uuid4().hex}/")
        self.law = Law()
        self.folder = write(Path(tempfile.mkdtemp(prefix="roundtrip-tests-")), {"model/w": b"w", "probe.npz": b"p"})

    def pick(self, number: int) -> str:
        """One of the versions that are or were; the same number means the same age."""
        known = sorted([*self.law.versions, *self.law.gone])
        return known[-1 - number % len(known)]

    def something(self) -> bool:
        return bool(self.law.versions or self.law.gone)

    @rule()
    def publish(self) -> None:
        manifest = manifest_of(self.folder, "m")
        publish(self.store, self.folder, manifest)
        self.law.versions.append(manifest.version)

    @rule()
    def die_while_publishing(self) -> None:
        put(self.store, layout.bundle("m", layout.new_version()) + "model/w", b"half")

    @precondition(something)
    @rule(number=picks, passed=st.booleans())
    def verify(self, number: int, passed: bool) -> None:
        version = self.pick(number)
        if version in self.law.gone:
            return  # its manifest can't be read, so nobody gets so far
        verdict = proved(self.store, "m", version, passed=passed)
        self.law.passed[version] = passed
        if not passed:
            return
        there = advance_latest(self.store, "m", version, verdict.id)
        if version > self.law.newest["latest"]:
            self.law.move("latest", version)
        assert there == (self.law.at("latest") == version)

    @precondition(something)
    @rule(number=picks, alias=st.sampled_from(ALIASES))
    def promote(self, number: int, alias: str) -> None:
        version = self.pick(number)
        if version in self.law.gone:
            with pytest.raises(NotFoundError):
                promote(self.store, "m", version, alias)
        elif not self.law.passed.get(version):
            with pytest.raises(VerificationFailed):
                promote(self.store, "m", version, alias)
        else:
            _, moved = promote(self.store, "m", version, alias)
            assert moved == (self.law.at(alias) != version)
            if moved:
                self.law.move(alias, version)

    @rule(alias=st.sampled_from(ALIASES))
    def roll_back(self, alias: str) -> None:
        now, states = self.law.at(alias), self.law.states[alias]
        good = {version for version in self.law.versions if self.law.passed.get(version)}
        ago = [number for number, version in enumerate(states) if version != now and version in good]
        if not ago:
            with pytest.raises(NotFoundError):
                roll_back(self.store, "m", alias)
            return
        assert roll_back(self.store, "m", alias).version == states[ago[-1]]
        del states[ago[-1] + 1 :]
        self.law.moves[alias] += 1

    @precondition(something)
    @rule(number=picks)
    def remove(self, number: int) -> None:
        version = self.pick(number)
        if version in self.law.gone:
            remove_version(self.store, "m", version)  # again; takes what late publishers left
        elif self.law.pinned(version):
            with pytest.raises(PinnedError):
                remove_version(self.store, "m", version)
        else:
            remove_version(self.store, "m", version)
            self.law.remove(version)

    @rule(alias=st.sampled_from(ALIASES))
    def take_an_alias_away(self, alias: str) -> None:
        if self.law.at(alias) is not None:
            take_away(self.store, "m", alias, "x")
            self.law.move(alias, None)

    @rule()
    def remove_the_model(self) -> None:
        if not self.law.versions:
            with pytest.raises(NotFoundError):
                remove_model(self.store, "m")
            return
        remove_model(self.store, "m")
        for alias in ALIASES:
            if self.law.at(alias) is not None:
                self.law.move(alias, None)
        for version in list(self.law.versions):
            self.law.remove(version)

    @rule(last=st.none() | st.integers(0, 3))
    def collect(self, last: int | None) -> None:
        retention = Retention(keep_last=last, leftovers_older_than=timedelta(0))
        carry_out(self.store, plan(self.store, retention))
        going = [] if last is None else self.law.versions[: max(0, len(self.law.versions) - last)]
        for version in [v for v in going if not self.law.pinned(v)]:
            self.law.remove(version)
        assert plan(self.store, retention).removals == []
        bundles = {key.split("/")[2] for key in self.store.keys("m/versions/") if not key.endswith("manifest.json")}
        assert bundles == set(self.law.versions), "files are left of what is there, and of nothing else"

    @precondition(lambda self: self.law.gone)
    @rule(number=picks)
    def a_late_publisher_brings_nothing_back(self, number: int) -> None:
        version = sorted(self.law.gone)[-1 - number % len(self.law.gone)]
        with pytest.raises(ConflictError):
            publish(self.store, self.folder, manifest_of(self.folder, "m", version))

    @invariant()
    def the_store_says_what_the_law_says(self) -> None:
        if not self.law.versions:
            assert list_models(self.store) == []
            return
        assert list_versions(self.store, "m") == self.law.versions
        (summary,) = list_models(self.store)
        assert summary.versions == len(self.law.versions)
        assert summary.aliases == {alias: self.law.at(alias) for alias in ALIASES if self.law.at(alias)}

    @invariant()
    def an_alias_points_at_a_version_that_is_there_and_was_proved(self) -> None:
        for alias in ALIASES:
            assert len(alias_history(self.store, "m", alias)) == self.law.moves[alias]
            if self.law.at(alias) is not None:
                model, version = resolve(self.store, f"m@{alias}")
                assert version == self.law.at(alias)
                assert read_manifest(self.store, model, version).version == version


def test_the_registry_holds_what_was_done(store: Store) -> None:
    Registry.shared = store
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Registry,
        settings=settings(max_examples=10, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)),
    )
