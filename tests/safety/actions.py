"""A user's builder that does something else before it builds; what goes wrong is what the caller is told."""

from __future__ import annotations

import ctypes
import os
import resource
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from tests.echo_child import answers
from tests.user_models import dense


def build(action: str, target: Any = None) -> keras.Model:
    """The model `dense`, once the action is done."""
    _ACTIONS[action](target)
    return dense()


def _connect(family: int, kind: int, target: Any) -> None:
    with socket.socket(family, kind) as one:
        one.connect(tuple(target) if isinstance(target, list) else target)
        one.send(b"secrets")


def _system_call(name: str, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _say(text: object) -> None:
    raise LookupError(f"<{text}>")


def _allocate(size: int) -> None:
    held = bytearray(size)
    held[::4096] = b"x" * len(held[::4096])


def _never_end(_: Any) -> None:
    while True:
        pass


def _flood(_: Any) -> None:
    """Answer without end, on the pipe itself."""
    block = b"{" * 2**20
    while True:
        os.write(answers(), block)


_ACTIONS: dict[str, Callable[[Any], object]] = {
    "write": lambda path: Path(path).write_text("it ran"),
    "overwrite": lambda path: os.truncate(path, 0),
    "remove": lambda path: Path(path).unlink(),
    "chmod": lambda path: Path(path).chmod(0o777),
    "read": lambda path: _say(Path(path).read_text()),
    "list": lambda path: _say(sorted(p.name for p in Path(path).iterdir())),
    "scratch": lambda _: (Path(os.environ["TMPDIR"]) / "mine").write_text("allowed"),
    "tcp": lambda address: _connect(socket.AF_INET, socket.SOCK_STREAM, address),
    "udp": lambda address: _connect(socket.AF_INET, socket.SOCK_DGRAM, address),
    "unix": lambda path: _connect(socket.AF_UNIX, socket.SOCK_STREAM, path),
    "program": lambda path: subprocess.run(["/bin/touch", path], check=True),
    "replace": lambda path: os.execv("/bin/touch", ["touch", path]),
    "fork": lambda _: os.fork() or os._exit(0),
    "thread": lambda _: threading.Thread(target=int).start(),
    "kill": lambda pid: os.kill(pid, 0),
    "unlimit": lambda _: resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)),
    "trace": lambda pid: _system_call("ptrace", 16, pid, 0, 0),
    "namespace": lambda _: _system_call("unshare", 0x10000000),
    "shared memory": lambda _: _system_call("shmget", 0x5EC4E7, 4096, 0o1600),
    "attach": lambda number: _system_call("shmat", number, 0, 0),
    "priority": lambda _: _system_call("setpriority", 0, 0, 19),
    "environment": lambda name: _say(os.environ.get(name)),
    "nursery": lambda _: __import__("tasks.children").children.Child("tests.echo_child").ask({"do": "echo", "say": "free"}),
    "allocate": _allocate,
    "never end": _never_end,
    "flood": _flood,
    "answer": lambda text: os.write(answers(), text.encode()),
    "large file": lambda size: (Path(os.environ["TMPDIR"]) / "large").write_bytes(b"x" * size),
    "crash": lambda _: ctypes.string_at(0),
}
