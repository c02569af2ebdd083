"""What a fresh process finds out about a bundle that is not what its manifest says."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.definitions.build import SUBCLASSED
from tasks.errors import MismatchError
from tasks.storage import Manifest
from tasks.verification import Loader, Verdict, judge
from tests import bundles, samples

DATA = samples.classes()


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path, Manifest]:
    """A trained model, its bundle of weights, and its manifest."""
    folder = tmp_path_factory.mktemp("bundle")
    trained, definition = samples.trained("dense", DATA)
    return trained.model, folder, bundles.written(trained, definition, DATA, "weights-h5", folder)


def verdict_on(folder: Path, manifest: Manifest) -> Verdict:
    return judge(manifest, bundles.another_process().measure(folder, manifest, manifest.definition))


def flip_a_bit(path: Path, content: bytes) -> None:
    """Flip the lowest bit of the first number of a tensor, where it stands in the file."""
    found = bytearray(path.read_bytes())
    found[found.index(content)] ^= 1
    path.write_bytes(found)


def test_an_untouched_bundle_passes(dense: tuple[Any, Path, Manifest]) -> None:
    verdict = verdict_on(*dense[1:])
    assert (verdict.passed, verdict.reasons) == (True, [])


def test_it_was_measured_by_another_process(dense: tuple[Any, Path, Manifest]) -> None:
    environment = verdict_on(*dense[1:]).environment
    assert environment is not None and environment.pid != os.getpid()


def test_one_flipped_bit_of_a_weight_is_found(dense: tuple[Any, Path, Manifest], tmp_path: Path) -> None:
    model, folder, manifest = dense
    copy = Path(shutil.copytree(folder, tmp_path / "bundle"))
    flip_a_bit(copy / "model" / "model.weights.h5", np.asarray(model.weights[0]).tobytes())

    verdict = verdict_on(copy, manifest)

    assert (verdict.passed, verdict.loads, verdict.weights_equal) == (False, True, False)
    assert "weights: dense/kernel: other values" in verdict.reasons


def test_one_flipped_bit_of_an_optimizer_slot_is_found(dense: tuple[Any, Path, Manifest], tmp_path: Path) -> None:
    _, folder, manifest = dense
    copy = Path(shutil.copytree(folder, tmp_path / "bundle"))
    state = dict(np.load(copy / "state.npz"))
    slot = next(name for name, array in state.items() if array.shape == (8, 8))
    state[slot] = np.nextafter(state[slot], np.float32(9), dtype=np.float32)
    np.savez(copy / "state.npz", **state)

    assert verdict_on(copy, manifest).survived["optimizer"] is False


def test_weights_of_another_model_are_found(dense: tuple[Any, Path, Manifest], tmp_path: Path) -> None:
    _, folder, manifest = dense
    copy = Path(shutil.copytree(folder, tmp_path / "bundle"))
    other, _ = samples.trained("dense", samples.classes(seed=1))
    other.model.save_weights(copy / "model" / "model.weights.h5")

    verdict = verdict_on(copy, manifest)

    assert (verdict.passed, verdict.weights_equal, verdict.outputs_equal) == (False, False, False)


def test_damaged_variables_of_a_saved_model_do_not_load(tmp_path: Path) -> None:
    trained, definition = samples.trained(SUBCLASSED, DATA)
    manifest = bundles.written(trained, definition, DATA, "saved-model", tmp_path)
    (variables,) = (tmp_path / "model" / "variables").glob("variables.data-*")
    flip_a_bit(variables, np.asarray(trained.model.weights[0]).tobytes())

    verdict = verdict_on(tmp_path, manifest)

    assert (verdict.passed, verdict.loads) == (False, False)
    assert verdict.reasons[0].startswith("it does not load: DataLossError")


def test_another_definition_is_refused_by_the_error_that_says_how_to_mend_it(dense: tuple[Any, Path, Manifest]) -> None:
    _, folder, manifest = dense
    narrow = manifest.definition.model_copy(update={"arguments": {"hidden": 4, "activation": "relu"}})
    with pytest.raises(MismatchError, match="--model-arg hidden=8"):
        bundles.another_process().measure(folder, manifest, narrow)


def test_a_process_that_is_killed_is_a_model_that_does_not_load(dense: tuple[Any, Path, Manifest]) -> None:
    _, folder, manifest = dense
    with Loader() as loader:
        os.kill(loader._child.pid, signal.SIGKILL)
        verdict = judge(manifest, loader.measure(folder, manifest, manifest.definition))

    assert (verdict.passed, verdict.loads, verdict.weights_equal) == (False, False, None)
    assert "killed by SIGKILL (SIGKILL from outside mostly means that memory ran out)" in verdict.reasons[0]
