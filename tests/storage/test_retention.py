from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import InputError
from tasks.storage.upkeep.retention import (
    KeepAliased,
    KeepLast,
    KeepYoungerThan,
    Known,
    Retention,
    age_text,
    parse_age,
    split,
)

NOW = datetime(2026, 11, 24, tzinfo=UTC)
DAY = timedelta(days=1)
known = st.lists(st.integers(0, 90), max_size=12).map(
    lambda ages: [Known(f"v{number:02}", NOW - age * DAY) for number, age in enumerate(sorted(ages, reverse=True))]
)


def ids(versions: list[Known]) -> list[str]:
    return [each.version for each in versions]


@given(known, st.integers(0, 15))
def test_keep_last_keeps_the_newest(versions: list[Known], count: int) -> None:
    kept, going = split(versions, [KeepLast(count)], NOW)

    assert len(kept) == min(count, len(versions))
    assert all(old < young for old in ids(going) for young in kept)


@given(known, st.integers(0, 90))
def test_keep_younger_than_keeps_by_age(versions: list[Known], days: int) -> None:
    kept, going = split(versions, [KeepYoungerThan(days * DAY)], NOW)

    assert set(kept) == {each.version for each in versions if NOW - each.committed < days * DAY}
    assert len(kept) + len(going) == len(versions)


@given(known, st.integers(0, 15), st.integers(0, 90), st.sets(st.integers(0, 14)))
def test_what_one_policy_keeps_no_other_takes(versions: list[Known], count: int, days: int, aliased: set[int]) -> None:
    pointers = {f"alias-{number}": f"v{number:02}" for number in aliased}
    policies = [KeepAliased(pointers), KeepLast(count), KeepYoungerThan(days * DAY)]

    kept, going = split(versions, policies, NOW)

    assert set(kept) == set().union(*(policy.keeps(versions, NOW) for policy in policies))
    assert ids(going) == [v for v in ids(versions) if v not in kept]


@given(known)
def test_without_a_policy_everything_stays(versions: list[Known]) -> None:
    kept, going = split(versions, Retention().policies({}), NOW)

    assert (list(kept), going) == (ids(versions), [])


def test_aliased_versions_stay_though_nothing_else_does() -> None:
    versions = [Known("v1", NOW - 90 * DAY), Known("v2", NOW - 80 * DAY)]

    kept, going = split(versions, Retention(keep_last=0).policies({"latest": "v1", "gone": "v0"}), NOW)

    assert (kept, ids(going)) == ({"v1": "has an alias"}, ["v2"])


def test_the_form_takes_ages_as_people_write_them() -> None:
    retention = Retention.model_validate({"keep_last": 3, "keep_younger_than": "30d", "leftovers_older_than": "12h"})

    assert (retention.keep_younger_than, retention.leftovers_older_than) == (30 * DAY, DAY / 2)
    assert Retention.model_validate_json(retention.model_dump_json()) == retention


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("45m", 2700), ("12h", 43200), ("30d", 2592000), (" 4w ", 2419200)]
)
def test_ages_have_a_unit(text: str, seconds: int) -> None:
    assert parse_age(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "30", "d", "-1d", "1.5h", "30 days", "1d2h", "99999999d"])
def test_what_is_no_age_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is not an age"):
        parse_age(text)


@given(st.integers(1, 10**8))
def test_an_age_is_read_back_as_it_was_written(seconds: int) -> None:
    age = timedelta(seconds=seconds)

    text = age_text(age)

    assert len(text) > 7 or parse_age(text) == age
