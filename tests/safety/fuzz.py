"""Mutate valid model files and inspect each: `python -m tests.safety.fuzz FOLDER [--rounds N] [--seed S]`.

Runs under limits of its own: 512 MB of memory beyond what the interpreter has, 5 s of processor time a file. Whatever the
bytes are, the answer must be an inspection. With `--atheris` the bytes come from `atheris`, where it is installed
(`uv pip install atheris`), which looks for new paths through the code.
"""

from __future__ import annotations

import argparse
import importlib
import json
import random
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tasks.safety import inspect_path

# The steps that inspection may take are 2 to 6 s of them, by the machine; what has no end takes any number.
SECONDS = 30.0
BYTES = 512 * 2**20
_EXTREMES = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1]


class TooLong(BaseException):
    """Not an `Exception`, of which inspection would make a finding."""


def mutated(data: bytes, chance: random.Random) -> bytes:
    """A few changes: bits, numbers, spans that are cut out, doubled or swapped, the end cut off."""
    found = bytearray(data)
    for _ in range(chance.choice([1, 1, 1, 2, 4, 16])):
        at = chance.randrange(len(found) + 1) if found else 0
        # What is near the beginning or the end decides more.
        if chance.random() < 0.3:
            at = min(at, chance.randrange(600)) if chance.random() < 0.5 else max(0, len(found) - chance.randrange(1, 600))
        kind = chance.randrange(6)
        if kind == 0 and at < len(found):
            found[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            width = chance.choice([1, 2, 4, 8])
            value = chance.choice(_EXTREMES) & ((1 << 8 * width) - 1)
            found[at : at + width] = value.to_bytes(width, "little")
        elif kind == 2:
            del found[at : at + chance.randrange(1, 200)]
        elif kind == 3:
            span = found[at : at + chance.randrange(1, 400)]
            found[at:at] = span * chance.choice([1, 2, 50])
        elif kind == 4:
            other = chance.randrange(len(found) + 1)
            length = chance.randrange(1, 64)
            found[at : at + length] = found[other : other + length]
        elif chance.random() < 0.2:
            del found[at:]
    return bytes(found)


def check(folder: Path, inspect: Callable[[Path], Any] = inspect_path) -> None:
    """Inspect within the limits; what goes wrong is raised."""
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        inspection = inspect(folder)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    assert not any("MemoryError" in f.message for f in inspection.findings)
    assert all(f.message and f.where and f.severity for f in inspection.findings)
    json.dumps([f.model_dump() for f in inspection.findings])


def rounds(samples: Path, count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of mutated files, a file of the samples in turn."""
    chance = random.Random(seed)
    files = sorted(p for p in samples.rglob("*") if p.is_file())
    for i in range(count):
        path = files[i % len(files)]
        yield path.name, mutated(path.read_bytes(), chance)


def limit() -> None:
    """Give this process its limits."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, used + BYTES))

    def too_long(number: int, frame: Any) -> None:
        raise TooLong(f"more than {SECONDS} s of processor time")

    signal.signal(signal.SIGPROF, too_long)


def fuzz(samples: Path, count: int, seed: int) -> list[str]:
    """What went wrong, with the files that did it left beside the samples' folder."""
    wrong = []
    with tempfile.TemporaryDirectory() as scratch:
        for number, (name, data) in enumerate(rounds(samples, count, seed)):
            path = Path(scratch) / name
            path.write_bytes(data)
            try:
                check(path)
            except BaseException:
                kept = samples.with_name(f"{samples.name}-{seed}-{number}-{name}")
                shutil.copy(path, kept)
                wrong.append(f"{kept}\n{traceback.format_exc()}")
            path.unlink()
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--atheris", action="store_true")
    arguments, rest = parser.parse_known_args()
    limit()
    if arguments.atheris:
        _atheris(arguments.folder, rest)
    wrong = fuzz(arguments.folder, arguments.rounds, arguments.seed)
    print(json.dumps({"rounds": arguments.rounds, "wrong": wrong}))
    sys.exit(1 if wrong else 0)


def _atheris(samples: Path, rest: list[str]) -> None:
    import atheris

    for name in [module for module in sys.modules if module.startswith("tasks.safety")]:
        del sys.modules[name]  # imported anew, and watched
    with atheris.instrument_imports(include=["tasks.safety"]):
        inspect = importlib.import_module("tasks.safety").inspect_path
    scratch = Path(tempfile.mkdtemp())
    names = sorted({p.name for p in samples.rglob("*") if p.is_file()})

    def one(data: bytes) -> None:
        path = scratch / names[data[0] % len(names)] if data else scratch / names[0]
        path.write_bytes(data[1:])
        check(path, inspect)
        path.unlink()

    corpus = scratch / "corpus"
    corpus.mkdir()
    for path in samples.rglob("*"):
        if path.is_file():
            (corpus / path.name).write_bytes(bytes([names.index(path.name)]) + path.read_bytes())
    atheris.Setup([sys.argv[0], *rest, str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
