"""Every Prefect task, a few lines each, in the order of the journey. The only module of `tasks` that imports Prefect.

Tasks hand each other references, paths and small records, and within one flow run the live model; nothing is persisted as a
result (a 200 MB model would be pickled and kept twice). What can fail by bad luck is retried: the store's tasks, on top of
boto3's own attempts. What fails by bad input is not, for it would fail again.
"""

from __future__ import annotations

import atexit
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect import get_run_logger, task
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import SyncClientContext
from prefect.events import Event as Message
from prefect.futures import PrefectFuture
from prefect.runtime import deployment, flow_run
from prefect.utilities.urls import url_for

from tasks import data, definitions, events, safety, serialization, storage, training, verification
from tasks.data import DataConfig, Dataset
from tasks.definitions import Definition, ModelConfig
from tasks.errors import DeniedError, ForbiddenError, InputError, RoundtripError, UnreachableError, UnsafeError
from tasks.observing import about, name_subjects
from tasks.serialization import Bundle
from tasks.settings import StoreConfig
from tasks.storage import Done, Manifest, Plan, Retention, VersionRef, layout
from tasks.storage.aliases import current
from tasks.storage.guarantees.conformance import check_store as probe_store
from tasks.storage.transfer import Progress, Snapshot
from tasks.storage.versions import reference
from tasks.training import Checkpointing, Epoch, Trained, TrainingConfig
from tasks.training.run import Report, seeded
from tasks.verification import Loader, Measurement, Verdict
from tasks.verification.cards import model_card, verdict_card
from tasks.verification.describe import describe
from tasks.verification.elsewhere import EnvironmentConfig, Interpreter
from tasks.verification.environment import current_environment
from tasks.verification.fidelity import Bench, Cell, Limits, Subject, Table
from tasks.verification.fidelity.cells import failed
from tasks.verification.fidelity.document import table_html, table_markdown
from tasks.verification.matrix import Matrix, Row, matrix_of, row_of, row_without
from tasks.verification.report import html_report, human_bytes
from tasks.verification.returning import Rebuild, Returned, definition_for, refusal
from tasks.verification.reverifying import Proof, shortfall, to_prove
from tasks.verification.verdict import not_intact, not_signed, unsafe

name_subjects()  # in every log line of a run, from its beginning

_PROGRESS_SECONDS = 2.0
_NOT_IN_KEYS = re.compile(r"[^a-z0-9-]+")
_LOG_SECONDS, _TELL_SECONDS = 5.0, 0.5  # between two words on a transfer, to the log and to a listener

# What a desk wants to hear of at once: a flow's call returns only when Prefect has all its events.
Listener = Callable[[Epoch | VersionRef | Returned | Row | Cell | Proof | Snapshot | str], None]
_drafts: dict[Path, Manifest] = {}  # by bundle: another attempt at publishing goes on with the same version

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)
_spare_loader: ContextVar[Loader | None] = ContextVar("spare_loader", default=None)

# At most one fresh process, warm for the next rehearsal; a run that failed before leaves it to the next one.
_rehearsers: list[Loader] = []


@contextmanager
def reporting_to(listener: Listener) -> Iterator[None]:
    """Tell a callable of each epoch (in place of log and progress artifact), of what was published, returned, measured.

    Lines of text are about checkpoints.
    """
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def _tell(news: VersionRef | Returned | Row | Cell | Proof) -> None:
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
    return _opened(config.completed())


def open_early() -> None:
    """Open the environment's store ahead of the first task that needs it; who can't will fail there, with the reason."""
    with suppress(RoundtripError):
        _open(StoreConfig())


@cache
def _opened(config: StoreConfig) -> storage.Store:
    if not (config.aws_credentials or config.s3_bucket):
        return storage.open_store(config)
    from prefect_aws import AwsCredentials, S3Bucket  # 2 s, and only where a block is named

    if not config.s3_bucket:
        return storage.open_store(config, _access_of(AwsCredentials.load(config.aws_credentials)))
    if config.url or config.aws_credentials:
        raise InputError(
            f"The store is named twice: by the S3Bucket block {config.s3_bucket!r} and beside it. Name it once."
        )
    bucket: Any = S3Bucket.load(config.s3_bucket)
    url = f"s3://{bucket.bucket_name}/{bucket.bucket_folder.strip('/')}"
    return storage.open_store(config.model_copy(update={"url": url, "s3_bucket": None}), _access_of(bucket.credentials))


