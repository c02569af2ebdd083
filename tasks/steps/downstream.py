"""From a reference to a verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import TypeVar, cast

from prefect import get_run_logger, task
from prefect.artifacts import (
    create_table_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run
from prefect.utilities.annotations import opaque

from tasks import events, safety, serialization, storage, verification
from tasks.definitions import Definition
from tasks.errors import ForbiddenError, InputError, UnsafeError
from tasks.observing import about
from tasks.references import absolute
from tasks.settings import StoreConfig
from tasks.steps.listening import moving, tell
from tasks.steps.showing import artifact_key, emit, show_verdict, tag, this_run
from tasks.steps.stores import is_bad_luck, opened, secret
from tasks.storage import Manifest, VersionRef, layout
from tasks.storage.aliases import current
from tasks.storage.versions import reference
from tasks.verification import Loader, Measurement, Verdict
from tasks.verification.elsewhere import EnvironmentConfig, Interpreter
from tasks.verification.matrix import Matrix, Row, matrix_of, row_of, row_without
from tasks.verification.returning import Rebuild, Returned, definition_for, refusal
from tasks.verification.verdict import not_intact, not_signed, unsafe

Record = TypeVar("Record")
_spare_loader: ContextVar[Loader | None] = ContextVar("spare_loader", default=None)


@contextmanager
def measuring_with(loader: Loader) -> Iterator[None]:
    """Let this context's `measure` use a process that is warm already."""
    token = _spare_loader.set(loader)
    try:
        yield
    finally:
        _spare_loader.reset(token)


def whole(record: Record) -> Record:
    """A record as tasks are given it, in one piece.

    Prefect looks for another task's result in each part of what a task is given, twice. In the manifest of a model with 700
    weights that takes a sixth of a second for every task.
    """
    return cast("Record", opaque(record))


@task(name="find version", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=[1, 5], retry_jitter_factor=0.5,
      retry_condition_fn=is_bad_luck)  # fmt: skip
def find_version(reference_text: str, store: StoreConfig) -> Manifest:
    """Resolve `model@alias` and read the manifest."""
    place = opened(store)
    manifest = storage.read_manifest(place, *storage.resolve(place, reference_text))
    about(flow_run=flow_run.id, model=manifest.model, version=manifest.version)
    tag(manifest.model, manifest.version)
    return manifest


@task(name="rebuild from", cache_policy=NO_CACHE)
def rebuild_from(manifest: Manifest, model: Rebuild | None) -> Definition:
    """Decide which definition the architecture is rebuilt from, and whether its code may run here."""
    return definition_for(manifest, model.builder if model else None, model.arguments if model else None)


@task(name="fetch", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=[2, 10], retry_jitter_factor=0.5,
      retry_condition_fn=is_bad_luck)  # fmt: skip
def fetch(manifest: Manifest, to: str | None, store: StoreConfig) -> Path:
    """Bring the files here, each held against the manifest; a version that was tampered with gets its verdict now."""
    place = opened(store)
    try:
        with moving("fetching") as progress:
            return storage.fetch(place, manifest, Path(to) if to else None, progress.moved, progress.expect)
    except UnsafeError as error:
        storage.read_manifest(place, manifest.model, manifest.version)  # removed meanwhile: gone, not tampered with
        _refuse(store, manifest, not_intact(manifest, str(error)), error)
        raise


@task(name="inspect", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=[1, 5], retry_jitter_factor=0.5,
      retry_condition_fn=is_bad_luck)  # fmt: skip
def inspect(
    folder: Path, manifest: Manifest, model: Rebuild | None, allow: Sequence[str], store: StoreConfig
) -> safety.Inspection:
    """Check the signature and look into every file; what is refused gets its verdict now, before anything is loaded."""
    try:
        signature = safety.check_signature(folder, manifest, secret)
    except UnsafeError as error:
        _refuse(store, manifest, not_signed(manifest, str(error)), error, folder)
        raise
    named = model.builder if model else None
    inspection = safety.inspect_bundle(folder, manifest, named and absolute(named)).allowing(allow)
    inspection = inspection.model_copy(update={"signature": signature})
    subject = f"{manifest.model}@{manifest.version}"
    if inspection.findings:
        rows = [f.model_dump() | {"allowed": f"{f.kind}:{f.where}" in inspection.allowed} for f in inspection.findings]
        found = f"What inspection found in {subject}"
        create_table_artifact(rows, key=artifact_key("findings", manifest.model), description=found)
    try:
        safety.refuse_dangerous(inspection, subject)
    except UnsafeError as error:
        if not inspection.says_nothing_of_the_version:
            _refuse(store, manifest, unsafe(manifest, inspection), error, folder)
        raise
    return inspection


def _refuse(
    store: StoreConfig, manifest: Manifest, verdict: Verdict, error: UnsafeError, folder: Path | None = None
) -> None:
    """Keep the verdict on a version that is not loaded, show it, and let the error carry it."""
    error.outcome = _recorded(store, manifest, verdict, path=str(folder) if folder else "")
    show_verdict(store, manifest, verdict)
    tell(error.outcome)


