"""Inventory: all that lies in a store below its models, added up by version while it is listed; what `gc` decides on.

One list request for a thousand keys, models side by side. Keys that are not of the layout are nobody's business here: they
are neither counted nor ever removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase

from tasks.storage import layout
from tasks.storage.aliases import first_of_each, read_revision
from tasks.storage.manifest import REMOVED
from tasks.storage.store import Store, StoredObject, Upload

_BUNDLE_DEPTH = 4  # <model>/versions/<version>/<file>


@dataclass(slots=True)
class Contents:
    """What there is of one version.

    Attributes:
        manifest: The manifest, or the mark that stands in its place.
        objects: How many there are in its folder, the manifest aside, and beside it: verdicts, holds, lines of the index.
        newest: When the server got the last of them.
        listed: It has its line in the index. `marked`: the index says that it was removed.
        trial: What makes it a trial of a sweep.
    """

    manifest: StoredObject | None = None
    objects: int = 0
    bytes: int = 0
    newest: datetime | None = None
    listed: bool = False
    marked: bool = False
    trial: StoredObject | None = None
    uploads: list[Upload] = field(default_factory=list)

    @property
    def removed(self) -> bool:
        """Whether the mark of its removal stands where its manifest was."""
        return self.manifest is not None and self.manifest.size == len(REMOVED)

    @property
    def committed(self) -> bool:
        """Whether readers see it."""
        return self.manifest is not None and not self.removed

    def add(self, each: StoredObject) -> None:
        """Count one object."""
        self.objects += 1
        self.bytes += each.size
        self.newest = max(self.newest or each.modified, each.modified)


@dataclass(frozen=True, slots=True)
class Inventory:
    """What there is of one model: its versions, where its aliases point, and the checkpoints of its unfinished runs."""

    model: str
    versions: dict[str, Contents]
    aliases: dict[str, str]
    runs: dict[str, Contents]


def models(store: Store, patterns: Sequence[str] = ()) -> list[str]:
    """Names of the model folders that match any of the patterns (`digits`, `dig*`); one list request a thousand.

    A folder may hold nothing that can be seen.
    """
    literal = _literal_start(patterns)
    names = [literal + name for name in store.folders(literal)]
    return [name for name in names if layout.is_model(name) and matches(name, patterns)]


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a name matches any of the patterns, or there are none."""
    return not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)


def take(store: Store, model: str, uploads: Iterable[Upload]) -> Inventory:
    """Everything of one model."""
    versions: dict[str, Contents] = {}
    runs: dict[str, Contents] = {}
    revisions: list[str] = []

    def of(version: str) -> Contents:
        return versions.setdefault(version, Contents())

    for each in store.objects(f"{model}/"):
        room, _, rest = each.key.removeprefix(f"{model}/").partition("/")
        version = rest.partition("/")[0]
        if room == "aliases":
            revisions.append(each.key)
        elif room == "all":
            _add_line(versions, rest, each)
        elif room == "checkpoints":
            runs.setdefault(version, Contents()).add(each)
        elif room in {"versions", "verdicts", "holds"} and layout.is_version(version):
            _add(of(version), model, version, each)
    for upload in uploads:
        _, room, which = upload.key.split("/")[:3]
        (of(which) if room == "versions" else runs.setdefault(which, Contents())).uploads.append(upload)
    newest = (read_revision(store, key) for key in first_of_each(revisions))
    return Inventory(model, versions, {each.alias: each.version for each in newest if each.version}, runs)


def of_a_model(upload: Upload) -> bool:
    """Whether an upload is of a file of a version or of a checkpoint."""
    parts = upload.key.split("/")
    if len(parts) < _BUNDLE_DEPTH or not layout.is_model(parts[0]):
        return False
    return parts[1] == "checkpoints" or (parts[1] == "versions" and layout.is_version(parts[2]))


def _add(contents: Contents, model: str, version: str, each: StoredObject) -> None:
    if each.key == layout.manifest(model, version):
        contents.manifest = each
        return
    contents.add(each)
    if each.key == layout.trial(model, version):
        contents.trial = each


def _add_line(versions: dict[str, Contents], name: str, each: StoredObject) -> None:
    entry = layout.read_index(name)
    if entry is None:
        return
    version, form, _ = entry
    contents = versions.setdefault(version, Contents())
    if form:
        contents.listed = True
        contents.add(each)
    else:
        contents.marked = True


def _literal_start(patterns: Sequence[str]) -> str:
    """What all matching names start with."""
    if len(patterns) != 1:
        return ""
    cut = [patterns[0].find(sign) for sign in "*?["]
    return patterns[0][: min([at for at in cut if at >= 0], default=len(patterns[0]))]
