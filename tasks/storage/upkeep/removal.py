"""Removal: one version, what a dead publisher left, or a whole model; in an order that shows no reader half of anything.

Of a version: its log is closed (no alias can move to it any more), the index says so, one small object takes the
manifest's place (now it is invisible, for ever), and only then do its files go. Each step may be the last one of a process
that dies: the next `rm` or `gc` goes on where it ended. README.md has the protocol and what each crash leaves.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from tasks.errors import ConflictError, NotFoundError, PinnedError
from tasks.storage import index, layout
from tasks.storage.aliases import current, newest_revisions, read_revision, take_away
from tasks.storage.holds import end, entries
from tasks.storage.manifest import REMOVED
from tasks.storage.store import Store, StoredObject, Upload
from tasks.storage.trials import expire


@dataclass(frozen=True, slots=True)
class Freed:
    """What a removal freed: objects and unfinished uploads, and their bytes."""

    objects: int = 0
    bytes: int = 0

    def __add__(self, other: Freed) -> Freed:
        return Freed(self.objects + other.objects, self.bytes + other.bytes)


def remove_version(store: Store, model: str, version: str) -> Freed:
    """Remove a version, unless an alias points at it.

    Guarantee: a reader sees it whole until it is gone at once; no alias ever points at it again, and it never comes back.
    Doing it again finishes what was interrupted.

    Raises:
        PinnedError: An alias points at it, or is being moved to it; nothing was changed.
        NotFoundError: There is no such version.
    """
    manifest = store.size(layout.manifest(model, version))
    if manifest is None:
        raise NotFoundError(f"There is no version {version} of {model!r} in {store.url}.")
    if manifest == len(REMOVED):
        index.enter_removed(store, model, version)
        return clear(store, model, version)
    _close(store, model, version)
    index.enter_removed(store, model, version)
    # Written over the manifest, not deleted: a request that was late would find the place free and bring it back.
    store.put(layout.manifest(model, version), REMOVED)
    return Freed(1, manifest) + clear(store, model, version)


def remove_trial(store: Store, model: str, version: str) -> Freed:
    """Remove a trial that nobody chose or promoted.

    Guarantee: of this and a choice or a promotion at the same moment one wins, and the other one is told.

    Raises:
        ConflictError: It was chosen or promoted; the version was not touched.
    """
    log = entries(store, model, version, limit=1)
    if not log:
        expire(store, model, version)
    closed = log[0][1].kind == "removal" if log else end(store, model, version, [])
    if not closed:
        raise ConflictError(f"{model}@{version} was promoted meanwhile.")
    return remove_version(store, model, version)


def remove_leftover(store: Store, model: str, version: str, older_than: timedelta) -> Freed:
    """Remove the files of a version that was never committed and whose publisher gave no sign of life for so long.

    Guarantee: a publisher that lives all the same, or a rival that commits now, wins or is told; nothing visible is taken.

    Raises:
        ConflictError: It was committed meanwhile, or is being published; nothing was changed.
    """
    age = max(store.now() - last_sign(store, model, version), timedelta(0))  # a clock of whole seconds may be behind
    if age < older_than:
        raise ConflictError(f"{model}@{version} is being published.")
    store.put_if_absent(layout.manifest(model, version), REMOVED)
    index.enter_removed(store, model, version)
    return clear(store, model, version)


def remove_model(store: Store, model: str) -> Freed:
    """Remove all versions of a model and let its aliases point nowhere. What is being published meanwhile stays.

    Raises:
        NotFoundError: There is no such model.
    """
    versions = [each.version for each in index.listed(store, model)]
    if not versions:
        raise index.no_such_model(store, model)
    for key in newest_revisions(store, model):
        revision = read_revision(store, key)
        if revision.version is not None:
            take_away(store, model, revision.alias, "the model was removed")
    freed = Freed()
    for version in versions:
        while True:
            try:
                freed += remove_version(store, model, version)
                break
            except PinnedError as pinned:  # somebody promoted it just now: the one who removes the model has the last word
                take_away(store, model, pinned.alias, "the model was removed")
    return freed


def remove_checkpoints(store: Store, prefix: str, older_than: timedelta) -> Freed:
    """Remove the checkpoints of a run that is not finished and of which the store heard nothing for so long.

    Raises:
        ConflictError: It goes on; nothing was changed.
    """
    objects = list(store.objects(prefix))
    uploads = [(upload, store.parts(upload)) for upload in store.uploads(prefix)]
    signs = [each.modified for each in objects] + [last_sign_of(upload, parts) for upload, parts in uploads]
    if signs and store.now() - max(signs) < older_than:
        raise ConflictError(f"The run of {prefix} goes on.")
    # What makes them checkpoints first, so that no reader takes a part for a whole.
    store.delete_all([each.key for each in objects if each.key.endswith(layout.CHECKPOINT)])
    store.delete_all([each.key for each in objects])
    freed = Freed(len(objects), sum(each.size for each in objects))
    for upload, _ in uploads:
        freed += give_up(store, upload)
    return freed


def clear(store: Store, model: str, version: str) -> Freed:
    """Delete all that is left of a version whose manifest is the mark of its removal; the mark stays, and the index' too."""
    mark = layout.manifest(model, version)
    removed = layout.indexed_as_removed(model, version)
    objects = [each for place in _places(model, version) for each in store.objects(place) if each.key not in {mark, removed}]
    store.delete_all([each.key for each in objects])
    freed = Freed(len(objects), sum(each.size for each in objects))
    for upload in store.uploads(layout.bundle(model, version)):
        freed += give_up(store, upload)
    return freed


