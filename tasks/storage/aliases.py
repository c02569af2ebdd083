"""Aliases: append-only logs of revisions, the newest of which counts.

Guarantees: revisions are numbered without gaps, each written once by one writer; a promotion that lost a race reads the
winner's revision and decides again; nothing is ever overwritten, so history is complete and rollback is one more revision.
"""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import BaseModel, ValidationError

from tasks.errors import ConflictError, NotFoundError, UnsafeError
from tasks.storage import layout
from tasks.storage.store import Store


class Revision(BaseModel):
    """One entry of an alias' history.

    Attributes:
        newest: The newest version that the alias ever pointed at. After a rollback it is newer than `version`, and keeps
            a mere re-verification of it from undoing the rollback.
        verdict: Id of the passed verdict that allowed it.
    """

    model_config = {"frozen": True}

    alias: str
    number: int
    version: str
    newest: str
    verdict: str
    reason: str
    at: datetime


def current(store: Store, model: str, alias: str) -> Revision | None:
    """Where an alias points; one list request for one key and one read, however long its history."""
    keys = store.keys(layout.alias(model, alias), limit=1)
    return _read(store, keys[0]) if keys else None


def alias_history(store: Store, model: str, alias: str) -> list[Revision]:
    """All revisions, the newest first."""
    return [_read(store, key) for key in store.keys(layout.alias(model, alias))]


def _read(store: Store, key: str) -> Revision:
    """A revision from the store, which anybody with a key to the store may have written."""
    try:
        revision = Revision.model_validate_json(store.get(key))
    except ValidationError as error:
        raise UnsafeError(f"{store.uri(key)} is not an alias' revision: {error.errors()[0]['msg']}.") from None
    if not layout.is_version(revision.version):
        raise UnsafeError(f"{store.uri(key)} points at {revision.version!r}, which is no version.")
    return revision


def aliases(store: Store, model: str) -> dict[str, str]:
    """The version that each alias of a model points at."""
    found = {name: current(store, model, name) for name in store.folders(f"{model}/aliases/")}
    return {name: revision.version for name, revision in found.items() if revision}


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
    """
    layout.model_name(alias)
    while True:
        before = current(store, model, alias)
        newest = max(version, before.newest) if before else version
        revision = _append(store, model, alias, before, version=version, newest=newest, verdict=verdict, reason=reason)
        if revision:
            return revision


def advance_latest(store: Store, model: str, version: str, verdict: str) -> bool:
    """Point `latest` at a version that passed, unless it ever pointed at a newer one or at this one.

    So a re-verification of an old version, or of one that was rolled back, changes nothing.

    Returns:
        Whether `latest` points at the version now.
    """
    while True:
        before = current(store, model, layout.LATEST)
        if before and version <= before.newest:
            return before.version == version
        if _append(store, model, layout.LATEST, before, version=version, newest=version, verdict=verdict, reason="verified"):
            return True


def _append(
    store: Store,
    model: str,
    alias: str,
    before: Revision | None,
    *,
    version: str,
    newest: str,
    verdict: str,
    reason: str,
) -> Revision | None:
    """Write the revision after `before`; None where somebody else did, so that the caller looks again."""
    revision = Revision(
        alias=alias,
        number=before.number + 1 if before else 0,
        version=version,
        newest=newest,
        verdict=verdict,
        reason=reason,
        at=datetime.now(UTC),
    )
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
    if revision is not None:
        return revision.version
    versions = store.folders(layout.versions(model))
    if not versions:
        raise NotFoundError(f"There is no model {model!r} in {store.url}. `python -m flows list` shows what there is.")
    known = sorted(aliases(store, model))
    raise NotFoundError(
        f"{model} has no alias {alias!r} (it has: {', '.join(known) or 'none'}). No version of it passed verification yet, "
        f"or none was promoted. `python -m flows return {model}@{versions[-1]}` verifies the newest."
    )
