"""What is said to who is about to publish what can't be returned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.definitions import Definition
from tasks.errors import UnsafeError, VerificationFailed
from tasks.safety import Finding, Inspection
from tasks.serialization import PROMISES
from tasks.storage import Manifest
from tasks.verification import Measurement, rehearse
from tests import bundles

MANIFEST = bundles.bare_manifest("keras-archive")


def rehearsed(*found: Finding, **changes: Any) -> None:
    """A rehearsal that measured a whole model, but for the changes."""
    whole = {
        "loads": True,
        "weights": [],
        "outputs_identical": True,
        "max_abs_diff": 0.0,
        "resumed": [],
        "survived": dict.fromkeys(PROMISES, True),
        "environment": MANIFEST.environment,
    }

    def measured(folder: Path, manifest: Manifest, definition: Definition) -> Measurement:
        assert (folder, manifest, definition) == (Path("bundle"), MANIFEST, MANIFEST.definition)
        return Measurement.model_validate(whole | changes)

    rehearse(Path("bundle"), MANIFEST, measured, lambda *_: Inspection(findings=found))


def test_a_model_that_came_back_may_be_published() -> None:
    rehearsed()


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"loads": False, "error": "TypeError: no class"}, "Use the scenario weights-h5, which rebuilds"),
        ({"loads": False, "error": "The process was killed by SIGKILL"}, "a machine with more of it"),
        ({"weights": ["g/kernel: other values"]}, "Hold each layer in an attribute with a name of its own"),
        ({"outputs_identical": False, "max_abs_diff": 2.8}, "Return all of them from get_config"),
        ({"resumed": ["g/kernel: other values"]}, "Return every argument of your own losses from get_config"),
        ({"survived": {"compile": False}}, "keras.saving.register_keras_serializable"),
        ({"survived": {"optimizer": False}}, "Register your own optimizer"),
    ],
)
def test_a_model_that_did_not_is_refused_with_a_remedy(changes: dict[str, Any], remedy: str) -> None:
    with pytest.raises(VerificationFailed, match="was not published: brought back from keras-archive") as refused:
        rehearsed(**changes)
    assert remedy in str(refused.value)


def test_what_would_be_lost_is_told_with_what_could_not_be_given_back() -> None:
    with pytest.raises(VerificationFailed) as refused:
        rehearsed(survived={"compile": False}, lost=["compile: TypeError: Powered"])
    assert str(refused.value).splitlines()[:3] == [
        "model was not published: brought back from keras-archive, it is not the model that was trained.",
        "  compile did not survive, as keras-archive promises",
        "  compile: TypeError: Powered",
    ]


def test_what_every_return_would_refuse_is_not_published() -> None:
    danger = Finding(severity="dangerous", kind="code", where="model.keras", message="Lambda can run code")
    with pytest.raises(UnsafeError, match="everybody's return would refuse it") as refused:
        rehearsed(danger)
    assert "code: model.keras: Lambda can run code" in str(refused.value)
