"""From data to a published version."""

from __future__ import annotations

import atexit
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import timedelta
from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run
from prefect.utilities.urls import url_for

from tasks import data, definitions, events, safety, serialization, storage, training, verification
from tasks.children import quick_imports
from tasks.data import DataConfig, Dataset
from tasks.definitions import Definition, ModelConfig
from tasks.errors import InputError, RoundtripError, UnsafeError, VerificationFailed
from tasks.observing import about
from tasks.serialization import Bundle
from tasks.settings import StoreConfig
from tasks.steps.listening import listener_now, moving, progress, tell
from tasks.steps.showing import emit, show_card, tag, this_run
from tasks.steps.stores import is_bad_luck, opened, secret
from tasks.storage import Manifest, VersionRef, layout, trials
from tasks.storage.guarantees.conformance import check_store as probe_store
from tasks.storage.trials import Trial
from tasks.training import Checkpointing, Trained, TrainingConfig
from tasks.training.run import Report, seeded
from tasks.verification import Loader
from tasks.verification.describe import describe
from tasks.verification.environment import current_environment
from tasks.verification.report import html_report

_drafts: dict[Path, Manifest] = {}  # by bundle: another attempt at publishing goes on with the same version
# At most one fresh process, warm for the next rehearsal; a run that failed before leaves it to the next one.
_rehearsers: list[Loader] = []
_trial: ContextVar[Trial | None] = ContextVar("trial", default=None)


@contextmanager
def as_trial(trial: Trial) -> Iterator[None]:
    """Let this context's `publish` make a trial: the world is told of it once it was chosen, and `latest` stays away."""
    token = _trial.set(trial)
    try:
        yield
    finally:
        _trial.reset(token)


def join(config: TrainingConfig) -> None:
    """Meet all that train together, before anything here uses TensorFlow; nothing where one device trains alone."""
    if config.strategy == "none":
        return
    if config.strategy == "multi-worker":
        _say_it()("waits for all workers that TF_CONFIG names")
    training.join(config.strategy)


@task(name="check store", cache_policy=NO_CACHE)
def check_store(store: StoreConfig, format_name: str, rehearsal: bool) -> None:
    """Find out before the training whether its result can be stored, and signed where it is to be."""
    about(flow_run=flow_run.id, model=flow_run.parameters.get("name"))
    serialization.usable_format(format_name)
    safety.check_signer(secret)
    probe_store(opened(store))
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
    if "tensorflow" not in sys.modules:  # a desk's trainer has it; a worker's run has got here without
        with quick_imports():
            import tensorflow  # noqa: F401
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
    with _training(definition, config, name, store) as (report, keeping):
        return training.train_with_custom_loop(model, dataset, config, report, checkpointing=keeping, definition=definition)


@task(name="train with fit", cache_policy=NO_CACHE)
def train_with_fit(
    definition: Definition, model: Any, dataset: Dataset, config: TrainingConfig, name: str, store: StoreConfig
) -> Trained:
    """Train by Keras' fit, with checkpoints in the store; a killed run goes on from its last."""
    with _training(definition, config, name, store) as (report, keeping):
        return training.train_with_fit(model, dataset, config, report, checkpointing=keeping, definition=definition)


@task(name="serialize", cache_policy=NO_CACHE)
def serialize(trained: Trained, definition: Definition, dataset: Dataset, format_name: str) -> Bundle | None:
    """Write the model and all that its format would lose into a bundle; None where another worker does."""
    if trained.follower:
        get_run_logger().info("%s", trained.follower)
        tell(trained.follower)
        return None
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
      retry_condition_fn=is_bad_luck)  # fmt: skip
def publish(
    bundle: Bundle | None, name: str, training: TrainingConfig, store: StoreConfig, rehearsal: bool = True
) -> VersionRef | None:
    """Upload the bundle, bring it back meanwhile, commit it with its manifest where it came back, and tell the world."""
    if bundle is None:
        return None
    place = opened(store)
    draft = _drafts.get(bundle.folder)
    if draft is None:
        run = this_run()
        page = url_for("flow-run", obj_id=run) if run else None
        draft = describe(bundle, layout.model_name(name), layout.new_version(), training, run, page)
        (bundle.folder / "report.html").write_text(html_report(draft))
        draft = safety.sign_bundle(bundle.folder, draft, secret)
        _drafts[bundle.folder] = draft
    about(flow_run=flow_run.id, model=draft.model, version=draft.version)
    try:
        with _rehearsing(bundle.folder, draft, rehearsal) as passed, moving("publishing") as transfer:
            manifest = storage.upload_files(place, bundle.folder, draft, transfer.moved, transfer.expect)
            passed()
    except (VerificationFailed, UnsafeError, InputError):
        # It will never be committed; where this fails too, `gc` finds what was uploaded.
        with suppress(RoundtripError):
            storage.remove_leftover(place, draft.model, draft.version, timedelta(0))
        raise
    trial = _trial.get()
    if trial:
        # Before the commit: whatever becomes of the sweep, `gc` knows what it left.
        trials.mark(place, draft.model, draft.version, trial)
    ref = storage.commit(place, manifest)
    del _drafts[bundle.folder]
    shutil.rmtree(bundle.folder, ignore_errors=True)
    if bundle.run:
        # Who may not delete here leaves them to `gc`: the version is published all the same.
        with suppress(RoundtripError):
            storage.StoredCheckpoints(place, ref.model).forget(bundle.run)
    show_card(store, manifest)
    tag(ref.model, ref.version)
    if not trial:
        emit(events.published(ref, store, this_run()))
    tell(ref)
    return ref


@contextmanager
def _training(
    definition: Definition, config: TrainingConfig, name: str, store: StoreConfig
) -> Iterator[tuple[Report, Checkpointing]]:
    """What both loops have around them: where the epochs are shown, and where the state is kept."""
    with progress(config, name) as report:
        about(flow_run=flow_run.id, model=name)
        yield report, _checkpointing(definition, name, store)


def _checkpointing(definition: Definition, name: str, store: StoreConfig) -> Checkpointing:
    """Checkpoints in the store, by the side of the model's versions."""
    say = _say_it()
    keeper = storage.StoredCheckpoints(opened(store), name, say)
    return Checkpointing(keeper, definition, current_environment().arithmetic, say)


def _say_it() -> Callable[[str], None]:
    """Where a line goes: to whoever asked for news, else to the run's log."""
    return listener_now.get() or get_run_logger().info


@contextmanager
def _rehearsing(folder: Path, manifest: Manifest, wanted: bool) -> Iterator[Callable[[], None]]:
    """Rehearse in a fresh process and beside what follows; gives the function that waits for the end and raises."""
    if not wanted:
        yield lambda: None
        return
    with _rehearsers.pop() if _rehearsers else Loader() as loader, ThreadPoolExecutor(1) as beside:
        yield beside.submit(verification.rehearse, folder, manifest, loader.measure).result
