"""The verdict: measurements held against promises, in DESIGN.md's rising order, kept in the store for ever."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ValidationError

from tasks.errors import UnsafeError
from tasks.safety import Finding, Inspection
from tasks.serialization import format_named
from tasks.storage import Environment, Manifest, Store, layout
from tasks.verification.measure import Measurement

# Where the recorded arithmetic is not ours. FACTS.md: other instruction sets differ by up to 4e-8 of outputs around 1.
_RELATIVE_TOLERANCE = 1e-5


class Verdict(BaseModel):
    """What one verification found. `None` is what was not measured.

    Attributes:
        passed: Every promise of the format was kept.
        intact: Every file has the digest in the manifest.
        safe: Inspection found nothing dangerous that was not allowed.
        loads: In a fresh process; without the model's source where the format promises so.
        weights_equal: Every variable, bit for bit; None where the format does not promise them (an export folds them into
            others), so that the outputs alone must tell.
        outputs_equal: On the probe; bit for bit where `tolerance` is 0, else within it.
        max_abs_diff: Largest difference of an output.
        resumable: One more training step gave the same weights on both sides; None where the format can't be trained on.
        tolerance: Absolute, for the outputs: 0 where the arithmetic is `exact` and the format returns bits.
        allowed: `kind:where` of every dangerous finding that the user let through by `--allow`.
        exact: Whether the arithmetic here is the recorded one.
        reasons: A sentence for each thing that failed.
        survived: What came back, in the terms of the formats' promises.
        score: Share of the probe's examples that the returned model gets right, where the targets are classes.
        stored_score: The same for the outputs that the trained model gave.
        lost: What could not be given back.
        healed: What the format itself would have lost of this model, and came back all the same.
        elsewhere: Which other environment was asked for; such a verdict moves no alias. Empty: the one that asked.
        signature: `valid`, `unsigned`, `unchecked` where no key was named, or `refused` by this reader's policy and keys.
        environment: Of the process that loaded it: versions, platform, arithmetic.
        confined: What the process that loaded it was held to, as far as this kernel can: `tasks.safety.sandbox`.
    """

    model_config = {"frozen": True}

    id: str
    model: str
    version: str
    at: datetime
    passed: bool
    intact: bool
    safe: bool | None = None
    loads: bool | None = None
    weights_equal: bool | None = None
    outputs_equal: bool | None = None
    max_abs_diff: float | None = None
    resumable: bool | None = None
    findings: list[Finding] = []
    allowed: list[str] = []
    exact: bool = True
    tolerance: float = 0.0
    reasons: list[str] = []
    survived: dict[str, bool] = {}
    score: float | None = None
    stored_score: float | None = None
    lost: list[str] = []
    healed: list[str] = []
    environment: Environment | None = None
    elsewhere: str = ""
    signature: str | None = None
    confined: list[str] | None = None
    seconds: float = 0.0

    @property
    def binds(self) -> bool:
        """Whether it counts for everybody: not under another environment, nor by one reader's policy and keys."""
        return not self.elsewhere and self.signature != "refused"

    @property
    def proves(self) -> bool:
        """Whether an alias may point at the version for it: it passed for everybody, and nobody made an exception."""
        return self.passed and self.binds and not self.allowed


def judge(manifest: Manifest, measured: Measurement, inspection: Inspection = Inspection()) -> Verdict:
    """Hold what was measured against what the manifest and the format's promises say. Pure."""
    reasons = _dangers(inspection)
    exact = measured.environment.arithmetic == manifest.environment.arithmetic
    format_ = format_named(manifest.format)
    # Another runtime is another arithmetic, wherever it runs.
    relative = max(format_.output_tolerance, 0.0 if exact else _RELATIVE_TOLERANCE)
    tolerance = relative * max(1.0, measured.max_abs_output or 0.0)
    safe = not reasons
    if safe and not measured.loads:
        reasons.append(f"it does not load: {measured.error}")
    weights_equal = None if measured.weights is None else not measured.weights
    reasons += [f"weights: {line}" for line in measured.weights or []]
    outputs_equal = _outputs_equal(measured, tolerance)
    if outputs_equal is False and measured.loads:
        detail = measured.error or f"they differ by up to {measured.max_abs_diff:.3g}"
        reasons.append(f"outputs: {detail} (allowed: {tolerance:.3g})")
    # Another arithmetic trains to other bits: there, resuming is not refuted, only not measurable.
    resumable = None if measured.resumed is None or not exact else not measured.resumed
    if resumable is False:
        reasons += [f"one more training step: {line}" for line in measured.resumed or []]
    promised = format_.promises - {"outputs", "weights", "architecture"}
    weights_kept = weights_equal is True if "weights" in format_.promises else weights_equal is not False
    reasons += [
        f"{p} did not survive, as {manifest.format} promises" for p in sorted(promised) if measured.survived.get(p) is False
    ]
    return Verdict(
        id=layout.new_version(),
        model=manifest.model,
        version=manifest.version,
        at=datetime.now(UTC),
        passed=not reasons and weights_kept and outputs_equal is True,
        intact=True,
        safe=safe,
        loads=measured.loads,
        weights_equal=weights_equal,
        outputs_equal=outputs_equal,
        max_abs_diff=measured.max_abs_diff,
        resumable=resumable,
        findings=list(inspection.findings),
        allowed=list(inspection.allowed),
        exact=exact,
        tolerance=tolerance,
        reasons=reasons,
        survived=measured.survived
        | ({"outputs": bool(outputs_equal)} if measured.survived else {})
        | ({} if resumable is None else {"resume": resumable}),
        score=measured.score,
        stored_score=measured.stored_score,
        lost=measured.lost,
        healed=list(manifest.carried.healed) if measured.loads else [],
        environment=measured.environment,
        elsewhere=measured.elsewhere,
        signature=inspection.signature,
        confined=measured.confined,
        seconds=measured.seconds,
    )


