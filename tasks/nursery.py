"""A process that imports once what many need, and forks itself for each of them.

Importing TensorFlow costs two CPU seconds and Prefect one. A job needs them in the process that trains, in the one that runs
the downstream flow, and in each that measures. Forked from a nursery they cost 20 ms each.

A forked process is as fresh as its nursery, which imported libraries and did nothing else: no model, no definition, no data,
not one TensorFlow operation. That is also why forking is sound here: TensorFlow is not fork-safe once its runtime runs, and
the runtime starts with the first operation (a test holds that no thread of it runs before). `multiprocessing`'s fork server
would do the same, but imports the caller's main module again in every child, and so runs scripts without a main guard twice.

Requests come over a socket, each with the four files of a child: stdin, stdout, stderr, and a pipe that tells its process id
and, in the end, how it ended. Who closes the socket, by dying too, ends all children that it asked for.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import importlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_FILES = 4
_LENGTH = 8  # bytes of a request's length
# Where nobody set them otherwise.
_ENVIRONMENT = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    # Large buffers in pages of 2 MiB (`man ld.so`); another libc, or a kernel that gives none, takes no notice. Each update
    # of a large weight makes several as large: to hand those out by 4 KiB was two thirds of the CPU time of training 200 MB.
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}

# This process' way to ask for children: its own nursery, or the one that it was forked from.
_link: socket.socket | None = None
_exit_code = 0


def prepare(*modules: str, debug: bool = False) -> None:
    """Start this process' nursery, which imports the modules, and return at once; nothing where there is one already."""
    global _link  # noqa: PLW0603  # one nursery a process is the point
    if _link is None:
        _link = start(Path(sys.executable), *modules, debug=debug)


def start(python: Path, *modules: str, debug: bool = False) -> socket.socket:
    """Start a nursery of an interpreter, which imports the modules, and return at once.

    Returns:
        The link to it, for `fork`. Who closes it ends all children that it asked for.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        subprocess.Popen(
            [str(python), "-c", "from tasks import nursery; nursery.main()", *modules],
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
    body = json.dumps({"module": module, "env": env, "cwd": str(Path.cwd()), "path": path}).encode()
    # A nursery that died is found out by whoever reads the child's status.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        socket.send_fds(link, [len(body).to_bytes(_LENGTH, "big")], list(files))
        link.sendall(body)


def let_go() -> None:
    """Give up this process' way to ask for children, for good; those that it has are ended."""
    if _link is not None:
        _link.close()


@dataclass(slots=True)
class _Owner:
    """One process that asks for children, and the children that it has: status pipe by process id."""

    link: socket.socket
    children: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Birth:
    """What a child is to be."""

    request: dict[str, Any]
    files: Sequence[int]
    link: socket.socket


def _run(first: socket.socket) -> _Birth | None:
    """Fork whoever is asked for, until the first owner is gone. Returns in the nursery None, in each child its birth."""
    wake, woken = socket.socketpair()
    for end in (wake, woken):
        end.setblocking(False)
    signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    owners = {first.fileno(): _Owner(first)}
    with selectors.DefaultSelector() as waiting:
        waiting.register(wake, selectors.EVENT_READ)
        waiting.register(first, selectors.EVENT_READ)
        while True:
            for key, _ in waiting.select():
                if key.fileobj is wake:
                    with contextlib.suppress(BlockingIOError):
                        wake.recv(4096)
                    _bury(owners.values())
                    continue
                owner = owners[key.fd]
                received = _receive(owner.link)
                if received is None:
                    waiting.unregister(owner.link)
                    _end(owners.pop(key.fd))
                    if owner.link is first:
                        for other in owners.values():
                            _end(other)
                        return None
                    continue
                request, files = received
                ours, theirs = socket.socketpair()
                pid = os.fork()
                if pid == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    for other in owners.values():
                        other.link.close()
                        for status in other.children.values():
                            os.close(status)
                    for end in (wake, woken, ours):
                        end.close()
                    os.close(files[3])
                    return _Birth(request, files[:3], theirs)
                theirs.close()
                for file in files[:3]:
                    os.close(file)
                _tell(files[3], pid)
                owner.children[pid] = files[3]
                owners[ours.fileno()] = _Owner(ours)
                waiting.register(ours, selectors.EVENT_READ)


def _receive(link: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    try:
        head, files, _, _ = socket.recv_fds(link, _LENGTH, _FILES)
    except ConnectionResetError:
        return None
    if len(head) < _LENGTH:
        return None
    body, size = b"", int.from_bytes(head, "big")
    while len(body) < size:
        body += link.recv(size - len(body))
    return json.loads(body), files


def _bury(owners: Any) -> None:
    """Tell each owner which of its children ended, and how."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        for owner in owners:
            if pid in owner.children:
                pipe = owner.children.pop(pid)
                _tell(pipe, os.waitstatus_to_exitcode(status))
                os.close(pipe)


def _tell(status: int, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # nobody wants to know any more
        os.write(status, f"{number}\n".encode())


def _end(owner: _Owner) -> None:
    owner.link.close()
    for pid, status in owner.children.items():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        os.close(status)


def _become(birth: _Birth) -> None:
    """Turn this forked process into the child that was asked for."""
    global _link  # noqa: PLW0603
    os.setsid()
    die_with_parent()
    for number, file in enumerate(birth.files):
        os.dup2(file, number)
        os.close(file)
    sys.stdin = os.fdopen(os.dup(0))
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    os.environ.clear()
    os.environ.update(birth.request["env"])
    os.chdir(birth.request["cwd"])
    sys.path[:] = birth.request["path"] or sys.path
    tempfile.tempdir = None
    _link = birth.link
    importlib.import_module(birth.request["module"]).main()


def main() -> None:
    """Run the nursery: import what `prepare` named, then fork."""
    # First, and so the last of all handlers to run.
    atexit.register(_leave)
    link = socket.socket(fileno=os.dup(0))
    for module in sys.argv[1:]:
        try:
            importlib.import_module(module)
        except Exception:  # the child that needs it fails with the same error, and its owner is told
            traceback.print_exc()
    birth = _run(link)
    if birth is not None:
        try:
            _become(birth)
        except BaseException:
            global _exit_code  # noqa: PLW0603
            _exit_code = 1
            raise


def _leave() -> None:
    """End without tearing down every module: with TensorFlow that takes longer than the import did."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(_exit_code)


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its nursery ends, whatever ends that."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
