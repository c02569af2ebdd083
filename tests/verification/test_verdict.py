"""The verdict is a pure function of the manifest and of what was measured."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.safety import Finding, Inspection
from tasks.serialization import FORMATS, PROMISES
from tasks.storage import Manifest
from tasks.verification import Measurement, Verdict
from tasks.verification import judge as judge_measured
from tests import bundles

DANGER = Finding(severity="dangerous", kind="code", where="model.h5", message="Lambda can run code")
NOTE = Finding(severity="note", kind="foreign class", where="model.h5", message="yours")


def judge(manifest: Manifest, whole: tuple[Measurement, list[Finding]]) -> Verdict:
    return judge_measured(manifest, whole[0], Inspection(findings=tuple(whole[1])))


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return bundles.bare_manifest("saved-model")


def measured(manifest: Manifest, **changes: Any) -> tuple[Measurement, list[Finding]]:
    """Of a model that came back whole, but for the changes, and what inspection found in it."""
    whole = {
        "loads": True,
        "weights": [],
        "outputs_identical": True,
        "max_abs_diff": 0.0,
        "max_abs_output": 2.0,
        "resumed": [],
        "survived": dict.fromkeys(PROMISES, True),
        "environment": manifest.environment,
    }
    findings = changes.pop("findings", [])
    return Measurement.model_validate(whole | changes), findings


def elsewhere(manifest: Manifest) -> dict[str, Any]:
    """The change that it was measured on another processor."""
    return {"environment": manifest.environment.model_copy(update={"arithmetic": "another"})}


@pytest.mark.parametrize("format_name", FORMATS)
def test_a_model_that_came_back_whole_passes(format_name: str) -> None:
    manifest = bundles.bare_manifest(format_name)
    verdict = judge(manifest, measured(manifest))
    assert (verdict.passed, verdict.reasons, verdict.exact) == (True, [], True)
    assert verdict.tolerance == 2 * FORMATS[format_name].output_tolerance  # the largest output is 2


@pytest.mark.parametrize(("difference", "passes"), [(1.9e-5, True), (2.1e-5, False)])
def test_outputs_of_another_runtime_may_differ_within_what_the_format_states(difference: float, passes: bool) -> None:
    manifest = bundles.bare_manifest("onnx")
    verdict = judge(manifest, measured(manifest, weights=None, outputs_identical=False, max_abs_diff=difference))
    assert (verdict.passed, verdict.outputs_equal, verdict.weights_equal) == (passes, passes, None)


def test_outputs_alone_carry_the_verdict_where_weights_are_not_promised() -> None:
    manifest = bundles.bare_manifest("onnx")
    assert judge(manifest, measured(manifest, weights=None)).passed is True
    assert judge(manifest, measured(manifest, weights=None, outputs_identical=None)).passed is False


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"findings": [DANGER]}, "code: model.h5: Lambda can run code"),
        ({"loads": False, "error": "ValueError: no"}, "it does not load: ValueError: no"),
        ({"weights": ["dense/kernel: other values"]}, "weights: dense/kernel: other values"),
        ({"outputs_identical": False, "max_abs_diff": 1e-9}, "outputs: they differ by up to 1e-09 (allowed: 0)"),
        ({"resumed": ["dense/kernel: other values"]}, "one more training step: dense/kernel: other values"),
        ({"survived": {"signature": False}}, "signature did not survive, as saved-model promises"),
    ],
)
def test_what_was_not_kept_fails_with_its_reason(manifest: Manifest, changes: dict[str, Any], reason: str) -> None:
    verdict = judge(manifest, measured(manifest, **changes))
    assert (verdict.passed, verdict.reasons) == (False, [reason])


@pytest.mark.parametrize("missing", ["weights", "outputs_identical"])
def test_what_was_not_measured_does_not_pass(manifest: Manifest, missing: str) -> None:
    assert judge(manifest, measured(manifest, **{missing: None})).passed is False


@pytest.mark.parametrize(
    ("changes", "step"),
    [
        ({"findings": [DANGER]}, "safe"),
        ({"loads": False}, "loads"),
        ({"weights": ["w: missing"]}, "weights_equal"),
        ({"outputs_identical": False}, "outputs_equal"),
        ({"resumed": ["w: other values"]}, "resumable"),
    ],
)
def test_each_step_of_the_verdict_says_so_by_itself(manifest: Manifest, changes: dict[str, Any], step: str) -> None:
    assert getattr(judge(manifest, measured(manifest)), step) is True
    assert getattr(judge(manifest, measured(manifest, **changes)), step) is False


def test_a_loss_beyond_the_promise_is_reported_and_passes(manifest: Manifest) -> None:
    survived = dict.fromkeys(PROMISES, True) | {"optimizer": False}
    verdict = judge(manifest, measured(manifest, survived=survived, lost=["optimizer: other variables"]))
    assert (verdict.passed, verdict.survived["optimizer"], verdict.lost) == (True, False, ["optimizer: other variables"])


def test_what_was_allowed_stands_in_the_verdict_and_passes(manifest: Manifest) -> None:
    inspection = Inspection(findings=(DANGER, NOTE)).allowing(["code"])
    verdict = judge_measured(manifest, measured(manifest)[0], inspection)
    assert (verdict.passed, verdict.safe, verdict.allowed) == (True, True, ["code:model.h5"])
    assert verdict.findings == [DANGER, NOTE]


def test_a_note_is_reported_and_passes(manifest: Manifest) -> None:
    verdict = judge(manifest, measured(manifest, findings=[NOTE]))
    assert (verdict.passed, verdict.safe, verdict.findings) == (True, True, [NOTE])


def test_what_cannot_be_trained_on_is_not_called_unresumable(manifest: Manifest) -> None:
    assert judge(manifest, measured(manifest, resumed=None)).resumable is None


# On another processor


@pytest.mark.parametrize(("difference", "passes"), [(1.9e-5, True), (2.1e-5, False)])
def test_on_other_arithmetic_outputs_may_differ_within_a_stated_tolerance(
    manifest: Manifest, difference: float, passes: bool
) -> None:
    changes = {"outputs_identical": False, "max_abs_diff": difference, "max_abs_output": 2.0}
    verdict = judge(manifest, measured(manifest, **changes, **elsewhere(manifest)))
    assert (verdict.exact, verdict.passed) == (False, passes)
    assert verdict.tolerance == pytest.approx(2e-5)


def test_on_other_arithmetic_weights_must_be_the_same_all_the_same(manifest: Manifest) -> None:
    assert not judge(manifest, measured(manifest, weights=["w: other values"], **elsewhere(manifest))).passed


def test_on_other_arithmetic_resuming_is_not_measurable(manifest: Manifest) -> None:
    verdict = judge(manifest, measured(manifest, resumed=["w: other values"], **elsewhere(manifest)))
    assert (verdict.passed, verdict.resumable) == (True, None)


def test_on_other_arithmetic_outputs_of_another_shape_fail_with_a_reason(manifest: Manifest) -> None:
    changes = {"outputs_identical": False, "max_abs_diff": None, "error": "the outputs have other names or shapes"}
    verdict = judge(manifest, measured(manifest, **changes, **elsewhere(manifest)))
    assert (verdict.passed, verdict.outputs_equal) == (False, False)
    assert "the outputs have other names or shapes" in verdict.reasons[0]


MAYBE = st.none() | st.booleans()
LINES = st.none() | st.lists(st.just("w: other values"), max_size=2)


@given(
    changes=st.fixed_dictionaries(
        {
            "findings": st.lists(st.sampled_from([DANGER, NOTE]), max_size=2),
            "loads": MAYBE,
            "weights": LINES,
            "outputs_identical": MAYBE,
            "max_abs_diff": st.none() | st.floats(0, 10),
            "resumed": LINES,
            "error": st.just("why"),
            "survived": st.dictionaries(st.sampled_from(PROMISES), st.booleans()),
        }
    ),
    here=st.booleans(),
)
def test_nothing_passes_but_a_model_that_loads_safely_with_equal_weights_and_outputs(changes: Any, here: bool) -> None:
    manifest = MANIFEST
    verdict = judge(manifest, measured(manifest, **changes, **({} if here else elsewhere(manifest))))
    kept = (verdict.safe, verdict.loads, verdict.weights_equal, verdict.outputs_equal) == (True, True, True, True)
    assert not verdict.passed or (kept and verdict.resumable is not False and not verdict.reasons)


MANIFEST = bundles.bare_manifest("saved-model")


def test_the_verdict_has_the_fields_that_others_read(manifest: Manifest) -> None:
    shown = judge(manifest, measured(manifest)).model_dump(mode="json")
    fields = "passed intact safe loads weights_equal outputs_equal max_abs_diff resumable findings"
    assert shown.keys() >= set(fields.split())
