"""Landlock: the kernel's way for a process to give up files and TCP, for itself and whatever it starts.

By system calls, for there is no library to keep: PyPI's `landlock` is a development release that knows neither network nor
scopes and takes a stale `errno` for a failure. The numbers are those of linux/landlock.h; what a kernel does not know yet is
left out, never refused (kernel.org: "userspace-api/landlock", "Best effort").
"""

from __future__ import annotations

import ctypes
import os
import stat
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same numbers on every architecture
_VERSION = 1
_PATH_BENEATH = 1
_PR_SET_NO_NEW_PRIVS = 38

_WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE, _IOCTL = 1 << 1, 1 << 2, 1 << 3, 1 << 14, 1 << 15
_ALL_OF_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
_OF_FILES = 1 | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL
TCP_SINCE, _TCP = 4, 0b11  # bind and connect
_SCOPES_SINCE, _SCOPES = 6, 0b11  # abstract sockets and signals


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


@dataclass(frozen=True, slots=True)
class Access:
    """What remains allowed; whatever does not exist is passed over.

    Attributes:
        reads: Files, and folders with all below them.
        writes: The same, to read and to write.
    """

    reads: tuple[Path, ...]
    writes: tuple[Path, ...]


def abi() -> int:
    """The kernel's version of Landlock; 0 where there is none."""
    if sys.platform != "linux":
        return 0
    return max(0, int(_libc().syscall(_CREATE, None, ctypes.c_size_t(0), _VERSION)))


def restrict(access: Access) -> int:
    """Give up everything else, in this thread and all that it starts, for good.

    Returns:
        The version of Landlock that holds it now; 0 where the kernel has none, and nothing was given up.

    Raises:
        OSError: The kernel refuses what it offers.
    """
    version = abi()
    if version == 0:
        return 0
    every = _ALL_OF_ABI[min(version, max(_ALL_OF_ABI))]
    network = _TCP if version >= TCP_SINCE else 0
    rules = _Ruleset(every, network, _SCOPES if version >= _SCOPES_SINCE else 0)
    size = 24 if version >= _SCOPES_SINCE else 16 if version >= TCP_SINCE else 8
    ruleset = _checked(_libc().syscall(_CREATE, ctypes.byref(rules), ctypes.c_size_t(size), 0))
    try:
        _allow(ruleset, access.reads, _READ_FILE | _READ_DIR)
        # All but to execute, and to make devices.
        _allow(ruleset, access.writes, every & ~(1 | 1 << 6 | 1 << 11))
        _checked(_libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        _checked(_libc().syscall(_RESTRICT, ruleset, 0))
    finally:
        os.close(ruleset)
    return version


def _allow(ruleset: int, paths: Iterable[Path], rights: int) -> None:
    for path in paths:
        try:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            is_folder = stat.S_ISDIR(os.fstat(place).st_mode)
            rule = _Beneath(rights if is_folder else rights & _OF_FILES, place)
            _checked(_libc().syscall(_ADD, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0))
        finally:
            os.close(place)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"Landlock: {os.strerror(number)}")
    return result


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
