"""Which definitions may be imported on return: the project's own, and those that this user ran, or allowed by name.

A definition reference in a manifest is code that somebody else may have written there (`os:system` with arguments). Running
a scenario with `--model REF` is the user's own act and is remembered; `python -m flows trust REF` allows one ahead of that,
and `ROUNDTRIP_TRUST=module:callable,package.*` does so for workers. Nothing is imported to find out.

A file is trusted by its path *and* its content. The fingerprint of a definition tells another architecture, but only after
the import, in which any line of the file has run; and a path in a shared or temporary folder is anybody's to fill. Modules
are trusted by name: what stands on the import path was installed there.
"""

from __future__ import annotations

import ast
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import IO

from tasks.errors import UnsafeError
from tasks.folders import data_folder

TRUST_VARIABLE = "ROUNDTRIP_TRUST"
_OWN = ("tasks.definitions.builtin", "tasks.definitions.families.*")
_ANY_OF = ".*"


@dataclass(frozen=True, slots=True)
class Trusted:
    """One entry of the allow-list.

    Attributes:
        reference: `module:callable`, `/path/file.py:callable`, or `package.*`: what is defined in its modules.
        sha256: Of the file, where it is one (hex).
        by: `file` of this user's, or `environment`.
    """

    reference: str
    sha256: str | None = None
    by: str = "file"


def is_own(reference: str) -> bool:
    """Whether a definition is the project's: a function that one of our modules of definitions defines itself."""
    module, _, name = reference.rpartition(":")
    return any(_covers(pattern, module) for pattern in _OWN) and _defines(module, name)


def trust(reference: str) -> Trusted:
    """Remember that this user ran or allowed a definition, so that its models can be returned on this machine.

    Args:
        reference: `module:callable`, `/path/file.py:callable` as the file is now, or `package.*`.
    """
    entry = Trusted(reference, _digest(reference))
    if not is_own(reference):
        with _list() as file:
            entries = _read(file)
            if entry not in entries:
                _write(file, [*(e for e in entries if e.reference != reference), entry])
    return entry


def distrust(reference: str) -> bool:
    """Take a reference off the list; whether it was on it."""
    with _list() as file:
        entries = _read(file)
        left = [e for e in entries if e.reference != reference]
        _write(file, left)
    return len(left) < len(entries)


def trusted() -> list[Trusted]:
    """The allow-list: this user's file, then the environment's variable."""
    with _list() as file:
        entries = _read(file)
    named = [r.strip() for r in os.environ.get(TRUST_VARIABLE, "").split(",")]
    return entries + [Trusted(r, by="environment") for r in named if r]


def is_trusted(reference: str) -> bool:
    """Whether a definition is the project's, or was run or allowed on this machine, and its file is still the same."""
    if is_own(reference):
        return True
    if any(e.by == "environment" or e.sha256 == _digest(reference) for e in _named(reference)):
        return True
    module, _, name = reference.rpartition(":")
    packages = [e.reference for e in trusted() if e.reference.endswith(_ANY_OF)]
    return any(_covers(pattern, module) for pattern in packages) and _defines(module, name)


def why_not(reference: str) -> str:
    """Why a definition is not trusted here, and what to do about it; empty where it is."""
    if is_trusted(reference):
        return ""
    why = "its file was changed since you trusted it" if _named(reference) else "it was never run on this machine"
    return f"That is code, and {why}. If you know it, trust it: `python -m flows trust '{reference}'`"


def require_trusted(reference: str) -> None:
    """Let a definition from a manifest through, or not.

    Raises:
        UnsafeError: Nobody on this machine ever ran or allowed it, or its file has changed since; the message says how to.
    """
    why = why_not(reference)
    if why:
        raise UnsafeError(
            f"The model must be rebuilt by `{reference}`, as its manifest says. {why}; or name it, for this one time: "
            f"--model {reference}"
        )


def _named(reference: str) -> list[Trusted]:
    return [e for e in trusted() if e.reference == reference]


def _covers(pattern: str, module: str) -> bool:
    package = pattern.removesuffix(_ANY_OF)
    return module == package or (pattern.endswith(_ANY_OF) and module.startswith(f"{package}."))


def find_module(name: str) -> str | None:
    """The file of a module on the import path, found and not imported; None where there is none."""
    origin: str | None = None
    where: list[str] | None = None
    parts = name.split(".")
    for depth in range(1, len(parts) + 1):
        spec = PathFinder.find_spec(".".join(parts[:depth]), where)
        if spec is None:
            return None
        origin, where = spec.origin, list(spec.submodule_search_locations or [])
    return origin


def _defines(module: str, name: str) -> bool:
    """Whether a module's source defines this callable itself; what it imported is another's (`from os import system`)."""
    source = find_module(module)
    if source is None or not source.endswith(".py") or name.startswith("_"):
        return False
    try:
        tree = ast.parse(Path(source).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return False
    kinds = ast.FunctionDef | ast.ClassDef
    return any(isinstance(node, kinds) and node.name == name for node in tree.body)


def _digest(reference: str) -> str | None:
    place = reference.rpartition(":")[0]
    if not place.endswith(".py"):
        return None
    try:
        return hashlib.sha256(Path(place).read_bytes()).hexdigest()
    except OSError:
        return "no such file"


@contextmanager
def _list() -> Iterator[IO[str]]:
    path = data_folder() / "trusted-definitions.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def _read(file: IO[str]) -> list[Trusted]:
    """Each line is a reference, or `[reference, digest]`."""
    file.seek(0)
    lines = [json.loads(line) for line in file.read().splitlines() if line]
    return [Trusted(line) if isinstance(line, str) else Trusted(*line) for line in lines]


def _write(file: IO[str], entries: list[Trusted]) -> None:
    lines = [json.dumps([e.reference, e.sha256] if e.sha256 else e.reference) for e in entries]
    file.truncate(0)
    file.write("".join(f"{line}\n" for line in lines))
