"""A process that has imported TensorFlow and never used it, and forks for every piece of work.

Starting Python and importing TensorFlow takes four CPU seconds; a fork takes milliseconds, and is as fresh: TensorFlow
starts its threads and makes its first tensor with the first operation, which no nursery ever runs. A fork trains, or it
loads and measures, and ends. What it dies of stays its own.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import selectors
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from typing import Any

from tasks.children import ChildDied, die_with_parent, quick_imports, serve
from tasks.errors import RoundtripError, from_json

Emit = Callable[[dict[str, Any]], None]


class OutOfTime(RoundtripError):
    """A piece of work said nothing for longer than it may take."""

    kind = "out-of-time"


def _main() -> None:
    with quick_imports():
        import h5py  # noqa: F401  # inspection reads with it
        import tensorflow as tf

        from tasks.verification.fidelity import work

    tf.get_logger().setLevel("ERROR")
    # What is imported is never collected, and so stays shared with every fork.
    gc.collect()
    gc.freeze()
    jobs = {"train": work.train_and_save, "measure": work.measure_cell}
    serve(lambda request, emit: run_in_a_fork(lambda tell: jobs[request["do"]](request["task"], tell), request, emit))


def run_in_a_fork(job: Callable[[Emit], None], limits: dict[str, Any], emit: Emit) -> None:
    """Run a job in a fork of this process, and pass on what it emits.

    Args:
        job: Called in the fork.
        limits: `seconds` between two events, `bytes` of memory.
        emit: Called here with each event.

    Raises:
        RoundtripError: What the job raised.
        ChildDied: The fork ended without an answer; the message says how.
        OutOfTime: It was ended, for it said nothing for too long.
    """
    threads = len(os.listdir("/proc/self/task")) if sys.platform == "linux" else 1  # noqa: PTH208  # names only
    if threads > 1:
        raise RoundtripError(f"This process runs {threads} threads and can't be forked safely. This is a bug of ours.")
    reading, writing = os.pipe()
    with tempfile.TemporaryFile() as words:
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            os.dup2(words.fileno(), 2)
            _be_the_fork(job, limits, writing)
        os.close(writing)
        try:
            finished = _listen(reading, limits["seconds"], emit)
        finally:
            os.close(reading)
            os.kill(pid, signal.SIGKILL)  # it is a zombie or a runaway by now; either way nobody needs it
            _, status = os.waitpid(pid, 0)
        if not finished:
            words.seek(0)
            raise ChildDied(_obituary(status, words.read().decode(errors="replace"), limits["bytes"]))


def _be_the_fork(job: Callable[[Emit], None], limits: dict[str, Any], writing: int) -> None:
    """All that the fork ever does; never returns into the nursery's own code."""
    try:
        die_with_parent()
        if limits["bytes"]:
            resource.setrlimit(resource.RLIMIT_DATA, (limits["bytes"], limits["bytes"]))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

        def write(message: dict[str, Any]) -> None:
            data = (json.dumps(message) + "\n").encode()
            while data:
                data = data[os.write(writing, data) :]

        try:
            job(lambda event: write({"event": event}))
        except Exception as error:
            known = error if isinstance(error, RoundtripError) else RoundtripError(f"{type(error).__name__}: {error}")
            traceback.print_exc()
            write({"failed": known.to_json()})
        else:
            write({"done": True})
    finally:
        os._exit(0)


def _listen(reading: int, seconds: float, emit: Emit) -> bool:
    """Pass on events until the fork is done; False where it ended without saying so."""
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(reading, selectors.EVENT_READ)
        deadline = time.monotonic() + seconds
        while True:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise OutOfTime(f"It took longer than the limit of {seconds:g} s and was ended.")
            data = os.read(reading, 1 << 16)
            if not data:
                return False
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                message = json.loads(line)
                if "failed" in message:
                    raise from_json(message["failed"])
                if "done" in message:
                    return True
                emit(message["event"])
                deadline = time.monotonic() + seconds


def _obituary(status: int, words: str, limit: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    lines = [line for line in words.strip().splitlines() if line.strip()]
    last = f" Its last words: {lines[-1].strip()}" if lines else ""
    memory = ""
    if code == -signal.SIGKILL or "bad_alloc" in words or "MemoryError" in words or "Cannot allocate memory" in words:
        memory = f" (most likely out of memory; its limit was {limit / 1e9:.1f} GB)"
    return f"The process {how}{memory}.{last}"


if __name__ == "__main__":
    _main()
