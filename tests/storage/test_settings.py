from __future__ import annotations

import pytest

from tasks.errors import InputError
from tasks.settings import StoreConfig


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("s3://models", ("models", "")),
        ("s3://models/", ("models", "")),
        ("s3://models/team/vision", ("models", "team/vision")),
        ("s3://models/team/", ("models", "team")),
        ("s3://my.bucket-1/a=b", ("my.bucket-1", "a=b")),
    ],
)
def test_a_store_is_a_bucket_and_a_prefix(url: str, place: tuple[str, str]) -> None:
    assert StoreConfig(url=url).location() == place


@pytest.mark.parametrize(
    "url",
    ["models", "http://models", "s3://", "s3:///x", "s3://A", "s3://ab", "s3://models//x", "s3://models/a b",
     "s3://models/é", "s3://models?x=1", " s3://models"],
)  # fmt: skip
def test_any_other_url_is_refused_and_the_message_shows_the_form(url: str) -> None:
    with pytest.raises(InputError, match="Write ROUNDTRIP_STORE=s3://bucket or s3://bucket/prefix"):
        StoreConfig(url=url).location()


def test_with_nothing_configured_the_store_is_the_embedded_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROUNDTRIP_STORE", raising=False)
    assert StoreConfig().location() is None


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUNDTRIP_STORE", "")
    assert StoreConfig().location() is None


def test_the_environment_names_the_store_and_an_argument_wins_over_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUNDTRIP_STORE", "s3://from-environment/p")
    assert StoreConfig().location() == ("from-environment", "p")
    assert StoreConfig(url="s3://from-argument").location() == ("from-argument", "")
