"""What inspection says: findings, the record of one inspection, and the refusal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel

from tasks.errors import InputError, UnsafeError, printable

Severity = Literal["dangerous", "suspicious", "note"]
# How the kinds begin of what is dangerous on this machine alone: code of a definition that nobody here ever ran or allowed.
UNTRUSTED = "untrusted "
_SHOWN = 10


class Finding(BaseModel):
    """Something that inspection saw.

    Attributes:
        severity: `dangerous` is refused, `suspicious` is reported, a `note` is worth knowing.
        kind: What it is, in a word or two; what `--allow` takes.
        where: The file, and the place in it; like the message without what would steer a terminal, for both hold names that
            the model's writer chose.
        message: A sentence.
    """

    model_config = {"frozen": True}

    severity: Severity
    kind: str
    where: Annotated[str, AfterValidator(printable)]
    message: Annotated[str, AfterValidator(printable)]

    def is_allowed_by(self, allowed: Sequence[str]) -> bool:
        """Whether the user waved it through, by its kind or by `kind:where`."""
        return self.kind in allowed or f"{self.kind}:{self.where}" in allowed


class Inspection(BaseModel):
    """What one inspection found, and what the user let through all the same.

    Attributes:
        findings: The most severe first.
        allowed: `kind:where` of every dangerous finding that was waved through.
        signature: `valid`, `unsigned`, or `unchecked`; None where it was not looked at.
        files: How many files were looked at.
        bytes: Their size.
        seconds: Wall seconds.
    """

    model_config = {"frozen": True}

    findings: tuple[Finding, ...] = ()
    allowed: tuple[str, ...] = ()
    signature: str | None = None
    files: int = 0
    bytes: int = 0
    seconds: float = 0.0

    @property
    def refused(self) -> tuple[Finding, ...]:
        """The dangerous findings that nobody allowed."""
        return tuple(f for f in self.findings if f.severity == "dangerous" and f"{f.kind}:{f.where}" not in self.allowed)

    @property
    def says_nothing_of_the_version(self) -> bool:
        """Whether it is refused for this machine's list of trusted definitions alone; another one may have a longer list."""
        return all(f.kind.startswith(UNTRUSTED) for f in self.refused)

    def allowing(self, allow: Sequence[str]) -> Inspection:
        """The same, with what the user waves through.

        Args:
            allow: Kinds of findings, or `kind:where`.

        Raises:
            InputError: It names something that was not found: an exception that nobody needs hides the next one.
        """
        dangerous = [f for f in self.findings if f.severity == "dangerous"]
        idle = [a for a in allow if not any(f.is_allowed_by([a]) for f in dangerous)]
        if idle:
            found = ", ".join(sorted({f"{f.kind}:{f.where}" for f in dangerous})) or "nothing dangerous"
            raise InputError(f"--allow {idle[0]!r} fits nothing that was found. There is: {found}.")
        passed = tuple(f"{f.kind}:{f.where}" for f in dangerous if f.is_allowed_by(allow))
        return self.model_copy(update={"allowed": passed})


class MalformedError(ValueError):
    """The bytes are not what they should be; the inspection makes a finding of it."""


def dangerous(kind: str, where: str, message: str) -> Finding:
    """What is refused."""
    return Finding(severity="dangerous", kind=kind, where=where, message=message)


def suspicious(kind: str, where: str, message: str) -> Finding:
    """What is reported."""
    return Finding(severity="suspicious", kind=kind, where=where, message=message)


def note(kind: str, where: str, message: str) -> Finding:
    """What is worth knowing."""
    return Finding(severity="note", kind=kind, where=where, message=message)


def refuse_dangerous(inspection: Inspection, subject: str) -> None:
    """Raise where something dangerous was found that nobody allowed.

    Raises:
        UnsafeError: Names each place, and how to let it through.
    """
    refused = inspection.refused
    if refused:
        raise UnsafeError(f"{subject} was refused; nothing of it was loaded.\n{reasons(refused)}")


def reasons(refused: Sequence[Finding]) -> str:
    """The lines of a refusal."""
    lines = [f"  {f.kind}: {f.where}: {f.message}" for f in refused[:_SHOWN]]
    if len(refused) > _SHOWN:
        lines.append(f"  … and {len(refused) - _SHOWN} more")
    return "\n".join([*lines, f"  {how_to_allow(refused)}"])


def how_to_allow(refused: Sequence[Finding]) -> str:
    """What to write to have it all the same."""
    kinds = " ".join(f"--allow {kind!r}" for kind in sorted({f.kind for f in refused}))
    return f"If you know what it does and want it all the same: {kinds}"