@task(name="build environment", cache_policy=NO_CACHE)
def build_environment(environment: EnvironmentConfig | None, manifest: Manifest) -> Interpreter | None:
    """Build the environment that the version is to be returned in; None is this one."""
    return verification.build_environment(environment, manifest) if environment else None


@task(name="measure", cache_policy=NO_CACHE)
def measure(folder: Path, manifest: Manifest, definition: Definition, elsewhere: Interpreter | None = None) -> Measurement:
    """Inspect, load and compare, in a fresh process that trained nothing."""
    with Loader(elsewhere) if elsewhere else _spare_loader.get() or Loader() as loader:
        return loader.measure(folder, manifest, definition)


@task(name="conclude", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=[1, 5], retry_jitter_factor=0.5,
      retry_condition_fn=is_bad_luck)  # fmt: skip
def conclude(
    manifest: Manifest, inspection: safety.Inspection, measured: Measurement, folder: Path, store: StoreConfig
) -> Returned:
    """Make the verdict, keep it in the store, and move `latest` where it passed without an exception that somebody made."""
    about(flow_run=flow_run.id, model=manifest.model, version=manifest.version)
    verdict = verification.judge(manifest, measured, inspection)
    returned = _recorded(store, manifest, verdict, path=str(folder))
    if returned.unwritten:
        get_run_logger().warning("%s", returned.unwritten)
    show_verdict(store, manifest, verdict)
    rows = [{"promise": p, "survived": verdict.survived.get(p)} for p in serialization.PROMISES]
    subject = f"{manifest.model}@{manifest.version}"
    create_table_artifact(rows, key=artifact_key("fidelity", manifest.model), description=f"What survived of {subject}")
    tell(returned)
    return returned


def _recorded(store: StoreConfig, manifest: Manifest, verdict: Verdict, *, path: str) -> Returned:
    """Keep a verdict and move `latest` where it passed here, without exceptions; who may only read has the proof too."""
    place = opened(store)
    ref = reference(place, manifest)
    latest, unwritten, lacking = False, None, f"The verdict is not in the store and `{layout.LATEST}` did not move"
    kept = False
    try:
        verification.record(place, verdict)
        kept, lacking = True, f"`{layout.LATEST}` did not move"
        latest = verdict.proves and storage.advance_latest(place, manifest.model, manifest.version, verdict.id)
    except ForbiddenError as error:
        unwritten = f"{lacking}: {error}"
    if kept and not verdict.elsewhere:
        _emit_verdict(place, ref, manifest, verdict, store)
    return Returned(version=ref, path=path, verdict=verdict, latest=latest, unwritten=unwritten)


def _emit_verdict(place: storage.Store, ref: VersionRef, manifest: Manifest, verdict: Verdict, store: StoreConfig) -> None:
    """Tell of a verdict that is in the store, and of `latest` where it was this verdict that moved it."""
    pointer = current(place, ref.model, layout.LATEST)
    points = pointer is not None and pointer.version == ref.version
    emit(events.judged(ref, verdict, manifest, store, this_run(), layout.LATEST if points else None))
    if pointer is not None and points and pointer.verdict == verdict.id:
        emit(events.promoted(ref, pointer, manifest, store, this_run()))


def accept(returned: Returned) -> Returned:
    """Let a version that passed through; raise for any other, so that the flow run fails with the reasons.

    Raises:
        UnsafeError: Inspection found something dangerous.
        VerificationFailed: It is not the model that was trained.
    """
    error = refusal(returned)
    if error:
        error.outcome = returned
        raise error
    return returned


@task(name="return elsewhere", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=[1, 5], retry_jitter_factor=0.5,
      retry_condition_fn=is_bad_luck)  # fmt: skip
def return_elsewhere(
    folder: Path,
    manifest: Manifest,
    inspection: safety.Inspection,
    definition: Definition,
    environment: EnvironmentConfig,
    store: StoreConfig,
) -> Row:
    """Bring a fetched version back in another environment, and keep the verdict; what can't be built is a row too."""
    try:
        interpreter = verification.build_environment(environment, manifest)
    except InputError as error:
        row = row_without(environment, error)
    else:
        with Loader(interpreter) as loader:
            verdict = verification.judge(manifest, loader.measure(folder, manifest, definition), inspection)
        with suppress(ForbiddenError):  # who may only read has the table too
            verification.record(opened(store), verdict)
        row = row_of(verdict)
    tell(row)
    return row


@task(name="tabulate", cache_policy=NO_CACHE)
def tabulate(manifest: Manifest, rows: list[Row]) -> Matrix:
    """Show the rows as a table."""
    trained = manifest.environment
    under = f"Python {trained.python}, TensorFlow {trained.tensorflow}, Keras {trained.keras}"
    create_table_artifact(
        [row.model_dump(exclude={"verdict"}) for row in rows],
        key="matrix",
        description=f"{manifest.model}@{manifest.version}, trained under {under}, returned under",
    )
    return matrix_of(manifest, rows)
