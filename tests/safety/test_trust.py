"""Whose code may be imported on return."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.definitions.build import MLP, SUBCLASSED
from tasks.errors import UnsafeError
from tasks.safety import require_trusted, trust


@pytest.fixture(autouse=True)
def nobody_trusted_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("reference", [MLP, SUBCLASSED])
def test_our_own_definitions_are_trusted(reference: str) -> None:
    require_trusted(reference)


@pytest.mark.parametrize(
    "reference", ["os:system", "tasks.definitions.builtin_evil:mlp", "tasks.definitions:builtin", "x\ntasks.definitions:mlp"]
)
def test_a_definition_that_nobody_ran_is_refused_with_how_to_allow_it(reference: str) -> None:
    with pytest.raises(UnsafeError, match=f"never run on this machine. If you know it, name it: --model {reference}$"):
        require_trusted(reference)


def test_a_definition_that_was_run_is_trusted() -> None:
    trust("os:system")
    require_trusted("os:system")


def test_trust_in_one_definition_is_no_trust_in_another() -> None:
    trust("os:system\nshutil:rmtree")
    with pytest.raises(UnsafeError):
        require_trusted("shutil:rmtree")


def test_trust_is_written_once(nobody_trusted_yet: Path) -> None:
    for _ in range(3):
        trust("my.models:net")
    (file,) = nobody_trusted_yet.rglob("trusted-definitions.jsonl")
    assert file.read_text() == '"my.models:net"\n'
