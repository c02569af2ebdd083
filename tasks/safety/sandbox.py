"""What the process that loads a model gives up before it reads a byte of it; README.md in this folder has the table.

Inspection may have missed something, and a parser of TensorFlow's may have a hole: then the harm ends here. A model that
wants more than a model needs does not load, and its verdict says so.
"""

from __future__ import annotations

import os
import re
import resource
import sys
from dataclasses import dataclass
from pathlib import Path

from tasks.errors import InputError
from tasks.safety import landlock, seccomp

SECONDS_VARIABLE, MEMORY_VARIABLE, OFF_VARIABLE = "ROUNDTRIP_LOAD_SECONDS", "ROUNDTRIP_LOAD_MEMORY", "ROUNDTRIP_SANDBOX"
_SECONDS, _BYTES_A_SECOND = 900.0, 5_000_000
# The weights are there as file, as tensor, as copy for the digests, and with optimizer slots and gradients through one more
# step of training; the rest is what the probe's outputs need on their way, and a margin.
_MEMORY, _COPIES, _OF_THE_MACHINE = 4 * 2**30, 8, 0.9
_FILES = 256 * 2**20
_SECRET = re.compile(r"SECRET|TOKEN|PASSWORD|PASSWD|CREDENTIAL|AUTH|API_KEY|ACCESS_KEY|SIGNING|_KEY$|^AWS_|CONNECTION_URL")
_PASSWORD_IN_ADDRESS = re.compile(r"://[^/\s@]*:[^/\s@]+@")  # DATABASE_URL, HTTPS_PROXY
# Of what Python, NumPy, TensorFlow and the C library look at. Not `/proc/self`: there stands the environment that the
# process was started with, and with it every secret of its owner's.
_SYSTEM = (
    "/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime", "/etc/passwd", "/etc/nsswitch.conf",
    "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/version", "/proc/sys/vm", "/proc/sys/kernel",
    "/proc/self/status", "/proc/self/statm", "/proc/self/maps", "/proc/self/cmdline", "/proc/self/cgroup",
    "/sys/devices/system", "/sys/fs/cgroup", "/sys/bus/pci/devices", "/dev/urandom", "/dev/random",
)  # fmt: skip
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full")


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one load may take.

    Attributes:
        seconds: Wall seconds, which the parent holds; in CPU seconds as many for each core.
        memory: Bytes of the process' own data, beyond what it has when it begins.
        file: Bytes of the largest file that it may write.
    """

    seconds: float
    memory: int
    file: int

    @classmethod
    def of(cls, size: int) -> Limits:
        """The limits for a bundle of so many bytes.

        Raises:
            InputError: A variable of the environment that should set one is no number.
        """
        seconds = _number(SECONDS_VARIABLE, _SECONDS + size / _BYTES_A_SECOND)
        machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * _OF_THE_MACHINE
        memory = _number(MEMORY_VARIABLE, min(_MEMORY + _COPIES * size, machine))
        return cls(seconds, int(memory), _FILES + 2 * size)


def size_of(folder: Path) -> int:
    """Bytes of all files of a bundle; its manifest may not be written yet."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def confine(limits: Limits, folder: Path, scratch: Path, code: Path | None = None) -> list[str]:
    """Give up, for good, what loading a model does not need. Before any thread that shall be bound by it is started.

    Args:
        limits: How much it may take.
        folder: The bundle.
        scratch: The only folder that may be written to; the process' temporary folder from now on.
        code: Where the user's own definition is run, which may import and read what is there. None: none of it is run.

    Returns:
        What holds now: of `memory`, `time`, `files`, `network`, `processes`.
    """
    for name in [n for n, value in os.environ.items() if _SECRET.search(n) or _PASSWORD_IN_ADDRESS.search(value)]:
        del os.environ[name]
    os.environ["TMPDIR"] = str(scratch)
    held = _limit(limits)
    if os.environ.get(OFF_VARIABLE) == "off":
        return held
    abi = landlock.restrict(
        landlock.Access(tuple(_readable(folder, code)), (scratch, *map(Path, _DEVICES), *_accelerators()))
    )
    filtered = seccomp.restrict()
    held += ["files"] if abi else []
    return held + (["network", "processes"] if filtered else ["network"] if abi >= landlock.TCP_SINCE else [])


def offered() -> str:
    """One line on what this kernel offers for `confine`."""
    abi = landlock.abi()
    files = f"Landlock {abi} (files)" if abi else "no Landlock: a load may read and write what its user may"
    calls = (
        "seccomp (network, processes)" if seccomp.available() else "no seccomp: a load may use network and other programs"
    )
    off = f"; {OFF_VARIABLE}=off: neither is used" if os.environ.get(OFF_VARIABLE) == "off" else ""
    return f"limits on memory and time, {files}, {calls}{off}"


def _limit(limits: Limits) -> list[str]:
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_FSIZE, limits.file)
    _lower(resource.RLIMIT_CPU, int(limits.seconds * (os.cpu_count() or 1)) + 1)
    if sys.platform != "linux":
        return ["time"]
    # Not RLIMIT_AS: TensorFlow maps gigabytes of code and reserves arenas that it never touches. This one counts private
    # memory that can be written to (since Linux 4.7 all of it, not only the heap), 0.3 GB of it after the imports.
    _lower(resource.RLIMIT_DATA, _data_now() + limits.memory)
    return ["memory", "time"]


def _lower(which: int, value: int) -> None:
    _, most = resource.getrlimit(which)
    value = value if most == resource.RLIM_INFINITY else min(value, most)
    resource.setrlimit(which, (value, value))


def _data_now() -> int:
    line = next(row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith("VmData"))
    return int(line.split()[1]) * 1024


def _readable(folder: Path, code: Path | None) -> list[Path]:
    project, here = Path(__file__).parents[2], Path.cwd()
    imports = [Path(p).absolute() for p in sys.path if p]
    # `python -m` puts the working folder on the path, which is a home with all its secrets as often as not.
    own = [p for p in imports if p != here] + [project]
    users = [code, here, *imports, Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))] if code else []
    return [folder, Path(sys.prefix), Path(sys.base_prefix), *own, *users, *map(Path, _SYSTEM)]


def _accelerators() -> list[Path]:
    return [*Path("/dev").glob("nvidia*"), Path("/dev/kfd"), Path("/dev/dri")]


def _number(variable: str, default: float) -> float:
    text = os.environ.get(variable)
    if not text:
        return default
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{variable}={text!r} is no number.") from None
