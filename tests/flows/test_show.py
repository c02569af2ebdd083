"""What people see: the tables at 80 columns, letter by letter."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from io import StringIO

import pytest
from rich.console import Console

from flows import show
from flows.desk import Outcome
from flows.show import Board, summary, verdict_lines
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

               full-h5  full-h5
 ──────────────────────────────
 architecture    yes      yes
 weights         yes      no
 state            -        -
 optimizer       yes      yes
 compile         yes      yes
 policy           -        -
 signature        -        -
 history          -        -
 versions         -        -
 outputs         yes      no
 resume           -        -

from tasks import load_model
load_model("digits@01a20a46-a11a-7983-83f4-37f377153497")
digits@01a20a46-a11a-7983-83f4-37f377153497 was refused"""
    )


def _moment(done: int) -> dict[str, dict[str, object]]:
    return {"transfer": {"what": "fetching", "done": done, "total": 3 * 10**9, "rate": 5e8, "left": (3e9 - done) / 5e8}}


def test_a_long_transfer_has_a_bar_with_bytes_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=StringIO(), width=120, force_terminal=True, color_system=None)
    monkeypatch.setattr(show, "err", console)
    board = Board(["digits"], 0)
    with board.shown():
        assert board._bars.tasks[0].visible is False
        board.event("digits", _moment(2 * 10**9))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "2000/3000" in text and "fetching 2,000 of 3,000 MB, 500 MB/s, 2 s left" in text


def test_without_a_terminal_a_transfer_is_one_line_every_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=StringIO(), width=120)
    monkeypatch.setattr(show, "err", console)
    board = Board(["digits"], 0)
    with board.shown():
        for done in range(10):
            board.event("digits", _moment(done * 10**8))
    (line,) = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert line.endswith("digits: fetching 0 of 3,000 MB, 500 MB/s, 6 s left")


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
