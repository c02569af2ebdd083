"""Checkpoints of trainings that are not done: the store as a `Keeper`.

Guarantees, as for versions: a reader sees a checkpoint whole or not at all, since its files are uploaded first, below a name
that nobody else has, and `checkpoint.json` is written last by put-if-absent; every byte that is read has the SHA-256 in it.
No pickle: arrays are a `.npz`, the rest is JSON. Two runs of one identity at once compute the same bits, and harm each other
by nothing worse than removing what the other could have resumed from.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, ValidationError

from tasks.errors import InputError, NotFoundError, UnsafeError
from tasks.serialization.arrays import read_npz, write_npz
from tasks.storage import layout
from tasks.storage.manifest import FileEntry
from tasks.storage.store import Store
from tasks.storage.transfer import download, upload
from tasks.training.identity import Identity
from tasks.training.snapshot import Progress, Snapshot

_ARRAYS, _PROGRESS = "arrays.npz", "progress.json"
_KEPT = 2  # the newest, and one more in case it is damaged
_OTHERS = 3  # runs of other identities that a log line is worth


class CheckpointRecord(BaseModel):
    """The commit of a checkpoint. `id` is its writer's own, so that equal bytes mean one writer."""

    model_config = {"frozen": True}

    schema_version: Literal[1] = 1
    id: str
    at: datetime
    epoch: int = Field(ge=0)
    identity: Identity
    files: tuple[FileEntry, ...]


class StoredCheckpoints:
    """The checkpoints of one model's unfinished runs.

    Attributes:
        store: Where.
        model: Name of the model.

    `say` is called with a line on what is there and is not resumed from.
    """

    def __init__(self, store: Store, model: str, say: Callable[[str], None] = lambda _: None) -> None:
        self.store = store
        self.model = layout.model_name(model)
        self._say = say

    def newest(self, identity: Identity) -> Snapshot | None:
        """The newest whole snapshot of this very run, or None, after a line on runs that were otherwise.

        One list request where nothing is kept. What is not whole is removed.
        """
        runs = self.store.folders(layout.checkpoints(self.model))
        if identity.run not in runs:
            self._tell_others(identity, runs)
            return None
        for prefix in self._committed(identity.run):
            try:
                return self._read(identity, prefix)
            except (UnsafeError, NotFoundError) as error:
                self._say(f"a checkpoint is left out: {error}")
                self._remove(prefix)
        return None

    def keep(self, identity: Identity, snapshot: Snapshot) -> None:
        """Upload a snapshot, commit it, and remove all but the two newest of its run."""
        id_ = layout.new_version()
        prefix = layout.checkpoint(self.model, identity.run, snapshot.progress.epoch, id_)
        with _scratch() as folder:
            write_npz(folder / _ARRAYS, snapshot.arrays)
            (folder / _PROGRESS).write_text(snapshot.progress.model_dump_json())
            files = upload(self.store, folder, prefix)
        record = CheckpointRecord(
            id=id_, at=datetime.now(UTC), epoch=snapshot.progress.epoch, identity=identity, files=files
        )
        self.store.put_if_absent(prefix + layout.CHECKPOINT, record.model_dump_json().encode())
        for old in self._committed(identity.run)[_KEPT:]:
            self._remove(old)

    def forget(self, run: str) -> None:
        """Remove all of a run, also what a killed writer left half-done."""
        self._remove(layout.checkpoints(self.model, run))

    def _committed(self, run: str) -> list[str]:
        """Prefixes of the checkpoints of a run that were written to the end, the newest epoch first."""
        keys = self.store.keys(layout.checkpoints(self.model, run))
        ends = f"/{layout.CHECKPOINT}"
        return sorted((key.removesuffix(layout.CHECKPOINT) for key in keys if key.endswith(ends)), reverse=True)

    def _record(self, prefix: str) -> CheckpointRecord:
        try:
            return CheckpointRecord.model_validate_json(self.store.get(prefix + layout.CHECKPOINT))
        except ValidationError as error:
            raise UnsafeError(f"{self.store.uri(prefix)} is no checkpoint: {error.errors()[0]['msg']}.") from None

    def _read(self, identity: Identity, prefix: str) -> Snapshot:
        record = self._record(prefix)
        if record.identity != identity or {f.path for f in record.files} != {_ARRAYS, _PROGRESS}:
            raise UnsafeError(f"{self.store.uri(prefix)} is not what its place says: it was changed in the store.")
        with _scratch() as folder:
            download(self.store, prefix, folder, record.files)
            try:
                progress = Progress.model_validate_json((folder / _PROGRESS).read_bytes())
            except ValidationError as error:
                raise UnsafeError(f"{self.store.uri(prefix)} is no checkpoint: {error.errors()[0]['msg']}.") from None
            return Snapshot(progress, read_npz(folder / _ARRAYS))

    def _remove(self, prefix: str) -> None:
        """Remove what is below a prefix, the commits first, so that no reader takes a part for a whole."""
        keys = self.store.keys(prefix)
        for key in sorted(keys, key=lambda key: not key.endswith(layout.CHECKPOINT)):
            self.store.delete(key)

    def _tell_others(self, identity: Identity, runs: list[str]) -> None:
        """Say why runs of the same model that were killed are not resumed."""
        for run in runs[:_OTHERS]:
            try:
                record = self._record(next(iter(self._committed(run))))
            except (StopIteration, UnsafeError, NotFoundError):
                continue
            when = record.at.isoformat(" ", "seconds")
            what = "; ".join(identity.differences(record.identity))
            self._say(f"not resumed: the checkpoint of epoch {record.epoch} of {when} is of another run: {what}")


@contextmanager
def _scratch() -> Iterator[Path]:
    try:
        folder = Path(tempfile.mkdtemp(prefix="roundtrip-checkpoint-"))
    except OSError as error:
        raise InputError(f"Can't write to {tempfile.gettempdir()}: {error.strerror or error}. Set TMPDIR.") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
