"""One tree of errors; each class is one exit code of the command line.

An error is raised once, at the place that knows what happened, where, and what to do about it. Its message is written for
the person who reads it at 3 a.m. and is shown without a traceback.
"""

from __future__ import annotations

from typing import Any, ClassVar


class RoundtripError(Exception):
    """Something that a user can understand and act on."""

    kind: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    # What was found out all the same: a returned version with its failed verdict, for whoever prints it.
    outcome: Any = None

    def to_json(self) -> dict[str, Any]:
        """The error as DESIGN.md's `{"kind", "message", "exit_code"}`."""
        return {"kind": self.kind, "message": str(self), "exit_code": self.exit_code}


class VerificationFailed(RoundtripError):
    """What came back is not the model that was trained, or could not be shown to be."""

    kind = "verification"
    exit_code = 1


class TrainingFailed(RoundtripError):
    """Training ended without a model worth keeping; nothing was published."""

    kind = "training"
    exit_code = 1


class InputError(RoundtripError):
    """Wrong usage or input: an option, a file, a data or model reference, a folder."""

    kind = "input"
    exit_code = 2


class MismatchError(InputError):
    """A definition built another model than the one whose weights were stored."""

    kind = "mismatch"


class PinnedError(InputError):
    """A version can't be removed: an alias points at it, or is about to.

    Attributes:
        alias: Its name.
    """

    kind = "pinned"

    def __init__(self, message: str, alias: str = "") -> None:
        super().__init__(message)
        self.alias = alias


class UnsafeError(RoundtripError):
    """Refused before anything was loaded: tampered with, or able to run, read or write something."""

    kind = "unsafe"
    exit_code = 3


class UnreachableError(RoundtripError):
    """The store or the Prefect server did not answer, refused the credentials, or lacks a guarantee we need."""

    kind = "unreachable"
    exit_code = 4


class DeniedError(UnreachableError):
    """The store answers, but not to these credentials, or without a guarantee that we need: trying again changes nothing."""

    kind = "denied"


class ForbiddenError(DeniedError):
    """The store knows these credentials, and they may not do this: they may do something else."""

    kind = "forbidden"


class NotFoundError(RoundtripError):
    """No such model, version, alias or bucket."""

    kind = "not-found"
    exit_code = 5


class ConflictError(RoundtripError):
    """Somebody else wrote the same key first; nothing was overwritten."""

    kind = "conflict"
    exit_code = 1


def printable(text: str) -> str:
    """A text that may come from anybody, with all that would steer a terminal written as its code; lines stay lines."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def _tree(root: type[RoundtripError]) -> dict[str, type[RoundtripError]]:
    return {root.kind: root} | {kind: cls for sub in root.__subclasses__() for kind, cls in _tree(sub).items()}


def from_json(document: dict[str, Any]) -> RoundtripError:
    """Rebuild an error that another process reported through `RoundtripError.to_json`."""
    return _tree(RoundtripError).get(document["kind"], RoundtripError)(document["message"])
