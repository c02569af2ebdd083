"""A Python process of ours that speaks JSON, one document a line: requests on its stdin, events on its stdout.

Models never cross such a pipe, only paths, references and small records. A child dies with its parent, whatever kills the
parent, and is out of reach of the terminal's Ctrl-C, so that its parent decides in which order things stop.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import sys
import tempfile
import threading
import traceback
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from itertools import islice
from pathlib import Path
from typing import IO, Any

from tasks import nursery
from tasks.errors import RoundtripError, from_json

_MEANINGS: dict[int, str] = {
    signal.SIGKILL: " (SIGKILL from outside mostly means that memory ran out)",
    signal.SIGXCPU: " (its CPU time was used up)",
    signal.SIGXFSZ: " (it wrote a file that was too large)",
}
_LONGEST = 64 * 2**20  # characters of an answer; a child may have turned against us


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import without what large imports spend a fifth of their time on.

    Garbage is not collected: what was imported is there to stay. And `typing` compiles each type that is written as a string
    once: TensorFlow names its 30 number formats 18,000 times. Within another such block it does nothing more.
    """
    if "compile" in vars(typing):
        yield
        return
    gc.disable()
    vars(typing)["compile"] = cache(compile)  # before the builtin of that name
    try:
        yield
    finally:
        vars(typing).pop("compile", None)
        gc.freeze()
        gc.enable()


class ChildDied(RoundtripError):
    """A child ended without an answer: killed, out of memory, a crash in native code."""

    kind = "child-died"