def _access_of(block: Any) -> storage.Access:
    """What an AwsCredentials or a MinIOCredentials block gives; it takes on the role that the block names."""
    return storage.Access(block.get_boto3_session(), block.aws_client_parameters.get_params_override())


# Upstream


@task(name="check store", cache_policy=NO_CACHE)
def check_store(store: StoreConfig, format_name: str, rehearsal: bool) -> None:
    """Find out before the training whether its result can be stored, and signed where it is to be."""
    about(flow_run=flow_run.id, model=flow_run.parameters.get("name"))
    serialization.usable_format(format_name)
    safety.check_signer(_secret)
    probe_store(_open(store))
    if rehearsal and not _rehearsers:
        # Its imports and its start go by while this process trains.
        _rehearsers.append(Loader())


@task(name="load data", cache_policy=NO_CACHE)
def load_data(config: DataConfig) -> Dataset:
    """Load, check and split the examples."""
    return data.load_dataset(config)


@task(name="define", cache_policy=NO_CACHE)
def define(config: ModelConfig, dataset: Dataset, seed: int, format_name: str) -> tuple[Definition, Any]:
    """Build the model, with every argument fixed, take its fingerprint, and refuse what the format can't hold."""
    with seeded(seed):
        definition, model = definitions.define(config, dataset)
    serialization.format_named(format_name).check(model)
    safety.trust(definition.reference)
    return definition, model


@task(name="train with custom loop", cache_policy=NO_CACHE)
def train_with_custom_loop(
    definition: Definition, model: Any, dataset: Dataset, config: TrainingConfig, name: str, store: StoreConfig
) -> Trained:
    """Train by our own compiled GradientTape loop, with checkpoints in the store; a killed run goes on from its last."""
    with _progress(config, name) as report:
        about(flow_run=flow_run.id, model=name)
        keeping = _checkpointing(definition, name, store)
        return training.train_with_custom_loop(model, dataset, config, report, checkpointing=keeping)


@task(name="train with fit", cache_policy=NO_CACHE)
def train_with_fit(
    definition: Definition, model: Any, dataset: Dataset, config: TrainingConfig, name: str, store: StoreConfig
) -> Trained:
    """Train by Keras' fit, with checkpoints in the store; a killed run goes on from its last."""
    with _progress(config, name) as report:
        about(flow_run=flow_run.id, model=name)
        keeping = _checkpointing(definition, name, store)
        return training.train_with_fit(model, dataset, config, report, checkpointing=keeping)


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
def publish(bundle: Bundle, name: str, training: TrainingConfig, store: StoreConfig, rehearsal: bool = True) -> VersionRef:
    """Upload the bundle, bring it back meanwhile, commit it with its manifest where it came back, and tell the world."""
    place = _open(store)
    draft = _drafts.get(bundle.folder)
    if draft is None:
        run = _this_run()
        page = url_for("flow-run", obj_id=run) if run else None
        draft = describe(bundle, layout.model_name(name), layout.new_version(), training, run, page)
        (bundle.folder / "report.html").write_text(html_report(draft))
        draft = safety.sign_bundle(bundle.folder, draft, _secret)
        _drafts[bundle.folder] = draft
    about(flow_run=flow_run.id, model=draft.model, version=draft.version)
    with _rehearsing(bundle.folder, draft, rehearsal) as passed, _moving("publishing") as progress:
        manifest = storage.upload_files(place, bundle.folder, draft, progress.moved, progress.expect)
        passed()
    ref = storage.commit(place, manifest)
    del _drafts[bundle.folder]
    shutil.rmtree(bundle.folder, ignore_errors=True)
    if bundle.run:
        # Who may not delete here leaves them to `gc`: the version is published all the same.
        with suppress(RoundtripError):
            storage.StoredCheckpoints(place, ref.model).forget(bundle.run)
    _show_card(store, manifest)
    _tag(ref.model, ref.version)
    _emit(events.published(ref, store, _this_run()))
    _tell(ref)
    return ref


