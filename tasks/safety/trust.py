"""Which definitions may be imported on return: the project's own, and those that this user ran or named.

A definition reference in a manifest is code that somebody else may have written there (`os:system` with arguments). Running
a scenario with `--model REF` is the user's own act and is remembered; anything else must be named on return.
"""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

from tasks.errors import UnsafeError
from tasks.folders import data_folder

_OWN = ("tasks.definitions.builtin:", "tasks.definitions.families.")


def trust(reference: str) -> None:
    """Remember that this user ran a definition, so that its models can be returned on this machine."""
    if reference.startswith(_OWN):
        return
    path = _file()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        known = set(file.read().split("\n")) - {""}
        if json.dumps(reference) not in known:
            file.write(json.dumps(reference) + "\n")


def require_trusted(reference: str) -> None:
    """Let a definition from a manifest through, or not.

    Raises:
        UnsafeError: Nobody on this machine ever ran it; the message says how to allow it.
    """
    if reference.startswith(_OWN):
        return
    path = _file()
    if path.exists() and json.dumps(reference) in path.read_text().split("\n"):
        return
    raise UnsafeError(
        f"The model must be rebuilt by `{reference}`, as its manifest says. That is code, and it was never run on this "
        f"machine. If you know it, name it: --model {reference}"
    )


def _file() -> Path:
    return data_folder() / "trusted-definitions.jsonl"
