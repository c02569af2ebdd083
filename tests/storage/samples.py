"""Small bundles and their manifests, made without TensorFlow."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from tasks.definitions import Definition
from tasks.serialization import Carried
from tasks.storage import Environment, Manifest, Store, VersionRef, layout, publish
from tasks.storage.manifest import DataRecord, TrainingRecord
from tasks.storage.transfer import file_entries

FILES = {"model/weights.bin": b"w" * 5000, "model/variables/index": b"i" * 10, "probe.npz": b"p" * 300}


def write(folder: Path, files: dict[str, bytes] = FILES) -> Path:
    """A bundle's folder with these files in it."""
    for name, body in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    return folder


def manifest_of(folder: Path, model: str = "digits", version: str | None = None) -> Manifest:
    """A manifest that names the folder's files."""
    return Manifest(
        model=model,
        version=version or layout.new_version(),
        created=datetime.now(UTC),
        format="saved-model",
        format_version=1,
        definition=Definition(reference="tasks.definitions.builtin:mlp"),
        data=DataRecord(source="generated", sha256="0" * 64),
        training=TrainingRecord(scenario="saved-model", loop="graph", config={}, metrics={"val_accuracy": 0.5}),
        carried=Carried(),
        files=file_entries(folder),
        environment=Environment(
            python="3", tensorflow="2", keras="3", numpy="2", platform="p", arithmetic="a", hostname="h", pid=1
        ),
    )


def published(store: Store, folder: Path, files: dict[str, bytes] = FILES, model: str = "digits") -> Manifest:
    """A version that was published from a new folder; its manifest."""
    manifest = manifest_of(write(folder, files), model)
    ref: VersionRef = publish(store, folder, manifest)
    assert ref.version == manifest.version
    return manifest


def put(store: Store, key: str, body: bytes) -> None:
    """Write an object behind the project's back, as an attacker or a careless admin does."""
    store.client.put_object(Bucket=store.bucket, Key=store.prefix + key, Body=body)


class Counter:
    """Counts the bytes that a transfer moved."""

    def __init__(self) -> None:
        self.total = 0

    def __call__(self, count: int) -> None:
        self.total += count
