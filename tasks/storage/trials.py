"""Trials: versions that a sweep publishes so that the best of them can be chosen. The others expire.

`trial.json` is in a version's folder before the version is committed, `trial-chosen.json` once it was chosen, or once `gc`
took that place so that nobody can choose it any more. Both are written once, by put-if-absent, and a list shows them and
their sizes, so `gc` knows what may go without reading a manifest.

Guarantee: whoever dies, and whenever, `latest` points at no trial that was not chosen, unless somebody promotes it by name;
one that was neither chosen nor promoted goes by `gc` when its time is over, and no earlier; whatever was chosen or ever
promoted is a version like any other.
"""

from __future__ import annotations

from contextlib import suppress

from pydantic import BaseModel, Field, ValidationError

from tasks.errors import ConflictError, NotFoundError, UnsafeError
from tasks.storage import layout
from tasks.storage.holds import entries, is_committed
from tasks.storage.store import Store

# In the place of a choice; no choice is so short. Whoever wrote it: it says the same.
EXPIRED = b'{"expired": true}'


class Trial(BaseModel):
    """What makes a version a trial.

    Attributes:
        sweep: Id of the sweep that published it.
        seconds: So long after it was published it stays, by the server's clock.
    """

    model_config = {"frozen": True}

    sweep: str
    seconds: float = Field(gt=0)


def mark(store: Store, model: str, version: str, trial: Trial) -> None:
    """Make a version a trial that is not committed yet; again is no error."""
    store.put_if_absent(layout.trial(model, version), trial.model_dump_json().encode())


def choose(store: Store, model: str, version: str, why: bytes) -> None:
    """Let a trial be a version like any other; `why` is kept, and holds the id of the sweep that chose.

    Raises:
        NotFoundError: The version is not there any more.
        ConflictError: Another sweep chose it.
    """
    key = layout.chosen(model, version)
    try:
        store.put_if_absent(key, why)
        there = is_committed(store, model, version)
    except ConflictError:
        there = False
        with suppress(NotFoundError):  # `gc` cleared it away meanwhile
            if store.get(key) != EXPIRED:
                raise
    if not there:
        raise NotFoundError(
            f"{model}@{version} was chosen too late: its time was over, and `gc` had begun to remove it. Where somebody "
            "promoted it in that moment it is there all the same. Give a sweep that takes so long a larger --keep."
        )


def expire(store: Store, model: str, version: str) -> None:
    """See to it that nobody chooses a trial any more; again is no error.

    Raises:
        ConflictError: It was chosen.
    """
    try:
        store.put_if_absent(layout.chosen(model, version), EXPIRED)
    except ConflictError as error:
        raise ConflictError(f"{model}@{version} was chosen meanwhile.") from error


def is_open(store: Store, model: str, version: str) -> bool:
    """Whether a version is a trial that was not chosen; one list request.

    No request for the key itself: who may list only below a prefix is denied what is not there.
    """
    there = {each.key: each.size for each in store.objects(layout.trials(model, version))}
    return layout.trial(model, version) in there and there.get(layout.chosen(model, version)) in {None, len(EXPIRED)}


def expires(store: Store, model: str, version: str) -> bool:
    """Whether a version goes when its time is over: a trial that was not chosen, and that nobody ever promoted."""
    if not is_open(store, model, version):
        return False
    log = entries(store, model, version, limit=1)
    return not log or log[0][1].kind == "removal"  # one that was begun and not finished


def read(store: Store, key: str) -> Trial:
    """What is written at the key of a trial, which anybody with a key to the store may have written."""
    try:
        return Trial.model_validate_json(store.get(key))
    except ValidationError as error:
        raise UnsafeError(f"{store.uri(key)} makes no version a trial: {error.errors()[0]['msg']}.") from None
