"""Holds: one append-only log a version, in which promotions and its removal take turns.

A promotion writes two keys (the log, the alias) and a removal too (the log, the manifest), and S3 has no transaction. So
both first append here, by put-if-absent: of two that come at once one is second, reads what the first one wrote, and gives
way. No clock and no lease is part of it, so a process that was stopped for a week between two steps does no harm.

Guarantee: where `hold` returns, the version is there, and stays until the alias' revision of that number is written by
somebody. Where `end` returns, no alias points at the version and none ever will. README.md proves it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ValidationError

from tasks.errors import ConflictError, NotFoundError, UnsafeError
from tasks.storage import layout
from tasks.storage.manifest import REMOVED
from tasks.storage.store import Store


class Hold(BaseModel):
    """One entry of a version's log.

    Attributes:
        kind: A promotion is about to write a revision that points here; or the version is being removed, which is final.
        alias: Of the promotion.
        revision: The number under which it will write. Once the alias has one of that number, by whomever, the promotion has
            happened or never will.
        id: Makes the bytes the writer's own (`Store.put_if_absent`).
    """

    model_config = {"frozen": True}

    kind: Literal["promotion", "removal"]
    alias: str = ""
    revision: int = 0
    id: str
    at: datetime


def is_committed(store: Store, model: str, version: str) -> bool:
    """Whether a version can be seen: it has a manifest that is not the mark of its removal. One request."""
    return store.size(layout.manifest(model, version)) not in {None, len(REMOVED)}


def hold(store: Store, model: str, version: str, alias: str, revision: int) -> None:
    """Announce that this revision of an alias will point at a version; two requests where it is the first.

    Raises:
        NotFoundError: The version is not there, or is being removed.
    """
    entry = Hold(kind="promotion", alias=alias, revision=revision, id=layout.new_version(), at=datetime.now(UTC))
    number = 0
    while not _append(store, model, version, number, entry):
        log = entries(store, model, version, limit=1)
        if log and log[0][1].kind == "removal":
            raise NotFoundError(
                f"{model}@{version} is being removed, so no alias can point at it any more. "
                f"`python -m flows rm {model}@{version}` finishes a removal that was interrupted."
            )
        number = log[0][0] + 1 if log else 0
    # After the entry, never before: a removal that ended earlier has taken its log with it, and only its mark is left.
    if not is_committed(store, model, version):
        raise NotFoundError(f"There is no version {version} of {model!r} in {store.url}: it was removed or never committed.")


def entries(store: Store, model: str, version: str, limit: int | None = None) -> list[tuple[int, Hold]]:
    """A version's log with the entries' numbers, the newest first."""
    return [(layout.number_of(key), _read(store, key)) for key in store.keys(layout.holds(model, version), limit=limit)]


def end(store: Store, model: str, version: str, seen: list[tuple[int, Hold]]) -> bool:
    """Append the removal after what was seen; False where something came between, so that the caller looks again."""
    entry = Hold(kind="removal", id=layout.new_version(), at=datetime.now(UTC))
    return _append(store, model, version, seen[0][0] + 1 if seen else 0, entry)


def _append(store: Store, model: str, version: str, number: int, entry: Hold) -> bool:
    try:
        store.put_if_absent(layout.hold(model, version, number), entry.model_dump_json().encode())
    except ConflictError:
        return False
    return True


def _read(store: Store, key: str) -> Hold:
    try:
        return Hold.model_validate_json(store.get(key))
    except ValidationError as error:
        raise UnsafeError(f"{store.uri(key)} is not a hold: {error.errors()[0]['msg']}.") from None
