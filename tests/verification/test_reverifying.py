"""Verifying again what is stored: which versions, and what all verdicts together mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.errors import InputError, RoundtripError, UnreachableError, UnsafeError, VerificationFailed
from tasks.storage import Store, VersionRef, advance_latest, move_alias
from tasks.verification.returning import Returned
from tasks.verification.reverifying import Proof, proof_of, shortfall, to_prove
from tests.proofs import verdict_on
from tests.storage.samples import published

VERSION = "01a20a91-4eef-7ca7-beca-f993ce4fed7a"


def returned(*, passed: bool) -> Returned:
    ref = VersionRef(model="digits", version=VERSION, uri="s3://b/digits", bytes=1, format="weights-h5")
    return Returned(version=ref, path="", verdict=verdict_on("digits", VERSION, passed=passed), latest=passed)


def failed(error: RoundtripError, outcome: Returned | None = None) -> Proof:
    error.outcome = outcome
    return proof_of(f"digits@{VERSION}", error, 1.0)


def test_each_model_is_proved_where_the_alias_points(store: Store, tmp_path: Path) -> None:
    old, new = (published(store, tmp_path / name, model="digits").version for name in ("old", "new"))
    other = published(store, tmp_path / "other", model="letters").version
    advance_latest(store, "digits", new, "v")
    move_alias(store, "digits", "production", old, "v", "promoted")

    assert to_prove(store) == [f"digits@{new}"], "letters has no `latest`"
    assert to_prove(store, alias="production") == [f"digits@{old}"]
    assert to_prove(store, alias=None) == [f"digits@{old}", f"digits@{new}", f"letters@{other}"]
    assert to_prove(store, ["let*"], alias=None) == [f"letters@{other}"]


def test_a_name_that_can_be_no_alias_is_said_before_anything_is_read(store: Store) -> None:
    with pytest.raises(InputError, match="no/alias"):
        to_prove(store, alias="no/alias")


def test_a_version_is_verified_refused_or_neither() -> None:
    passed = proof_of(f"digits@{VERSION}", returned(passed=True), 1.0)
    refused = failed(VerificationFailed("it differs"), returned(passed=False))
    neither = failed(UnreachableError("the store is gone"))

    assert [proof.outcome for proof in (passed, refused, neither)] == ["verified", "refused", "unverified"]
    assert [proof.latest for proof in (passed, refused, neither)] == [True, False, False]
    assert (refused.kind, refused.why, neither.verdict) == ("verification", "it differs", None)


def test_a_fault_of_ours_is_no_verdict_on_the_version() -> None:
    assert proof_of("digits@1", KeyError("x"), 1.0).outcome == "unverified"


def test_the_gravest_thing_decides_and_every_version_is_named() -> None:
    fine = proof_of("fine@1", returned(passed=True), 1.0)
    unreachable, differs = failed(UnreachableError("gone")), failed(VerificationFailed("differs"), returned(passed=False))
    tampered = failed(UnsafeError("is not what was published"), returned(passed=False))

    assert shortfall([fine]) is None
    assert type(shortfall([fine, unreachable])) is UnreachableError
    assert type(shortfall([unreachable, differs])) is VerificationFailed
    worst = shortfall([fine, differs, unreachable, tampered])
    assert type(worst) is UnsafeError
    assert str(worst).startswith("Of 4 versions: 1 verified, 2 refused, 1 could not be verified.\n")
    assert len(str(worst).splitlines()) == 4 and "fine@1" not in str(worst)