class Child:
    """One running child: a process forked from a nursery, in which a module's `main()` calls `serve`.

    By default the nursery is this process'; with `python` it is one of that interpreter.
    """

    def __init__(
        self, module: str, *, env: Mapping[str, str] | None = None, python: Path | None = None, debug: bool = False
    ) -> None:
        # Another interpreter's nursery is this child's alone, and imports nothing ahead of it.
        self._link = nursery.start(python, debug=debug) if python else None
        self._stderr: IO[bytes] | None = None if debug else tempfile.TemporaryFile()  # noqa: SIM115  # lives with us
        theirs_in, ours_in = os.pipe()
        ours_out, theirs_out = os.pipe()
        ours_status, theirs_status = os.pipe()
        self._stdin = os.fdopen(ours_in, "w")
        self._stdout = os.fdopen(ours_out, errors="replace")
        self._status, self._told = ours_status, b""
        self._pid: int | None = None
        self._code: int | None = None
        self._ending = threading.Lock()  # a job that is interrupted ends a child that its feeder is letting finish
        files = (theirs_in, theirs_out, self._stderr.fileno() if self._stderr else 2, theirs_status)
        nursery.fork(module, {**os.environ, **(env or {})}, files, self._link)
        for file in (theirs_in, theirs_out, theirs_status):
            os.close(file)

    @property
    def pid(self) -> int:
        """The child's process id; waits until the child is there.

        Raises:
            ChildDied: It never came to be, for its nursery died.
        """
        if self._pid is None and not self._learn_pid(None):
            raise ChildDied("The process that forks the others, once it has imported TensorFlow, died or can't fork.")
        assert self._pid is not None
        return self._pid

    def send(self, request: dict[str, Any]) -> None:
        """Hand the child one request."""
        # A child that died before it read the request is reported by `events`, with the reason.
        with contextlib.suppress(BrokenPipeError):
            self._stdin.write(json.dumps(request) + "\n")
            self._stdin.flush()

    def events(self) -> Iterator[dict[str, Any]]:
        """What the child reports on the last request, up to and without its `done`.

        Raises:
            RoundtripError: What the child itself raised.
            ChildDied: The child ended without an answer.
        """
        while line := self._stdout.readline(_LONGEST):
            if len(line) == _LONGEST:
                raise self._ended_for("more than a record can be")
            try:
                message = json.loads(line)
                if "done" in message:
                    return
                event, error = _event_or_error(message)
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                raise self._ended_for("no record") from None
            if error is not None:
                raise error
            yield event
        raise ChildDied(self._obituary())

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a request that has exactly one event as its answer."""
        self.send(request)
        answers = list(islice(self.events(), 2))
        if len(answers) != 1:
            raise self._ended_for(f"{'no record' if not answers else 'several'} where one was asked for")
        return answers[0]

    def _ended_for(self, what: str) -> ChildDied:
        """End a child that does not keep to the protocol: something in it has turned against us."""
        self.kill()
        return ChildDied(f"The process answered with {what}, and was ended.")

    def finish(self, seconds: float = 15.0) -> None:
        """Let the child end by itself, with whatever it does at its exit; `end` it where that takes too long."""
        self._close_stdin()
        with self._ending:
            if self._learn_pid(seconds):
                self._learn_end(seconds)
            self._end()

    def kill(self) -> None:
        """Kill the child and what it started, from any thread; whoever waits for its answer is told that it died."""
        with contextlib.suppress(ChildDied):
            nursery.signal_group(self.pid, signal.SIGKILL)

    def end(self) -> None:
        """End the child and whatever it started; done when it is gone, also where another thread waits for its end."""
        self._close_stdin()
        if not self._ending.acquire(blocking=False):
            if self._pid is not None:
                self.kill()
            self._ending.acquire()
        try:
            self._end()
        finally:
            self._ending.release()

    def _end(self) -> None:
        # One that its nursery has not forked yet will find its stdin closed and go at once.
        if self._learn_pid(0) and not self._learn_end(0):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._learn_end(None)
        if self._status >= 0:
            os.close(self._status)
            self._status = -1
        for stream in (self._stdout, self._stderr, self._link):
            if stream is not None:
                stream.close()

    def _close_stdin(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._stdin.close()

    def _learn_pid(self, seconds: float | None) -> bool:
        """Whether the child was there within a time; None waits as long as it takes."""
        if self._pid is None:
            line = self._status_line(seconds)
            self._pid = int(line) if line else None
        return self._pid is not None

    def _learn_end(self, seconds: float | None) -> bool:
        """Whether the child ended within a time, by itself or killed."""
        if self._code is None:
            line = self._status_line(seconds)
            # The pipe closes without a word where the nursery was killed, and its children with it.
            self._code = None if line is None else int(line or -signal.SIGKILL)
        return self._code is not None

    def _status_line(self, seconds: float | None) -> bytes | None:
        """The next line about the child; empty where none will come, None where none came in time."""
        while b"\n" not in self._told:
            if self._status < 0:
                return b""
            if not select.select([self._status], [], [], seconds)[0]:
                return None
            more = os.read(self._status, 64)
            if not more:
                return b""
            self._told += more
        line, _, self._told = self._told.partition(b"\n")
        return line

    def _obituary(self) -> str:
        _ = self.pid
        self._learn_end(None)
        code = self._code or 0
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        last = ""
        if self._stderr is not None:
            self._stderr.seek(0)
            lines = self._stderr.read().decode(errors="replace").strip().splitlines()
            last = f" Its last words: {lines[-1]}" if lines else ""
        return f"The process {how}{_MEANINGS.get(-code, '')}.{last}"


def _event_or_error(message: dict[str, Any]) -> tuple[dict[str, Any], RoundtripError | None]:
    """What a line of the child's says. Whatever it is that is no such line, one of a few errors is raised."""
    if "failed" not in message:
        return dict(message["event"].items()), None
    error = from_json(message["failed"])
    error.__cause__ = _RemoteTraceback(message["traceback"])
    return {}, error


class _RemoteTraceback(Exception):
    """Carries the child's traceback, so that `--debug` can show where an error came from."""


def serve(handle: Callable[[dict[str, Any], Callable[[dict[str, Any]], None]], None]) -> None:
    """Answer requests from stdin until it closes; the child's side of `Child`.

    Whatever the handled code prints goes to stderr: stdout belongs to the protocol.
    """
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def write(message: dict[str, Any]) -> None:
        out.write(json.dumps(message) + "\n")
        out.flush()

    for line in sys.stdin:
        try:
            handle(json.loads(line), lambda event: write({"event": event}))
        except Exception as error:
            known = error if isinstance(error, RoundtripError) else RoundtripError(f"{type(error).__name__}: {error}")
            write({"failed": known.to_json(), "traceback": traceback.format_exc()})
        else:
            write({"done": True})
