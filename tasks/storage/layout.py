"""Every key of the store is made here and nowhere else.

Segments are `[A-Za-z0-9._=-]` with single slashes between them, which every S3 server that was tried keeps apart.
"""

from __future__ import annotations

import os
import re
import time
from datetime import UTC, datetime
from pathlib import PurePosixPath

from tasks.errors import InputError, UnsafeError

MANIFEST = "manifest.json"
LATEST = "latest"
CHECKPOINT = "checkpoint.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=-]{0,127}")
_VERSION = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_NUMBERS = 10**10
PROBES = ".roundtrip/"
SENTINEL = f"{PROBES}sentinel"  # kept for ever: it tells that the embedded server is up
_REMOVED = "removed"
_ELSEWHERE = "=elsewhere"
_UNSAFE = re.compile(r"[^A-Za-z0-9._/-]")


def model_name(name: str) -> str:
    """The name itself, where it can be one.

    Raises:
        InputError: It has characters that not every S3 server keeps.
    """
    if not is_model(name):
        raise InputError(
            f"{name!r} can't be a model's or an alias' name: letters, digits and . _ = - only, a letter or digit first, "
            "at most 128."
        )
    return name


def is_version(text: str) -> bool:
    """Whether the text is a version's id."""
    return _VERSION.fullmatch(text) is not None


def new_version() -> str:
    """A UUIDv7 (RFC 9562): unique, and sorted by the millisecond in which it was made."""
    stamp = time.time_ns() // 1_000_000
    value = (stamp << 80) | (0x7 << 76) | (int.from_bytes(os.urandom(2), "big") & 0xFFF) << 64
    value |= (0b10 << 62) | (int.from_bytes(os.urandom(8), "big") & ((1 << 62) - 1))
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def made_at(version: str) -> datetime:
    """When a version's id was made, to the millisecond, by its publisher's clock."""
    return datetime.fromtimestamp(int(version[:8] + version[9:13], 16) / 1000, UTC)


def is_model(text: str) -> bool:
    """Whether the text can be a model's name."""
    return _NAME.fullmatch(text) is not None


def versions(model: str) -> str:
    """Prefix of all versions of a model."""
    return f"{model}/versions/"


def bundle(model: str, version: str) -> str:
    """Prefix of a version's folder."""
    return f"{model}/versions/{version}/"


def manifest(model: str, version: str) -> str:
    """Key whose existence is the commit."""
    return bundle(model, version) + MANIFEST


def trials(model: str, version: str) -> str:
    """Prefix of what stands beside a version that a sweep published; `trial` and `chosen` are below it."""
    return bundle(model, version) + "trial"


def trial(model: str, version: str) -> str:
    """Key that makes a version a trial."""
    return f"{trials(model, version)}.json"


def chosen(model: str, version: str) -> str:
    """Key that makes a trial a version like any other."""
    return f"{trials(model, version)}-chosen.json"


def verdicts(model: str, version: str) -> str:
    """Prefix of what verifications of a version measured."""
    return f"{model}/verdicts/{version}/"


def verdict(model: str, version: str, id_: str, *, elsewhere: bool = False) -> str:
    """Key of one verdict; the name tells those of other environments, which prove nothing for this one."""
    return f"{verdicts(model, version)}{id_}{_ELSEWHERE if elsewhere else ''}.json"


def is_elsewhere(key: str) -> bool:
    """Whether a verdict's key says that it binds nobody else: another environment's, or by one reader's signature policy."""
    return key.endswith(f"{_ELSEWHERE}.json")


def holds(model: str, version: str) -> str:
    """Prefix of the log in which promotions and the removal of a version take turns."""
    return f"{model}/holds/{version}/"


def hold(model: str, version: str, number: int) -> str:
    """Key of one entry of that log; the newest sorts first."""
    return f"{holds(model, version)}{_newest_first(number)}"


def aliases(model: str) -> str:
    """Prefix of all aliases of a model."""
    return f"{model}/aliases/"


def alias(model: str, name: str) -> str:
    """Prefix of an alias' revisions."""
    return f"{model}/aliases/{name}/"


def revision(model: str, name: str, number: int) -> str:
    """Key of one revision; the newest sorts first, so that one list request for one key finds it."""
    return f"{alias(model, name)}{_newest_first(number)}"


def alias_of(key: str) -> str:
    """The alias of a revision, from its key."""
    return key.split("/")[2]


def number_of(key: str) -> int:
    """The number of a revision or of a hold, from its key."""
    return _NUMBERS - 1 - int(key.rpartition("/")[2].removesuffix(".json"))


def index(model: str) -> str:
    """Prefix of the index of a model's versions. An index only: what a version is, its manifest says."""
    return f"{model}/all/"


def index_lines(model: str, version: str) -> str:
    """Prefix of what the index says of one version."""
    return f"{index(model)}{version}="


def indexed(model: str, version: str, form: str, size: int) -> str:
    """Key of a committed version in the index. It says all that lists show, so that they read no manifest."""
    return f"{index_lines(model, version)}{form}={size}"


def indexed_as_removed(model: str, version: str) -> str:
    """Key of a version in the index of which nothing but the mark of its removal is left."""
    return indexed(model, version, _REMOVED, 0)


def read_index(name: str) -> tuple[str, str, int] | None:
    """Version, format and bytes from the last segment of a key of the index; None where it is not of that form.

    The format is empty where the version was removed.
    """
    version, form, size = [*name.split("="), "", ""][:3]
    if not is_version(version) or not form or not size.isdecimal():
        return None
    return version, "" if form == _REMOVED else form, int(size)


def _newest_first(number: int) -> str:
    return f"{_NUMBERS - 1 - number:010d}.json"


def scratch(name: str) -> str:
    """Prefix for probes of the store itself; no model's name starts with a dot."""
    return f"{PROBES}{name}/"


def checkpoints(model: str, run: str = "") -> str:
    """Prefix of the checkpoints of a run, or of all unfinished runs of a model."""
    return f"{model}/checkpoints/{run}/" if run else f"{model}/checkpoints/"


def checkpoint(model: str, run: str, epoch: int, id_: str) -> str:
    """Prefix of one checkpoint; they sort by epoch. `id_` is its writer's, so that two of one run never meet."""
    return f"{checkpoints(model, run)}{epoch:010d}={id_}/"


def fidelity(table: str) -> str:
    """Prefix of a table of what survives: `table.json`, `table.html`, `table.md`. No model begins with a dot."""
    return f".fidelity/{table}/"


def file(prefix: str, path: str) -> str:
    """Key of a bundle's file: its path, with `=` and two hex digits for each byte that not every S3 server keeps.

    So `model/saved_model.pb` is itself, and `modèle` is `mod=C3=A8le`; the manifest has the true name. Different paths have
    different keys.
    """
    return prefix + _UNSAFE.sub(lambda found: "".join(f"={byte:02X}" for byte in found[0].encode()), path)


def check_relative(path: str) -> str:
    """A path from a manifest, where it stays inside its bundle.

    Raises:
        UnsafeError: Absolute, not normalized, or leaving the folder.
    """
    pure = PurePosixPath(path)
    if not pure.parts or pure.is_absolute() or ".." in pure.parts or str(pure) != path or "\\" in path or "\0" in path:
        raise UnsafeError(f"The manifest names the file {path!r}, which is not a plain path inside the bundle.")
    return path
