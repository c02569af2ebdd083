"""Several replicas train with the numbers of one device; in a process of their own, for a runtime takes its devices once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tasks.errors import InputError
from tasks.training.cluster import Cluster, Follower, Group, WorkerLost, read_cluster
from tests.training.process import LOOPS


@pytest.fixture(scope="module")
def found() -> Any:
    """What two replicas made of each case, and one device."""
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-m", "tests.training.together", "mirrored"]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])


def assert_same_numbers(case: Any) -> None:
    alone, together = case["alone"], case["together"]
    assert together["curves"].keys() == alone["curves"].keys()
    for name, curve in alone["curves"].items():
        np.testing.assert_allclose(together["curves"][name], curve, atol=1e-5, err_msg=name)
    assert together["metrics"] == pytest.approx(alone["metrics"], abs=1e-5)
    for mine, other in zip(together["weights"], alone["weights"], strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-5)


@pytest.mark.e2e
@pytest.mark.parametrize("loop", LOOPS)
def test_uneven_parts_of_a_batch_give_the_weights_and_the_history_of_one_device(found: Any, loop: str) -> None:
    assert_same_numbers(found[loop])
    assert found[loop]["together"]["notes"] == [
        "trained by 2 replicas (mirrored: 2 logical processors, for there is no GPU), each of which took 16 or 17 of a "
        "batch's 33 examples"
    ]


@pytest.mark.e2e
def test_the_same_seed_gives_the_same_bits(found: Any) -> None:
    assert found["again"] == found["custom"]["together"]["digest"]


@pytest.mark.e2e
def test_a_loss_that_is_a_sum_is_added_up(found: Any) -> None:
    assert_same_numbers(found["sum"])


@pytest.mark.e2e
def test_moving_statistics_are_those_of_all_replicas(found: Any) -> None:
    alone, together = (found["normalized"][way]["weights"][2] for way in ("alone", "together"))
    np.testing.assert_allclose(together, alone, atol=1e-5)


@pytest.mark.e2e
def test_early_stopping_stops_all_and_brings_the_best_weights_home(found: Any) -> None:
    losses = found["stopped"]["curves"]["val_loss"]
    assert len(losses) == 2  # of 4
    assert found["stopped"]["metrics"]["val_loss"] == pytest.approx(losses[0], abs=1e-5)


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("case", "why"),
    [
        ("clipped", "Keras applies the optimizer's clipnorm to each replica's part before it adds them up"),
        ("own step", "has a train_step of its own, which can't be taken by several replicas"),
        ("own loss", "can't be put together from its parts"),
        ("small batch", "A batch of 1 examples is too small for 2 replicas."),
    ],
)
def test_what_would_give_other_numbers_is_refused(found: Any, case: str, why: str) -> None:
    assert why in found["refused"][case]


# The cluster


def group(*addresses: str, worker: int = 0) -> Group:
    return Group(None, "multi-worker", "", Cluster(addresses, worker))


def test_what_tensorflow_raises_where_a_worker_is_gone_is_said_in_words() -> None:
    with pytest.raises(WorkerLost, match=r"Worker 1 of 2 has lost another one \(0 at a:1\)") as lost:  # noqa: SIM117
        with group("a:1", "b:1", worker=1).watched():
            raise tf.errors.UnavailableError(None, None, "collective ops are aborted")
    assert lost.value.exit_code == 4


@pytest.mark.parametrize(
    ("addresses", "error"),
    [(("a:1", "b:1"), tf.errors.InvalidArgumentError), (("a:1",), tf.errors.UnavailableError)],
)
def test_any_other_error_stays_what_it_is(addresses: tuple[str, ...], error: type[Exception]) -> None:
    with pytest.raises(error), group(*addresses).watched():
        raise error(None, None, "no such thing")  # type: ignore[call-arg]


def test_all_but_the_chief_follow_it() -> None:
    assert group("a:1", "b:1").follower is None
    assert group("a:1", "b:1", worker=1).follower == Follower(1, 2, "a:1")


def config(cluster: dict[str, list[str]], kind: str, index: int) -> str:
    return json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})


def test_the_chief_is_the_first_of_all_workers() -> None:
    jobs = {"chief": ["a:1"], "worker": ["b:1", "c:1"]}
    assert read_cluster(config(jobs, "chief", 0)) == Cluster(("a:1", "b:1", "c:1"), 0)
    assert read_cluster(config(jobs, "worker", 1)) == Cluster(("a:1", "b:1", "c:1"), 2)
    assert read_cluster(config({"worker": ["a:1", "b:1"]}, "worker", 0)) == Cluster(("a:1", "b:1"), 0)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "needs TF_CONFIG in the environment of each worker"),
        ("{", "can't be read"),
        ("[]", "can't be read"),
        (json.dumps({"cluster": {"worker": ["a:1"]}}), "can't be read (KeyError: 'task')"),
        (config({"worker": ["a:1"], "ps": ["b:1"]}, "worker", 0), "names the job 'ps'"),
        (config({"worker": ["a:1"]}, "worker", 1), "this is worker 1, and lists 1 of that kind"),
        (config({"worker": ["a:1"]}, "evaluator", 0), "this is evaluator 0, and lists 0 of that kind"),
    ],
)
def test_a_cluster_that_is_none_is_refused_with_an_example(text: str, why: str) -> None:
    with pytest.raises(InputError) as refused:
        read_cluster(text)
    assert why in str(refused.value)
    assert "For the first of two machines: TF_CONFIG=" in str(refused.value)