# Downstream


@task(name="find version", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=[1, 5], retry_jitter_factor=0.5,
      retry_condition_fn=_is_bad_luck)  # fmt: skip
def find_version(reference_text: str, store: StoreConfig) -> Manifest:
    """Resolve `model@alias` and read the manifest."""
    place = _open(store)
    manifest = storage.read_manifest(place, *storage.resolve(place, reference_text))
    about(flow_run=flow_run.id, model=manifest.model, version=manifest.version)
    _tag(manifest.model, manifest.version)
    return manifest


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
        with _moving("fetching") as progress:
            return storage.fetch(place, manifest, Path(to) if to else None, progress.moved, progress.expect)
    except UnsafeError as error:
        storage.read_manifest(place, manifest.model, manifest.version)  # removed meanwhile: gone, not tampered with
        _refuse(store, manifest, not_intact(manifest, str(error)), error)
        raise


@task(name="inspect", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=[1, 5], retry_jitter_factor=0.5,
      retry_condition_fn=_is_bad_luck)  # fmt: skip
def inspect(folder: Path, manifest: Manifest, allow: Sequence[str], store: StoreConfig) -> safety.Inspection:
    """Check the signature and look into every file; what is refused gets its verdict now, before anything is loaded."""
    try:
        signature = safety.check_signature(folder, manifest, _secret)
    except UnsafeError as error:
        _refuse(store, manifest, not_signed(manifest, str(error)), error, folder)
        raise
    inspection = safety.inspect_bundle(folder, manifest).allowing(allow).model_copy(update={"signature": signature})
    subject = f"{manifest.model}@{manifest.version}"
    if inspection.findings:
        rows = [f.model_dump() | {"allowed": f"{f.kind}:{f.where}" in inspection.allowed} for f in inspection.findings]
        create_table_artifact(rows, key=_key("findings", manifest.model), description=f"What inspection found in {subject}")
    try:
        safety.refuse_dangerous(inspection, subject)
    except UnsafeError as error:
        _refuse(store, manifest, unsafe(manifest, inspection), error, folder)
        raise
    return inspection


def _refuse(
    store: StoreConfig, manifest: Manifest, verdict: Verdict, error: UnsafeError, folder: Path | None = None
) -> None:
    """Keep the verdict on a version that is not loaded, show it, and let the error carry it."""
    error.outcome = _recorded(store, manifest, verdict, path=str(folder) if folder else "")
    _show_verdict(store, manifest, verdict)
    _tell(error.outcome)


def _show_verdict(store: StoreConfig, manifest: Manifest, verdict: Verdict) -> None:
    """Show what was found in this run, and on the model card of the run that published the version."""
    subject = f"{manifest.model}@{manifest.version}"
    create_markdown_artifact(verdict_card(verdict), key=_key("verdict", manifest.model), description=subject)
    _show_card(store, manifest, verdict)


def _show_card(store: StoreConfig, manifest: Manifest, verdict: Verdict | None = None) -> None:
    """Show the model card; once there is a verdict, also in place of the one that its publisher showed without."""
    place, run = _open(store), str(flow_run.id)
    key, subject = _key("model-card", manifest.model), f"{manifest.model}@{manifest.version}"
    card = model_card(
        manifest,
        place.uri(layout.bundle(manifest.model, manifest.version)).rstrip("/"),
        store=place.url if store.url or store.s3_bucket else None,  # else the reader's own environment names it
        # The address in a manifest is anybody's; the run's id leads to a page of this UI alone.
        trained_in=_page(manifest.flow_run),
        verdict=verdict,
        proved_in=_page(run) if verdict else None,
    )
    create_markdown_artifact(card, key=key, description=subject)
    if verdict is None or verdict.elsewhere or manifest.flow_run is None or not _page(manifest.flow_run):
        return
    of_publisher = ArtifactFilterFlowRunId(any_=[UUID(manifest.flow_run)])
    with get_client(sync_client=True) as client:
        for found in client.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id=of_publisher)):
            # A manifest may name any run: only the card of this very version is replaced.
            if (found.key, found.description) == (key, subject):
                client.update_artifact(found.id, ArtifactUpdate(data=card))


