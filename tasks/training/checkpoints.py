"""Crash-safe training: the state between two epochs is kept now and then, and a run that was killed goes on from there.

`Session` is one training as the loops see it: where it begins, and what is kept while it goes on. Keeping overlaps with
training: the state is copied between two epochs, and a thread brings the copy to its keeper.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

from tasks.data import Dataset
from tasks.definitions import Definition
from tasks.errors import RoundtripError
from tasks.training.config import TrainingConfig
from tasks.training.identity import Identity, Loop, identity_of
from tasks.training.snapshot import Progress, Snapshot, Unfit, put_the_rest, put_variables, take


class Keeper(Protocol):
    """Where the snapshots of runs are kept; the storage room has one."""

    def newest(self, identity: Identity) -> Snapshot | None:
        """The newest whole snapshot of this very run, or None."""

    def keep(self, identity: Identity, snapshot: Snapshot) -> None:
        """Keep a snapshot, and forget those before the one before it."""

    def forget(self, run: str) -> None:
        """Remove all snapshots of a run."""


@dataclass(frozen=True, slots=True)
class Checkpointing:
    """How a run keeps its state.

    Attributes:
        keeper: Where.
        definition: What the model was built from.
        arithmetic: Names all that decides the last bits of what is computed here.
        say: Called with a line on what was resumed from, or could not be kept.
    """

    keeper: Keeper
    definition: Definition
    arithmetic: str
    say: Callable[[str], None]


class Session:
    """One training.

    Attributes:
        first: The epoch to begin with.
        end: The epoch to stop before.
        curves: Per logged name one value an epoch, those before the return too.
        seconds: Wall seconds of each epoch.
        notes: What the history should say about it.
        callbacks: All that may end the training or change its course.
        run: Name of the run whose snapshots are kept; empty where none are.
    """

    def __init__(
        self,
        model: Any,
        dataset: Dataset,
        config: TrainingConfig,
        loop: Loop,
        callbacks: Sequence[Any],
        checkpointing: Checkpointing | None,
    ) -> None:
        self.first, self.end = 0, config.epochs
        self.callbacks = callbacks
        self.curves: dict[str, list[float]] = {}
        self.seconds: list[float] = []
        self.notes: list[str] = []
        self.run = ""
        self._config = config
        self._resumed: Snapshot | None = None
        self._writer: _Writer | None = None
        if checkpointing is None:
            return
        identity = identity_of(model, checkpointing.definition, dataset, config, loop, callbacks)
        self.run = identity.run
        self._arithmetic, self._say = checkpointing.arithmetic, checkpointing.say
        if config.resume:
            self._resume(model, identity, checkpointing)
        else:
            checkpointing.keeper.forget(identity.run)
        self._writer = _Writer(checkpointing, identity)

    def callback(self) -> Any:
        """A Keras callback to stand behind all others, whose state it gives back and keeps."""
        import keras  # seconds

        session = self

        class Keeping(keras.callbacks.Callback):  # type: ignore[misc]  # keras ships no types
            def on_train_begin(self, logs: Any = None) -> None:
                del logs
                if session._resumed is not None:
                    put_the_rest(self.model, session.callbacks, session._resumed)

            def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
                for name, value in (logs or {}).items():
                    session.curves.setdefault(name, []).append(float(value))
                session._epoch_ended(self.model, epoch + 1)

        return Keeping()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._writer is not None:
            self._writer.close(wait=kind is None)
            self._tell_failures(self._writer)

    def _resume(self, model: Any, identity: Identity, checkpointing: Checkpointing) -> None:
        snapshot = checkpointing.keeper.newest(identity)
        if snapshot is None:
            return
        progress = snapshot.progress
        try:
            put_variables(model, snapshot)
        except Unfit as error:
            checkpointing.say(f"not resumed: the checkpoint of epoch {progress.epoch} has {error}")
            checkpointing.keeper.forget(identity.run)
            return
        self._resumed = snapshot
        self.first = progress.epoch
        self.end = progress.epoch if progress.stopped else self._config.epochs
        self.curves = {name: list(values) for name, values in progress.curves.items()}
        self.seconds = list(progress.seconds)
        note = f"resumed after epoch {progress.epoch} of {self._config.epochs} from a checkpoint"
        if progress.arithmetic != self._arithmetic:
            note += ", which another processor or library computed: the last bits may differ from those of one run"
        self.notes.append(note)
        checkpointing.say(note)

    def _epoch_ended(self, model: Any, done: int) -> None:
        if self._writer is None:
            return
        self._tell_failures(self._writer)
        if not self._writer.due(done, self._config):
            return
        progress = Progress(
            epoch=done,
            stopped=model.stop_training,
            curves={name: list(values) for name, values in self.curves.items()},
            seconds=list(self.seconds),
            arithmetic=self._arithmetic,
        )
        self._writer.write(take(model, self.callbacks, progress))

    def _tell_failures(self, writer: _Writer) -> None:
        while writer.failures:
            line = writer.failures.pop(0)
            self.notes.append(line)
            self._say(line)


class _Writer:
    """Brings snapshots to their keeper, one at a time, beside the training."""

    def __init__(self, checkpointing: Checkpointing, identity: Identity) -> None:
        self.failures: list[str] = []  # told by the thread that trains
        self._keeper, self._identity = checkpointing.keeper, identity
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None
        self._last = time.monotonic()

    def due(self, done: int, config: TrainingConfig) -> bool:
        """Whether to keep the state now; not while the one before is still on its way."""
        if self._writing is not None and not self._writing.done():
            return False
        after, every = config.checkpoint_seconds, config.checkpoint_epochs
        long_ago = after is not None and time.monotonic() - self._last >= after
        return long_ago or (every is not None and done % every == 0)

    def write(self, snapshot: Snapshot) -> None:
        """Begin to write; what went wrong the time before and is nobody's bad luck is raised now."""
        if self._writing is not None:
            self._writing.result()
        self._last = time.monotonic()
        self._writing = self._pool.submit(self._keep, snapshot)

    def close(self, *, wait: bool) -> None:
        """End; where asked to, with the last snapshot written."""
        self._pool.shutdown(wait=wait)
        if wait and self._writing is not None:
            self._writing.result()

    def _keep(self, snapshot: Snapshot) -> None:
        try:
            self._keeper.keep(self._identity, snapshot)
        except (RoundtripError, OSError) as error:  # a training is not lost for a checkpoint
            self.failures.append(f"the checkpoint of epoch {snapshot.progress.epoch} was not kept: {error}")
