"""Every Prefect task, a few lines each, in the order of the journey. The only module of `tasks` that imports Prefect.

Tasks hand each other references, paths and small records, and within one flow run the live model; nothing is persisted as a
result (a 200 MB model would be pickled and kept twice). What can fail by bad luck is retried: the store's tasks, on top of
boto3's own attempts. What fails by bad input is not, for it would fail again.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.events import emit_event
from prefect.runtime import flow_run

from tasks import data, definitions, safety, serialization, storage, training, verification
from tasks.data import DataConfig, Dataset
from tasks.definitions import Definition, ModelConfig
from tasks.errors import DeniedError, InputError, RoundtripError, UnreachableError, UnsafeError
from tasks.serialization import Bundle, format_named
from tasks.settings import STORE_VARIABLE, StoreConfig
from tasks.storage import Done, Manifest, Plan, Retention, VersionRef, layout
from tasks.storage.manifest import DataRecord, TrainingRecord
from tasks.storage.store import check_store as probe_store
from tasks.storage.transfer import file_entries
from tasks.storage.versions import reference
from tasks.training import Epoch, Trained, TrainingConfig
from tasks.training.run import Report, seeded
from tasks.verification import Loader, Measurement
from tasks.verification.environment import current_environment
from tasks.verification.report import html_report, human_bytes, model_card, verdict_card
from tasks.verification.returning import Rebuild, Returned, definition_for, refusal
from tasks.verification.verdict import not_intact, unsafe

_PROGRESS_SECONDS = 2.0

# What a desk wants to hear of at once: a flow's call returns only when Prefect has all its events.
Listener = Callable[[Epoch | VersionRef | Returned], None]

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)
_spare_loader: ContextVar[Loader | None] = ContextVar("spare_loader", default=None)


@contextmanager
def reporting_to(listener: Listener) -> Iterator[None]:
    """Tell a callable of each epoch (in place of the log and the progress artifact), of what was published and returned."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def _tell(news: VersionRef | Returned) -> None:
    listener = _listener.get()
    if listener is not None:
        listener(news)


@contextmanager
def measuring_with(loader: Loader) -> Iterator[None]:
    """Let this context's `measure` use a process that is warm already."""
    token = _spare_loader.set(loader)
    try:
        yield
    finally:
        _spare_loader.reset(token)


def _is_bad_luck(task: Any, run: TaskRun, state: State[Any]) -> bool:
    """Retry what a second attempt can mend."""
    del task, run
    error = getattr(state.data, "exception", state.data)
    return isinstance(error, UnreachableError) and not isinstance(error, DeniedError)


def _open(config: StoreConfig) -> storage.Store:
    """The configured store, opened once a process: a boto3 client costs 0.2 s."""
    return _opened(config.model_copy(update={"url": config.url or os.environ.get(STORE_VARIABLE)}))


def open_early() -> None:
    """Open the environment's store ahead of the first task that needs it; who can't will fail there, with the reason."""
    with suppress(RoundtripError):
        _open(StoreConfig())


@cache
def _opened(config: StoreConfig) -> storage.Store:
    if not config.aws_credentials:
        return storage.open_store(config)
    from prefect_aws import AwsCredentials  # 2 s, and only where a block is named

    block: Any = AwsCredentials.load(config.aws_credentials)
    given = {
        "aws_access_key_id": block.aws_access_key_id,
        "aws_secret_access_key": block.aws_secret_access_key and block.aws_secret_access_key.get_secret_value(),
        "aws_session_token": block.aws_session_token,
        "profile_name": block.profile_name,
        "region_name": block.region_name,
        "endpoint_url": block.aws_client_parameters.endpoint_url,
    }
    return storage.open_store(config, {name: value for name, value in given.items() if value})


# Upstream


@task(name="check store", cache_policy=NO_CACHE)
def check_store(store: StoreConfig) -> None:
    """Find out before the training whether its result can be stored."""
    probe_store(_open(store))


@task(name="load data", cache_policy=NO_CACHE)
def load_data(config: DataConfig) -> Dataset:
    """Load, check and split the examples."""
    return data.load_dataset(config)


@task(name="define", cache_policy=NO_CACHE)
def define(config: ModelConfig, dataset: Dataset, seed: int) -> tuple[Definition, Any]:
    """Build the model, with every argument fixed, and take its fingerprint."""
    with seeded(seed):
        definition, model = definitions.define(config, dataset)
    safety.trust(definition.reference)
    return definition, model


@task(name="train with custom loop", cache_policy=NO_CACHE)
def train_with_custom_loop(model: Any, dataset: Dataset, config: TrainingConfig) -> Trained:
    """Train by our own compiled GradientTape loop."""
    with _progress(config) as report:
        return training.train_with_custom_loop(model, dataset, config, report)


