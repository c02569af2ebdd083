"""Aliases: append-only logs of revisions, the newest of which counts.

Guarantees: revisions are numbered without gaps, each written once by one writer; a promotion that lost a race reads the
winner's revision and decides again; nothing is ever overwritten, so history is complete and rollback is one more revision.
A revision points only at a version that is there, and which its hold keeps from being removed (`holds.py`).

Whether a version may have an alias at all is decided where verdicts are known: `tasks.verification.promotion`.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from pydantic import BaseModel, ValidationError

from tasks.errors import ConflictError, NotFoundError, UnsafeError
from tasks.storage import index, layout, trials
from tasks.storage.holds import hold
from tasks.storage.store import Store

_PAGE = 1000  # keys that one list request gives


class Revision(BaseModel):
    """One entry of an alias' history.

    Attributes:
        version: Where it points; None where the alias was taken away.
        newest: The newest version that the alias ever pointed at. After a rollback it is newer than `version`, and keeps
            a mere re-verification of it from undoing the rollback.
        verdict: Id of the passed verdict that allowed it.
        restores: Number of the earlier revision that a rollback went back to, so that the next one goes further back.
    """

    model_config = {"frozen": True}

    alias: str
    number: int
    version: str | None
    newest: str
    verdict: str
    reason: str
    at: datetime
    restores: int | None = None


def current(store: Store, model: str, alias: str) -> Revision | None:
    """The newest revision of an alias; one list request for one key and one read, however long its history."""
    keys = store.keys(layout.alias(model, alias), limit=1)
    return read_revision(store, keys[0]) if keys else None


def alias_history(store: Store, model: str, alias: str, limit: int | None = None) -> list[Revision]:
    """Revisions, the newest first; all of them, or the newest `limit`."""
    return [read_revision(store, key) for key in store.keys(layout.alias(model, alias), limit=limit)]


def aliases(store: Store, model: str) -> dict[str, str]:
    """The version that each alias of a model points at."""
    newest = [read_revision(store, key) for key in newest_revisions(store, model)]
    return {revision.alias: revision.version for revision in newest if revision.version}


def newest_revisions(store: Store, model: str) -> list[str]:
    """The key of each alias' newest revision: one list request, and one more for each alias where histories are long."""
    keys = store.keys(layout.aliases(model), limit=_PAGE)
    if len(keys) < _PAGE:
        return first_of_each(keys)
    return [key for name in store.folders(layout.aliases(model)) for key in store.keys(layout.alias(model, name), limit=1)]


def first_of_each(keys: list[str]) -> list[str]:
    """Of revisions' keys in their order, the first of each alias, which is its newest."""
    first: dict[str, str] = {}
    for key in keys:
        first.setdefault(key.rpartition("/")[0], key)
    return list(first.values())


def read_revision(store: Store, key: str) -> Revision:
    """A revision from the store, which anybody with a key to the store may have written."""
    try:
        revision = Revision.model_validate_json(store.get(key))
    except ValidationError as error:
        raise UnsafeError(f"{store.uri(key)} is not an alias' revision: {error.errors()[0]['msg']}.") from None
    if revision.version is not None and not layout.is_version(revision.version):
        raise UnsafeError(f"{store.uri(key)} points at {revision.version!r}, which is no version.")
    if layout.revision(key.partition("/")[0], revision.alias, revision.number) != key:
        raise UnsafeError(
            f"{store.uri(key)} says that it is revision {revision.number} of {revision.alias!r}: it was copied."
        )
    return revision


def earlier(store: Store, model: str, now: Revision) -> Iterator[Revision]:
    """Where an alias pointed before, and before that, as the undoing of its moves one by one; one read each.

    A rollback counts as the state that it restored: after A, B, C and a rollback to B, what came earlier is A.
    """
    number = now.number if now.restores is None else now.restores
    while number > 0:
        before = read_revision(store, layout.revision(model, now.alias, number - 1))
        yield before
        number = before.number if before.restores is None else before.restores


def move_alias(store: Store, model: str, alias: str, version: str, verdict: str, reason: str) -> Revision:
    """Point an alias at a version.

    Args:
        store: Where.
        model: Name of the model.
        alias: Name of the alias.
        version: A version with a passed verdict.
        verdict: Id of that verdict.
        reason: For the history.

    Returns:
        The revision that was appended.

    Raises:
        NotFoundError: The version is not there, or is being removed.
    """
    layout.model_name(alias)
    while True:
        before = current(store, model, alias)
        revision = append(store, model, alias, before, version=version, verdict=verdict, reason=reason)
        if revision:
            return revision


def advance_latest(store: Store, model: str, version: str, verdict: str) -> bool:
    """Point `latest` at a version that passed, unless it ever pointed at a newer one or at this one.

    So a re-verification of an old version, or of one that was rolled back, changes nothing. Nor does one of a sweep's trial
    that was not chosen; `promote` can move `latest` there all the same.

    Returns:
        Whether `latest` points at the version now.

    Raises:
        NotFoundError: The version is not there any more, or is being removed.
    """
    while True:
        before = current(store, model, layout.LATEST)
        if before and version <= before.newest:
            return before.version == version
        if trials.is_open(store, model, version):
            return False
        if append(store, model, layout.LATEST, before, version=version, verdict=verdict, reason="verified"):
            return True


def take_away(store: Store, model: str, alias: str, reason: str) -> Revision:
    """Let an alias point nowhere, by one more revision; its history stays."""
    layout.model_name(alias)
    while True:
        before = current(store, model, alias)
        revision = append(store, model, alias, before, version=None, verdict="", reason=reason)
        if revision:
            return revision


def append(
    store: Store,
    model: str,
    alias: str,
    before: Revision | None,
    *,
    version: str | None,
    verdict: str,
    reason: str,
    restores: int | None = None,
) -> Revision | None:
    """Write the revision after `before`; None where somebody else did, so that the caller looks again.

    Raises:
        NotFoundError: The version is not there, or is being removed.
    """
    known = before.newest if before else ""
    revision = Revision(
        alias=alias,
        number=before.number + 1 if before else 0,
        version=version,
        newest=max(version or "", known),
        verdict=verdict,
        reason=reason,
        at=datetime.now(UTC),
        restores=restores,
    )
    if version is not None:
        hold(store, model, version, alias, revision.number)
    try:
        store.put_if_absent(layout.revision(model, alias, revision.number), revision.model_dump_json().encode())
    except ConflictError:
        return None
    return revision


def resolve_alias(store: Store, model: str, alias: str) -> str:
    """The version that an alias points at.

    Raises:
        NotFoundError: There is no such alias; the message says what there is.
    """
    revision = current(store, model, alias)
    if revision is not None and revision.version is not None:
        return revision.version
    newest = index.newest(store, model, 1)
    if not newest:
        raise index.no_such_model(store, model)
    known = sorted(aliases(store, model))
    if not known:
        raise NotFoundError(
            f"{model} has no alias {alias!r}, and no other: no version passed verification yet, or they were taken away. "
            f"`python -m flows return {model}@{newest[0]}` verifies the newest."
        )
    raise NotFoundError(
        f"{model} has no alias {alias!r}. It has: {', '.join(known)}. `python -m flows show {model}` shows the versions; "
        f"`python -m flows promote {model}@VERSION --alias {alias}` makes it."
    )
