"""The table of what survives, as records and as documents."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tasks.serialization import FORMATS, PROMISES
from tasks.storage import layout
from tasks.verification.environment import current_environment
from tasks.verification.fidelity import Cell, Limits, Subject, Table
from tasks.verification.fidelity.cells import count, expected, failed, gist, one_line
from tasks.verification.fidelity.document import counts, head, not_kept, summary, table_html, table_markdown

SUBJECT = Subject(name="a", builder="m:a", data="generated")
NOTHING: dict[str, bool | None] = dict.fromkeys(PROMISES)


def cell(definition: str, format_name: str, kept: bool = True, **survives: bool) -> Cell:
    """Alone, only the weights come back."""
    return Cell(
        definition=definition,
        format=format_name,
        kept=kept,
        status="kept" if kept else "lost",
        survives=NOTHING | survives,
        alone=NOTHING | {p: p == "weights" for p in survives},
        why=None if kept else "a | b <script>",
    )


TABLE = Table(
    id=layout.new_version(),
    at=datetime(2026, 11, 24, tzinfo=UTC),
    environment=current_environment(),
    cells=[
        cell("a", "weights-h5", weights=True, optimizer=True, history=True),
        failed(SUBJECT, "full-h5", "refused", "no"),
        cell("b", "weights-h5", kept=False, weights=True, optimizer=False),
        failed(SUBJECT.model_copy(update={"name": "b"}), "full-h5", "crashed", "SIGSEGV"),
    ],
    seconds=61.4,
    workers=2,
)


@pytest.mark.parametrize("name", FORMATS)
def test_more_is_expected_where_a_model_can_be_trained_on(name: str) -> None:
    assert ("resume" in expected(name)) is FORMATS[name].trainable
    assert FORMATS[name].promises | {"history", "versions"} <= expected(name)


def test_a_promise_is_counted_alone_and_with_roundtrip() -> None:
    assert counts(TABLE, "weights-h5", "optimizer") == "0→1"
    assert counts(TABLE, "weights-h5", "weights") == "2"
    assert counts(TABLE, "weights-h5", "policy") == ""  # no model had one


def test_a_cell_is_summed_up_in_a_few_letters() -> None:
    assert [summary(c) for c in TABLE.cells] == ["1→3", "-", "1✗", "✗"]


def test_only_what_is_known_is_counted() -> None:
    assert count(NOTHING | {"weights": True, "history": False}) == (1, 2)


def test_the_head_counts_what_was_tried_apart_from_what_was_refused() -> None:
    assert head(TABLE).startswith("1 of 3 cells keep every promise; 1 more were refused when saving")


def test_what_loses_something_is_explained_before_what_was_refused() -> None:
    assert [c.status for c in not_kept(TABLE)] == ["lost", "crashed", "refused"]


def test_the_markdown_has_a_column_for_each_format_and_a_line_for_each_failure() -> None:
    lines = table_markdown(TABLE).splitlines()
    assert lines.count("|  | weights-h5 | full-h5 |") == 2
    assert "| b | 1✗ | ✗ |" in lines
    assert r"- b, weights-h5: a \| b &lt;script>" in lines


def test_the_html_runs_nothing() -> None:
    assert "<script>" not in table_html(TABLE)


def test_the_json_is_what_design_says() -> None:
    document = TABLE.model_dump(mode="json")
    assert {"definition", "format", "kept", "survives", "why"} <= document["cells"][0].keys()
    assert Table.model_validate(document) == TABLE


def test_a_reason_is_one_line_without_colours() -> None:
    assert one_line("\x1b[1mIt\n\n  failed\x1b[0m.") == "It failed."
    assert len(one_line("x" * 500)) == 200


def test_of_tensorflows_many_lines_the_telling_one_is_shown() -> None:
    error = ValueError(
        'Graph execution error:\n\nDetected at node a\n  File "x.py", line 1\n\nBad shapes: 1 and 2\n\t [[{{b}}]]'
    )
    assert gist(error) == "ValueError: Bad shapes: 1 and 2"
    assert gist(KeyError()) == "KeyError: "


def test_those_who_work_side_by_side_share_the_memory() -> None:
    alone, shared = Limits.shared_by(1, 60, None), Limits.shared_by(4, 60, None)
    assert alone.bytes // 4 == shared.bytes > 0
    assert Limits.shared_by(4, 60, 1.5).bytes == 1_500_000_000


def test_a_table_has_its_own_place_and_its_id_says_when() -> None:
    assert layout.fidelity("ID") == ".fidelity/ID/"
    assert abs((datetime.now(UTC) - layout.made_at(layout.new_version())).total_seconds()) < 60