@task(name="train with fit", cache_policy=NO_CACHE)
def train_with_fit(model: Any, dataset: Dataset, config: TrainingConfig) -> Trained:
    """Train by Keras' fit."""
    with _progress(config) as report:
        return training.train_with_fit(model, dataset, config, report)


@task(name="serialize", cache_policy=NO_CACHE)
def serialize(trained: Trained, definition: Definition, dataset: Dataset, format_name: str) -> Bundle:
    """Write the model and all that its format would lose into a bundle."""
    try:
        folder = Path(tempfile.mkdtemp(prefix="roundtrip-bundle-"))
        # Kept for the retries of `publish`, which removes it; else it goes with this process.
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return serialization.write_bundle(trained, definition, dataset, format_name, folder)
    except OSError as error:
        raise InputError(
            f"Can't write the bundle to {tempfile.gettempdir()}: {error.strerror or error}. Set TMPDIR."
        ) from error


@task(name="publish", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=[2, 10], retry_jitter_factor=0.5,
      retry_condition_fn=_is_bad_luck)  # fmt: skip
def publish(bundle: Bundle, name: str, training: TrainingConfig, store: StoreConfig) -> VersionRef:
    """Upload the bundle, commit it with its manifest, and tell the world."""
    place = _open(store)
    version = layout.new_version()
    manifest = _manifest(bundle, layout.model_name(name), version, training)
    (bundle.folder / "report.html").write_text(html_report(manifest))
    manifest = manifest.model_copy(update={"files": file_entries(bundle.folder)})
    manifest = safety.sign_bundle(bundle.folder, manifest, _secret)
    ref = storage.publish(place, bundle.folder, manifest)
    shutil.rmtree(bundle.folder, ignore_errors=True)
    create_markdown_artifact(model_card(manifest, ref.uri), key="model-card", description=str(ref))
    emit_event(
        event="roundtrip.version.published",
        resource={"prefect.resource.id": f"roundtrip.version.{ref.version}", "prefect.resource.name": str(ref)},
        # `store` as it was configured here, so that whoever reacts looks where this was published.
        payload={"model": ref.model, "version": ref.version, "uri": ref.uri, "format": ref.format}
        | {"store": store.model_dump()},
    )
    _tell(ref)
    return ref


# Downstream


@task(name="find version", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=[1, 5], retry_jitter_factor=0.5,
      retry_condition_fn=_is_bad_luck)  # fmt: skip
def find_version(reference_text: str, store: StoreConfig) -> Manifest:
    """Resolve `model@alias` and read the manifest."""
    place = _open(store)
    return storage.read_manifest(place, *storage.resolve(place, reference_text))


@task(name="rebuild from", cache_policy=NO_CACHE)
def rebuild_from(manifest: Manifest, model: Rebuild | None) -> Definition:
    """Decide which definition the architecture is rebuilt from, and whether its code may run here."""
    return definition_for(manifest, model.builder if model else None, model.arguments if model else None)


@task(name="fetch", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=[2, 10], retry_jitter_factor=0.5,
      retry_condition_fn=_is_bad_luck)  # fmt: skip
def fetch(manifest: Manifest, to: str | None, store: StoreConfig) -> Path:
    """Bring the files here, each held against the manifest; a version that was tampered with gets its verdict now."""
    place = _open(store)
    try:
        return storage.fetch(place, manifest, Path(to) if to else None)
    except UnsafeError as error:
        storage.read_manifest(place, manifest.model, manifest.version)  # removed meanwhile: gone, not tampered with
        _refuse(place, manifest, not_intact(manifest, str(error)), error)
        raise


@task(name="inspect", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=[1, 5], retry_jitter_factor=0.5,
      retry_condition_fn=_is_bad_luck)  # fmt: skip
def inspect(folder: Path, manifest: Manifest, allow: Sequence[str], store: StoreConfig) -> safety.Inspection:
    """Check the signature and look into every file; what is refused gets its verdict now, before anything is loaded."""
    try:
        signature = safety.check_signature(folder, manifest, _secret)
    except UnsafeError as error:
        _refuse(_open(store), manifest, not_intact(manifest, str(error)), error, folder)
        raise
    inspection = safety.inspect_bundle(folder, manifest).allowing(allow).model_copy(update={"signature": signature})
    subject = f"{manifest.model}@{manifest.version}"
    if inspection.findings:
        rows = [f.model_dump() | {"allowed": f"{f.kind}:{f.where}" in inspection.allowed} for f in inspection.findings]
        create_table_artifact(rows, key="findings", description=f"What inspection found in {subject}")
    try:
        safety.refuse_dangerous(inspection, subject)
    except UnsafeError as error:
        _refuse(_open(store), manifest, unsafe(manifest, inspection), error, folder)
        raise
    return inspection


