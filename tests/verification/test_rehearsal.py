"""What is said to who is about to publish what can't be returned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.definitions import Definition
from tasks.errors import UnsafeError, VerificationFailed
from tasks.serialization import PROMISES
from tasks.storage import Manifest
from tasks.verification import Measurement, rehearse
from tests import bundles

MANIFEST = bundles.bare_manifest("keras-archive")


def rehearsed(folder: Path, **changes: Any) -> None:
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

    def measured(where: Path, manifest: Manifest, definition: Definition) -> Measurement:
        assert (where, manifest, definition) == (folder, MANIFEST, MANIFEST.definition)
        return Measurement.model_validate(whole | changes)

    rehearse(folder, MANIFEST, measured)


def test_a_model_that_came_back_may_be_published(tmp_path: Path) -> None:
    rehearsed(tmp_path)


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
def test_a_model_that_did_not_is_refused_with_a_remedy(changes: dict[str, Any], remedy: str, tmp_path: Path) -> None:
    with pytest.raises(VerificationFailed, match="was not published: brought back from keras-archive") as refused:
        rehearsed(tmp_path, **changes)
    assert remedy in str(refused.value)


def test_what_would_be_lost_is_told_with_what_could_not_be_given_back(tmp_path: Path) -> None:
    with pytest.raises(VerificationFailed) as refused:
        rehearsed(tmp_path, survived={"compile": False}, lost=["compile: TypeError: Powered"])
    assert str(refused.value).splitlines()[:3] == [
        "model was not published: brought back from keras-archive, it is not the model that was trained.",
        "  compile did not survive, as keras-archive promises",
        "  compile: TypeError: Powered",
    ]


def test_what_every_return_would_refuse_is_not_published(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "start.sh").write_text("#!/bin/sh\nrm -rf /\n")
    with pytest.raises(UnsafeError, match="everybody's return would refuse it") as refused:
        rehearsed(tmp_path)
    assert "program: model/start.sh" in str(refused.value)
    assert "--no-rehearsal" in str(refused.value)
