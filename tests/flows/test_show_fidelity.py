"""What people see of the table of what survives."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from flows.commands.fidelity import _formats, _subjects
from flows.runners import task_runner
from flows.show_fidelity import Cells, table_view
from tasks.definitions.families import FAMILIES
from tasks.errors import InputError
from tasks.serialization import FORMATS, PROMISES
from tasks.verification.fidelity import Cell, Table
from tests.verification.test_fidelity import TABLE


def printed(table: Table, width: int = 80) -> list[str]:
    console = Console(file=StringIO(), width=width)
    console.print(table_view(table))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def test_the_tables_letter_by_letter() -> None:
    lines = printed(TABLE)
    definitions = lines.index("By definition: how many promises, alone → with Roundtrip")
    assert lines[definitions + 1 : definitions + 12] == [
        "  weights full",
        "       h5   h5",
        "──────────────",
        "a     1→3    -",
        "b      1✗    ✗",
        "- refused when saving   ✗ not all that should",
        "",
        "b, weights-h5  a | b <script>",
        "b, full-h5  SIGSEGV",
        "a, full-h5  no",
        "",
    ]
    assert "optimizer        0→1" in lines


def test_all_formats_and_the_longest_names_fit_80_columns() -> None:
    def kept(count: int) -> dict[str, bool | None]:
        return {p: i < count for i, p in enumerate(PROMISES)}

    # The most that was measured; exports keep less.
    cells = [
        Cell(definition=d, format=name, kept=False, status="lost", survives=kept(10 if f.trainable else 7), alone=kept(4))
        for d in FAMILIES
        for name, f in FORMATS.items()
    ]
    lines = printed(TABLE.model_copy(update={"cells": cells}))
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines)
    assert sum("4→10✗" in line for line in lines) == len(FAMILIES)


def test_a_cell_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    cells = Cells(4)
    for _ in range(2):
        cells.tell(TABLE.cells[2])
    assert sum(cells._seen.values()) == 1


def test_ones_own_model_is_a_row_beside_the_built_in_ones() -> None:
    everything = _subjects("m.py_:mlp", ["hidden=3"], None, [], False, 4)
    assert (everything[-1].name, everything[-1].arguments, everything[-1].data) == ("mlp", {"hidden": 3}, "generated")
    assert [s.name for s in everything[:-1]] == [f.name for f in FAMILIES.values() if not f.heavy]
    assert {s.epochs for s in everything} == {s.more_epochs for s in everything} == {4}
    assert len(_subjects("m.py_:mlp", [], None, [], True, 2)) == 1
    assert [s.name for s in _subjects(None, [], None, ["gigabytes"], False, 2)] == ["gigabytes"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, [], "a.npz", [], False, 2), "go with --model"),
        ((None, [], None, [], True, 2), "go with --model"),
        (("m:f", [], None, ["nested"], True, 2), "leaves them all out"),
    ],
)
def test_options_that_contradict_each_other_are_refused(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        _subjects(*arguments)  # type: ignore[arg-type]


def test_any_task_runner_of_prefects_can_be_named() -> None:
    for name in ("threads", "prefect.task_runners:ThreadPoolTaskRunner"):
        with task_runner(name, 3) as runner:
            assert type(runner).__name__ == "ThreadPoolTaskRunner"
    with pytest.raises(InputError, match="no module 'nowhere'"), task_runner("nowhere:Runner", 1):
        pass


def test_formats_are_those_named_or_all() -> None:
    assert _formats(["full-h5", "full-h5"]) == ["full-h5"]
    assert _formats([]) == list(FORMATS)
    with pytest.raises(InputError, match="no format 'pmml'"):
        _formats(["pmml"])
