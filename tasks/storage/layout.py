"""Every key of the store is made here and nowhere else.

Segments are `[A-Za-z0-9._=-]` with single slashes between them, which every S3 server that was tried keeps apart.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import PurePosixPath

from tasks.errors import InputError, UnsafeError

MANIFEST = "manifest.json"
LATEST = "latest"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=-]{0,127}")
_VERSION = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_REVISIONS = 10**10
_UNSAFE = re.compile(r"[^A-Za-z0-9._/-]")


def model_name(name: str) -> str:
    """The name itself, where it can be one.

    Raises:
        InputError: It has characters that not every S3 server keeps.
    """
    if not _NAME.fullmatch(name):
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


def versions(model: str) -> str:
    """Prefix of all versions of a model."""
    return f"{model}/versions/"


def bundle(model: str, version: str) -> str:
    """Prefix of a version's folder."""
    return f"{model}/versions/{version}/"


def manifest(model: str, version: str) -> str:
    """Key whose existence is the commit."""
    return bundle(model, version) + MANIFEST


def verdicts(model: str, version: str) -> str:
    """Prefix of what verifications of a version measured."""
    return f"{model}/verdicts/{version}/"


def alias(model: str, name: str) -> str:
    """Prefix of an alias' revisions."""
    return f"{model}/aliases/{name}/"


def revision(model: str, name: str, number: int) -> str:
    """Key of one revision; the newest sorts first, so that one list request for one key finds it."""
    return f"{alias(model, name)}{_REVISIONS - 1 - number:010d}.json"


def scratch(name: str) -> str:
    """Prefix for probes of the store itself; no model's name starts with a dot."""
    return f".roundtrip/{name}/"


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
