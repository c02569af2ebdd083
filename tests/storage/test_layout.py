from __future__ import annotations

import os
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tasks.errors import InputError, UnsafeError
from tasks.storage import layout

NAME_CHARACTERS = string.ascii_letters + string.digits + "._=-"
PARTS = st.sampled_from(["a", "b.c", "..", ".", "", "...", "~", "a b", "é", "\\", "C:", "\0"])


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._=-]{0,127}", fullmatch=True))
def test_a_name_of_plain_characters_is_kept_as_it_is(name: str) -> None:
    assert layout.model_name(name) == name


@given(st.text(max_size=140))
@example("")
@example("a/b")
@example("..")
@example(".hidden")
@example("digits\n")
@example("x" * 129)
@example("modèle")
def test_any_other_name_is_refused(name: str) -> None:
    plain = 1 <= len(name) <= 128 and set(name) <= set(NAME_CHARACTERS) and name[0] not in "._=-"
    if plain:
        assert layout.model_name(name) == name
    else:
        with pytest.raises(InputError, match="can't be a model's or an alias' name"):
            layout.model_name(name)


def test_keys_are_the_documented_ones() -> None:
    version = "0192f0c1-2b3c-7d4e-8f50-123456789abc"
    assert layout.manifest("digits", version) == f"digits/versions/{version}/manifest.json"
    assert layout.bundle("digits", version) == f"digits/versions/{version}/"
    assert layout.verdicts("digits", version) == f"digits/verdicts/{version}/"
    assert layout.revision("digits", "latest", 0) == "digits/aliases/latest/9999999999.json"


@given(st.integers(0, 10**10 - 1), st.integers(0, 10**10 - 1))
def test_the_newest_revision_sorts_first(one: int, other: int) -> None:
    keys = {number: layout.revision("m", "latest", number) for number in (one, other)}
    assert sorted(keys, reverse=True) == [number for number, _ in sorted(keys.items(), key=lambda item: item[1])]


@given(st.lists(st.integers(0, 2**48 - 1), min_size=2, max_size=20, unique=True))
def test_versions_sort_by_the_millisecond_in_which_they_were_made(stamps: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        made = []
        for stamp in sorted(stamps):
            patch.setattr("time.time_ns", lambda stamp=stamp: stamp * 1_000_000)
            made.append(layout.new_version())
    assert made == sorted(made)


def test_versions_of_one_millisecond_differ() -> None:
    assert len({layout.new_version() for _ in range(2000)}) == 2000


def test_a_new_version_is_a_uuid_of_version_7() -> None:
    import uuid

    value = uuid.UUID(layout.new_version())
    assert (value.version, value.variant) == (7, uuid.RFC_4122)
    assert layout.is_version(str(value))


@pytest.mark.parametrize(
    "text", ["latest", "", "0192f0c1-2b3c-4d4e-8f50-123456789abc", "../0192f0c1-2b3c-7d4e-8f50-123456789abc"]
)
def test_what_is_no_uuid_of_version_7_is_no_version(text: str) -> None:
    assert not layout.is_version(text)


@given(st.lists(PARTS, max_size=5).map("/".join))
@example("../x")
@example("/etc/passwd")
@example("a/../../x")
@example("a\\..\\b")
@example(".")
@example("./a")
@example("a//b")
@example("a/")
def test_an_accepted_path_names_one_place_strictly_inside_the_bundle(path: str) -> None:
    try:
        layout.check_relative(path)
    except UnsafeError:
        return
    assert os.path.normpath(f"/bundle/{path}") == f"/bundle/{path}"
    assert "\\" not in path and "\0" not in path


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../b", "a\\b", "..", ".", "", "./a", "a//b", "a/", "a\0b"])
def test_a_path_that_is_not_plain_is_refused(path: str) -> None:
    with pytest.raises(UnsafeError, match="not a plain path"):
        layout.check_relative(path)


@pytest.mark.parametrize("path", ["a", "model/variables/variables.data-00000-of-00001", "model/modèle é.bin", "..a/b.."])
def test_a_plain_path_is_kept(path: str) -> None:
    assert layout.check_relative(path) == path
