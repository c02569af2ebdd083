"""What runs in a nursery: import, then fork whoever is asked for. `tasks.nursery` says what for, and how it is asked.

A nursery of its own has one owner from the beginning, and ends with it. One that stands has a door, and who comes through it
asks once whether it is like the nursery that it would have started. It imports libraries, and of ours no more than this: the
rest a child reads from the disk as it is then. Where something that it did import has changed there, it lets nobody in any
more, and begins anew once those that are in are gone.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import struct
import sys
import sysconfig
import tempfile
import time
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks import nursery

_FILES = 4
_PATIENCE_SECONDS, _PAUSE_SECONDS = 1.0, 0.05
_LARGEST, _PIECE = 2**24, 2**16  # bytes of a request, and of a part of it
# Lines of /proc/PID/status by which a process that was confined is known (`tasks.safety.sandbox`).
_CONFINED = ("NoNewPrivs:", "Seccomp:")

# As this process was started; what it imports adds to it.
_environment = dict(os.environ)
_exit_code = 0


@dataclass(slots=True)
class _Owner:
    """One process that asks for children, and the children that it has: status pipe by process id."""

    link: socket.socket
    children: dict[int, int] = field(default_factory=dict)
    # Came through the door, and has not said yet what it is like.
    stranger: bool = False


@dataclass(frozen=True, slots=True)
class _Birth:
    """What a child is to be."""

    request: dict[str, Any]
    files: Sequence[int]
    link: socket.socket
    stood: bool


class _Nursery:
    """The loop: who asks, what for, and who ended.

    Args:
        first: The owner with whom it ends; None where it stands.
        door: Where others come in; None where it is somebody's own.
        likeness: What they must be like.
        origin: `_origin` from before anything was imported.
    """

    def __init__(
        self,
        first: socket.socket | None = None,
        door: socket.socket | None = None,
        likeness: dict[str, Any] | None = None,
        origin: dict[str, int] | None = None,
    ) -> None:
        self._first, self._door, self._likeness, self._origin = first, door, likeness, origin
        self._owners = {first.fileno(): _Owner(first)} if first else {}
        self._waiting = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        for end in (self._wake, self._woken):
            end.setblocking(False)
        for source in (self._wake, *([first] if first else []), *([door] if door else [])):
            self._waiting.register(source, selectors.EVENT_READ)
        signal.set_wakeup_fd(self._woken.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def run(self) -> _Birth | None:
        """Fork whoever is asked for, until the first owner is gone. Returns in the nursery None, in each child its birth."""
        while self._first is None or self._first.fileno() in self._owners:
            for key, _ in self._waiting.select():
                if key.fileobj is self._wake:
                    with contextlib.suppress(BlockingIOError):
                        self._wake.recv(4096)
                    _bury(self._owners.values())
                elif key.fileobj is self._door:
                    self._let_in()
                elif key.fd in self._owners:  # and not ended with another one, a moment ago
                    birth = self._serve(self._owners[key.fd])
                    if birth:
                        return birth
        return None

    def _let_in(self) -> None:
        assert self._door is not None
        try:
            link, _ = self._door.accept()
        except OSError:  # gone again, or there are too many: who waits may find a place in a moment
            time.sleep(_PAUSE_SECONDS)
            return
        link.settimeout(_PATIENCE_SECONDS)  # with whoever says half of what it has to say: everybody waits for it
        if _confinement("self") == _confinement(_peer(link)):
            self._add(_Owner(link, stranger=True))
        else:  # what a confined process would have forked here were free
            link.close()

    def _serve(self, owner: _Owner) -> _Birth | None:
        """Do what an owner asks for, or see it off; returns in a child alone."""
        received = _receive(owner.link)
        if received is None:
            self._see_off(owner)
            return None
        request, files = received
        if not owner.stranger and len(files) == _FILES:
            return self._fork(owner, request, files)
        for file in files:
            os.close(file)
        if not owner.stranger or request != self._likeness or _origin() != self._origin:
            self._see_off(owner)
            return None
        owner.stranger = False
        with contextlib.suppress(OSError):  # gone again; that is read next
            owner.link.send(nursery.WELCOME)
        return None

    def _see_off(self, owner: _Owner) -> None:
        del self._owners[owner.link.fileno()]
        self._waiting.unregister(owner.link)
        _end(owner)
        if owner.link is self._first:
            for other in self._owners.values():
                _end(other)
            self._owners.clear()
        elif self._door and all(other.stranger for other in self._owners.values()) and _origin() != self._origin:
            os.execve(sys.executable, sys.orig_argv, _environment)

    def _add(self, owner: _Owner) -> None:
        self._owners[owner.link.fileno()] = owner
        self._waiting.register(owner.link, selectors.EVENT_READ)

    def _fork(self, owner: _Owner, request: dict[str, Any], files: list[int]) -> _Birth | None:
        me = os.getpid()
        try:
            ours, theirs = socket.socketpair()
            pid = os.fork()
        except OSError:  # too many processes or files, too little memory: of this child alone
            traceback.print_exc()
            for file in files:  # by the closed pipe its owner learns of it
                os.close(file)
            return None
        if pid == 0:
            nursery.die_with_parent()
            if os.getppid() != me:  # it died before that held
                os._exit(1)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for other in self._owners.values():
                other.link.close()
                for status in other.children.values():
                    os.close(status)
            self._waiting.close()
            for end in (self._wake, self._woken, ours, *([self._door] if self._door else [])):
                end.close()
            os.close(files[3])
            return _Birth(request, files[:3], theirs, self._door is not None)
        theirs.close()
        for file in files[:3]:
            os.close(file)
        _tell(files[3], pid)
        owner.children[pid] = files[3]
        self._add(_Owner(ours))
        return None


def _origin() -> dict[str, int]:
    """What of the disk this process is made of, by the time of its last change: the environment's packages, and of ours."""
    ours = [module.__file__ for name, module in list(sys.modules.items()) if name.split(".")[0] in {"tasks", "flows"}]
    places = [sysconfig.get_path("purelib"), *filter(None, ours)]
    return {place: Path(place).stat().st_mtime_ns if Path(place).exists() else 0 for place in places}


