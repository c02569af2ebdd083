"""What Prefect's UI makes of our pydantic fields: a form. It sorts by `position`, and shows a description as plain text.

A field `X | None` is shown there as a switch between two pages, the second with nothing but `Property is type "None"`. What
may simply stay empty reads better as one input; the server takes a null for every field that is not required and has no
default in its schema.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def place(position: int) -> dict[str, Any]:
    """The field's place in its group."""
    return {"position": position}


def may_be_empty(position: int) -> Callable[[dict[str, Any]], None]:
    """The place of a field `X | None = None`, which is one input that may stay empty.

    Not for a choice: its schema would refuse a null that a program sends.
    """

    def simplify(schema: dict[str, Any]) -> None:
        (filled,) = (branch for branch in schema.pop("anyOf") if branch.get("type") != "null")
        schema.pop("default", None)
        schema.update({"position": position, **filled})

    return simplify
