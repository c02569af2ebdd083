"""A nursery forks processes that are as good as new."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import psutil
import pytest

from tasks.children import Child, ChildDied

_THREADS = """
import threading
from pathlib import Path
import tasks.verification.measuring, flows.trainer, flows.returner
from flows.scenarios import SCENARIOS, scenario_flow

for name in SCENARIOS:
    scenario_flow(name)

names = sorted(p.read_text().strip() for p in Path("/proc/self/task").glob("*/comm"))
print(len(names), threading.active_count())
"""


def test_what_a_nursery_imports_starts_no_thread_that_a_fork_would_lose() -> None:
    # NumPy's OpenBLAS has one for each processor; it stops them itself at a fork and starts them anew in the child.
    command = [sys.executable, "-c", _THREADS]

    found = subprocess.run(
        command, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"}, capture_output=True, text=True, check=True
    )

    assert found.stdout.split() == ["1", "1"]


def test_two_children_of_one_nursery_are_two_processes_that_share_nothing() -> None:
    one, other = Child("tests.echo_child"), Child("tests.echo_child")
    try:
        one.ask({"do": "remember", "say": "secret"})

        assert other.ask({"do": "recall"}) == {"said": None}
        assert one.pid != other.pid != os.getpid()
    finally:
        one.end()
        other.end()


@pytest.mark.parametrize(
    ("own", "expected"), [("", "glibc.malloc.hugetlb=1"), ("glibc.malloc.arena_max=2", "glibc.malloc.arena_max=2")]
)
def test_a_nursery_starts_with_large_pages_where_nobody_tuned_it(
    monkeypatch: pytest.MonkeyPatch, own: str, expected: str
) -> None:
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    if own:
        monkeypatch.setenv("GLIBC_TUNABLES", own)
    child = Child("tests.echo_child", python=Path(sys.executable))  # of a nursery of its own
    try:
        assert psutil.Process(child.pid).parent().environ()["GLIBC_TUNABLES"] == expected
    finally:
        child.end()


def test_a_child_has_the_environment_and_the_folder_of_the_moment_it_is_asked_for(
    tmp_path: os.PathLike[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROUNDTRIP_TEST", "now")
    child = Child("tests.echo_child", env={"ROUNDTRIP_MORE": "too"})
    try:
        found = child.ask({"do": "surroundings"})
    finally:
        child.end()

    assert found == {"folder": str(tmp_path), "values": ["now", "too"]}


def test_a_child_can_have_children_of_its_own_which_end_with_it() -> None:
    child = Child("tests.echo_child")
    grandchild = child.ask({"do": "child"})["pid"]
    os.kill(grandchild, 0)

    child.end()

    with pytest.raises(ProcessLookupError):
        for _ in range(200):
            os.kill(grandchild, 0)
            os.sched_yield()
            signal.sigtimedwait([], 0.02)


def test_a_module_that_cannot_be_imported_is_told_by_the_child_that_needs_it() -> None:
    child = Child("tests.no_such_child")
    with pytest.raises(ChildDied, match=r"No module named 'tests.no_such_child'"):
        child.ask({})
    child.end()


def test_a_nursery_outlives_a_child_that_nobody_waited_for() -> None:
    for _ in range(5):
        Child("tests.echo_child").end()  # likely before it was forked
    child = Child("tests.echo_child")
    try:
        assert child.ask({"do": "echo", "say": "there"}) == {"said": "there"}
    finally:
        child.end()


def test_a_child_may_run_under_another_interpreter() -> None:
    bare = Path(sys.base_prefix) / "bin" / "python3"
    assert str(bare) != sys.executable
    child = Child("tests.echo_child", python=bare)
    try:
        found = child.ask({"do": "interpreter"})
        assert found["prefix"] == sys.base_prefix != sys.prefix
        assert sysconfig.get_path("purelib") not in found["path"]
        assert child.pid != os.getpid()
    finally:
        child.end()


def test_a_child_under_an_interpreter_that_is_none_is_dead() -> None:
    child = Child("tests.echo_child", python=Path("/bin/false"))
    try:
        with pytest.raises(ChildDied):
            child.ask({"do": "echo", "say": "hello"})
    finally:
        child.end()
