"""Garbage collection: first a plan that changes nothing, then its execution, which looks again before each removal.

Taken are versions that no retention policy keeps, trials of sweeps whose time is over, what dead publishers left, what is
left of removed versions, uploads that were never finished, checkpoints of runs that nobody resumed, and the store's own
probes. Never taken: a version that an alias points at or that is being promoted, and one that is being published. Alive is a
publisher of which the server got anything in the last `leftovers_older_than`, by the server's clock, and a training likewise
in the last `checkpoints_older_than`. Even one that is taken for dead wrongly loses only its unpublished files, and is told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from pydantic import BaseModel

from tasks.errors import ConflictError, NotFoundError, PinnedError
from tasks.storage import index, layout, trials
from tasks.storage.parallel import in_parallel
from tasks.storage.store import Store, Upload
from tasks.storage.upkeep import inventory
from tasks.storage.upkeep.inventory import Contents, Inventory
from tasks.storage.upkeep.removal import (
    Freed,
    give_up,
    last_sign_of,
    remove_checkpoints,
    remove_leftover,
    remove_trial,
    remove_version,
)
from tasks.storage.upkeep.retention import Known, Retention, age_text, rounded, split
from tasks.storage.versions import read_manifest

What = Literal["version", "trial", "leftover", "remains", "upload", "checkpoints", "probe"]


class Removal(BaseModel):
    """One thing that is to go.

    Attributes:
        what: A version; one that a sweep published and did not choose; what a publisher left that never committed; what is
            left of a version that was removed; an unfinished upload; the checkpoints of a run; a probe of the store.
        subject: `model@version`, a key, or a prefix.
        why: For people.
        objects: Objects and unfinished uploads in it.
        upload: The upload's id.
    """

    model_config = {"frozen": True}

    what: What
    subject: str
    why: str
    objects: int
    bytes: int
    upload: str | None = None


class Plan(BaseModel):
    """What garbage collection would do.

    Attributes:
        at: By the server's clock.
        kept: How many versions stay, by the reason.
        publishing: Versions that are being published, so left alone.
        unlisted: Versions that the index lacks; they are added to it.
        broken: Aliases that point at a version that is not there.
    """

    model_config = {"frozen": True}

    store: str
    at: datetime
    retention: Retention
    removals: list[Removal]
    kept: dict[str, int]
    publishing: list[str]
    unlisted: list[str]
    broken: list[str]

    @property
    def bytes(self) -> int:
        """What would be freed."""
        return sum(removal.bytes for removal in self.removals)


class Done(BaseModel):
    """One removal as it went: what was freed, or why it was not done after all."""

    model_config = {"frozen": True}

    removal: Removal
    objects: int = 0
    bytes: int = 0
    skipped: str | None = None


@dataclass(frozen=True, slots=True)
class _OfModel:
    removals: list[Removal]
    kept: Counter[str]
    publishing: list[str]
    unlisted: list[str]
    broken: list[str]


def plan(store: Store, retention: Retention, patterns: Sequence[str] = ()) -> Plan:
    """Find what may go. Reads only: a list request for a thousand keys, and one read for each alias.

    Args:
        store: Where.
        retention: Which versions stay, and when a publisher counts as dead.
        patterns: Of models' names; empty for all, and the store's own probes.
    """
    now = store.now()
    names = inventory.models(store, patterns)
    uploads: dict[str, list[Upload]] = {name: [] for name in names}
    for upload in store.uploads(""):
        name = upload.key.partition("/")[0]
        if inventory.of_a_model(upload) and inventory.matches(name, patterns):
            uploads.setdefault(name, []).append(upload)

    def of_model(name: str) -> _OfModel:
        return _plan_model(store, inventory.take(store, name, uploads[name]), retention, now)

    found = list(in_parallel(of_model, sorted(uploads)))
    probes = [] if patterns else _probes(store, retention.leftovers_older_than, now)
    kept: Counter[str] = Counter()
    for each in found:
        kept += each.kept
    return Plan(
        store=store.url,
        at=now,
        retention=retention,
        removals=[removal for each in found for removal in each.removals] + probes,
        kept=dict(kept),
        publishing=[version for each in found for version in each.publishing],
        unlisted=[version for each in found for version in each.unlisted],
        broken=[alias for each in found for alias in each.broken],
    )


def carry_out(store: Store, planned: Plan, told: Callable[[Done], None] = lambda _: None) -> list[Done]:
    """Remove what was planned, side by side, unless it turned out meanwhile that it must stay.

    May be stopped at any moment: nothing that can be seen is ever half there, and another run goes on.

    Args:
        store: Where.
        planned: A plan of this store.
        told: Called after each removal, in the plan's order.

    Raises:
        UnreachableError: The store failed, after retries.
    """

    def carry_out_one(removal: Removal) -> Done:
        try:
            freed = _remove(store, removal, planned.retention)
        except (ConflictError, NotFoundError, PinnedError) as changed:
            return Done(removal=removal, skipped=str(changed))
        return Done(removal=removal, objects=freed.objects, bytes=freed.bytes)

    for subject in planned.unlisted:
        _enter(store, *subject.split("@"))
    done = []
    for each in in_parallel(carry_out_one, planned.removals):
        done.append(each)
        told(each)
    return done


def _plan_model(store: Store, there: Inventory, retention: Retention, now: datetime) -> _OfModel:
    found = _OfModel([], Counter(), [], [], [])
    known = []
    for version, contents in sorted(there.versions.items()):
        subject = f"{there.model}@{version}"
        if contents.committed and not contents.marked:
            assert contents.manifest is not None
            if contents.trial is not None and trials.expires(store, there.model, version):
                _plan_trial(store, subject, contents, now, found)
            else:
                known.append(Known(version, contents.manifest.modified))
            found.removals.extend(_old_uploads(store, contents, retention.leftovers_older_than, now))
            if not contents.listed:
                found.unlisted.append(subject)
        else:
            _plan_invisible(store, subject, contents, retention.leftovers_older_than, now, found)
    for run, contents in sorted(there.runs.items()):
        found.removals.extend(_dead_run(store, layout.checkpoints(there.model, run), contents, retention, now))
    kept, going = split(known, retention.policies(there.aliases), now)
    found.kept.update(kept.values())
    for each in going:
        contents = there.versions[each.version]
        assert contents.manifest is not None
        found.removals.append(
            Removal(
                what="version",
                subject=f"{there.model}@{each.version}",
                why=f"{age_text(rounded(now - each.committed))} old, no alias, not among the kept",
                objects=contents.objects + 1,
                bytes=contents.bytes + contents.manifest.size,
            )
        )
    for alias, version in there.aliases.items():
        if version not in there.versions or not there.versions[version].committed:
            found.broken.append(f"{there.model}@{alias}")
    return found


def _plan_trial(store: Store, subject: str, contents: Contents, now: datetime, found: _OfModel) -> None:
    """A trial that nobody wants. Policies neither count nor take it: it goes when its time is over."""
    assert contents.trial is not None
    assert contents.manifest is not None
    trial = trials.read(store, contents.trial.key)
    over = now - contents.trial.modified - timedelta(seconds=trial.seconds)
    if over < timedelta(0):
        found.kept["a trial of a sweep, for a while"] += 1
        return
    found.removals.append(
        Removal(
            what="trial",
            subject=subject,
            why=f"not the one that the sweep {trial.sweep} chose; its time was over {age_text(rounded(over))} ago",
            objects=contents.objects + 1,
            bytes=contents.bytes + contents.manifest.size,
        )
    )


def _plan_invisible(
    store: Store, subject: str, contents: Contents, older_than: timedelta, now: datetime, found: _OfModel
) -> None:
    """What is there of a version that no reader sees, or whose removal was begun."""
    parts = [(upload, store.parts(upload)) for upload in contents.uploads]
    objects = contents.objects + len(parts)
    size = contents.bytes + sum(part.size for _, arrived in parts for part in arrived)
    if contents.manifest is not None:
        if objects or contents.committed or not contents.marked:
            why = "its removal was begun and not finished" if contents.committed else "left of a version that was removed"
            found.removals.append(Removal(what="remains", subject=subject, why=why, objects=objects, bytes=size))
        return
    signs = [last_sign_of(upload, arrived) for upload, arrived in parts] + ([contents.newest] if contents.newest else [])
    if not signs:
        return  # a line of the index alone
    age = max(now - max(signs), timedelta(0))  # a clock of whole seconds may be behind
    if age < older_than:
        found.publishing.append(subject)
        return
    why = f"never committed, nothing heard of it for {age_text(rounded(age))}"
    found.removals.append(Removal(what="leftover", subject=subject, why=why, objects=objects, bytes=size))


def _dead_run(store: Store, prefix: str, contents: Contents, retention: Retention, now: datetime) -> Iterable[Removal]:
    """The checkpoints of a run that published nothing and was not resumed for long."""
    parts = [(upload, store.parts(upload)) for upload in contents.uploads]
    signs = [last_sign_of(upload, arrived) for upload, arrived in parts] + ([contents.newest] if contents.newest else [])
    age = now - max(signs)
    if age >= retention.checkpoints_older_than:
        yield Removal(
            what="checkpoints",
            subject=prefix,
            why=f"of a run that was not finished, nothing heard of it for {age_text(rounded(age))}",
            objects=contents.objects + len(parts),
            bytes=contents.bytes + sum(part.size for _, arrived in parts for part in arrived),
        )


def _old_uploads(store: Store, contents: Contents, older_than: timedelta, now: datetime) -> Iterable[Removal]:
    for upload in contents.uploads:
        if now - upload.started < older_than:
            continue
        arrived = store.parts(upload)
        age = now - last_sign_of(upload, arrived)
        if age >= older_than:
            yield Removal(
                what="upload",
                subject=upload.key,
                why=f"an upload that was not finished, nothing heard of it for {age_text(rounded(age))}",
                objects=1,
                bytes=sum(part.size for part in arrived),
                upload=upload.id,
            )


def _probes(store: Store, older_than: timedelta, now: datetime) -> list[Removal]:
    return [
        Removal(what="probe", subject=each.key, why="left by a check of the store", objects=1, bytes=each.size)
        for each in store.objects(layout.PROBES)
        if each.key != layout.SENTINEL and now - each.modified >= older_than
    ]


def _remove(store: Store, removal: Removal, retention: Retention) -> Freed:
    if removal.what == "probe":
        store.delete(removal.subject)
        return Freed(1, removal.bytes)
    if removal.what == "upload":
        return give_up(store, Upload(removal.subject, removal.upload or "", datetime.min))
    if removal.what == "checkpoints":
        return remove_checkpoints(store, removal.subject, retention.checkpoints_older_than)
    model, _, version = removal.subject.partition("@")
    if removal.what == "leftover":
        return remove_leftover(store, model, version, retention.leftovers_older_than)
    if removal.what == "trial":
        return remove_trial(store, model, version)
    return remove_version(store, model, version)


def _enter(store: Store, model: str, version: str) -> None:
    try:
        index.enter(store, read_manifest(store, model, version))
    except NotFoundError:
        return  # removed meanwhile