def _refuse(
    place: storage.Store, manifest: Manifest, verdict: verification.Verdict, error: UnsafeError, folder: Path | None = None
) -> None:
    """Keep the verdict on a version that is not loaded, show it, and let the error carry it."""
    verification.record(place, verdict)
    create_markdown_artifact(verdict_card(verdict), key="verdict", description=f"{manifest.model}@{manifest.version}")
    path = str(folder) if folder else ""
    error.outcome = Returned(version=reference(place, manifest), path=path, verdict=verdict, latest=False)
    _tell(error.outcome)


def _secret(name: str) -> str:
    """The text of a Prefect Secret block."""
    from prefect.blocks.system import Secret

    try:
        block: Any = Secret.load(name)
    except ValueError as error:
        raise InputError(f"There is no Prefect Secret block {name!r}.") from error
    return str(block.get())


@task(name="measure", cache_policy=NO_CACHE)
def measure(folder: Path, manifest: Manifest, definition: Definition) -> Measurement:
    """Load and compare, in a fresh process that trained nothing."""
    with _spare_loader.get() or Loader() as loader:
        return loader.measure(folder, manifest, definition)


@task(name="conclude", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=[1, 5], retry_jitter_factor=0.5,
      retry_condition_fn=_is_bad_luck)  # fmt: skip
def conclude(
    manifest: Manifest, inspection: safety.Inspection, measured: Measurement, folder: Path, store: StoreConfig
) -> Returned:
    """Make the verdict, keep it in the store, and move `latest` where it passed without an exception that somebody made."""
    place = _open(store)
    verdict = verification.judge(manifest, measured, inspection)
    verification.record(place, verdict)
    clean = verdict.passed and not verdict.allowed
    latest = clean and storage.advance_latest(place, manifest.model, manifest.version, verdict.id)
    create_markdown_artifact(verdict_card(verdict), key="verdict", description=f"{manifest.model}@{manifest.version}")
    rows = [{"promise": p, "survived": verdict.survived.get(p)} for p in serialization.PROMISES]
    create_table_artifact(rows, key="fidelity", description=f"What survived of {manifest.model}@{manifest.version}")
    returned = Returned(version=reference(place, manifest), path=str(folder), verdict=verdict, latest=latest)
    _tell(returned)
    return returned


def accept(returned: Returned) -> Returned:
    """Let a version that passed through; raise for any other, so that the flow run fails with the reasons.

    Raises:
        UnsafeError: Inspection found something dangerous.
        VerificationFailed: It is not the model that was trained.
    """
    error = refusal(returned)
    if error:
        raise error
    return returned


# Housekeeping


@task(name="find garbage", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=[2, 10], retry_jitter_factor=0.5,
      retry_condition_fn=_is_bad_luck)  # fmt: skip
def find_garbage(retention: Retention, models: list[str], store: StoreConfig) -> Plan:
    """Plan what may go, and show the plan; nothing is changed."""
    planned = storage.plan(_open(store), retention, models)
    rows = [removal.model_dump(exclude={"upload"}) for removal in planned.removals]
    create_table_artifact(rows, key="gc", description=f"To remove from {planned.store}: {human_bytes(planned.bytes)}")
    return planned


@task(name="remove garbage", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=[2, 10], retry_jitter_factor=0.5,
      retry_condition_fn=_is_bad_luck)  # fmt: skip
def remove_garbage(planned: Plan, store: StoreConfig) -> list[Done]:
    """Remove what was planned, each looked at again just before; show what went and what had to stay."""
    results = storage.carry_out(_open(store), planned)
    rows = [
        {"what": d.removal.what, "subject": d.removal.subject, "why": d.skipped or d.removal.why, "removed": not d.skipped}
        | {"objects": d.objects, "bytes": d.bytes}
        for d in results
    ]
    freed = human_bytes(sum(d.bytes for d in results))
    create_table_artifact(rows, key="gc-removed", description=f"Removed from {planned.store}: {freed}")
    return results


def _manifest(bundle: Bundle, name: str, version: str, config: TrainingConfig) -> Manifest:
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
        flow_run=str(flow_run.id) if flow_run.id else None,
    )


@contextmanager
def _progress(config: TrainingConfig) -> Iterator[Report]:
    """Where the epochs are shown: to whoever asked for them, else in the run's log and as a progress artifact."""
    asked = _listener.get()
    if asked is not None:
        yield asked
        return
    logger = get_run_logger()
    artifact: Any = create_progress_artifact(0.0, key="training", description=f"{config.epochs} epochs")
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


__all__ = ["accept", "check_store", "conclude", "define", "fetch", "find_garbage", "find_version", "inspect", "load_data",
           "measure", "measuring_with", "open_early", "publish", "rebuild_from", "remove_garbage", "reporting_to",
           "serialize", "train_with_custom_loop", "train_with_fit"]  # fmt: skip