def not_intact(manifest: Manifest, reason: str) -> Verdict:
    """The verdict on a version whose files are not those that were published."""
    return _unmeasured(manifest, intact=False, reasons=[reason])


def not_signed(manifest: Manifest, reason: str) -> Verdict:
    """The verdict on a version whose signature this reader does not take. Other readers have other keys: it binds none."""
    return _unmeasured(manifest, intact=False, signature="refused", reasons=[reason])


def unsafe(manifest: Manifest, inspection: Inspection) -> Verdict:
    """The verdict on a version that inspection refused, and that nothing loaded."""
    found, allowed = list(inspection.findings), list(inspection.allowed)
    return _unmeasured(manifest, intact=True, safe=False, findings=found, allowed=allowed, reasons=_dangers(inspection))


def record(store: Store, verdict: Verdict) -> None:
    """Add a verdict to the store; earlier ones stay."""
    key = layout.verdict(verdict.model, verdict.version, verdict.id, elsewhere=not verdict.binds)
    store.put_if_absent(key, verdict.model_dump_json(indent=1).encode())


def read_verdicts(store: Store, model: str, version: str) -> list[Verdict]:
    """All verdicts of a version, the oldest first.

    Raises:
        UnsafeError: One of them is no verdict, or another version's.
    """
    return [_read(store, model, version, key) for key in store.keys(layout.verdicts(model, version))]


def newest_verdict(store: Store, model: str, version: str) -> Verdict | None:
    """The newest verdict of a version; one list request and one read, however often it was verified.

    Those of other environments are passed over: they neither prove nor refute it for this one.

    Raises:
        UnsafeError: It is no verdict, or another version's.
    """
    keys = [key for key in store.keys(layout.verdicts(model, version)) if not layout.is_elsewhere(key)]
    return _read(store, model, version, keys[-1]) if keys else None


def _unmeasured(manifest: Manifest, **found: Any) -> Verdict:
    at, version = datetime.now(UTC), manifest.version
    return Verdict(id=layout.new_version(), model=manifest.model, version=version, at=at, passed=False, **found)


def _dangers(inspection: Inspection) -> list[str]:
    return [f"{f.kind}: {f.where}: {f.message}" for f in inspection.refused]


def _read(store: Store, model: str, version: str, key: str) -> Verdict:
    """A verdict from the store, which anybody with a key to the store may have written."""
    try:
        verdict = Verdict.model_validate_json(store.get(key))
    except ValidationError as error:
        raise UnsafeError(f"{store.uri(key)} is not a verdict: {error.errors()[0]['msg']}.") from None
    if (verdict.model, verdict.version) != (model, version):
        raise UnsafeError(f"{store.uri(key)} is a verdict on {verdict.model}@{verdict.version}: it was copied there.")
    if key != layout.verdict(model, version, verdict.id, elsewhere=not verdict.binds):
        raise UnsafeError(f"{store.uri(key)} is the verdict {verdict.id}, of another place: it was copied there.")
    return verdict


def _outputs_equal(measured: Measurement, tolerance: float) -> bool | None:
    # No difference was measured where the outputs can't be compared as numbers (other shapes, strings).
    if tolerance == 0.0 or measured.outputs_identical is not False or measured.max_abs_diff is None:
        return measured.outputs_identical
    return measured.max_abs_diff <= tolerance
