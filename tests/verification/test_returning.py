"""Which definition a returning process may build."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.definitions import Definition
from tasks.errors import RoundtripError, UnsafeError
from tasks.safety import trust
from tasks.storage import Manifest, Store, publish
from tasks.verification.returning import definition_for, load_model
from tests import bundles, samples


@pytest.fixture(autouse=True)
def nobody_trusted_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))


def stored(format_name: str) -> Manifest:
    """A version whose manifest names code that nobody ran here."""
    definition = Definition(reference="os:system", arguments={"command": "true", "hidden": 8})
    return bundles.bare_manifest(format_name).model_copy(update={"definition": definition})


def test_code_that_a_manifest_names_is_refused() -> None:
    with pytest.raises(UnsafeError, match="--model os:system"):
        definition_for(stored("weights-h5"), None, None)


def test_code_that_this_user_ran_is_let_through() -> None:
    trust("os:system")
    assert definition_for(stored("weights-h5"), None, None).reference == "os:system"


def test_a_format_that_builds_nothing_needs_no_trust() -> None:
    assert definition_for(stored("saved-model"), None, None).reference == "os:system"


def test_what_the_user_names_takes_the_place_of_what_the_manifest_names() -> None:
    given = definition_for(stored("weights-h5"), "tests.user_models:dense", {"hidden": 16})
    assert (given.reference, given.arguments) == ("tests.user_models:dense", {"command": "true", "hidden": 16})


def test_a_definition_is_proved_in_a_child_before_it_runs_here(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, traces = samples.classes(), tmp_path / "traces"
    monkeypatch.setenv("ROUNDTRIP_TEST_TRACES", str(traces))
    (tmp_path / "bundle").mkdir()
    trained, definition = samples.trained("leaves_traces", data)
    manifest = bundles.written(trained, definition, data, "weights-h5", tmp_path / "bundle")
    publish(store, tmp_path / "bundle", manifest)
    trust(definition.reference)
    traces.unlink()

    with pytest.raises(RoundtripError, match="sandbox"):
        load_model(f"model@{manifest.version}", prove="child")

    assert not traces.exists()
    load_model(f"model@{manifest.version}")
    assert traces.exists()
