"""What a run tells while it goes on: to whoever asked, else to its log and as a progress artifact."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from prefect import get_run_logger
from prefect.artifacts import (
    create_progress_artifact,
    update_progress_artifact,
)

from tasks.jobs import Became
from tasks.steps.showing import artifact_key
from tasks.storage import VersionRef
from tasks.storage.transfer import Progress, Snapshot
from tasks.sweeps import Tried
from tasks.training import Epoch, Follower, TrainingConfig
from tasks.training.run import Report
from tasks.verification.fidelity import Cell
from tasks.verification.matrix import Row
from tasks.verification.returning import Returned
from tasks.verification.reverifying import Proof

_PROGRESS_SECONDS = 2.0
_LOG_SECONDS, _TELL_SECONDS = 5.0, 0.5  # between two words on a transfer, to the log and to a listener
# What a desk wants to hear of at once: a flow's call returns only when Prefect has all its events.
Listener = Callable[[Epoch | VersionRef | Follower | Returned | Row | Cell | Proof | Tried | Became | Snapshot | str], None]
listener_now: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def reporting_to(listener: Listener) -> Iterator[None]:
    """Tell a callable of each epoch (in place of log and progress artifact), of what was published, returned, measured.

    Lines of text are about checkpoints.
    """
    token = listener_now.set(listener)
    try:
        yield
    finally:
        listener_now.reset(token)


def tell(news: VersionRef | Follower | Returned | Row | Cell | Proof | Tried | Became) -> None:
    """Tell whoever listens, at once."""
    listener = listener_now.get()
    if listener is not None:
        listener(news)


@contextmanager
def moving(what: str) -> Iterator[Progress]:
    """Where a long transfer is shown: to whoever asked for it, else in the run's log."""
    listener = listener_now.get()
    if listener is None:
        logger = get_run_logger()
        yield Progress(what, lambda snapshot: logger.info("%s", snapshot), _LOG_SECONDS)
    else:
        yield Progress(what, listener, _TELL_SECONDS)


@contextmanager
def progress(config: TrainingConfig, model: str) -> Iterator[Report]:
    """Where the epochs are shown: to whoever asked for them, else in the run's log and as a progress artifact."""
    asked = listener_now.get()
    if asked is not None:
        yield asked
        return
    logger = get_run_logger()
    artifact: Any = create_progress_artifact(0.0, key=artifact_key("training", model), description=f"{config.epochs} epochs")
    last = datetime.now(UTC)

    def report(epoch: Epoch) -> None:
        nonlocal last
        values = ", ".join(f"{name} {value:.4f}" for name, value in epoch.logs.items())
        logger.info("epoch %d of %d: %s (%.2f s)", epoch.number, epoch.total, values, epoch.seconds)
        now = datetime.now(UTC)
        if (now - last).total_seconds() >= _PROGRESS_SECONDS:
            update_progress_artifact(artifact, 100.0 * epoch.number / epoch.total)
            last = now

    yield report
    update_progress_artifact(artifact, 100.0)
