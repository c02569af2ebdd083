"""The registry's commands against a real store, in this process: what they print, write and exit with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from flows.cli import cli
from tasks.errors import InputError, NotFoundError, PinnedError, RoundtripError, VerificationFailed
from tasks.storage import Store, alias_history, layout, list_versions, resolve
from tests.proofs import proved
from tests.storage.samples import published, put


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the commands set for their own process is undone."""
    for name in ("PREFECT_LOGGING_LEVEL", "PREFECT_LOGGING_ROOT_LEVEL"):
        monkeypatch.setenv(name, "CRITICAL")


@pytest.fixture
def versions(store: Store, tmp_path: Path) -> list[str]:
    """Two versions of `digits` that passed, the oldest first."""
    made = [published(store, tmp_path / str(number)).version for number in range(2)]
    for version in made:
        proved(store, "digits", version)
    return made


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


def document(*arguments: str) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.exception
    return json.loads(result.stdout)


def error(*arguments: str) -> RoundtripError:
    result = run(*arguments)
    assert isinstance(result.exception, RoundtripError), result.output
    return result.exception


def test_list_keeps_its_documented_shape(store: Store, versions: list[str]) -> None:
    run("promote", f"digits@{versions[0]}")

    (model,) = document("list")["models"]

    assert (model["model"], model["versions"], model["latest"]) == ("digits", 2, versions[0])
    assert (model["formats"], model["newest"]) == (["saved-model"], versions[1])


def test_list_filters(store: Store, tmp_path: Path) -> None:
    for model, alias in (("digits", "latest"), ("digits-v2", None), ("letters", "production")):
        version = published(store, tmp_path / model, model=model).version
        proved(store, model, version)
        if alias:
            run("promote", f"{model}@{version}", "--alias", alias)

    for options, shown in {
        (): ["digits", "digits-v2", "letters"],
        ("digits",): ["digits"],
        ("dig*",): ["digits", "digits-v2"],
        ("letters", "digits"): ["digits", "letters"],
        ("--alias", "production"): ["letters"],
        ("--verified",): ["digits"],
        ("--unverified", "dig*"): ["digits-v2"],
        ("--format", "saved-model", "--limit", "2"): ["digits", "digits-v2"],
        ("--format", "full-h5"): [],
        ("--newer-than", "1h"): ["digits", "digits-v2", "letters"],
        ("--older-than", "1h"): [],
    }.items():
        assert [model["model"] for model in document("list", *options)["models"]] == shown, options


def test_a_list_of_nothing_says_what_to_do(store: Store) -> None:
    assert "makes three" in run("list").output
    assert "shows all" in run("list", "dig*").output


def test_show_tells_where_the_aliases_pointed(store: Store, versions: list[str]) -> None:
    for version in versions:
        run("promote", f"digits@{version}")

    found = document("show", "digits")
    text = run("show", "digits").output

    assert (found["version"], found["versions"], found["aliases"]) == (versions[1], versions, {"latest": versions[1]})
    assert [revision["version"] for revision in found["history"]["latest"]] == versions[::-1]
    assert all(words in text for words in (*versions, "promoted", "2 versions"))


def test_promote_and_roll_back(store: Store, versions: list[str]) -> None:
    assert document("promote", f"digits@{versions[0]}", "--alias", "production")["moved"] is True
    assert document("promote", f"digits@{versions[0]}", "--alias", "production")["moved"] is False
    run("promote", f"digits@{versions[1]}", "--alias", "production")

    assert document("rollback", "digits", "--alias", "production")["version"] == versions[0]
    assert run("rollback", "digits", "--alias", "production", "--to", versions[1]).output == (
        f"digits@production points at {versions[1]}\n"
    )


def test_an_alias_can_be_promoted_to_another_one(store: Store, versions: list[str]) -> None:
    run("promote", f"digits@{versions[0]}", "--alias", "staging")

    assert document("promote", "digits@staging", "--alias", "production")["version"] == versions[0]


def test_a_version_that_nobody_verified_is_not_promoted(store: Store, tmp_path: Path) -> None:
    version = published(store, tmp_path / "new").version

    refused = error("promote", f"digits@{version}")

    assert (type(refused), refused.exit_code) == (VerificationFailed, 1)
    assert f"`python -m flows return digits@{version}` verifies it" in str(refused)
    assert alias_history(store, "digits", "latest") == []


def test_rolling_back_to_what_is_no_version_is_wrong_usage(store: Store) -> None:
    assert isinstance(error("rollback", "digits", "--to", "latest"), InputError)


def test_rm_of_a_version_with_an_alias_is_refused(store: Store, versions: list[str]) -> None:
    run("promote", f"digits@{versions[0]}")

    refused = error("rm", f"digits@{versions[0]}")

    assert (type(refused), refused.exit_code) == (PinnedError, 2)
    assert list_versions(store, "digits") == versions


def test_rm_of_an_alias_leaves_its_version(store: Store, versions: list[str]) -> None:
    run("promote", f"digits@{versions[0]}")

    assert run("rm", "digits@latest").output == f"removed digits@latest; {versions[0]} stays\n"
    assert isinstance(error("rm", "digits@latest"), NotFoundError)
    assert document("rm", f"digits@{versions[0]}")["objects"] > 3
    assert list_versions(store, "digits") == versions[1:]


def test_rm_of_a_model_asks_first(store: Store, versions: list[str]) -> None:
    assert "pass --yes" in str(error("rm", "digits"))
    assert list_versions(store, "digits") == versions
    assert document("rm", "digits", "--yes")["removed"] == "digits"
    assert document("list")["models"] == []


def test_gc_shows_its_plan_and_removes_nothing_by_itself(store: Store, versions: list[str]) -> None:
    before = store.keys("")

    found = document("gc", "--keep-last", "1")
    text = run("gc", "--keep-last", "1").output

    assert [(r["what"], r["subject"]) for r in found["removals"]] == [("version", f"digits@{versions[0]}")]
    assert (found["removed"], found["bytes"] > 0) == (None, True)
    assert f"digits@{versions[0]}" in text
    assert "`--yes` removes it" in text
    assert store.keys("") == before


def test_gc_removes_what_was_planned(store: Store, versions: list[str]) -> None:
    run("promote", f"digits@{versions[1]}", "--alias", "production")
    put(store, layout.bundle("digits", layout.new_version()) + "model/x", b"half")

    found = document("gc", "--keep-last", "0", "--leftovers-older-than", "0s", "--yes")

    assert sorted(each["removal"]["what"] for each in found["removed"]) == ["leftover", "version"]
    assert [each["skipped"] for each in found["removed"]] == [None, None]
    assert resolve(store, "digits@production") == ("digits", versions[1])
    assert list_versions(store, "digits") == versions[1:]
    assert "Nothing to remove" in run("gc", "--keep-last", "0", "--yes").output


def test_an_age_without_a_unit_is_wrong_usage(store: Store) -> None:
    result = run("gc", "--keep-younger-than", "30")

    assert result.exit_code == 2
    assert "Write a number and s, m, h, d or w" in result.output
