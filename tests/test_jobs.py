"""Many runs at once: what each asks for, and what all of them together mean."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.states import Completed, Crashed, Running, State
from pydantic import ValidationError

from tasks.errors import TrainingFailed, VerificationFailed
from tasks.jobs import Became, Job, shortfall
from tasks.steps.pools import so_far

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
JOB = Became(scenario="weights-h5", model="digits")
PUBLISHED = JOB.model_copy(update={"state": "Completed", "ended": True, "version": "01a2"})


def run(state: State, *tags: str) -> FlowRun:
    ended = BEGAN + timedelta(seconds=4) if state.is_final() else None
    return FlowRun(flow_id=uuid4(), state=state, tags=list(tags), start_time=BEGAN, end_time=ended)


def test_a_scenario_names_its_deployment_and_any_other_is_named_in_full() -> None:
    assert Job(scenario="full-h5", name="a").deployment == "full-h5/full-h5"
    assert Job(scenario="mine/nightly", name="a").deployment == "mine/nightly"


def test_a_jobs_own_parameters_leave_those_beside_them_that_all_share() -> None:
    job = Job(scenario="full-h5", name="a", parameters={"training": {"seed": 1}, "rehearse": False})
    shared = {"training": {"epochs": 20, "seed": 0}, "data": {"rows": 100}}
    assert job.among(shared) == {"training": {"epochs": 20, "seed": 1}, "data": {"rows": 100}, "rehearse": False}


def test_a_field_that_is_none_is_refused() -> None:
    with pytest.raises(ValidationError, match="epochs"):
        Job.model_validate({"scenario": "full-h5", "name": "a", "epochs": 3})


def test_what_a_run_published_is_read_from_its_tags() -> None:
    became = so_far(JOB, run(Completed(), "roundtrip", "model:digits", "version:01a2"))

    assert (became.state, became.version, became.seconds, became.why) == ("Completed", "01a2", 4.0, None)
    assert became.published and became.ended


def test_a_run_that_goes_on_has_not_ended_and_published_nothing() -> None:
    became = so_far(JOB, run(Running()))

    assert (became.state, became.ended, became.published, became.seconds) == ("Running", False, False, None)


def test_a_crashed_run_that_had_published_is_not_one_that_did_what_it_was_for() -> None:
    became = so_far(JOB, run(Crashed(message="its machine\nis gone"), "version:01a2"))

    assert (became.version, became.published, became.why) == ("01a2", False, "its machine is gone")


@pytest.mark.parametrize(("proved", "proofs", "fine"), [(True, True, True), (None, True, False), (False, True, False),
                                                       (None, False, True)])  # fmt: skip
def test_a_published_version_must_be_proved_where_proofs_are_waited_for(
    proved: bool | None, proofs: bool, fine: bool
) -> None:
    assert (shortfall([PUBLISHED.model_copy(update={"proved": proved})], proofs) is None) is fine


def test_the_error_counts_and_names_what_went_wrong() -> None:
    lost = JOB.model_copy(update={"model": "letters", "why": "there is no deployment x/x"})
    refused = PUBLISHED.model_copy(update={"proved": False})

    error = shortfall([lost, refused, PUBLISHED.model_copy(update={"proved": True})], proofs=True)

    assert isinstance(error, VerificationFailed)
    assert str(error).splitlines() == [
        "Of 3 runs 2 published a version; 1 were refused, 0 have no verdict yet.",
        "  weights-h5 letters: there is no deployment x/x",
        "  weights-h5 digits@01a2: refused; its verdict says why",
    ]
    assert isinstance(shortfall([lost], proofs=False), TrainingFailed)