def _key(what: str, model: str) -> str:
    """An artifact's key: Prefect's UI shows all artifacts of one key as one history, so each model has its own."""
    return f"{what}-{_NOT_IN_KEYS.sub('-', model.lower())}"


def _page(run: str | None) -> str | None:
    """The page of a flow run as seen from an artifact's, in either of Prefect's UIs; None for what is no run's id."""
    try:
        return f"../../runs/flow-run/{UUID(run)}" if run else None
    except ValueError:
        return None


def _tag(model: str, version: str) -> None:
    """Let the run be found by its model and version."""
    tags = {*flow_run.tags, f"model:{model}", f"version:{version}"}
    with get_client(sync_client=True) as client:
        client.update_flow_run(UUID(str(flow_run.id)), tags=sorted(tags)).raise_for_status()


def _secret(name: str) -> str:
    """The text of a Prefect Secret block."""
    from prefect.blocks.system import Secret

    try:
        block: Any = Secret.load(name)
    except ValueError as error:
        raise InputError(f"There is no Prefect Secret block {name!r}.") from error
    return str(block.get())


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
      retry_condition_fn=_is_bad_luck)  # fmt: skip
def conclude(
    manifest: Manifest, inspection: safety.Inspection, measured: Measurement, folder: Path, store: StoreConfig
) -> Returned:
    """Make the verdict, keep it in the store, and move `latest` where it passed without an exception that somebody made."""
    about(flow_run=flow_run.id, model=manifest.model, version=manifest.version)
    verdict = verification.judge(manifest, measured, inspection)
    returned = _recorded(store, manifest, verdict, path=str(folder))
    if returned.unwritten:
        get_run_logger().warning("%s", returned.unwritten)
    _show_verdict(store, manifest, verdict)
    rows = [{"promise": p, "survived": verdict.survived.get(p)} for p in serialization.PROMISES]
    subject = f"{manifest.model}@{manifest.version}"
    create_table_artifact(rows, key=_key("fidelity", manifest.model), description=f"What survived of {subject}")
    _tell(returned)
    return returned


def _recorded(store: StoreConfig, manifest: Manifest, verdict: Verdict, *, path: str) -> Returned:
    """Keep a verdict and move `latest` where it passed here, without exceptions; who may only read has the proof too."""
    place = _open(store)
    ref = reference(place, manifest)
    latest, unwritten, lacking = False, None, f"The verdict is not in the store and `{layout.LATEST}` did not move"
    kept = False
    try:
        verification.record(place, verdict)
        kept, lacking = True, f"`{layout.LATEST}` did not move"
        here = verdict.passed and not verdict.allowed and not verdict.elsewhere
        latest = here and storage.advance_latest(place, manifest.model, manifest.version, verdict.id)
    except ForbiddenError as error:
        unwritten = f"{lacking}: {error}"
    if kept and not verdict.elsewhere:
        _emit_verdict(place, ref, manifest, verdict, store)
    return Returned(version=ref, path=path, verdict=verdict, latest=latest, unwritten=unwritten)


def _emit_verdict(place: storage.Store, ref: VersionRef, manifest: Manifest, verdict: Verdict, store: StoreConfig) -> None:
    """Tell of a verdict that is in the store, and of `latest` where it was this verdict that moved it."""
    pointer = current(place, ref.model, layout.LATEST)
    points = pointer is not None and pointer.version == ref.version
    _emit(events.judged(ref, verdict, manifest, store, _this_run(), layout.LATEST if points else None))
    if pointer is not None and points and pointer.verdict == verdict.id:
        _emit(events.promoted(ref, pointer, manifest, store, _this_run()))


def _emit(event: events.Event) -> None:
    """Send an event, with the run, its deployment and its tags beside it, and wait until the server has it.

    Not by Prefect's `emit_event`, which hands it to a socket in the background: when a server on SQLite stalled for a
    minute, what that held was lost without a word, and who waited for it waited in vain.
    """
    related = [*event.related]
    if flow_run.id:
        related.append(_resource("flow-run", flow_run.id) | {"prefect.resource.name": flow_run.name or ""})
        related += [_resource("tag", tag) for tag in sorted(set(flow_run.tags))]
    if deployment.id:
        related.append(_resource("deployment", deployment.id))
    message = Message(event=event.name, resource=event.resource, related=related, payload=event.payload)
    try:
        with SyncClientContext.get_or_create() as context:
            context.client.request("POST", "/events", json=[message.model_dump(mode="json")])
    except httpx.HTTPError as error:
        # What it tells of is done, and not undone for this.
        get_run_logger().warning("Prefect was not told of %s: %s", event.name, error)


