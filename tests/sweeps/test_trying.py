"""A combination's run, whatever happens in the process that works for it."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from tasks import nursery
from tasks.crew import Stopped
from tasks.data import DataConfig
from tasks.settings import StoreConfig
from tasks.sweeps import Combination, ModelChoice, SweepPlan, Swept, Target, Tried, Tries, shortfall
from tasks.training import TrainingConfig

PLAN = SweepPlan(
    id="sweep", scenario="weights-h5", grid={"play": ["fine"]}, data=DataConfig(), builds=ModelChoice(arguments={"a": 1}),
    training=TrainingConfig(epochs=3), model="m", store=StoreConfig(), rehearsal=True, keep_seconds=60,
)  # fmt: skip


@pytest.fixture(scope="module")
def tries() -> Tries:
    # A process has one nursery. What comes after these tests in this process needs more of it than they do.
    nursery.prepare("tests.verification.fidelity_worker")
    return Tries("tests.sweeps.trainer")


def combination(play: str) -> Combination:
    return Combination(values={"play": play}, training={"learning_rate": 0.5}, arguments={"play": play})


def attempt(tries: Tries, play: str) -> Tried:
    return tries.attempt(combination(play), PLAN)


def test_a_combination_comes_to_a_version_with_its_metrics(tries: Tries) -> None:
    tried = attempt(tries, "fine")
    assert tried.error is None
    assert tried.version is not None and tried.version.metrics == {"val_loss": 0.5}


def test_a_combination_that_is_refused_is_a_row_with_one_line(tries: Tries) -> None:
    tried = attempt(tries, "refuses")
    assert (tried.version, tried.why) == (None, "no such thing as that")
    assert tried.error is not None and tried.error["exit_code"] == 2


def test_a_process_that_dies_is_a_row(tries: Tries) -> None:
    assert attempt(tries, "dies").why.startswith("The process was killed by SIGSEGV")


def test_a_process_that_dies_after_its_version_is_there_has_done_its_work(tries: Tries) -> None:
    tried = attempt(tries, "dies-late")
    assert tried.version is not None and tried.error is None


def test_what_a_process_leaves_behind_goes_with_it(tries: Tries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    attempt(tries, "dies")
    assert list(tmp_path.iterdir()) == []


def test_stopping_ends_what_is_tried_and_begins_no_more() -> None:
    tries, raised = Tries("tests.sweeps.trainer"), []

    def work() -> None:
        try:
            attempt(tries, "hangs")
        except Stopped as stopped:
            raised.append(stopped)

    thread = threading.Thread(target=work)
    thread.start()
    while not tries._crew._working:
        time.sleep(0.01)
    tries.stop()
    thread.join()
    assert len(raised) == 1
    with pytest.raises(Stopped):
        attempt(tries, "fine")


def test_a_combination_is_a_run_of_its_scenario_with_what_all_have_in_common() -> None:
    parameters = PLAN.parameters(combination("fine"))
    assert parameters["model"] == {"arguments": {"a": 1, "play": "fine"}}, "the builder is the scenario's own"
    assert (parameters["training"]["epochs"], parameters["training"]["learning_rate"]) == (3, 0.5)
    assert parameters["name"] == "m"


def test_a_sweep_of_which_nothing_came_fails_for_the_gravest_reason(tries: Tries) -> None:
    runs = [attempt(tries, "dies"), attempt(tries, "refuses")]
    target = Target(metric="val_loss", direction="min")

    error = shortfall(Swept(plan=PLAN, target=target, runs=runs, best=None, seconds=1))

    assert error is not None and error.exit_code == 2
    assert "None of 2 combinations" in str(error) and "play=refuses: no such thing as that" in str(error)
