"""A training that is killed by SIGKILL and run again ends with the bits of one that never was; real processes and store."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import uuid
from functools import cache

import pytest

from tasks.storage import Store, layout
from tests.training.killed import EPOCHS
from tests.training.process import LOOPS

pytestmark = pytest.mark.faults

# When each case ends by itself; the plain one is what the two killed writers below train.
LAST = {"early-stopping": 6, "mixed-precision": EPOCHS}


def start(loop: str, case: str, name: str, moment: str = "") -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.training.killed", loop, case, name, *([moment] if moment else [])]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def run(loop: str, case: str, name: str) -> tuple[str, list[str]]:
    """Run to the end; the digest, and all lines."""
    return end_of(start(loop, case, name))


def end_of(process: subprocess.Popen[str]) -> tuple[str, list[str]]:
    out, _ = process.communicate()
    assert process.returncode == 0
    lines = out.splitlines()
    return lines[-1], lines


def kill_after(loop: str, case: str, name: str, epoch: int) -> list[str]:
    """Run until an epoch was reported, then kill; the lines until then."""
    process = start(loop, case, name)
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line.strip())
        if line.strip() == f"epoch {epoch}":
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    return lines


def _random() -> random.Random:
    seed = os.environ.get("KILL_SEED") or uuid.uuid4().hex
    print(f"KILL_SEED={seed}")  # shown where the test fails
    return random.Random(seed)


@pytest.mark.parametrize("case", LAST)
@pytest.mark.parametrize("loop", LOOPS)
def test_killed_at_a_random_epoch_it_ends_with_the_same_bits(store: Store, loop: str, case: str) -> None:
    epoch = _random().randrange(2, LAST[case])
    whole = start(loop, case, "whole")

    kill_after(loop, case, "killed", epoch)
    digest, lines = run(loop, case, "killed")

    assert digest == end_of(whole)[0]
    resumed = {f"resumed after epoch {n} of {EPOCHS} from a checkpoint" for n in (epoch - 1, epoch)}
    assert resumed & set(lines)


@cache
def never_killed() -> str:
    """The digest of a plain run."""
    return run("custom", "plain", "whole")[0]


@pytest.mark.parametrize("moment", ["commit", "any"])
def test_killed_while_it_writes_a_checkpoint_it_goes_on_from_the_one_before(store: Store, moment: str) -> None:
    if moment == "any":
        moment = str(_random().randrange(25))
    process = start("custom", "plain", "killed", moment)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    unfinished = store.keys(layout.checkpoints("killed"))
    digest, lines = run("custom", "plain", "killed")

    assert unfinished
    assert digest == never_killed()
    assert any(line.startswith("resumed after epoch") for line in lines)
    if moment == "commit":
        assert "resumed after epoch 2 of 8 from a checkpoint" in lines
        assert {key.split("/")[3].partition("=")[0] for key in unfinished} == {f"{epoch:010d}" for epoch in (1, 2, 3)}