def _resource(kind: str, name: object) -> dict[str, str]:
    return {"prefect.resource.id": f"prefect.{kind}.{name}", "prefect.resource.role": kind}


def _this_run() -> str | None:
    return str(flow_run.id) if flow_run.id else None


@task(name="return elsewhere", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=[1, 5], retry_jitter_factor=0.5,
      retry_condition_fn=_is_bad_luck)  # fmt: skip
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
            verification.record(_open(store), verdict)
        row = row_of(verdict)
    _tell(row)
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


# What survives


@task(name="measure row", task_run_name="{subject.name}", cache_policy=NO_CACHE)
def measure_row(subject: Subject, formats: list[str], limits: Limits) -> list[Cell]:
    """Train one definition, save it in every format, and measure what comes back of each."""
    # A runner of threads keeps the context, and with it whoever listens.
    return Bench.of_this_process().row(subject, formats, limits, _tell)


def rows_of(subjects: list[Subject], formats: list[str], futures: Sequence[PrefectFuture[list[Cell]]]) -> list[Cell]:
    """The cells of all rows in their order; where a whole worker died, its rows are cells that say so."""
    cells: list[Cell] = []
    try:
        for subject, future in zip(subjects, futures, strict=True):
            row = future.result(raise_on_failure=False)
            broken = row if isinstance(row, BaseException) else None
            row = [failed(subject, f, "crashed", f"the worker: {broken}") for f in formats] if broken else row
            for cell in row:  # other processes than this one could not tell
                _tell(cell)
            cells += row
    except BaseException:  # Ctrl-C: a runner of threads waits for its threads, and they for their processes
        Bench.of_this_process().stop()
        raise
    return cells


@task(name="keep table", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=[1, 5], retry_jitter_factor=0.5,
      retry_condition_fn=_is_bad_luck)  # fmt: skip
def keep_table(table_id: str, cells: list[Cell], workers: int, store: StoreConfig) -> Table:
    """Put the table into the store, as JSON, HTML and Markdown, and into Prefect as artifacts."""
    place = _open(store)
    took = (datetime.now(UTC) - layout.made_at(table_id)).total_seconds()
    table = Table(id=table_id, at=datetime.now(UTC), environment=current_environment(), cells=cells, seconds=took,
                  workers=workers)  # fmt: skip
    texts = {
        "table.json": table.model_dump_json(indent=1),
        "table.html": table_html(table),
        "table.md": table_markdown(table),
    }
    for name, text in texts.items():
        place.put_if_absent(layout.fidelity(table_id) + name, text.encode())
    create_markdown_artifact(
        texts["table.md"], key="fidelity-table", description=f"{table.kept} of {len(cells)} cells keep all"
    )
    rows = [{"definition": c.definition, "format": c.format, "kept": c.kept, "why": c.why or ""} for c in cells]
    create_table_artifact(rows, key="fidelity-cells", description=place.uri(layout.fidelity(table_id)))
    return table


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


# What is verified again


@task(name="find versions", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=[1, 5], retry_jitter_factor=0.5,
      retry_condition_fn=_is_bad_luck)  # fmt: skip
def find_versions(models: list[str], alias: str | None, store: StoreConfig) -> list[str]:
    """References of what an alias of each model points at; without an alias, of every version."""
    return to_prove(_open(store), models, alias)


def tell_proof(proof: Proof) -> Proof:
    """Let whoever asked for news hear of one version, and the run's log."""
    _tell(proof)
    get_run_logger().info("%s: %s", proof.reference, proof.outcome)
    return proof


