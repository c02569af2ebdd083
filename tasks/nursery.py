"""A process that imports once what many need, and forks itself for each of them: how to ask it.

Importing TensorFlow costs two CPU seconds and Prefect one. A job needs them in the process that trains, in the one that runs
the downstream flow, and in each that measures. Forked from a nursery they cost 20 ms each.

A forked process is as fresh as its nursery, which imported libraries and did nothing else: no model, no definition, no data,
not one TensorFlow operation. That is also why forking is sound here: TensorFlow is not fork-safe once its runtime runs, and
the runtime starts with the first operation (a test holds that no thread of it runs before). `multiprocessing`'s fork server
would do the same, but imports the caller's main module again in every child, and so runs scripts without a main guard twice.

Requests come over a socket, each with the four files of a child: stdin, stdout, stderr, and a pipe that tells its process id
and, in the end, how it ended. Who closes the socket, by dying too, ends all children that it asked for.

Most processes start a nursery of their own. One that *stands*, as `python -m flows up` has it, serves every process that is
told its address and that would have started one like it. `tasks.forking` is what runs in either.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ADDRESS = "ROUNDTRIP_NURSERY"  # in the environment: the socket of a nursery that stands
LENGTH = 8  # bytes of a request's length
WELCOME = b"+"  # of a nursery that stands, to whoever may ask
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PATIENCE_SECONDS = 5.0
_OFF = "off"  # in place of an address
# Where nobody set them otherwise.
_ENVIRONMENT = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    # Large buffers in pages of 2 MiB (`man ld.so`); another libc, or a kernel that gives none, takes no notice. Each update
    # of a large weight makes several as large: to hand those out by 4 KiB was two thirds of the CPU time of training 200 MB.
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
# What libraries look at once, while they are loaded. Of the others, a child has those of whoever asks for it.
_LOOKED_AT = re.compile(
    r"(TF|TENSORFLOW|KERAS|XLA|CUDA|NVIDIA|ROCM|HIP|ONEDNN|DNNL|MKL|OMP|GOMP|KMP|OPENBLAS|NPY|NUMPY|HDF5|PROTOCOL_BUFFERS"
    r"|GLIBC|MALLOC|LD|LC)_|LANG$|TZ$"
    r"|PYTHON(?!PATH$|DONTWRITEBYTECODE$|UNBUFFERED$)"
)
# But not: what is looked at later, and what TensorFlow sets itself, whatever it was.
_LATER = {"TF_CONFIG", "HDF5_PLUGIN_PATH"}
# What Keras takes where `keras.json` does not say otherwise; it writes one where there is none.
_KERAS = {"floatx": "float32", "epsilon": 1e-7, "backend": "tensorflow", "image_data_format": "channels_last"}

# This process' way to ask for children: its own nursery, or the one that it was forked from.
_link: socket.socket | None = None
_stood = False


def prepare(*modules: str, debug: bool = False) -> None:
    """Have a nursery at hand, and return at once: the one that stands, or our own, which imports the modules."""
    global _link  # noqa: PLW0603  # one nursery a process is the point
    if _link is None:
        _link = standing() or start(Path(sys.executable), *modules, debug=debug)


def start(python: Path, *modules: str, debug: bool = False) -> socket.socket:
    """Start a nursery of an interpreter, which imports the modules, and return at once.

    Returns:
        The link to it, for `fork`. Who closes it ends all children that it asked for.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        subprocess.Popen(
            [str(python), "-c", "from tasks import forking; forking.main()", *modules],
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            # TensorFlow writes to it from C++ while it is imported. The children have files of their own.
            stderr=None if debug else subprocess.DEVNULL,
            env={**_ENVIRONMENT, **os.environ, **_project_of(python)},
            start_new_session=True,
        )
    return ours


def _project_of(python: Path) -> dict[str, str]:
    """Where another interpreter finds this package; ours knows."""
    return {} if str(python) == sys.executable else {"PYTHONPATH": str(Path(__file__).parents[1])}


def standing() -> socket.socket | None:
    """A link to the nursery that stands at `ADDRESS`; None where there is none, or none like the one we would start."""
    if not is_wanted():
        return None
    try:
        link = connected(Path(os.environ[ADDRESS]))
    except OSError:
        return None
    try:
        send(link, likeness())
        if link.recv(1) == WELCOME:
            link.settimeout(None)
            return link
    except OSError:
        pass
    link.close()
    return None


def is_wanted() -> bool:
    """Whether this process is told where a nursery stands; on Linux alone does one."""
    return sys.platform == "linux" and os.environ.get(ADDRESS, _OFF) not in {_OFF, ""}


