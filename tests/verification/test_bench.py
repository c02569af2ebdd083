"""A row of the table, whatever happens in the processes that work for it."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from tasks.crew import Stopped
from tasks.verification.fidelity import Bench, Cell, Limits, Subject

FORMATS = ["saved-model", "weights-h5", "full-h5"]
PATIENT = Limits(seconds=300)


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench("tests.verification.fidelity_worker")


def row(bench: Bench, play: str, limits: Limits = PATIENT) -> list[Cell]:
    told: list[Cell] = []
    cells = bench.row(Subject(name="it", builder=play, data="generated"), FORMATS, limits, told.append)
    assert sorted(told, key=lambda c: FORMATS.index(c.format)) == cells  # each is told once
    return cells


def status(cells: list[Cell]) -> list[str]:
    return [c.status for c in cells]


def test_a_row_has_a_cell_for_each_format_in_their_order(bench: Bench) -> None:
    cells = row(bench, "fine")
    assert [c.format for c in cells] == FORMATS
    assert [(c.kept, c.status, c.why) for c in cells] == [(True, "kept", None)] * 3


def test_what_the_format_alone_loses_stands_beside_what_comes_back(bench: Bench) -> None:
    cell = row(bench, "fine")[1]
    assert (cell.alone["optimizer"], cell.survives["optimizer"], cell.alone_why) == (False, True, "can't go on")


def test_a_process_that_dies_while_it_saves_costs_one_cell(bench: Bench) -> None:
    cells = row(bench, "dies-saving")
    assert status(cells) == ["kept", "crashed", "kept"]
    assert str(cells[1].why).startswith("saving: The process was killed by SIGSEGV")


def test_a_process_that_dies_while_it_trains_costs_the_row(bench: Bench) -> None:
    cells = row(bench, "dies-training")
    assert status(cells) == ["crashed"] * 3
    assert {str(c.why)[:40] for c in cells} == {"training: The process was killed by SIGS"}


def test_a_process_that_dies_while_it_measures_costs_one_cell(bench: Bench) -> None:
    cells = row(bench, "dies-returning")
    assert status(cells) == ["kept", "crashed", "kept"]
    assert str(cells[1].why).startswith("returning: The process was killed by SIGSEGV")


def test_what_was_measured_before_a_process_died_is_kept(bench: Bench) -> None:
    cell = row(bench, "dies-resuming")[1]
    assert (cell.status, cell.kept, cell.survives["weights"]) == ("crashed", False, True)
    assert str(cell.why).startswith("training on: The process was killed by SIGSEGV")


def test_a_refusal_is_told_in_one_line(bench: Bench) -> None:
    cell = row(bench, "refuses")[1]
    assert (cell.status, cell.why, cell.survives) == ("refused", "it can't be saved so", {})


def test_a_save_that_changed_the_model_does_not_touch_the_other_formats(bench: Bench) -> None:
    assert status(row(bench, "disturbs")) == ["kept"] * 3


def test_resuming_is_not_called_kept_where_the_run_that_went_on_is_unknown(bench: Bench) -> None:
    cells = row(bench, "dies-going-on")
    assert status(cells) == ["kept", "lost", "lost"]  # a SavedModel is not expected to be trained on
    assert "resuming can't be compared" in str(cells[1].why)


def test_resuming_is_not_called_kept_where_the_same_training_gives_other_weights(bench: Bench) -> None:
    cells = row(bench, "never-the-same")
    assert status(cells) == ["kept", "crashed", "lost"]
    assert "two processes that train the same get other weights" in str(cells[2].why)
    assert cells[2].survives["resume"] is None  # the goal is another model's


def test_a_promise_that_is_not_kept_is_named(bench: Bench) -> None:
    assert {c.why for c in row(bench, "loses-history")} == {"did not survive: history"}


def test_work_that_says_nothing_for_too_long_is_ended(bench: Bench) -> None:
    cells = row(bench, "hangs", Limits(seconds=3))
    assert status(cells) == ["crashed"] * 3
    assert str(cells[0].why).startswith("saving: It took longer than the limit of 3 s")


def test_a_bench_that_is_stopped_ends_its_work_and_takes_no_more() -> None:
    bench = Bench("tests.verification.fidelity_worker")
    raised: list[BaseException] = []

    def work() -> None:
        try:
            row(bench, "hangs")
        except Stopped as stopped:
            raised.append(stopped)

    thread = threading.Thread(target=work)
    thread.start()
    while not bench._crew._working:
        time.sleep(0.01)
    bench.stop()
    thread.join()
    assert len(raised) == 1
    with pytest.raises(Stopped):
        row(bench, "fine")


def test_a_row_leaves_no_files_behind(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    row(bench, "dies-saving")
    assert list(tmp_path.iterdir()) == []
