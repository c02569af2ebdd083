"""Run `python -m flows` as a user does: in a process of its own, in a home of its own."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

ROOT = Path(__file__).parents[2]
_FOREIGN = re.compile(r"ROUNDTRIP_|AWS_|PREFECT|XDG_|COLUMNS$|FORCE_COLOR$|PYTEST_")


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Stdout as the one JSON document that it must be."""
        return json.loads(self.out)

    @property
    def errors(self) -> list[str]:
        """The first lines of the error messages on stderr."""
        return re.findall(r"(?mi)^error: .*$", self.err)


@dataclass(frozen=True, slots=True)
class Home:
    """A user's home folder, and the environment in which this user's programs run."""

    folder: Path
    variables: dict[str, str]

    def environment(self, **more: str) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not _FOREIGN.match(name)}
        own = {
            "HOME": str(self.folder),
            "XDG_DATA_HOME": str(self.folder / "data"),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            "PREFECT_HOME": str(self.folder / "prefect-home"),
            "AWS_EC2_METADATA_DISABLED": "true",
            "PYTHONPATH": str(ROOT),
        }
        return inherited | own | self.variables | more

    def start(self, *arguments: str, cwd: Path | None = None, **more: str) -> subprocess.Popen[str]:
        """Start `python -m flows`."""
        return self.python("-m", "flows", *arguments, cwd=cwd, **more)

    def python(self, *arguments: str, cwd: Path | None = None, **more: str) -> subprocess.Popen[str]:
        """Start Python."""
        return subprocess.Popen(
            [sys.executable, *arguments],
            env=self.environment(**more),
            cwd=cwd or self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, cwd: Path | None = None, seconds: float = 240, **more: str) -> Result:
        """Run `python -m flows` to its end."""
        return end_of(self.start(*arguments, cwd=cwd, **more), seconds)

    def processes(self) -> list[psutil.Process]:
        """Every process that was started in this home, by whomever, and still runs."""
        found = []
        for process in psutil.process_iter():
            try:
                ours = process.environ().get("HOME") == str(self.folder)
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def ports(self) -> list[int]:
        """Ports of the servers that ran here last."""
        files = [self.folder / "data" / "roundtrip" / name / "server.json" for name in ("store", "prefect")]
        states = [json.loads(file.read_text())["state"] for file in files]
        return [urlsplit(state.get("endpoint") or state["url"]).port or 0 for state in states]


def end_of(process: subprocess.Popen[str], seconds: float = 240) -> Result:
    """Wait for a process; kill it where it takes too long."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"still running after {seconds} s\n{out}\n{err}") from None
    return Result(process.returncode, out, err)


def listens(port: int) -> bool:
    """Whether somebody answers at a port of this machine."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def until(condition: Callable[[], bool], seconds: float, pause: float = 0.1) -> bool:
    """Wait for a condition, which is looked at after each pause; whether it came true."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True