def _peer(link: socket.socket) -> int:
    """The process at the other end."""
    size = struct.calcsize("3i")
    return int(struct.unpack("3i", link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))[0])


def _confinement(pid: int | str) -> list[str] | None:
    """What a process gave up for good, by the kernel's word; None where it is gone."""
    try:
        return [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(_CONFINED)]
    except OSError:
        return None


def _receive(link: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """The next request of an owner; None where it is gone, or does not keep to what requests are."""
    files: list[int] = []
    try:
        head, files, _, _ = socket.recv_fds(link, nursery.LENGTH, _FILES)
        if len(head) < nursery.LENGTH:
            return None
        body, size = b"", int.from_bytes(head, "big")
        while size <= _LARGEST and len(body) < size:
            more = link.recv(min(size - len(body), _PIECE))
            if not more:
                break
            body += more
        if len(body) == size:
            return json.loads(body), files
    except (OSError, ValueError):
        pass
    for file in files:
        os.close(file)
    return None


def _bury(owners: Iterable[_Owner]) -> None:
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
        nursery.signal_group(pid, signal.SIGKILL)
        os.close(status)


def _become(birth: _Birth) -> None:
    """Turn this forked process into the child that was asked for."""
    os.setsid()
    for number, file in enumerate(birth.files):
        os.dup2(file, number)
        os.close(file)
    sys.stdin = os.fdopen(os.dup(0))
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    # What imports set is part of them: TensorFlow closes a way into HDF5, say.
    imported = {name: value for name, value in os.environ.items() if name not in _environment}
    os.environ.clear()
    os.environ.update(imported | birth.request["env"])
    os.umask(birth.request["umask"])
    os.chdir(birth.request["cwd"])
    sys.path[:] = birth.request["path"] or sys.path
    tempfile.tempdir = None
    nursery.ask_by(birth.link, stood=birth.stood)
    importlib.import_module(birth.request["module"]).main()


def main() -> None:
    """Be a process' own nursery, on the link that is its stdin: import what the command line names, then fork."""
    link = socket.socket(fileno=os.dup(0))
    _nurse(sys.argv[1:], lambda: _Nursery(first=link))


def stand() -> None:
    """Be a nursery that stands, at the address that the command line names, with what it names after that."""
    address = Path(sys.argv[1])
    likeness, origin = nursery.likeness(), _origin()  # before imports change the one, and somebody the other meanwhile

    def open_door() -> _Nursery:
        address.unlink(missing_ok=True)
        door = socket.socket(socket.AF_UNIX)
        before = os.umask(0o177)
        with nursery.reachable(address) as path:
            door.bind(path)
        os.umask(before)
        door.listen()
        gc.collect()
        gc.freeze()  # what is there to stay is not touched by children, which share it
        return _Nursery(door=door, likeness=likeness, origin=origin)

    _nurse(sys.argv[2:], open_door)


def _nurse(modules: Sequence[str], begin: Any) -> None:
    # First, and so the last of all handlers to run.
    atexit.register(_leave)
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception:  # the child that needs it fails with the same error, and its owner is told
            traceback.print_exc()
    birth = begin().run()
    if birth is not None:
        global _exit_code  # noqa: PLW0603
        try:
            _become(birth)
        except SystemExit as end:
            _exit_code = end.code if isinstance(end.code, int) else int(end.code is not None)
            raise
        except BaseException:
            _exit_code = 1
            raise


def _leave() -> None:
    """End without tearing down every module: with TensorFlow that takes longer than the import did."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(_exit_code)
