"""Verifying again what is stored: which versions, how each went, and what that means as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel

from tasks.errors import RoundtripError, UnsafeError, VerificationFailed, from_json
from tasks.storage import Filter, Store, layout, list_models, list_versions
from tasks.verification.returning import Returned


class Proof(BaseModel):
    """How a version went that was verified again.

    Attributes:
        reference: `model@version`.
        outcome: `verified`; `refused` by a verdict that is in the store; or `unverified`, for nothing was found out here.
        verdict: Its id; None where nothing was found out.
        latest: Whether `latest` points at the version.
        kind: Of the error, in the terms of `tasks.errors`; None where it passed.
        why: What the error says.
        seconds: From its first request to its verdict.
    """

    model_config = {"frozen": True}

    reference: str
    outcome: Literal["verified", "refused", "unverified"]
    verdict: str | None = None
    latest: bool = False
    kind: str | None = None
    why: str | None = None
    seconds: float = 0.0


def to_prove(store: Store, models: Sequence[str] = (), alias: str | None = layout.LATEST) -> list[str]:
    """References of what is to be verified, by model and then by age.

    Args:
        store: Where.
        models: Patterns of models' names; all where there is none.
        alias: Of each model, what it points at; models without it are left out. None: every version.
    """
    found = list_models(store, Filter(names=tuple(models)))
    if alias is None:
        return [f"{each.model}@{version}" for each in found for version in list_versions(store, each.model)]
    layout.model_name(alias)
    return [f"{each.model}@{each.aliases[alias]}" for each in found if alias in each.aliases]


def proof_of(reference: str, result: Returned | BaseException, seconds: float) -> Proof:
    """How it went, from what the downstream flow gave or raised."""
    returned = getattr(result, "outcome", None) if isinstance(result, BaseException) else result
    error = result if isinstance(result, BaseException) else None
    proof = Proof(reference=reference, outcome="verified" if error is None else "unverified", seconds=round(seconds, 2))
    if isinstance(returned, Returned):
        outcome: Literal["verified", "refused"] = "verified" if returned.verdict.passed else "refused"
        found = {"outcome": outcome, "verdict": returned.verdict.id, "latest": returned.latest}
        proof = proof.model_copy(update=found)
    if error is not None:
        kind = error.kind if isinstance(error, RoundtripError) else RoundtripError.kind
        proof = proof.model_copy(update={"kind": kind, "why": str(error) or type(error).__name__})
    return proof


def shortfall(proofs: Sequence[Proof]) -> RoundtripError | None:
    """The error for the gravest of what went wrong; None where all passed."""
    wrong = [proof for proof in proofs if proof.outcome != "verified"]
    if not wrong:
        return None
    refused = [proof for proof in wrong if proof.outcome == "refused"]
    kinds = {proof.kind for proof in refused or wrong}
    grave = next((kind for kind in (UnsafeError.kind, VerificationFailed.kind) if kind in kinds), None)
    passed, missed = len(proofs) - len(wrong), len(wrong) - len(refused)
    counts = f"Of {len(proofs)} versions: {passed} verified, {len(refused)} refused, {missed} could not be verified."
    lines = "".join(f"\n  {proof.reference}: {_in_one_line(proof.why)}" for proof in wrong)
    return from_json({"kind": grave or wrong[0].kind, "message": counts + lines})


def _in_one_line(text: str | None) -> str:
    return " ".join((text or "").split())[:400]
