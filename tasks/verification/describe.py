"""The manifest of a bundle: what it is, how it was trained, and where."""

from __future__ import annotations

from datetime import UTC, datetime

from tasks.serialization import Bundle, format_named
from tasks.storage import Manifest
from tasks.storage.manifest import DataRecord, TrainingRecord
from tasks.training import TrainingConfig
from tasks.verification.environment import current_environment


def describe(
    bundle: Bundle,
    name: str,
    version: str,
    config: TrainingConfig,
    flow_run: str | None = None,
    flow_run_url: str | None = None,
) -> Manifest:
    """The manifest of a bundle that this process wrote; its files are listed later, when the last one is there."""
    format_ = format_named(bundle.format)
    return Manifest(
        model=name,
        version=version,
        created=datetime.now(UTC),
        format=format_.name,
        format_version=format_.version,
        definition=bundle.definition,
        data=DataRecord(source=bundle.data_source, sha256=bundle.data_digest),
        training=TrainingRecord(
            scenario=format_.name,
            loop=bundle.loop,
            config=config.model_dump(),
            metrics=bundle.metrics,
            notes=bundle.notes,
        ),
        carried=bundle.carried,
        files=(),
        environment=current_environment(),
        flow_run=flow_run,
        flow_run_url=flow_run_url,
    )