def give_up(store: Store, upload: Upload) -> Freed:
    """Abort an upload."""
    size = sum(part.size for part in store.parts(upload))
    store.abort(upload)
    return Freed(1, size)


def last_sign(store: Store, model: str, version: str) -> datetime:
    """When the server last got anything of a version that is being published: a file, a part, or the start of an upload.

    By the server's clock alone. A publisher that uploads one file for hours is alive by the parts of it.

    Raises:
        ConflictError: There is nothing of it, so somebody else removed it.
    """
    bundle = layout.bundle(model, version)
    # What is beside the folder counts too: somebody may have deleted the folder by hand.
    signs = [each.modified for place in _places(model, version) for each in store.objects(place)]
    for upload in store.uploads(bundle):
        signs.append(last_sign_of(upload, store.parts(upload)))
    if not signs:
        raise ConflictError(f"Nothing is left of {model}@{version}.")
    return max(signs)


def last_sign_of(upload: Upload, parts: list[StoredObject]) -> datetime:
    """When the server last got anything of an upload."""
    return max([upload.started, *(part.modified for part in parts)])


def _places(model: str, version: str) -> tuple[str, ...]:
    """Prefixes of all that belongs to a version."""
    return (
        layout.bundle(model, version),
        layout.verdicts(model, version),
        layout.holds(model, version),
        layout.index_lines(model, version),
    )


def _close(store: Store, model: str, version: str) -> None:
    """Append the removal to the version's log, after which no alias can be moved to it.

    Raises:
        PinnedError: An alias points at it, or is being moved to it.
    """
    while True:
        log = entries(store, model, version)
        if log and log[0][1].kind == "removal":
            return
        # After the log: a promotion that is not in it yet will find this entry there, and give way.
        for key in newest_revisions(store, model):
            revision = read_revision(store, key)
            if revision.version == version:
                raise _pinned(model, version, revision.alias)
        for _, hold in log:
            newest = current(store, model, hold.alias)
            if newest is not None and newest.version == version:
                raise _pinned(model, version, hold.alias)
            if newest is None or newest.number < hold.revision:
                raise PinnedError(
                    f"{model}@{version} is being promoted to {hold.alias!r}, or a promotion died half-way. Wait, or finish "
                    f"it with `python -m flows promote {model}@{version} --alias {hold.alias}` and then move the alias.",
                    hold.alias,
                )
        if end(store, model, version, log):
            return


def _pinned(model: str, version: str, alias: str) -> PinnedError:
    return PinnedError(
        f"{model}@{version} is {alias!r}, so it stays. First point the alias elsewhere with `python -m flows promote "
        f"{model}@OTHER --alias {alias}` or `rollback {model} --alias {alias}`, or take it away with "
        f"`python -m flows rm {model}@{alias}`.",
        alias,
    )
