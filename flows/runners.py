"""Prefect's task runners by name: threads and processes of this machine, a Dask cluster, a Ray cluster, or any other class.

The clusters that are started here listen on loopback alone, have no dashboard and report to nobody, and end with the block
or with this process, however that ends. One that is there already is a class of one's own, `module:class`.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tasks.errors import InputError

RUNNERS = ("threads", "processes", "dask", "ray")
# Their workers are processes of their own, each with a nursery of its own.
APART = frozenset({"processes", "dask", "ray"})
_PACKAGES = {"dask": "prefect_dask", "ray": "prefect_ray"}
_LOOPBACK = "127.0.0.1"
_RAY_STORE_BYTES = 80 * 2**20  # about the least that Ray takes; what our tasks hand each other are some kilobytes


def check_runner(name: str) -> None:
    """See that a runner can be had, before anything is started for it.

    Raises:
        InputError: There is none of that name, or its package is missing.
    """
    if name not in RUNNERS and ":" not in name:
        raise InputError(f"There is no runner {name!r}. There are: {', '.join(RUNNERS)}, and module:class of any other.")
    if name in _PACKAGES and find_spec(_PACKAGES[name]) is None:
        raise InputError(
            f"--runner {name} needs the package prefect-{name}, which this environment lacks. Install it with "
            f"`uv sync --extra {name}`, or for one command: `uv run --extra {name} python -m flows …`."
        )


@contextmanager
def task_runner(name: str, workers: int) -> Iterator[Any]:
    """A task runner for so many tasks side by side; what it started is gone after the block.

    Raises:
        InputError: It can't be had, or not without arguments.
    """
    check_runner(name)
    makers = {"threads": _threads, "processes": _processes, "dask": _dask, "ray": _ray}
    with ExitStack() as around:
        yield makers[name](workers, around) if name in makers else _custom(name)


def _threads(workers: int, around: ExitStack) -> Any:
    del around
    from prefect.task_runners import ThreadPoolTaskRunner

    return ThreadPoolTaskRunner(max_workers=workers)


def _processes(workers: int, around: ExitStack) -> Any:
    del around
    from prefect.task_runners import ProcessPoolTaskRunner

    return ProcessPoolTaskRunner(max_workers=workers)


def _dask(workers: int, around: ExitStack) -> Any:
    from distributed.security import Security
    from prefect_dask.task_runners import DaskTaskRunner

    # What goes over its sockets is pickles, and other users of this machine can reach them: only with this certificate.
    security = Security.temporary()  # type: ignore[no-untyped-call]
    # It tells of each connection that ends with its cluster; `silence_logs` is over by then.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    folder = around.enter_context(tempfile.TemporaryDirectory(prefix="roundtrip-dask-", ignore_cleanup_errors=True))
    return DaskTaskRunner(
        cluster_kwargs={
            "n_workers": workers,
            "threads_per_worker": 1,
            "host": _LOOPBACK,
            "dashboard_address": None,
            # Each piece of work is a process that a worker started, with a limit of its own, which Dask knows nothing of.
            "memory_limit": 0,
            "local_directory": folder,
            "silence_logs": logging.CRITICAL,
            "security": security,
        },
        client_kwargs={"security": security},
    )


def _ray(workers: int, around: ExitStack) -> Any:
    folder = around.enter_context(tempfile.TemporaryDirectory(prefix="roundtrip-ray-", ignore_cleanup_errors=True))
    os.environ |= {
        "RAY_USAGE_STATS_ENABLED": "0",
        # Other users of this machine can connect to its sockets, and what goes over them is pickles.
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        # Else it makes of 127.0.0.1 the address by which others reach this machine, and listens at all of them. Whatever its
        # name, it is read on every system.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        # It would end workers for what other programs of this machine use.
        "RAY_memory_monitor_refresh_ms": "0",
        # Its workers are started by a daemon, which knows of this program's folders only what stands here.
        "PYTHONPATH": os.pathsep.join(str(Path(place).absolute()) for place in sys.path if not place.endswith(".zip")),
    }
    import ray  # reads what was set here

    around.callback(ray.shutdown)
    before = signal.getsignal(signal.SIGTERM)
    ray.init(
        "local",  # whatever RAY_ADDRESS says
        num_cpus=workers,
        include_dashboard=False,
        _node_ip_address=_LOOPBACK,
        _temp_dir=folder,
        object_store_memory=_RAY_STORE_BYTES,
        logging_level=logging.CRITICAL,
        log_to_driver=False,
    )
    signal.signal(signal.SIGTERM, before)  # Ray took it, to abort at once and leave its folder
    from prefect_ray import RayTaskRunner

    return RayTaskRunner()  # takes the cluster that is there


def _custom(name: str) -> Any:
    from tasks.references import resolve

    made = resolve(name)
    try:
        return made()
    except Exception as error:
        raise InputError(f"--runner {name}: {type(error).__name__}: {error}") from error
