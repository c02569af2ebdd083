"""What people see: the tables at 80 columns, letter by letter."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from io import StringIO

from rich.console import Console

from flows.desk import Outcome
from flows.show import summary, verdict_lines
from tasks.errors import VerificationFailed
from tasks.storage import VersionRef
from tasks.verification import Verdict
from tasks.verification.returning import Returned

_ID = "01a20a46-a11a-7983-83f4-37f377153497"


def _verdict(*, passed: bool) -> Verdict:
    return Verdict(
        id=_ID,
        model="digits",
        version=_ID,
        at=datetime(2026, 11, 23, tzinfo=UTC),
        passed=passed,
        intact=True,
        safe=True,
        loads=True,
        weights_equal=passed,
        outputs_equal=passed,
        max_abs_diff=0.0 if passed else 0.25,
        resumable=True if passed else None,
        survived={"architecture": True, "weights": passed, "optimizer": True, "compile": True, "outputs": passed},
        score=0.955,
        stored_score=0.955,
    )


def _outcome(*, passed: bool) -> Outcome:
    version = VersionRef(model="digits", version=_ID, uri="s3://models/digits", bytes=1_440_000, format="full-h5")
    returned = Returned(version=version, path="/cache", verdict=_verdict(passed=passed), latest=passed)
    return Outcome("full-h5", version, returned, None if passed else VerificationFailed("no"), 11.94)


def _printed(*renderables: object) -> str:
    console = Console(file=StringIO(), width=80)
    console.print(*renderables, sep="\n")
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())  # type: ignore[attr-defined]


def test_the_summary_of_the_main_job() -> None:
    text = _printed(summary([_outcome(passed=True), _outcome(passed=False)]))

    assert text == (
        """\
Returned in another process

                   accuracy  accuracy   output  weights  trains
 scenario    size    before     after  differs    equal      on    took
 ──────────────────────────────────────────────────────────────────────
 full-h5   1.4 MB     95.5%     95.5%        0      yes     yes  11.9 s
 full-h5   1.4 MB     95.5%     95.5%     0.25       no       -  11.9 s

What survived

           archi-            opti-           his-  signa-
 scenario  tecture  weights  mizer  compile  tory   ture   outputs
 ─────────────────────────────────────────────────────────────────
 full-h5     yes      yes     yes     yes     -      -       yes
 full-h5     yes      no      yes     yes     -      -       no

from tasks import load_model
load_model("digits@01a20a46-a11a-7983-83f4-37f377153497")
digits@01a20a46-a11a-7983-83f4-37f377153497 was refused"""
    )


def test_the_summary_says_what_could_not_be_written_down() -> None:
    outcome = _outcome(passed=True)
    told = outcome.returned.model_copy(update={"latest": False, "unwritten": "`latest` did not move: denied"})

    text = _printed(summary([replace(outcome, returned=told)]))

    assert text.endswith(f'load_model("digits@{_ID}")\ndigits@{_ID}: `latest` did not move: denied')


def test_a_passed_verdict() -> None:
    text = _printed(*verdict_lines(_verdict(passed=True), "/cache"))

    assert text == (
        """\
verified  digits@01a20a46-a11a-7983-83f4-37f377153497
  yes  intact
  yes  safe
  yes  loads in a fresh process
  yes  same weights, bit for bit
  yes  same outputs  largest difference 0
  yes  one more training step
  what survived: architecture, weights, optimizer, compile, outputs
  files: /cache"""
    )
