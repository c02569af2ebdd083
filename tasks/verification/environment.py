"""Where a model is trained or returned, and whether two such places compute the same last bits."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path

from tasks.storage import Environment

# What oneDNN and Eigen choose their kernels by. The clock or the cache of a processor changes no bit.
_INSTRUCTIONS = (
    "avx2",
    "fma",
    "avx512f",
    "avx512vl",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "avx_vnni",
    "amx_tile",
)


def current_environment() -> Environment:
    """This process' environment. Imports no TensorFlow: versions come from the packages' metadata."""
    return Environment(
        python=platform.python_version(),
        tensorflow=version("tensorflow"),
        keras=version("keras"),
        numpy=version("numpy"),
        platform=platform.platform(),
        arithmetic=_arithmetic(),
        git_commit=_git_commit(),
        hostname=platform.node(),
        pid=os.getpid(),
    )


def _arithmetic() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    flags: set[str] = set()
    if cpuinfo.exists():
        line = next((row for row in cpuinfo.read_text().splitlines() if row.startswith("flags")), "")
        flags = set(line.split())
    settings = {
        "tensorflow": version("tensorflow"),
        "keras": version("keras"),
        "machine": platform.machine(),
        "instructions": " ".join(i for i in _INSTRUCTIONS if i in flags),
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", ""),
        "xla": os.environ.get("XLA_FLAGS", "") + os.environ.get("TF_XLA_FLAGS", ""),
        "isa": os.environ.get("ONEDNN_MAX_CPU_ISA", ""),
    }
    return hashlib.sha256(repr(sorted(settings.items())).encode()).hexdigest()[:16]


@cache  # and the process that loads a model can start no other
def _git_commit() -> str | None:
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()
