"""A Python process of ours that speaks JSON, one document a line: requests on its stdin, events on its stdout.

Models never cross such a pipe, only paths, references and small records. A child dies with its parent (Linux), whatever
kills the parent, and is out of reach of the terminal's Ctrl-C, so that its parent decides in which order things stop.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

from tasks.errors import RoundtripError, from_json

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent(number: int = signal.SIGKILL) -> None:
    """Ask the kernel to send this process a signal when its parent *thread* ends; for `preexec_fn`.

    The kernel means the thread that started the child, so start children from a thread that stays.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import without garbage collection; what was imported is there to stay. Saves 10 to 20 % of large imports."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


class ChildDied(RoundtripError):
    """A child ended without an answer: killed, out of memory, a crash in native code."""

    kind = "child-died"


class Child:
    """One running child of a module that calls `serve`."""

    def __init__(self, module: str, *, env: Mapping[str, str] | None = None, debug: bool = False) -> None:
        self._stderr: IO[bytes] | None = None if debug else tempfile.TemporaryFile()  # noqa: SIM115  # lives with us

        self._process = subprocess.Popen(  # prctl only, no locks taken
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **(env or {})},
            text=True,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def send(self, request: dict[str, Any]) -> None:
        """Hand the child one request."""
        assert self._process.stdin is not None
        # A child that died before it read the request is reported by `events`, with the reason.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()

    def events(self) -> Iterator[dict[str, Any]]:
        """What the child reports on the last request, up to and without its `done`.

        Raises:
            RoundtripError: What the child itself raised.
            ChildDied: The child ended without an answer.
        """
        assert self._process.stdout is not None
        for line in self._process.stdout:
            message = json.loads(line)
            if "failed" in message:
                error = from_json(message["failed"])
                error.__cause__ = _RemoteTraceback(message["traceback"])
                raise error
            if "done" in message:
                return
            yield message["event"]
        raise ChildDied(self._obituary())

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a request that has exactly one event as its answer."""
        self.send(request)
        (answer,) = self.events()
        return answer

    def finish(self, seconds: float = 15.0) -> None:
        """Let the child end by itself, with whatever it does at its exit; `end` it where that takes too long."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        self.end()

    def end(self) -> None:
        """End the child and whatever it started; done when it is gone."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def _obituary(self) -> str:
        code = self._process.wait()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        last = ""
        if self._stderr is not None:
            self._stderr.seek(0)
            lines = self._stderr.read().decode(errors="replace").strip().splitlines()
            last = f" Its last words: {lines[-1]}" if lines else ""
        memory = " (SIGKILL from outside mostly means that memory ran out)" if code == -signal.SIGKILL else ""
        return f"The process {how}{memory}.{last}"


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
