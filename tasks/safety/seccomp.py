"""Seccomp: system calls that a process gives up: sockets, other programs, other processes, and the way back to any of it.

The filter is written out in BPF, some hundred instructions: `libseccomp` is no Python package, and slim images lack it. It
says no with an error that the caller can read (`EPERM`), so that Python raises `PermissionError` instead of dying.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from dataclasses import dataclass

_NO_NEW_PRIVS, _SET_FILTER, _ALL_THREADS = 38, 1, 1
_CLONE_THREAD = 0x10000
_X32 = 0x40000000  # x86-64's second set of numbers for the same calls

# linux/bpf_common.h and linux/seccomp.h
_LOAD, _IF_EQUAL, _IF_BITS, _IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06
_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_REFUSE = 0x00050000 | errno.EPERM
_UNKNOWN = 0x00050000 | errno.ENOSYS  # glibc then asks for a thread by `clone`, whose flags can be read


@dataclass(frozen=True, slots=True)
class _Machine:
    audit: int
    seccomp: int
    refused: tuple[int, ...]
    clone: int
    clone3: int
    prlimit: int
    signals: tuple[int, ...]  # kill, tgkill, rt_sigqueueinfo, rt_tgsigqueueinfo: all name a process first


# Numbers on x86-64 and on arm64, which has no call of its own for some. Landlock knows no modes, owners and attributes, and
# io_uring makes its calls where no filter looks.
_REFUSED: dict[str, tuple[int, int | None]] = {
    # network
    "socket": (41, 198), "connect": (42, 203), "bind": (49, 200), "io_uring_setup": (425, 425),
    # other programs and processes
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "tkill": (200, 130), "pidfd_send_signal": (424, 424),
    "pidfd_getfd": (438, 438),
    "setpriority": (141, 140),
    # memory and messages that outlive a process, and that any other of the user can open
    "shmget": (29, 194), "shmat": (30, 196), "semget": (64, 190), "semop": (65, 193), "semtimedop": (220, 192),
    "msgget": (68, 186), "msgsnd": (69, 189), "msgrcv": (70, 188), "mq_open": (240, 180),
    # the way back
    "mount": (165, 40), "umount2": (166, 39), "unshare": (272, 97), "setns": (308, 268), "chroot": (161, 51),
    "pivot_root": (155, 41), "setrlimit": (160, 164),
    # what only the kernel's own tools need
    "bpf": (321, 280), "perf_event_open": (298, 241), "keyctl": (250, 219), "add_key": (248, 217),
    "request_key": (249, 218), "userfaultfd": (323, 282),
    # of files
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None),
    "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54), "setxattr": (188, 5), "lsetxattr": (189, 6),
    "fsetxattr": (190, 7), "setxattrat": (463, 463),
}  # fmt: skip
_MACHINES = {
    "x86_64": _Machine(
        audit=0xC000003E,
        seccomp=317,
        refused=tuple(x86 for x86, _ in _REFUSED.values()),
        clone=56,
        clone3=435,
        prlimit=302,
        signals=(62, 234, 129, 297),
    ),
    "aarch64": _Machine(
        audit=0xC00000B7,
        seccomp=277,
        refused=tuple(arm for _, arm in _REFUSED.values() if arm is not None),
        clone=220,
        clone3=435,
        prlimit=261,
        signals=(129, 131, 138, 240),
    ),
}


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def available() -> bool:
    """Whether this kernel filters system calls, and this module knows their numbers here."""
    return sys.platform == "linux" and platform.machine() in _MACHINES and os.path.exists("/proc/sys/kernel/seccomp")  # noqa: PTH110


def restrict() -> bool:
    """Give up, in every thread of this process and for good, what the module's docstring names.

    Returns:
        Whether it holds now; False where this kernel or architecture can't.

    Raises:
        OSError: The kernel refuses what it offers.
    """
    if not available():
        return False
    machine = _MACHINES[platform.machine()]
    code = _filter(machine, os.getpid())
    program = _Program(len(code) // 8, code)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.syscall(
        machine.seccomp, _SET_FILTER, _ALL_THREADS, ctypes.byref(program)
    ):
        number = ctypes.get_errno()
        raise OSError(number, f"seccomp: {os.strerror(number)}")
    return True


def _filter(machine: _Machine, pid: int) -> bytes:
    """The filter's instructions. Every test is followed by its answer, and jumps over it where it does not apply."""
    number = _op(_LOAD, _NUMBER)
    code = [_op(_LOAD, _ARCHITECTURE), _op(_IF_EQUAL, machine.audit, 1, 0), _op(_RETURN, _KILL), number]
    if machine.audit == _MACHINES["x86_64"].audit:
        code += [_op(_IF_AT_LEAST, _X32, 0, 1), _op(_RETURN, _REFUSE)]
    code += [_op(_IF_EQUAL, machine.clone3, 0, 1), _op(_RETURN, _UNKNOWN)]
    for call in machine.refused:
        code += [_op(_IF_EQUAL, call, 0, 1), _op(_RETURN, _REFUSE)]
    # A thread, but no process.
    code += [
        _op(_IF_EQUAL, machine.clone, 0, 4),
        _argument(0),
        _op(_IF_BITS, _CLONE_THREAD, 1, 0),
        _op(_RETURN, _REFUSE),
        number,
    ]
    # To read a limit (a null pointer for the new one), but not to set it.
    code += [_op(_IF_EQUAL, machine.prlimit, 0, 6), _argument(2), _op(_IF_EQUAL, 0, 0, 2), _argument(2, high=True)]
    code += [_op(_IF_EQUAL, 0, 1, 0), _op(_RETURN, _REFUSE), number]
    for call in machine.signals:
        code += [_op(_IF_EQUAL, call, 0, 4), _argument(0), _op(_IF_EQUAL, pid, 1, 0), _op(_RETURN, _REFUSE), number]
    return b"".join([*code, _op(_RETURN, _ALLOW)])


def _op(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("=HBBI", code, then, otherwise, value)


def _argument(index: int, *, high: bool = False) -> bytes:
    """Load half of an argument (both architectures are little-endian)."""
    return _op(_LOAD, _ARGUMENTS + 8 * index + (4 if high else 0))
