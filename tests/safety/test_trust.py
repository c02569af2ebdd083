"""Whose code may be imported on return. Nothing is imported to find out."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from flows.cli import cli
from tasks.definitions.build import MLP, SUBCLASSED
from tasks.errors import InputError, NotFoundError, UnsafeError
from tasks.safety import distrust, require_trusted, trust, trusted
from tasks.safety.trust import TRUST_VARIABLE
from tasks.verification.returning import definition_for
from tests import bundles


@pytest.fixture(autouse=True)
def nobody_trusted_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv(TRUST_VARIABLE, raising=False)
    return tmp_path


def refused(reference: str, why: str = "was never run on this machine") -> bool:
    with pytest.raises(UnsafeError, match=why):
        require_trusted(reference)
    return True


@pytest.mark.parametrize("reference", [MLP, SUBCLASSED])
def test_our_own_definitions_are_trusted(reference: str) -> None:
    require_trusted(reference)


@pytest.mark.parametrize(
    "reference",
    [
        "os:system",
        "tasks.definitions.builtin_evil:mlp",
        "tasks.definitions:builtin",
        "x\ntasks.definitions:mlp",
        # Of ours, but no definition: it imports what its argument names.
        "tasks.definitions.build:resolve",
        "tasks.references:resolve",
        # There, but not defined there.
        "tasks.definitions.builtin:Sequence",
        "tasks.definitions.builtin:keras",
        "tasks.definitions.builtin:",
        "tasks.definitions.builtin:no_such",
    ],
)
def test_a_definition_that_nobody_ran_is_refused_with_how_to_allow_it(reference: str) -> None:
    assert refused(reference, "never run on this machine. If you know it, trust it: `python -m flows trust '")


def test_a_definition_that_was_run_is_trusted() -> None:
    trust("os:system")
    require_trusted("os:system")


def test_trust_in_one_definition_is_no_trust_in_another() -> None:
    trust("os:system\nshutil:rmtree")
    assert refused("shutil:rmtree")


def test_trust_is_written_once_and_taken_back(nobody_trusted_yet: Path) -> None:
    for _ in range(3):
        trust("my.models:net")
    (file,) = nobody_trusted_yet.rglob("trusted-definitions.jsonl")
    assert file.read_text() == '"my.models:net"\n'
    assert [e.reference for e in trusted()] == ["my.models:net"]
    assert distrust("my.models:net") is True
    assert distrust("my.models:net") is False
    assert refused("my.models:net")


def test_a_file_is_trusted_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "models.py"
    path.write_text("def net(): ...")
    reference = f"{path}:net"
    trust(reference)
    require_trusted(reference)

    path.write_text("import os; os.system('true')\ndef net(): ...")
    assert refused(reference, "its file was changed since you trusted it")
    trust(reference)
    require_trusted(reference)
    assert len(trusted()) == 1

    path.unlink()
    assert refused(reference, "its file was changed since you trusted it")


def test_a_worker_trusts_what_its_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TRUST_VARIABLE, "my.models:net, tests.*")
    require_trusted("my.models:net")
    require_trusted("tests.user_models:dense")
    assert refused("my.models:other")
    assert refused("tests_of_others.models:dense")


def test_a_package_is_trusted_for_what_it_defines_and_not_for_what_it_imports() -> None:
    trust("tests.*")
    require_trusted("tests.user_models:dense")
    assert refused("tests.user_models:keras")
    assert refused("tests.samples:gc")
    assert refused("tests.no_such_module:dense")


def test_nothing_is_imported_to_find_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = tmp_path / "hostile_package"
    package.mkdir()
    (package / "__init__.py").write_text(f"open({str(tmp_path / 'it ran')!r}, 'w')")
    (package / "models.py").write_text("def net(): ...")
    monkeypatch.syspath_prepend(tmp_path)
    assert refused("hostile_package.models:net")
    trust("hostile_package.*")
    require_trusted("hostile_package.models:net")
    assert not (tmp_path / "it ran").exists()


@pytest.mark.parametrize("given", [None, {"command": "touch elsewhere"}])
def test_a_manifest_that_names_a_program_runs_nothing(tmp_path: Path, given: dict[str, str] | None) -> None:
    marker = tmp_path / "it ran"
    manifest = bundles.bare_manifest("weights-h5")
    hostile = manifest.definition.model_copy(
        update={"reference": "os:system", "arguments": {"command": f"touch '{marker}'"}}
    )
    with pytest.raises(UnsafeError, match="os:system"):
        definition_for(manifest.model_copy(update={"definition": hostile}), None, given)
    assert not marker.exists()


def test_the_command_lists_adds_and_removes(nobody_trusted_yet: Path) -> None:
    (nobody_trusted_yet / "models.py").write_text("def net(): ...")

    def flows(*arguments: str) -> str:
        return CliRunner().invoke(cli, ["trust", *arguments], catch_exceptions=False).output

    reference = f"{nobody_trusted_yet / 'models.py'}:net"
    assert flows() == "Nothing but the project's own definitions.\n"
    assert flows(reference, "mine.*").startswith(f"{reference}  sha256 ")
    (nobody_trusted_yet / "models.py").unlink()
    assert flows("--remove", reference) == "mine.*\n"
    with pytest.raises(NotFoundError, match="is not on the list"):
        flows("--remove", reference)
    with pytest.raises(InputError, match="is not a reference"):
        flows("no reference")
