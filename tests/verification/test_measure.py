"""Measuring in the process that keeps the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.storage import Manifest
from tasks.verification import Measurement, Verdict, judge, measure
from tasks.verification.environment import current_environment
from tasks.verification.measure import _accuracy, _compare_outputs, measure_one_more_step
from tests import bundles, samples

DATA = samples.classes()


def compared(stored: Any, found: Any) -> Measurement:
    result = Measurement(environment=current_environment())
    _compare_outputs(stored, found, result)
    return result


def test_measuring_leaves_the_returned_model_as_it_was_stored(tmp_path: Path) -> None:
    trained, definition = samples.trained("dropout_and_normalization", DATA)
    manifest: Manifest = bundles.written(trained, definition, DATA, "full-h5", tmp_path)
    _, model = measure(tmp_path, manifest, definition)
    assert samples.bits(model) == samples.bits(trained.model)


def test_one_more_step_is_taken_and_measured(tmp_path: Path) -> None:
    trained, definition = samples.trained("dropout_and_normalization", DATA)
    manifest: Manifest = bundles.written(trained, definition, DATA, "full-h5", tmp_path)
    measured, model = measure(tmp_path, manifest, definition)
    measure_one_more_step(tmp_path, manifest, model, measured)
    assert manifest.carried.one_step and manifest.carried.one_step.rows == 32
    assert measured.resumed == []
    assert samples.bits(model) != samples.bits(trained.model)


def test_the_step_of_a_version_from_before_rows_were_told_is_taken_on_all_of_the_probe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.serialization.bundle._STEP_ROWS", 256)
    trained, definition = samples.trained("dropout_and_normalization", DATA)
    manifest: Manifest = bundles.written(trained, definition, DATA, "full-h5", tmp_path)
    assert manifest.carried.one_step and manifest.carried.one_step.rows == len(DATA.x_val) > 32
    document = manifest.model_dump(mode="json")
    document["carried"]["after_one_step"] = document["carried"].pop("one_step")["weights"]

    manifest = Manifest.model_validate(document)
    measured, model = measure(tmp_path, manifest, definition)
    measure_one_more_step(tmp_path, manifest, model, measured)

    assert measured.resumed == []


def test_one_more_step_on_other_rows_is_another_one(tmp_path: Path) -> None:
    trained, definition = samples.trained("dropout_and_normalization", DATA)
    manifest: Manifest = bundles.written(trained, definition, DATA, "full-h5", tmp_path)
    measured, model = measure(tmp_path, manifest, definition)
    assert manifest.carried.one_step
    fewer = {"one_step": manifest.carried.one_step.model_copy(update={"rows": 8})}
    carried = manifest.carried.model_copy(update=fewer)
    measure_one_more_step(tmp_path, manifest.model_copy(update={"carried": carried}), model, measured)
    assert measured.resumed


def test_an_optimizer_whose_state_was_changed_is_no_resumable_model(tmp_path: Path) -> None:
    trained, definition = samples.trained("dropout_and_normalization", DATA)
    manifest: Manifest = bundles.written(trained, definition, DATA, "full-h5", tmp_path)
    state = dict(np.load(tmp_path / "state.npz"))
    state["optimizer/00002"] = state["optimizer/00002"] + 1
    np.savez(tmp_path / "state.npz", allow_pickle=False, **state)

    measured, model = measure(tmp_path, manifest, definition)
    measure_one_more_step(tmp_path, manifest, model, measured)

    verdict = judge(manifest, measured)
    assert (verdict.passed, verdict.resumable, verdict.weights_equal) == (False, False, True)
    assert "one more training step: the optimizer's state is not what was stored" in verdict.reasons


def test_equal_outputs_are_identical() -> None:
    result = compared(np.array([1, 2], np.float32), np.array([1, 2], np.float32))
    assert (result.outputs_identical, result.max_abs_diff, result.max_abs_output) == (True, 0.0, 2.0)


def test_the_largest_difference_of_all_outputs_counts() -> None:
    zeros = {"a": np.zeros(2), "b": np.zeros(2)}
    result = compared(zeros, {"a": np.array([0, 0.5]), "b": np.array([-2.0, 0])})
    assert (result.outputs_identical, result.max_abs_diff) == (False, 2.0)


@pytest.mark.parametrize("order", ["ab", "ba"])
@pytest.mark.parametrize(
    ("stored", "found"), [(0.0, np.nan), (np.nan, 0.0), (np.inf, 0.0), (0.0, np.inf), (np.inf, -np.inf)]
)
def test_what_is_no_finite_number_at_another_place_is_no_small_difference(stored: float, found: float, order: str) -> None:
    before, after = {"a": np.zeros(2), "b": np.full(2, stored)}, {"a": np.zeros(2), "b": np.full(2, found)}

    result = compared({n: before[n] for n in order}, {n: after[n] for n in order})

    assert (result.outputs_identical, result.max_abs_diff) == (False, None)
    assert "the outputs b are no finite numbers at other places" in str(result.error)
    verdict = judge(bundles.bare_manifest("onnx"), result.model_copy(update={"loads": True}))
    assert (verdict.passed, verdict.outputs_equal) == (False, False)


def test_the_same_infinities_do_not_widen_what_is_allowed_beside_them() -> None:
    result = compared(np.array([-np.inf, np.nan, 1.0]), np.array([-np.inf, np.nan, 1.5]))
    assert (result.max_abs_diff, result.max_abs_output) == (0.5, 1.0)


def test_the_verdict_on_an_infinite_output_can_be_read_again() -> None:
    masked = np.array([-np.inf, 1.0])
    for format_name in ("saved-model", "onnx"):
        verdict = judge(bundles.bare_manifest(format_name), compared(masked, masked))
        assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict


def test_unsigned_outputs_do_not_wrap_around() -> None:
    assert compared(np.array([0], np.uint8), np.array([255], np.uint8)).max_abs_diff == 255


def test_minus_zero_is_another_output() -> None:
    assert compared(np.array([0.0], np.float32), np.array([-0.0], np.float32)).outputs_identical is False


def test_the_same_nan_is_the_same_output() -> None:
    assert compared(np.array([np.nan], np.float32), np.array([np.nan], np.float32)).outputs_identical is True


@pytest.mark.parametrize("found", [np.zeros((2, 1)), {"a": np.zeros(2)}])
def test_outputs_of_another_shape_or_name_are_no_outputs(found: Any) -> None:
    result = compared(np.zeros(2), found)
    assert result.outputs_identical is False and "other names or shapes" in str(result.error)


def test_other_strings_have_no_distance() -> None:
    result = compared(np.array(["a"]), np.array(["b"]))
    assert (result.outputs_identical, result.max_abs_diff) == (False, None)


def test_the_score_is_the_share_of_right_classes() -> None:
    scores = np.eye(3)[[0, 1, 2, 2]]
    assert _accuracy(scores, np.array([0, 1, 2, 0])) == 0.75


@pytest.mark.parametrize("targets", [np.linspace(0, 1, 4), np.eye(3), {"a": np.zeros(4, int)}])
def test_there_is_no_score_where_the_targets_are_no_classes(targets: Any) -> None:
    assert _accuracy(np.zeros((4, 3)), targets) is None
