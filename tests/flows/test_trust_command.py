"""`trust` takes what is there, and looks without importing it."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.commands.trust import _checked
from tasks.errors import InputError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "models.py"
    path.write_text("from lib import mlp\nraise SystemExit('it was imported')\n")
    return path


def test_a_file_is_trusted_for_a_name_that_it_has_made_there_or_not(file: Path) -> None:
    assert _checked(f"{file}:mlp", must_exist=True) == f"{file}:mlp"


def test_a_name_that_a_file_does_not_have_is_a_mistake(file: Path) -> None:
    with pytest.raises(InputError, match=r"models\.py has no 'nope'"):
        _checked(f"{file}:nope", must_exist=True)


def test_a_module_that_is_not_there_is_a_mistake() -> None:
    assert _checked("keras.applications:MobileNetV3Small", must_exist=True)
    for name in ("nomod:x", "keras.nomod:x"):
        with pytest.raises(InputError, match="no module"):
            _checked(name, must_exist=True)


def test_what_is_gone_can_still_be_taken_off_the_list(file: Path) -> None:
    assert _checked(f"{file}:nope", must_exist=False) == f"{file}:nope"
