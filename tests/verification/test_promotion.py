from __future__ import annotations

from pathlib import Path

import pytest

from tasks.errors import NotFoundError, UnsafeError, VerificationFailed
from tasks.storage import Store, alias_history, layout, remove_version, resolve
from tasks.verification import promote, record, roll_back
from tests.proofs import proved, verdict_on
from tests.storage.samples import published, put


@pytest.fixture
def versions(store: Store, tmp_path: Path) -> list[str]:
    """Three versions that passed, the oldest first."""
    made = [published(store, tmp_path / str(number)).version for number in range(3)]
    for version in made:
        proved(store, "digits", version)
    return made


def pointers(store: Store, alias: str = "latest") -> list[str | None]:
    return [revision.version for revision in reversed(alias_history(store, "digits", alias))]


def test_a_version_that_passed_gets_the_alias(store: Store, versions: list[str]) -> None:
    revision, moved = promote(store, "digits", versions[0], "production")

    assert (moved, revision.version, revision.reason) == (True, versions[0], "promoted")
    assert resolve(store, "digits@production") == ("digits", versions[0])


def test_the_revision_names_the_verdict_that_allowed_it(store: Store, versions: list[str]) -> None:
    again = proved(store, "digits", versions[0])

    assert promote(store, "digits", versions[0])[0].verdict == again.id


def test_promoting_again_adds_nothing_to_the_history(store: Store, versions: list[str]) -> None:
    first, _ = promote(store, "digits", versions[0])

    assert promote(store, "digits", versions[0]) == (first, False)
    assert pointers(store) == [versions[0]]


def test_a_version_that_nobody_verified_gets_no_alias(store: Store, tmp_path: Path) -> None:
    version = published(store, tmp_path / "new").version

    with pytest.raises(
        VerificationFailed, match=rf"was never verified.*`python -m flows return digits@{version}` verifies it"
    ):
        promote(store, "digits", version)
    assert pointers(store) == []


def test_a_version_that_passed_by_an_exception_gets_no_alias(store: Store, versions: list[str]) -> None:
    record(store, verdict_on("digits", versions[0]).model_copy(update={"allowed": ["code:model/model.keras"]}))

    with pytest.raises(VerificationFailed, match=r"passed only because --allow let through code:model/model\.keras"):
        promote(store, "digits", versions[0])


def test_one_readers_keys_bind_nobody_else(store: Store, versions: list[str]) -> None:
    refused = verdict_on("digits", versions[0], passed=False).model_copy(update={"signature": "refused"})
    record(store, refused)

    assert promote(store, "digits", versions[0])[1]


def test_a_verdict_of_another_environment_can_not_be_copied_into_one_that_counts(store: Store, versions: list[str]) -> None:
    verdict = verdict_on("digits", versions[0]).model_copy(update={"elsewhere": "keras==3.13"})
    put(store, layout.verdict("digits", versions[0], verdict.id), verdict.model_dump_json().encode())

    with pytest.raises(UnsafeError, match="was copied there"):
        promote(store, "digits", versions[0])


def test_a_version_that_failed_since_it_passed_gets_no_alias(store: Store, versions: list[str]) -> None:
    proved(store, "digits", versions[0], passed=False)

    with pytest.raises(VerificationFailed, match=r"failed its last verification \(weights: dense/kernel differs\)"):
        promote(store, "digits", versions[0])
    proved(store, "digits", versions[0])
    assert promote(store, "digits", versions[0])[1]


def test_a_version_that_is_not_there_is_not_found(store: Store, versions: list[str]) -> None:
    with pytest.raises(NotFoundError, match="There is no version"):
        promote(store, "digits", layout.new_version())


def test_a_version_that_was_removed_is_not_found(store: Store, versions: list[str]) -> None:
    remove_version(store, "digits", versions[0])

    with pytest.raises(NotFoundError, match="There is no version"):
        promote(store, "digits", versions[0])


def test_a_verdict_that_was_copied_from_another_version_is_refused(
    store: Store, versions: list[str], tmp_path: Path
) -> None:
    bad = published(store, tmp_path / "bad").version
    verdict = verdict_on("digits", versions[0])
    put(store, f"{layout.verdicts('digits', bad)}{verdict.id}.json", verdict.model_dump_json().encode())

    with pytest.raises(UnsafeError, match=f"is a verdict on digits@{versions[0]}: it was copied there"):
        promote(store, "digits", bad)


@pytest.mark.parametrize("raw", [b"", b"{}", b"null", b"\xff"])
def test_what_is_no_verdict_is_refused(store: Store, tmp_path: Path, raw: bytes) -> None:
    version = published(store, tmp_path / "bad").version
    put(store, f"{layout.verdicts('digits', version)}{layout.new_version()}.json", raw)

    with pytest.raises(UnsafeError, match="is not a verdict"):
        promote(store, "digits", version)


# rollback


def test_rollbacks_go_back_step_by_step(store: Store, versions: list[str]) -> None:
    one, two, three = versions
    for version in versions:
        promote(store, "digits", version)

    assert roll_back(store, "digits").version == two
    assert roll_back(store, "digits").version == one
    with pytest.raises(NotFoundError, match="never pointed at another version"):
        roll_back(store, "digits")
    assert pointers(store) == [one, two, three, two, one]


def test_a_rollback_undoes_the_last_move_also_after_a_rollback(store: Store, versions: list[str]) -> None:
    one, two, three = versions
    promote(store, "digits", one)
    promote(store, "digits", two)
    roll_back(store, "digits")
    promote(store, "digits", three)

    assert roll_back(store, "digits").version == one


def test_a_rollback_passes_over_what_was_removed_or_failed(store: Store, versions: list[str]) -> None:
    one, two, three = versions
    for version in (three, one, two, three):
        promote(store, "digits", version)
    proved(store, "digits", two, passed=False)

    assert roll_back(store, "digits").version == one
    promote(store, "digits", three)
    remove_version(store, "digits", one)
    with pytest.raises(NotFoundError, match="never pointed at another version"):
        roll_back(store, "digits")


def test_a_rollback_to_a_version_needs_its_proof_too(store: Store, versions: list[str], tmp_path: Path) -> None:
    new = published(store, tmp_path / "new").version
    promote(store, "digits", versions[2])

    assert roll_back(store, "digits", to=versions[0]).version == versions[0]
    with pytest.raises(VerificationFailed, match="was never verified"):
        roll_back(store, "digits", to=new)


def test_an_alias_that_is_not_there_has_nothing_to_roll_back(store: Store, versions: list[str]) -> None:
    with pytest.raises(NotFoundError, match="no alias 'production'"):
        roll_back(store, "digits", "production")
