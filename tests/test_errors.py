"""One tree of errors, each with its exit code, that cross a process as JSON."""

from __future__ import annotations

import json

import pytest

from tasks.children import ChildDied
from tasks.errors import RoundtripError, from_json


def family(root: type[RoundtripError]) -> list[type[RoundtripError]]:
    return [root, *(member for sub in root.__subclasses__() for member in family(sub))]


FAMILY = family(RoundtripError)


@pytest.mark.parametrize("error", FAMILY)
def test_an_error_crosses_a_process_as_what_it_is(error: type[RoundtripError]) -> None:
    again = from_json(json.loads(json.dumps(error("the store is full").to_json())))
    assert (type(again), str(again)) == (error, "the store is full")


def test_every_error_has_a_kind_of_its_own() -> None:
    kinds = [error.kind for error in FAMILY]
    assert len(kinds) == len(set(kinds)) and ChildDied.kind in kinds


def test_an_error_of_an_unknown_kind_is_still_one_of_ours() -> None:
    again = from_json({"kind": "from the future", "message": "no", "exit_code": 9})
    assert (type(again), str(again)) == (RoundtripError, "no")


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("verification", 1),
        ("training", 1),
        ("input", 2),
        ("mismatch", 2),
        ("unsafe", 3),
        ("unreachable", 4),
        ("not-found", 5),
    ],
)
def test_the_exit_codes_are_those_of_the_design(kind: str, code: int) -> None:
    document = from_json({"kind": kind, "message": "m"}).to_json()
    assert document == {"kind": kind, "message": "m", "exit_code": code}
