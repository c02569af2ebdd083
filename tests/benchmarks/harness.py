"""Run a command and account for everything that it started: wall and CPU seconds, peak memory, a timeline."""

from __future__ import annotations

import ctypes
import os
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psutil

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


@dataclass(frozen=True, slots=True)
class Run:
    """One command, with all its descendants.

    Attributes:
        wall: Seconds until it ended.
        cpu: User and system seconds of it and of every descendant.
        peak: Largest sum of memory in bytes; what processes share counts once (PSS).
        timeline: Seconds after the start, and the line that was written to stderr then.
    """

    wall: float
    cpu: float
    peak: int
    stdout: str
    timeline: list[tuple[float, str]] = field(default_factory=list)


def run(command: Sequence[str], env: Mapping[str, str], *, memory: bool = False) -> Run:
    """Run a command to its end, servers that it left behind for a moment included.

    Args:
        command: What to run.
        env: Beside our own environment.
        memory: Whether to watch the memory. The kernel walks all pages of all processes for it, each time, and holds up who
            maps more: half a core for a program of seven processes with TensorFlow. So such a run's times mean nothing.
    """
    # Orphans come to us, so that `wait` counts their CPU time too.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    ours = {process.pid for process in psutil.Process().children()}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    process = subprocess.Popen(command, env={**os.environ, **env}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    peak = [0]
    done = threading.Event()
    watcher = threading.Thread(target=_watch_memory, args=(peak, done))
    if memory:
        watcher.start()
    timeline: list[tuple[float, str]] = []
    reader = threading.Thread(
        target=lambda: timeline.extend((time.perf_counter() - started, line.rstrip()) for line in process.stderr or ())
    )
    reader.start()
    stdout = process.stdout.read() if process.stdout else ""
    code = process.wait()
    wall = time.perf_counter() - started
    done.set()
    if memory:
        watcher.join()
    reader.join()
    _reap_orphans(ours)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if code != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {code}:\n" + "\n".join(line for _, line in timeline[-20:]))
    return Run(wall, cpu, peak[0], stdout, timeline)


def medians(runs: Iterable[Run], watched: Run) -> dict[str, float]:
    """Median wall and CPU seconds, and the peak megabytes of one more run, whose memory was watched."""
    found = list(runs)
    return {
        "wall_s": round(statistics.median(r.wall for r in found), 2),
        "cpu_s": round(statistics.median(r.cpu for r in found), 2),
        "peak_mb": round(watched.peak / 1e6),
    }


def bar(value: float, target: str) -> dict[str, Any]:
    """A figure against its target, written `<= 0.8` or `>= 50`."""
    sign, _, limit = target.partition(" ")
    holds = value <= float(limit) if sign == "<=" else value >= float(limit)
    return {"value": round(value, 3), "target": target, "holds": holds}


def python(*arguments: str) -> list[str]:
    """A command of this interpreter."""
    return [sys.executable, *arguments]


def _watch_memory(peak: list[int], done: threading.Event) -> None:
    own = psutil.Process()
    while not done.wait(0.4):
        total = 0
        for process in own.children(recursive=True):
            try:
                total += process.memory_full_info().pss  # forked processes share most of what they have
            except psutil.Error:
                continue
        peak[0] = max(peak[0], total)


def _reap_orphans(ours: set[int]) -> None:
    """Wait for what came to us as orphans; what was our child before (a server, say) stays."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        orphans = {process.pid for process in psutil.Process().children()} - ours
        if not orphans:
            return
        for pid in orphans:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                continue
        time.sleep(0.02)
