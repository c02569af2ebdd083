"""The process of a run, as the worker of `python -m flows up` starts it: in no time, forked from the nursery that stands.

A process that imports TensorFlow and Prefect, and before it another one of Prefect's that looks for the flow, cost each
run five CPU seconds. `python -m flows.worker_run` asks the nursery for a process, hands it its files, its environment and
the signals that come, and ends as that process ended. Without a nursery, or none like the one that it would need, it becomes
Prefect's engine as ever.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import IO, NoReturn

from tasks import nursery

RUN_SETTINGS = "ROUNDTRIP_RUN_SETTINGS"  # in the environment: Prefect's settings for this run alone, as JSON
_FORWARDED = (signal.SIGTERM, signal.SIGINT)


def main() -> None:
    """Run the flow run that the environment names; in the process that the nursery forked."""
    import runpy
    import warnings

    import flows.engine  # noqa: F401  # sets Prefect up by this environment

    warnings.filterwarnings("ignore", "'prefect.engine' found in sys.modules", RuntimeWarning)
    sys.argv = ["prefect.engine"]
    runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)


def launch() -> None:
    """Have the nursery fork that process, and end as it did."""
    for name, value in json.loads(os.environ.pop(RUN_SETTINGS, "{}")).items():
        if value is not None:
            os.environ[name] = value
    link = nursery.standing()
    if link is None:
        _become_engine()
    nursery.ask_by(link)
    signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)  # until there is somebody to tell
    ours, theirs = os.pipe()
    nursery.fork("flows.worker_run", dict(os.environ), (0, 1, 2, theirs))
    os.close(theirs)
    with os.fdopen(ours) as status:
        _end_as(_code_of(status))


def _become_engine() -> NoReturn:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
    os.execv(sys.executable, (sys.executable, "-m", "prefect.engine"))


def _code_of(status: IO[str]) -> int:
    """How the process ended, negative for a signal; a nursery that dies takes it along without a word."""
    first = status.readline()
    if not first:  # none came to be
        _become_engine()
    for number in _FORWARDED:
        # What the flow started hears of it too, as where Prefect starts it.
        signal.signal(number, lambda number, _: nursery.signal_group(int(first), number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
    return int(status.readline() or -signal.SIGKILL)


def _end_as(code: int) -> None:
    if code < 0:
        if -code in _FORWARDED:
            signal.signal(-code, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    launch()