@task(name="tabulate proofs", cache_policy=NO_CACHE)
def tabulate_proofs(proofs: list[Proof]) -> None:
    """Show how each version went as a table."""
    passed = sum(proof.outcome == "verified" for proof in proofs)
    rows = [proof.model_dump() for proof in proofs]
    create_table_artifact(rows, key="reverified", description=f"{passed} of {len(proofs)} versions verified again")


def accept_proofs(proofs: list[Proof]) -> list[Proof]:
    """Let versions that all passed through; raise for others, so that the flow run fails with the reasons.

    Raises:
        UnsafeError: One was changed in the store, or is dangerous.
        VerificationFailed: One is not the model that was trained.
        RoundtripError: One could not be verified, for the reason of its class.
    """
    error = shortfall(proofs)
    if error:
        error.outcome = proofs
        raise error
    return proofs


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


# Alarms


@task(name="show alarm", cache_policy=NO_CACHE)
def show_alarm(subject: str, details: dict[str, Any]) -> str:
    """Write an alarm into the run's log and into an artifact; returns its text."""
    text = json.dumps(details, indent=1, default=str)
    get_run_logger().warning("%s\n%s", subject, text)
    create_markdown_artifact(f"# {subject}\n\n```json\n{text}\n```\n", key="notification", description=subject)
    return text


@task(name="send alarm", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=[5, 30], retry_jitter_factor=0.5)
def send_alarm(subject: str, text: str, block: str) -> None:
    """Send an alarm through a Prefect notification block."""
    import prefect.blocks.notifications  # noqa: F401  # so that Prefect knows their types
    from prefect.blocks.abstract import NotificationBlock
    from prefect.blocks.core import Block

    try:
        sender: Any = Block.load(block)
    except ValueError as error:
        raise InputError(f"There is no Prefect block {block!r}. Write its type and name: slack-webhook/NAME.") from error
    if not isinstance(sender, NotificationBlock):
        raise InputError(f"The Prefect block {block!r} sends no notifications.")
    notify: Any = sender.notify  # declared to be asynchronous; called from here it is not
    with sender.raise_on_failure():
        notify(text, subject)


def _checkpointing(definition: Definition, name: str, store: StoreConfig) -> Checkpointing:
    """Checkpoints in the store, by the side of the model's versions."""
    # To whoever asked for news, else to the run's log.
    say = _listener.get() or get_run_logger().info
    keeper = storage.StoredCheckpoints(_open(store), name, say)
    return Checkpointing(keeper, definition, current_environment().arithmetic, say)


@contextmanager
def _rehearsing(folder: Path, manifest: Manifest, wanted: bool) -> Iterator[Callable[[], None]]:
    """Rehearse in a fresh process and beside what follows; gives the function that waits for the end and raises."""
    if not wanted:
        yield lambda: None
        return
    with _rehearsers.pop() if _rehearsers else Loader() as loader, ThreadPoolExecutor(1) as beside:
        yield beside.submit(verification.rehearse, folder, manifest, loader.measure).result


@contextmanager
def _moving(what: str) -> Iterator[Progress]:
    """Where a long transfer is shown: to whoever asked for it, else in the run's log."""
    listener = _listener.get()
    if listener is None:
        logger = get_run_logger()
        yield Progress(what, lambda snapshot: logger.info("%s", snapshot), _LOG_SECONDS)
    else:
        yield Progress(what, listener, _TELL_SECONDS)


@contextmanager
def _progress(config: TrainingConfig, model: str) -> Iterator[Report]:
    """Where the epochs are shown: to whoever asked for them, else in the run's log and as a progress artifact."""
    asked = _listener.get()
    if asked is not None:
        yield asked
        return
    logger = get_run_logger()
    artifact: Any = create_progress_artifact(0.0, key=_key("training", model), description=f"{config.epochs} epochs")
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


__all__ = ["accept", "accept_proofs", "build_environment", "check_store", "conclude", "define", "fetch",
           "find_garbage", "find_version", "find_versions", "inspect", "keep_table", "load_data", "measure",
           "measure_row", "measuring_with", "open_early", "publish", "rebuild_from", "remove_garbage",
           "reporting_to", "return_elsewhere", "rows_of", "send_alarm", "serialize", "show_alarm", "tabulate",
           "tabulate_proofs", "tell_proof", "train_with_custom_loop", "train_with_fit"]  # fmt: skip
