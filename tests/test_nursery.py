"""A nursery forks processes that are as good as new."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from flows.production.parts import LIBRARIES
from tasks import nursery
from tasks.children import Child, ChildDied
from tests.e2e.commands import ROOT, until

_THREADS = """
import sys, threading
from importlib import import_module
from pathlib import Path
import tasks.verification.measuring, flows.trainer, flows.returner
from flows.scenarios import SCENARIOS, scenario_flow

for name in SCENARIOS:
    scenario_flow(name)
for name in sys.argv[1:]:
    import_module(name)

names = sorted(p.read_text().strip() for p in Path("/proc/self/task").glob("*/comm"))
print(len(names), threading.active_count())
"""


def test_what_a_nursery_imports_starts_no_thread_that_a_fork_would_lose() -> None:
    # NumPy's OpenBLAS has one for each processor; it stops them itself at a fork and starts them anew in the child.
    command = [sys.executable, "-c", _THREADS, *LIBRARIES]

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


# One that stands

_ASK = """
import json, os, sys
import psutil
from tasks.children import Child
os.umask(int(sys.argv[1], 8))
child = Child("tests.echo_child")
found = child.ask({"do": "surroundings"})
parent = psutil.Process(child.pid).parent().pid
imported = child.ask({"do": "variable", "name": "HDF5_PLUGIN_PATH"})["said"]
print(json.dumps(found | {"pid": child.pid, "parent": parent, "imported": imported}), flush=True)
sys.stdin.read()
"""


class Standing:
    """A nursery that stands, made of a copy of the package, and those that ask it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(ROOT / "tasks", folder / "tasks", ignore=shutil.ignore_patterns("__pycache__"))
        self.address = folder / ("deep" * 30) / "nursery.sock"  # longer than a socket's path can be
        self.address.parent.mkdir()
        # As TensorFlow does.
        (folder / "busy.py").write_text(
            "import os; os.environ |= {'OMP_SET_BY_AN_IMPORT': '1', 'HDF5_PLUGIN_PATH': 'disable'}"
        )
        command, environment = nursery.standing_command(self.address, "busy")
        environment = {**environment, **os.environ, "PYTHONPATH": str(folder)}
        self.process = psutil.Popen(command, cwd=folder, env=environment)
        assert until(self.address.exists, 60)
        self.asking: list[psutil.Popen] = []

    def ask(self, umask: str = "022", **more: str) -> dict[str, object]:
        """What a child says of itself that another process asks for; that one stays."""
        environment = {**os.environ, nursery.ADDRESS: str(self.address), "PYTHONPATH": str(ROOT), **more}
        command = [sys.executable, "-c", _ASK, umask]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.asking.append(psutil.Popen(command, cwd=self.folder, env=environment, text=True, **pipes))
        return json.loads(self.asking[-1].stdout.readline())  # type: ignore[no-any-return]

    def end(self) -> None:
        for process in (*self.asking, self.process):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
            process.wait()


@pytest.fixture
def standing(tmp_path: Path) -> Iterator[Standing]:
    started = Standing(tmp_path)
    yield started
    started.end()


def test_one_that_stands_serves_every_process_by_its_own_environment_and_outlives_it(standing: Standing) -> None:
    first, second = standing.ask(ROUNDTRIP_TEST="one"), standing.ask(ROUNDTRIP_TEST="two")

    assert first["parent"] == second["parent"] == standing.process.pid
    assert (first["values"], second["values"]) == (["one", None], ["two", None])
    assert first["folder"] == str(standing.folder)
    standing.asking[0].kill()
    assert until(lambda: not psutil.pid_exists(int(str(first["pid"]))), 10)
    assert psutil.pid_exists(int(str(second["pid"])))
    assert standing.process.is_running()


def test_a_child_writes_files_with_the_modes_of_whoever_asked_for_it(standing: Standing) -> None:
    pid = standing.ask("027")["pid"]

    assert "Umask:\t0027\n" in Path(f"/proc/{pid}/status").read_text()


@pytest.mark.parametrize("more", [{"OMP_NUM_THREADS": "1"}, {"KERAS_BACKEND": "tensorflow"}, {"PYTHONHASHSEED": "7"}],
                         ids=lambda more: next(iter(more)))  # fmt: skip
def test_whoever_would_have_started_another_one_starts_it(standing: Standing, more: dict[str, str]) -> None:
    assert standing.ask(**more)["parent"] != standing.process.pid


@pytest.mark.parametrize(
    ("before", "served"),
    [("", True), ("os.nice(1)", False), ("ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)", False)],
    ids=["like it", "another share of the machine", "no new privileges"],
)
def test_who_has_less_than_the_nursery_gets_nothing_from_it(standing: Standing, before: str, served: bool) -> None:
    code = f"import ctypes, os; {before}\nfrom tasks import nursery; print(nursery.standing() is not None)"
    found = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, nursery.ADDRESS: str(standing.address)}, cwd=standing.folder,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert found.stdout == f"{served}\n"


def test_who_configured_keras_otherwise_starts_its_own(standing: Standing, tmp_path: Path) -> None:
    file = tmp_path / ".keras" / "keras.json"
    file.parent.mkdir()
    file.write_text('{"floatx": "float32", "backend": "tensorflow", "other": 1}')  # as Keras itself writes it
    assert standing.ask(HOME=str(tmp_path))["parent"] == standing.process.pid

    file.write_text('{"floatx": "float16"}')
    assert standing.ask(HOME=str(tmp_path))["parent"] != standing.process.pid


def test_a_child_has_what_imports_put_into_the_environment(standing: Standing) -> None:
    assert standing.ask()["imported"] == "disable"
    assert standing.ask(HDF5_PLUGIN_PATH="mine")["imported"] == "mine"


def test_what_can_not_be_forked_is_no_end_of_the_nursery(standing: Standing) -> None:
    kept = standing.ask()
    limits = standing.process.rlimit(psutil.RLIMIT_NOFILE)
    standing.process.rlimit(psutil.RLIMIT_NOFILE, (standing.process.num_fds(), limits[1]))

    with pytest.raises(json.JSONDecodeError):  # that child alone does not come to be
        standing.ask()
    assert psutil.pid_exists(int(str(kept["pid"])))
    standing.process.rlimit(psutil.RLIMIT_NOFILE, limits)
    assert standing.ask()["parent"] == standing.process.pid


def test_one_whose_code_changed_on_the_disk_lets_nobody_in_and_begins_anew_once_it_is_empty(standing: Standing) -> None:
    before = standing.ask()
    (standing.folder / "tasks" / "nursery.py").touch()

    assert standing.ask()["parent"] != standing.process.pid
    assert psutil.pid_exists(int(str(before["pid"])))
    for asking in standing.asking:
        asking.kill()
    assert until(lambda: standing.ask()["parent"] == standing.process.pid, 60)


@pytest.mark.parametrize("length", [100, 2**62, 2**64 - 1])
def test_who_says_half_of_what_it_has_to_say_is_not_waited_for(standing: Standing, length: int) -> None:
    with socket.socket(socket.AF_UNIX) as link, nursery.reachable(standing.address) as address:
        link.connect(address)
        link.send(length.to_bytes(nursery.LENGTH, "big"))

        assert standing.ask()["parent"] == standing.process.pid
        assert link.recv(1) == b""


def test_its_door_is_open_to_its_user_alone_and_nobody_is_there_where_it_died(standing: Standing) -> None:
    assert standing.address.stat().st_mode & 0o777 == 0o600
    standing.process.kill()
    standing.process.wait()

    assert standing.ask()["parent"] != standing.process.pid
