"""Plain script 3: a scenario and `return` by calls of the rooms, without Prefect. Usage: rooms.py train|return NAME."""

import sys
import tempfile
from pathlib import Path

from tasks.data import DataConfig, load_dataset
from tasks.definitions import ModelConfig, define
from tasks.safety import check_signature, inspect_bundle, refuse_dangerous, trust
from tasks.serialization import write_bundle
from tasks.storage import advance_latest, fetch, layout, list_versions, open_store, publish, read_manifest
from tasks.storage.guarantees.conformance import check_store
from tasks.training import TrainingConfig, train_with_fit
from tasks.training.run import seeded
from tasks.verification import Loader, judge, record
from tasks.verification.describe import describe
from tasks.verification.report import html_report
from tasks.verification.returning import definition_for


def train(name: str) -> None:
    store, config = open_store(), TrainingConfig(epochs=1)
    check_store(store)
    dataset = load_dataset(DataConfig(rows=200))
    with seeded(config.seed):
        definition, model = define(ModelConfig(), dataset)
    trust(definition.reference)
    bundle = write_bundle(
        train_with_fit(model, dataset, config), definition, dataset, "weights-h5", Path(tempfile.mkdtemp())
    )
    manifest = describe(bundle, name, layout.new_version(), config)
    (bundle.folder / "report.html").write_text(html_report(manifest))
    publish(store, bundle.folder, manifest)


def bring_back(name: str) -> None:
    store = open_store()
    manifest = read_manifest(store, name, list_versions(store, name)[-1])
    folder = fetch(store, manifest)
    check_signature(folder, manifest)
    inspection = inspect_bundle(folder, manifest)
    refuse_dangerous(inspection, name)
    with Loader() as loader:
        verdict = judge(manifest, loader.measure(folder, manifest, definition_for(manifest, None, None)), inspection)
    record(store, verdict)
    assert verdict.passed and advance_latest(store, name, manifest.version, verdict.id)


{"train": train, "return": bring_back}[sys.argv[1]](sys.argv[2])
