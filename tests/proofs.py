"""Verdicts as a returning process leaves them, without the process."""

from __future__ import annotations

from datetime import UTC, datetime

from tasks.storage import Store, layout
from tasks.verification import Verdict, record


def verdict_on(model: str, version: str, *, passed: bool = True) -> Verdict:
    """A verdict, and nothing measured for it."""
    reasons = [] if passed else ["weights: dense/kernel differs"]
    return Verdict(
        id=layout.new_version(),
        model=model,
        version=version,
        at=datetime.now(UTC),
        passed=passed,
        intact=True,
        reasons=reasons,
    )


def proved(store: Store, model: str, version: str, *, passed: bool = True) -> Verdict:
    """Record a verdict on a version."""
    verdict = verdict_on(model, version, passed=passed)
    record(store, verdict)
    return verdict
