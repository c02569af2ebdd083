"""Ours and other scanners on the same files: how many hostile ones each finds, and how many harmless ones it refuses.

The others run in virtual environments of their own in a temporary folder, which `uv` makes and which go with it; one of
them reads SavedModels with TensorFlow, and is lent ours. A file counts as found where the tool reports on it at its
severity `high` or above (`MEDIUM` for modelscan, which calls a Lambda layer that), whatever it says about it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from tests.benchmarks.harness import bar

_PLACE = re.compile(r"/?\b(case\d{3})/")
_QUIET = {"PROMPTFOO_DISABLE_TELEMETRY": "1", "NO_ANALYTICS": "1", "DO_NOT_TRACK": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}


@dataclass(frozen=True, slots=True)
class Tool:
    """A scanner: what is installed for it, how it is called on a folder, and the places that its output calls dangerous."""

    packages: tuple[str, ...]
    command: tuple[str, ...]
    places: Callable[[str], list[str]]
    lent: bool = False


def _document(output: str) -> Any:
    return json.JSONDecoder(strict=False).raw_decode(output[output.index("{") :])[0]


TOOLS = {
    "modelscan 0.8.8": Tool(
        ("modelscan==0.8.8", "h5py==3.14.0"),
        ("modelscan", "-r", "json", "-p"),
        lambda out: [i["source"] for i in _document(out[out.rindex('{"summary"') :])["issues"] if i["severity"] != "LOW"],
        lent=True,
    ),
    "modelaudit 0.2.54": Tool(
        ("modelaudit[all]==0.2.54",),
        ("modelaudit", "scan", "--no-cache", "--format", "json"),
        lambda out: [str(i.get("location")) for i in _document(out)["issues"] if i["severity"] == "critical"],
    ),
    "hayward 1.4.1": Tool(
        ("hayward==1.4.1",),
        ("hayward", "scan", "-f", "json"),
        lambda out: [i["file"] for i in _document(out)["findings"] if i["severity"] in {"high", "critical"}],
    ),
    "picklescan": Tool(
        ("picklescan",), ("picklescan", "-p"), lambda out: [line for line in out.splitlines() if "FOUND" in line]
    ),
}


def measure(rounds: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A row a tool; below, each file and who found it."""
    del rounds
    with tempfile.TemporaryDirectory() as scratch:
        cases = _cases(Path(scratch) / "files")
        found = {"roundtrip": _ours(Path(scratch) / "files", cases)}
        for name, tool in TOOLS.items():
            found[name] = _theirs(Path(scratch), tool)
    hostile = {case for case, name in cases.items() if not name.startswith("harmless")}
    rows: list[dict[str, Any]] = [
        {
            "tool": name,
            "hostile_found": len(places & hostile),
            "of": len(hostile),
            "false_alarms": len(places - hostile),
            "of_harmless": len(cases) - len(hostile),
            "seconds": round(seconds, 1),
        }
        for name, (places, seconds) in found.items()
    ]
    rows += [
        {"file": name} | {tool: "yes" if case in places else "-" for tool, (places, _) in found.items()}
        for case, name in cases.items()
    ]
    best = max(row["hostile_found"] for row in rows[1 : len(found)])
    bars = {
        "hostile files found, of all": bar(rows[0]["hostile_found"] / len(hostile), ">= 1"),
        "false alarms": bar(rows[0]["false_alarms"], "<= 0"),
        "hostile files found, to the best other's": bar(rows[0]["hostile_found"] / max(1, best), ">= 1"),
    }
    return rows, bars


def _cases(folder: Path) -> dict[str, str]:
    """A folder a file, called by its number, so that it is found again in every tool's output."""
    from tests.safety.hostile import SAMPLES
    from tests.safety.test_false_alarms import MODELS, write_all

    cases = {}
    for sample in SAMPLES.values():
        cases[_next(folder, cases)] = sample.name
        sample.build(folder / list(cases)[-1])
    for name in ("small", "recurrent", "text", "images", "mixed_precision", "nested"):
        written = Path(tempfile.mkdtemp(dir=folder.parent))
        write_all(MODELS[name](), written)
        for part in sorted(written.iterdir()):
            cases[_next(folder, cases)] = f"harmless: {name}, {part.name}"
            part.rename(folder / list(cases)[-1] / part.name)
    return cases


def _next(folder: Path, cases: dict[str, str]) -> str:
    case = f"case{len(cases):03d}"
    (folder / case).mkdir(parents=True)
    return case


def _ours(folder: Path, cases: dict[str, str]) -> tuple[set[str], float]:
    code = (
        "import sys\nfrom pathlib import Path\nfrom tasks.safety import inspect_path\n"
        "for place in sorted(Path(sys.argv[1]).iterdir()):\n"
        "    if inspect_path(place).refused: print(f'/{place.name}/')"
    )
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    assert cases
    return set(_PLACE.findall(done.stdout)), time.perf_counter() - started


def _theirs(scratch: Path, tool: Tool) -> tuple[set[str], float]:
    place = scratch / tool.command[0]
    python = place / "bin" / "python"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    subprocess.run(["uv", "venv", "-q", "--python", version, str(place)], check=True)
    subprocess.run(["uv", "pip", "install", "-q", "--python", str(python), *tool.packages], check=True)
    if tool.lent:
        packages = place / "lib" / f"python{version}" / "site-packages"
        (packages / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    started = time.perf_counter()
    done = subprocess.run(
        [str(place / "bin" / tool.command[0]), *tool.command[1:], str(scratch / "files")],
        capture_output=True,
        text=True,
        check=False,  # they exit with 1 where they find something
        env={**os.environ, **_QUIET},
        timeout=1800,
    )
    seconds = time.perf_counter() - started
    return {case for found in tool.places(done.stdout) for case in _PLACE.findall("/" + found)}, seconds
