"""A process of ours that speaks JSON."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import typing
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.children import Child, ChildDied, quick_imports
from tasks.errors import NotFoundError, RoundtripError


@pytest.fixture
def child() -> Iterator[Child]:
    child = Child("tests.echo_child")
    yield child
    child.end()


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def soon(condition: Callable[[], bool], seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def test_an_answer_comes_back_as_it_was_given(child: Child) -> None:
    text = 'ünï\n"code" '
    assert child.ask({"do": "echo", "say": text}) == {"said": text}


def test_one_child_answers_many_requests(child: Child) -> None:
    assert [child.ask({"do": "echo", "say": i})["said"] for i in range(3)] == [0, 1, 2]


def test_events_come_in_order_and_end(child: Child) -> None:
    child.send({"do": "count", "to": 4})
    assert [event["number"] for event in child.events()] == [0, 1, 2, 3]


def test_what_the_childs_code_prints_does_not_disturb_its_answer(child: Child) -> None:
    assert child.ask({"do": "print"}) == {"said": "printed"}


def test_an_error_of_ours_comes_back_as_what_it_is(child: Child) -> None:
    with pytest.raises(NotFoundError, match=r"^no such model$"):
        child.ask({"do": "not-found"})


def test_any_other_error_is_told_with_its_type_and_the_childs_traceback(child: Child) -> None:
    with pytest.raises(RoundtripError, match=r"^KeyError: 'oops'$") as raised:
        child.ask({"do": "bug"})
    assert 'raise KeyError("oops")' in str(raised.value.__cause__)


@pytest.mark.parametrize(
    "answer",
    [b"no JSON\n", b"[" * 100_000 + b"\n", b"\xff\n", b"1\n", b"null\n", b"{}\n", b'{"event": 1}\n', b'{"failed": {}}\n',
     b'{"done": true}\n', b'{"event": {}}\n{"event": {}}\n'],
)  # fmt: skip
def test_a_child_that_answers_with_something_else_is_ended(child: Child, answer: bytes) -> None:
    with pytest.raises(ChildDied, match=r"The process answered with .+, and was ended\."):
        child.ask({"do": "answer", "with": list(answer)})


def test_a_child_goes_on_after_an_error(child: Child) -> None:
    with pytest.raises(RoundtripError):
        child.ask({"do": "bug"})
    assert child.ask({"do": "echo", "say": "still here"}) == {"said": "still here"}


def test_a_child_that_ends_by_itself_is_reported_with_its_last_words(child: Child) -> None:
    with pytest.raises(ChildDied, match=r"^The process ended with exit code 3. Its last words: last words$"):
        child.ask({"do": "exit"})


def test_a_child_that_is_killed_at_work_is_reported_with_the_signal(child: Child) -> None:
    assert child.ask({"do": "echo", "say": "up"})
    child.send({"do": "sleep"})
    os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(ChildDied, match=r"was killed by SIGKILL .*memory ran out"):
        list(child.events())


def test_a_request_to_a_dead_child_is_reported_as_its_death(child: Child) -> None:
    os.kill(child.pid, signal.SIGTERM)
    assert soon(lambda: not alive(child.pid))
    with pytest.raises(ChildDied, match="was killed by SIGTERM"):
        child.ask({"do": "echo", "say": "anyone?"})


def test_ending_a_child_ends_what_it_started(child: Child) -> None:
    grandchild = child.ask({"do": "start"})["pid"]
    child.end()
    assert soon(lambda: not alive(grandchild)) and not alive(child.pid)


def test_ending_a_child_twice_is_no_error(child: Child) -> None:
    child.end()
    child.end()


def test_a_child_at_work_dies_with_its_parent_however_that_dies() -> None:
    code = """
import time
from tasks.children import Child
child = Child("tests.echo_child")
child.ask({"do": "echo", "say": "up"})
child.send({"do": "sleep"})  # one that waits for requests would end by itself, for its stdin closes
print(child.pid, flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert alive(pid)

    parent.kill()
    parent.communicate()

    assert soon(lambda: not alive(pid))


def test_a_child_that_one_thread_lets_finish_is_ended_by_another_at_once(child: Child) -> None:
    child.send({"do": "sleep"})
    soon(lambda: alive(child.pid))
    failed: list[BaseException] = []

    def finish() -> None:
        try:
            child.finish(60)
        except BaseException as error:
            failed.append(error)

    finishing = threading.Thread(target=finish)
    finishing.start()
    time.sleep(0.2)
    child.end()
    finishing.join(30)

    assert not finishing.is_alive()
    assert failed == []
    assert not alive(child.pid)


def test_quick_imports_read_types_as_ever_and_leave_no_trace() -> None:
    class Hinted:
        a: list[int]
        b: list[int]

    with quick_imports():
        with quick_imports():
            pass
        assert not gc.isenabled()
        assert typing.get_type_hints(Hinted) == {"a": list[int], "b": list[int]}
        with pytest.raises(SyntaxError):
            typing.ForwardRef("no type")

    assert gc.isenabled()
    assert "compile" not in vars(typing)


def test_quick_imports_compile_a_type_once(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []

    def counting(text: str, *how: typing.Any) -> typing.Any:
        compiled.append(text)
        return compile(text, *how)

    monkeypatch.setattr("tasks.children.compile", counting, raising=False)
    with quick_imports():
        for _ in range(3):
            typing.ForwardRef("list[int]")

    assert compiled == ["list[int]"]
