"""Seccomp: system calls that a process gives up: sockets, other programs, other processes, and the way back to any of it.

The filter is written out in BPF, some ninety instructions: `libseccomp` is no Python package, and slim images lack it. It
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
    signals: tuple[int, ...]  # that name a process first


# In the order of the comments: socket connect bind; fork vfork execve execveat; ptrace process_vm_readv process_vm_writev tkill
# pidfd_send_signal pidfd_getfd; mount umount2 unshare setns chroot pivot_root; bpf perf_event_open keyctl add_key request_key
# userfaultfd io_uring_setup; setrlimit; chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat; setxattr lsetxattr fsetxattr
# setxattrat. Landlock knows no modes, owners and attributes, and io_uring makes its calls where no filter looks.
_MACHINES = {
    "x86_64": _Machine(
        audit=0xC000003E,
        seccomp=317,
        refused=(41, 42, 49, 57, 58, 59, 322, 101, 310, 311, 200, 424, 438, 165, 166, 272, 308, 161, 155, 321, 298, 250, 248,
                 249, 323, 425, 160, 90, 91, 268, 452, 92, 93, 94, 260, 188, 189, 190, 463),
        clone=56,
        clone3=435,
        prlimit=302,
        signals=(62, 234),
    ),
    "aarch64": _Machine(
        audit=0xC00000B7,
        seccomp=277,
        refused=(198, 203, 200, 221, 281, 117, 270, 271, 130, 424, 438, 40, 39, 97, 268, 51, 41, 280, 241, 219, 217, 218, 282,
                 425, 164, 52, 53, 452, 55, 54, 5, 6, 7, 463),
        clone=220,
        clone3=435,
        prlimit=261,
        signals=(129, 131),
    ),
}  # fmt: skip


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
