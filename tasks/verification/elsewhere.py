"""Other environments to return a version in: another Python, TensorFlow or Keras, built on the fly by `uv`.

What is not named stays as it is here, so that one thing is changed at a time. An environment is a virtual environment in the
cache, by a digest of what it is made of; it is built once and may be deleted at any time.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

from tasks.errors import InputError, UnsafeError
from tasks.folders import cache_folder
from tasks.forms import may_be_empty, place
from tasks.storage import Manifest

_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?:\[[^\]]*\])?\s*(?:[<>=!~@;].*)?")
_VERSION = re.compile(r"[0-9][0-9A-Za-z.+!]*")  # of PEP 440: an option or a path is none
_OLDEST_PYTHON = (3, 11)
_MEASURED = ("tensorflow", "keras")
_NEEDED = ("pydantic", "platformdirs")  # by the process that measures
_MARK = "environment.json"
_FACTS = """
import json, platform
from importlib.metadata import version
names = ("tensorflow", "keras", "numpy")
print(json.dumps({"python": platform.python_version()} | {name: version(name) for name in names}))
"""


class EnvironmentConfig(BaseModel):
    """In which environment a version is returned, where not in this one."""

    model_config = {"frozen": True}

    python: str | None = Field(
        default=None,
        description="Version (3.12) or path of an interpreter. Empty: the version that runs here.",
        json_schema_extra=may_be_empty(0),
    )
    requirements: list[str] = Field(
        default_factory=list,
        description="Packages in place of those here: tensorflow==2.18.*. What is not named stays as it is.",
        json_schema_extra=place(1),
    )
    recorded: bool = Field(
        default=False,
        description="Python, TensorFlow, Keras and NumPy as they were where the version was trained.",
        json_schema_extra=place(2),
    )

    @property
    def name(self) -> str:
        """For people and for verdicts."""
        words = ["recorded"] if self.recorded else []
        words += [f"python {self.python}"] if self.python else []
        return ", ".join(words + self.requirements) or "the versions here"


class Interpreter(BaseModel):
    """An environment that is there.

    Attributes:
        name: What was asked for.
        python: Its interpreter.
        versions: Of Python, TensorFlow, Keras and NumPy.
    """

    model_config = {"frozen": True}

    name: str
    python: Path
    versions: dict[str, str]


def build_environment(config: EnvironmentConfig, manifest: Manifest) -> Interpreter:
    """Build an environment, or find it in the cache. Takes a minute and 600 MB of the cache the first time.

    Raises:
        InputError: No such Python, no such version, versions that don't go together, no network, or no `uv`.
        UnsafeError: The manifest records versions that are none.
    """
    python, requirements = _wanted(config, manifest)
    digest = hashlib.sha256(json.dumps([python, requirements, platform.machine()]).encode()).hexdigest()[:24]
    folder = cache_folder() / "environments" / digest
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            found = _whole(folder, config.name)
            if found is None:
                shutil.rmtree(folder, ignore_errors=True)
                _build(folder, python, requirements)
                found = _whole(folder, config.name)
    except OSError as error:
        raise InputError(f"Can't write to the cache {folder.parent}: {error.strerror or error}.") from error
    assert found is not None
    return found


def _wanted(config: EnvironmentConfig, manifest: Manifest) -> tuple[str, list[str]]:
    """Which Python, and what is installed; all that an environment is made of."""
    pins = {name: version(name) for name in (*_MEASURED, *_NEEDED)}
    python = platform.python_version()
    if config.recorded:
        was = manifest.environment
        pins |= {"tensorflow": was.tensorflow, "keras": was.keras, "numpy": was.numpy}
        python = was.python
        for recorded in (*pins.values(), python):
            if not _VERSION.fullmatch(recorded):
                raise UnsafeError(f"The manifest of {manifest.model}@{manifest.version} records the version {recorded!r}.")
    named = {_name(requirement): requirement.strip() for requirement in config.requirements}
    kept = [f"{name}=={pin}" for name, pin in pins.items() if name not in named]
    return config.python or python, sorted([*named.values(), *kept])


def _name(requirement: str) -> str:
    match = _REQUIREMENT.fullmatch(requirement.strip())
    if match is None:
        raise InputError(f"{requirement!r} is no requirement. Write `tensorflow==2.18.*`, one package each.")
    return re.sub(r"[-_.]+", "-", match["name"]).lower()


def _whole(folder: Path, name: str) -> Interpreter | None:
    """The environment in a folder, where it was built to the end and its Python is still there."""
    python = folder / "bin" / "python"
    try:
        versions = json.loads((folder / _MARK).read_text())
        return Interpreter(name=name, python=python, versions=versions) if python.exists() else None
    except (FileNotFoundError, json.JSONDecodeError, ValidationError):
        return None


def _build(folder: Path, python: str, requirements: list[str]) -> None:
    why = _uv("venv", "--no-project", "--python", python, str(folder))
    if why:
        raise InputError(
            f"There is no Python {python} on this machine, and uv got none: {why}. Install it, or name an interpreter by "
            "its path: --python /usr/bin/python3.12."
        )
    interpreter = folder / "bin" / "python"
    found = tuple(json.loads(_output(interpreter, "import sys; print(list(sys.version_info[:2]))")))
    if found < _OLDEST_PYTHON:
        raise InputError(f"Python {'.'.join(map(str, found))} is too old: what measures a model needs 3.11 or newer.")
    # Without bytecode, importing TensorFlow takes a quarter of a minute where Python may not write any.
    why = _uv("pip", "install", "--compile-bytecode", "--python", str(interpreter), "--", *requirements)
    if why:
        raise InputError(f"uv can't install {', '.join(requirements)} under Python {python}: {why}.")
    (folder / _MARK).write_text(_output(interpreter, _FACTS))


def _uv(*arguments: str) -> str | None:
    """Run uv; what it says in one line where it failed."""
    uv = shutil.which("uv")
    if uv is None:
        raise InputError("Other environments are built by uv, which is not there. `pip install uv`.")
    # Not in the project's folder, whose constraints are for its own environment.
    done = subprocess.run(
        [uv, "--no-progress", *arguments], capture_output=True, text=True, check=False, cwd="/", env=_clean()
    )
    return None if done.returncode == 0 else _in_one_line(done.stderr)


def _output(python: Path, program: str) -> str:
    done = subprocess.run([str(python), "-c", program], capture_output=True, text=True, check=False, cwd="/", env=_clean())
    if done.returncode != 0:
        raise InputError(f"The Python of the new environment does not run: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout


def _clean() -> dict[str, str]:
    """Our environment without what ties programs to our interpreter."""
    return {k: v for k, v in os.environ.items() if k not in {"VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME"}}


def _in_one_line(said: str) -> str:
    """The error, its first cause, which says what, and its last, which says why."""
    # A cause may go on in lines of its own, up to a blank one or a hint.
    found = re.findall(r"^\s*(?:error|cause|Caused by):\s*(.+(?:\n[ \t]+(?!(?:cause|Caused by):)\S.*)*)", said, re.MULTILINE)
    words = [" ".join(each.split()) for each in found]
    return ": ".join(dict.fromkeys([*words[:2], *words[-1:]])).rstrip(".")[:600] or "it gave no reason"
