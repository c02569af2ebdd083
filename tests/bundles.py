"""Bundles with their manifests, as a store would hold them, and a process that returns them."""

from __future__ import annotations

import atexit
import functools
import hashlib
from datetime import UTC, datetime
from pathlib import Path

from tasks.data import Dataset
from tasks.definitions import Definition
from tasks.serialization import Bundle, Carried, format_named, write_bundle
from tasks.storage import FileEntry, Manifest, Store, publish
from tasks.storage.layout import new_version
from tasks.storage.manifest import DataRecord, TrainingRecord
from tasks.training import Trained
from tasks.verification import Loader
from tasks.verification.environment import current_environment
from tests import samples


def written(trained: Trained, definition: Definition, data: Dataset, format_name: str, folder: Path) -> Manifest:
    """Write a bundle into the folder; its manifest, with every file that is there."""
    bundle = write_bundle(trained, definition, data, format_name, folder)
    return manifest_of(bundle)


def foreign(store: Store, folder: Path) -> Manifest:
    """A version of `model` that somebody published without any flow run of ours."""
    data = samples.classes()
    manifest = written(*samples.trained("tasks.definitions.builtin:mlp", data), data, "keras-archive", folder)
    publish(store, folder, manifest)
    return manifest


def manifest_of(bundle: Bundle) -> Manifest:
    """As the publisher writes it."""
    format_ = format_named(bundle.format)
    return Manifest(
        model="model",
        version=new_version(),
        created=datetime.now(UTC),
        format=format_.name,
        format_version=format_.version,
        definition=bundle.definition,
        data=DataRecord(source=bundle.data_source, sha256=bundle.data_digest),
        training=TrainingRecord(
            scenario=format_.name, loop=bundle.loop, config={}, metrics=bundle.metrics, notes=bundle.notes
        ),
        carried=bundle.carried,
        files=entries(bundle.folder),
        environment=current_environment(),
    )


def entries(folder: Path) -> tuple[FileEntry, ...]:
    """Every file of a folder, as a manifest names it."""
    contents = {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    return tuple(
        FileEntry(path=name, size=len(content), sha256=hashlib.sha256(content).hexdigest())
        for name, content in contents.items()
    )


@functools.cache
def another_process() -> Loader:
    """A process that trained nothing, for all tests that need no fresh one; it ends with this one."""
    loader = Loader()
    atexit.register(loader.end)
    return loader


def bare_manifest(format_name: str) -> Manifest:
    """Of a version without files, weights or history."""
    return Manifest(
        model="model",
        version=new_version(),
        created=datetime.now(UTC),
        format=format_name,
        format_version=1,
        definition=Definition(reference="tasks.definitions.builtin:mlp"),
        data=DataRecord(source="test", sha256="0" * 64),
        training=TrainingRecord(scenario=format_name, loop="fit", config={}, metrics={}),
        carried=Carried(),
        files=(),
        environment=current_environment(),
    )
