"""The operations whose every request is made to fail. Each is prepared past the proxy and runs through it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tasks.storage import Manifest, Store, advance_latest, fetch, publish, read_manifest
from tasks.storage.upkeep.collect import carry_out, plan
from tasks.verification.promotion import promote
from tasks.verification.verdict import Verdict, record
from tests.faults.world import EVERYTHING, LARGE, SMALL, TINY, World, verdict_of
from tests.storage.samples import manifest_of, write


@dataclass(frozen=True, slots=True)
class Job:
    """One run of an operation, to be done here or in another process.

    Attributes:
        folder: The bundle to publish, or where to fetch to.
        manifest: Of the version that it is about.
    """

    folder: Path
    manifest: Manifest
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Operation:
    """What is done to the store. `run` stands for itself, so that a child process can be told to do it."""

    name: str
    prepare: Callable[[World], Job]
    run: Callable[[Store, Job], None]

    def __str__(self) -> str:
        return self.name


def _bundle(files: dict[str, bytes]) -> Callable[[World], Job]:
    def prepare(world: World) -> Job:
        folder = write(world.place(), files)
        manifest = manifest_of(folder)
        return Job(folder, manifest, verdict_of(manifest))

    return prepare


def _unverified(world: World) -> Job:
    manifest = world.published()
    return Job(world.place(), manifest, verdict_of(manifest))


def _verified(world: World) -> Job:
    manifest = world.verified()
    return Job(world.place(), manifest, verdict_of(manifest))


def _rubbish(world: World) -> Job:
    """A version that nothing keeps, and what a publisher left: a file, and an unfinished upload."""
    if not world.is_clean():
        world.collected()
    manifest = world.published(TINY)
    world.witness.removable.add((manifest.model, manifest.version))
    world.abandoned()
    return Job(world.place(), manifest, verdict_of(manifest))


def run_publish(store: Store, job: Job) -> None:
    publish(store, job.folder, job.manifest)


def run_verify(store: Store, job: Job) -> None:
    manifest = read_manifest(store, job.manifest.model, job.manifest.version)
    fetch(store, manifest, job.folder)
    record(store, job.verdict)
    advance_latest(store, manifest.model, manifest.version, job.verdict.id)


def run_promote(store: Store, job: Job) -> None:
    promote(store, job.manifest.model, job.manifest.version, "production")


def run_gc(store: Store, job: Job) -> None:
    carry_out(store, plan(store, EVERYTHING, [job.manifest.model]))


PUBLISH = Operation("publish", _bundle(SMALL), run_publish)
PUBLISH_PARTS = Operation("publish in parts", _bundle(LARGE), run_publish)
VERIFY = Operation("verify", _unverified, run_verify)
PROMOTE = Operation("promote", _verified, run_promote)

GC = Operation("gc", _rubbish, run_gc)

OPERATIONS = (PUBLISH, PUBLISH_PARTS, VERIFY, PROMOTE, GC)
