"""What comes back: the records of the downstream flow, and for a program a verified model, without Prefect or a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field

from tasks.definitions import Definition
from tasks.errors import InputError, RoundtripError, UnsafeError, VerificationFailed
from tasks.forms import may_be_empty, place
from tasks.references import absolute
from tasks.safety import Inspection, check_signature, how_to_allow, inspect_bundle, refuse_dangerous, require_trusted
from tasks.serialization import needs_definition
from tasks.settings import StoreConfig
from tasks.storage import Manifest, VersionRef, fetch, open_store, read_manifest, resolve
from tasks.verification.loader import Loader
from tasks.verification.measure import measure
from tasks.verification.verdict import Verdict, judge


class Returned(BaseModel):
    """What the downstream flow hands back.

    Attributes:
        latest: Whether `latest` points at the version now.
        unwritten: What could not be written, and why, with credentials that may only read; else None.
    """

    version: VersionRef
    path: str
    verdict: Verdict
    latest: bool
    unwritten: str | None = None


class Rebuild(BaseModel):
    """What the user names in place of the manifest's definition."""

    model_config = {"frozen": True}

    builder: str | None = Field(
        default=None, description="Reference of the builder; empty: the manifest's.", json_schema_extra=may_be_empty(0)
    )
    arguments: dict[str, Any] = Field(
        default_factory=dict, description="Arguments in place of the stored ones, as JSON.", json_schema_extra=place(1)
    )


def refusal(returned: Returned) -> RoundtripError | None:
    """The error that says why a version was refused; None where it passed."""
    verdict = returned.verdict
    if verdict.passed:
        return None
    reasons = "\n  ".join(verdict.reasons)
    if not verdict.intact:
        return UnsafeError(reasons)
    if verdict.safe is False:
        hint = how_to_allow(Inspection(findings=tuple(verdict.findings), allowed=tuple(verdict.allowed)).refused)
        return UnsafeError(f"{returned.version} was refused; nothing of it was loaded.\n  {reasons}\n  {hint}")
    under = f", returned under {verdict.elsewhere}," if verdict.elsewhere else ""
    return VerificationFailed(f"{returned.version}{under} is not the model that was trained.\n  {reasons}")


def load_model(
    reference: str,
    *,
    store: str | None = None,
    definition: str | None = None,
    arguments: dict[str, Any] | None = None,
    allow: Sequence[str] = (),
    prove: Literal["here", "child"] = "here",
) -> Any:
    """Bring a model back into this process, verified.

    The same checks as `python -m flows return`: every file's digest, inspection, every weight bit for bit, the probe's
    outputs. No alias is moved and no verdict written.

    The model is loaded in the caller's own process, where no sandbox is possible: what inspection lets through can do all
    that the caller can. `prove="child"` loads it in a confined process first (`tasks.safety.sandbox`), and here only where
    it passed there.

    Args:
        reference: `model` (its `latest`), `model@alias` or `model@version`.
        store: `s3://bucket/prefix`; by default `ROUNDTRIP_STORE`, else the embedded store.
        definition: `module:callable` or `file.py:callable` that rebuilds the architecture, in place of the one that the
            manifest names. Needed only for formats without an architecture, and where nobody on this machine ran it.
        arguments: Arguments of the definition, in place of the stored ones.
        allow: Dangerous findings to let through all the same: a kind (`code`), or `kind:where` for one of them.
        prove: `here`, or in a `child` before that.

    Returns:
        A Keras model with its optimizer, ready to be trained on; for a SavedModel a callable `ServedModel`. Either has
        `.history` with the training curves.

    Raises:
        NotFoundError: No such model, alias or version.
        UnsafeError: Tampered with, not signed as it must be, dangerous, or its definition is not trusted here.
        MismatchError: The definition builds another model than the stored one.
        VerificationFailed: It is not the model that was trained.
        UnreachableError: The store does not answer.
    """
    place = open_store(StoreConfig(url=store))
    manifest = read_manifest(place, *resolve(place, reference))
    rebuilt = definition_for(manifest, definition, arguments)
    folder = fetch(place, manifest)
    subject = f"{manifest.model}@{manifest.version}"
    # Before TensorFlow is imported.
    check_signature(folder, manifest)
    inspection = inspect_bundle(folder, manifest, definition and absolute(definition)).allowing(allow)
    refuse_dangerous(inspection, subject)
    if prove == "child":
        with Loader() as loader:
            _accept(judge(manifest, loader.measure(folder, manifest, rebuilt), inspection), subject)
    measured, model = measure(folder, manifest, rebuilt)
    _accept(judge(manifest, measured, inspection), subject)
    return model


def _accept(verdict: Verdict, subject: str) -> None:
    if not verdict.passed:
        raise VerificationFailed(f"{subject} is not the model that was trained:\n  " + "\n  ".join(verdict.reasons))


def definition_for(manifest: Manifest, given: str | None, arguments: dict[str, Any] | None) -> Definition:
    """The definition to rebuild from: the manifest's where it is trusted, or the one that the user names.

    Raises:
        UnsafeError: The format needs the manifest's definition and nobody on this machine ran it.
        InputError: A definition or arguments are given, and the format rebuilds nothing.
    """
    changes: dict[str, Any] = {}
    if (given is not None or arguments) and not needs_definition(manifest.format, manifest.carried):
        raise InputError(
            f"{manifest.model}@{manifest.version} holds its architecture ({manifest.format}): there is nothing to rebuild. "
            "Leave out --model and --model-arg."
        )
    if given is not None:
        changes["reference"] = absolute(given)
    elif needs_definition(manifest.format, manifest.carried):
        require_trusted(manifest.definition.reference)
    if arguments:
        changes["arguments"] = manifest.definition.arguments | arguments
    return manifest.definition.model_copy(update=changes)
