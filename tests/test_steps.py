"""What Prefect's tasks hand each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prefect.utilities.collections import visit_collection
from pydantic import BaseModel

from tasks.steps import whole


class Untouchable(BaseModel):
    """A record whose parts nobody may look at."""

    part: int = 1

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        raise AssertionError("taken apart")


def test_a_record_in_one_piece_is_seen_but_not_taken_apart() -> None:
    record, seen = Untouchable(), []

    def visit(value: Any) -> Any:
        seen.append(value)
        return value

    # As Prefect does with each argument of a task.
    given = visit_collection(whole(record), visit_fn=visit, return_data=True, remove_annotations=True)

    assert given is record
    assert record in seen  # from which task it is, Prefect knows by the record itself
