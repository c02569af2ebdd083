"""References to the user's own code."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import InputError
from tasks.references import absolute, resolve


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a module and a file of the user's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "my_net.py").write_text("def build():\n    return 1\n\nWIDTH = 3\n\ndef _helper(): ...\n")
    return tmp_path


def test_a_file_of_the_working_folder_becomes_absolute(here: Path) -> None:
    assert absolute("my_net.py:build") == f"{here}/my_net.py:build"


def test_a_module_stays_as_it_is() -> None:
    assert absolute("package.module:build") == "package.module:build"


def test_a_file_gives_its_callable(here: Path) -> None:
    assert resolve("my_net.py:build")() == 1


def test_a_module_of_the_working_folder_is_found(here: Path) -> None:
    try:
        assert resolve("my_net:build")() == 1
    finally:
        sys.modules.pop("my_net", None)


def test_a_file_is_imported_once(here: Path) -> None:
    assert resolve("my_net.py:build") is resolve(f"{here}/my_net.py:build")


def test_two_files_of_one_name_are_kept_apart(here: Path) -> None:
    (here / "other").mkdir()
    (here / "other" / "my_net.py").write_text("def build():\n    return 2\n")
    assert [resolve(r)() for r in ("my_net.py:build", "other/my_net.py:build", "my_net.py:build")] == [1, 2, 1]


@given(st.text(st.characters(exclude_characters=":")))
def test_what_has_no_callable_is_no_reference(text: str) -> None:
    with pytest.raises(InputError, match="is not a reference"):
        absolute(text)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (":build", "is not a reference"),
        ("my_net:", "is not a reference"),
        ("my_net:build()", "is not a reference"),
        ("no_net.py:build", "no_net.py:build: there is no file .*/no_net.py"),
        ("no_net:build", r"There is no module 'no_net' \(looked for 'no_net'\)"),
        ("tasks.no_net:build", "There is no module 'tasks.no_net'"),
        ("mlxtend_no:mnist", "uv sync --extra mnist"),
        ("my_net.py:bild", "has no 'bild'. It has: build.$"),
        ("my_net.py:WIDTH", "is int, not a callable"),
    ],
)
def test_a_reference_that_names_nothing_is_refused_with_the_reason(here: Path, reference: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve(reference)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("1 / 0", "failed: ZeroDivisionError: division by zero"),
        ("def build(:", "failed: SyntaxError"),
        ("import no_such_dependency", "no_such_dependency"),
    ],
)
@pytest.mark.parametrize("reference", ["broken_net.py:build", "broken_net:build"])
def test_an_import_that_fails_is_told_with_its_cause(here: Path, code: str, message: str, reference: str) -> None:
    (here / "broken_net.py").write_text(code)
    with pytest.raises(InputError, match=f"Importing .*broken_net.*{message}"):
        resolve(reference)


def test_a_missing_dependency_is_not_taken_for_the_module_itself(here: Path) -> None:
    (here / "needy_net.py").write_text("import no_such_dependency")
    with pytest.raises(InputError, match="Importing 'needy_net' failed: it needs the module 'no_such_dependency'"):
        resolve("needy_net:build")


def test_a_file_that_failed_is_read_again(here: Path) -> None:
    (here / "mended_net.py").write_text("1 / 0")
    with pytest.raises(InputError):
        resolve("mended_net.py:build")
    (here / "mended_net.py").write_text("def build(): return 5\n")
    assert resolve("mended_net.py:build")() == 5