def connected(address: Path) -> socket.socket:
    """A link to the nursery that stands there, which knows nothing of us yet.

    Raises:
        OSError: None does, or it still imports.
    """
    link = socket.socket(socket.AF_UNIX)
    link.settimeout(_PATIENCE_SECONDS)
    try:
        with reachable(address) as path:
            link.connect(path)
    except OSError:
        link.close()
        raise
    return link


def standing_command(address: Path, *modules: str) -> tuple[tuple[str, ...], dict[str, str]]:
    """How to start a nursery that stands: the command, and what its environment has where nobody set it otherwise."""
    return (sys.executable, "-c", "from tasks import forking; forking.stand()", str(address), *modules), _ENVIRONMENT


def likeness() -> dict[str, Any]:
    """What a process hands on to those that it forks, and can't be changed in them. Two that are alike fork the same.

    Of Linux, where `/proc` tells it.
    """
    environment = {**_ENVIRONMENT, **os.environ}
    return {
        "python": sys.prefix,
        "code": str(Path(__file__).resolve()),
        # By it others get into every process, to watch it, say.
        "site": getattr(sys.modules.get("sitecustomize"), "__file__", None),
        "user": [os.getuid(), os.getgid(), *sorted(os.getgroups())],
        "keras": _keras_of(Path(environment.get("KERAS_HOME") or Path.home() / ".keras") / "keras.json"),
        "environment": {n: v for n, v in sorted(environment.items()) if _LOOKED_AT.match(n) and n not in _LATER},
        # How much they may take, and from whose share.
        **{name: Path(f"/proc/self/{name}").read_text() for name in ("limits", "cgroup")},
        "cpus": sorted(os.sched_getaffinity(0)),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
    }


def _keras_of(file: Path) -> dict[str, Any]:
    """How Keras is configured by a file, which may not be there or be none."""
    try:
        said = json.loads(file.read_text())
        return {name: said.get(name, default) for name, default in _KERAS.items()}
    except (OSError, ValueError, AttributeError):
        return _KERAS


@contextmanager
def reachable(address: Path) -> Iterator[str]:
    """A socket's path in no more than the 107 bytes that the kernel takes."""
    folder = os.open(address.parent, os.O_PATH)
    try:
        yield f"/proc/self/fd/{folder}/{address.name}"
    finally:
        os.close(folder)


def fork(module: str, env: dict[str, str], files: tuple[int, int, int, int], link: socket.socket | None = None) -> None:
    r"""Have the nursery fork a child that runs `module.main()`; returns at once.

    Args:
        module: Imported in the child where the nursery did not.
        env: The child's whole environment.
        files: Descriptors of its stdin, stdout and stderr, and of the pipe for `PID\n` and `EXITCODE\n`.
        link: To another interpreter's nursery; by default this process' own.
    """
    path = None if link else sys.path  # what this interpreter imports is of no use to another
    if link is None:
        prepare(module)
        link = _link
    assert link is not None
    request = {"module": module, "env": env, "cwd": str(Path.cwd()), "path": path, "umask": _umask()}
    # A nursery that died is found out by whoever reads the child's status.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        send(link, request, *files)


def send(link: socket.socket, document: dict[str, Any], *files: int) -> None:
    """Write one document to a link, and with it files."""
    body = json.dumps(document).encode()
    socket.send_fds(link, [len(body).to_bytes(LENGTH, "big")], list(files))
    link.sendall(body)


def _umask() -> int:
    """Of this process; the call that gives it sets it, for all threads, so where it can be read it is read."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except FileNotFoundError:
        mask = os.umask(0o077)
        os.umask(mask)
        return mask
    return int(next(line for line in lines if line.startswith("Umask:")).split()[1], 8)


def ask_by(link: socket.socket, *, stood: bool = False) -> None:
    """Ask for children by this link from now on.

    Args:
        link: To the nursery that this process was forked from, or to one that stands.
        stood: Whether this process was forked from one that stands.
    """
    global _link, _stood
    _link, _stood = link, stood


def stood() -> bool:
    """Whether libraries were imported in another environment than ours, for the nursery that we come from stands."""
    return _stood


def signal_group(pid: int, number: int) -> None:
    """Signal a child and what it started; nobody, where it is gone."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:  # gone, or so young that it has no group of its own yet
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def let_go() -> None:
    """Give up this process' way to ask for children, for good; those that it has are ended."""
    if _link is not None:
        _link.close()


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its nursery ends, whatever ends that."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
