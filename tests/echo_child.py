"""A child for `tests/test_children.py`: does as it is asked."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.children import Child, serve
from tasks.errors import NotFoundError


def answers() -> int:
    """The descriptor that `serve` answers on: the pipe with the highest number."""
    pipes = []
    for number in range(3, 64):
        with contextlib.suppress(OSError):
            if stat.S_ISFIFO(os.fstat(number).st_mode):
                pipes.append(number)
    return max(pipes)


def handle(request: dict[str, Any], emit: Callable[[dict[str, Any]], None]) -> None:  # noqa: PLR0912
    match request["do"]:
        case "echo":
            emit({"said": request["say"]})
        case "count":
            for i in range(request["to"]):
                emit({"number": i})
        case "print":
            print("this is no JSON", flush=True)
            subprocess.run(["echo", "nor this"], check=True)
            emit({"said": "printed"})
        case "not-found":
            raise NotFoundError("no such model")
        case "answer":
            os.write(answers(), bytes(request["with"]))
            emit({})
        case "bug":
            raise KeyError("oops")
        case "exit":
            sys.stderr.write("first words\nlast words\n")
            sys.stderr.flush()
            os._exit(3)
        case "start":
            emit({"pid": subprocess.Popen(["sleep", "60"]).pid})
        case "remember":
            sys.modules["tests"].said = request["say"]  # type: ignore[attr-defined]
            emit({})
        case "recall":
            emit({"said": getattr(sys.modules["tests"], "said", None)})
        case "surroundings":
            names = ("ROUNDTRIP_TEST", "ROUNDTRIP_MORE")
            emit({"folder": str(Path.cwd()), "values": [os.environ.get(name) for name in names]})
        case "variable":
            emit({"said": os.environ.get(request["name"])})
        case "interpreter":
            emit({"prefix": sys.prefix, "path": sys.path})
        case "child":
            emit({"pid": Child("tests.echo_child").pid})
        case "sleep":
            time.sleep(60)


def main() -> None:
    serve(handle)
