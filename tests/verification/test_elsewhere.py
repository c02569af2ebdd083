"""Other environments: what they are made of, and what is said where one can't be had. None is built here."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import InputError, UnsafeError, VerificationFailed
from tasks.storage import Environment, Manifest, Store
from tasks.verification import Measurement, judge, newest_verdict, read_verdicts, record
from tasks.verification import elsewhere as module
from tasks.verification.elsewhere import EnvironmentConfig, Interpreter, build_environment
from tasks.verification.environment import current_environment
from tasks.verification.matrix import matrix_of, row_of, row_without, shortfall
from tests import bundles


@pytest.fixture
def manifest() -> Manifest:
    """Of a version that was trained long ago."""
    then = {"python": "3.11.2", "tensorflow": "2.18.1", "keras": "3.8.0", "numpy": "2.0.2"}
    environment = Environment.model_validate(current_environment().model_dump() | then)
    return bundles.bare_manifest("saved-model").model_copy(update={"environment": environment})


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def made_of(manifest: Manifest, **config: Any) -> tuple[str, dict[str, str]]:
    python, requirements = module._wanted(EnvironmentConfig.model_validate(config), manifest)
    return python, dict(r.split("==", 1) for r in requirements)


HERE = {name: version(name) for name in ("tensorflow", "keras", "pydantic", "platformdirs")}


def test_what_is_not_named_stays_as_it_is_here(manifest: Manifest) -> None:
    assert made_of(manifest, python="3.12") == ("3.12", HERE)
    assert made_of(manifest, requirements=["Keras==3.13.*"]) == (
        platform.python_version(),
        {name: pin for name, pin in HERE.items() if name != "keras"} | {"Keras": "3.13.*"},
    )


def test_recorded_is_what_the_manifest_says_and_what_is_named_besides_wins(manifest: Manifest) -> None:
    recorded = {"tensorflow": "2.18.1", "keras": "3.8.0", "numpy": "2.0.2"}
    assert made_of(manifest, recorded=True) == ("3.11.2", HERE | recorded)
    python, found = made_of(manifest, recorded=True, python="3.11", requirements=["keras==3.9.0"])
    assert (python, found["keras"], found["tensorflow"]) == ("3.11", "3.9.0", "2.18.1")


@pytest.mark.parametrize("field", ["python", "tensorflow", "keras", "numpy"])
@pytest.mark.parametrize("value", ["--index-url=http://x", "../evil", "3.8 @ file:///tmp/x", ""])
def test_versions_in_a_manifest_are_versions_or_it_is_refused(manifest: Manifest, field: str, value: str) -> None:
    forged = manifest.model_copy(update={"environment": manifest.environment.model_copy(update={field: value})})
    with pytest.raises(UnsafeError, match="records the version"):
        module._wanted(EnvironmentConfig(recorded=True), forged)


@pytest.mark.parametrize("requirement", ["", "--pre", "-r file.txt", "./folder", "keras 3.13"])
def test_what_is_no_requirement_is_refused(manifest: Manifest, requirement: str) -> None:
    with pytest.raises(InputError, match="is no requirement"):
        module._wanted(EnvironmentConfig(requirements=[requirement]), manifest)


def test_a_python_that_is_not_there_is_named_with_the_way_out(manifest: Manifest) -> None:
    with pytest.raises(InputError, match=r"There is no Python /nowhere/python on this machine.*--python /usr/bin/python"):
        build_environment(EnvironmentConfig(python="/nowhere/python"), manifest)


def test_without_a_network_uv_is_quoted_in_one_line(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(module.cache_folder() / "no-uv-cache"))
    config = EnvironmentConfig(python=sys.executable, requirements=["keras==3.13.*"])
    with pytest.raises(InputError) as caught:
        build_environment(config, manifest)
    message = str(caught.value)
    assert message.startswith("uv can't install ")
    assert "keras==3.13.*" in message and "No solution found when resolving dependencies" in message
    assert len(message.splitlines()) == 1
    assert not list(module.cache_folder().glob("environments/*/environment.json")), "what was not built is not found again"


def test_without_uv_it_is_said_how_to_get_it(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(InputError, match="pip install uv"):
        build_environment(EnvironmentConfig(python="3.12"), manifest)


def test_an_environment_that_is_there_is_used_again_and_a_half_built_one_is_not(
    manifest: Manifest, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[Path] = []

    def build(folder: Path, python: str, requirements: list[str]) -> None:
        built.append(folder)
        (folder / "bin").mkdir(parents=True)
        (folder / "bin" / "python").symlink_to(sys.executable)
        (folder / "environment.json").write_text(json.dumps({"python": "3.12.1", "keras": "3.13.2"}))

    monkeypatch.setattr(module, "_build", build)
    config = EnvironmentConfig(python="3.12")
    first, again = build_environment(config, manifest), build_environment(config, manifest)
    assert (first, len(built)) == (again, 1)
    assert (first.name, first.versions["keras"]) == ("python 3.12", "3.13.2")
    assert own_cache in first.python.parents

    (built[0] / "environment.json").unlink()
    build_environment(config, manifest)
    assert len(built) == 2

    shutil.rmtree(built[0] / "bin")  # its Python was removed
    build_environment(config, manifest)
    assert len(built) == 3


CONFLICT = """\
Using Python 3.11.7 environment
error: No solution found when resolving dependencies
  cause: Because tensorflow==2.21.0 depends on keras>=3.12.0, we can conclude that you require keras>=3.12.0.
         And because you require keras==3.10.*, we can conclude that your requirements are unsatisfiable.

hint: try something
"""
NO_NETWORK = """\
error: Request failed after 3 retries in 6.8s
  cause: Failed to fetch: https://somewhere/simple/six/
  cause: client error (Connect)
  cause: failed to lookup address information: Name or service not known
"""


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (
            CONFLICT,
            "No solution found when resolving dependencies: Because tensorflow==2.21.0 depends on keras>=3.12.0, we can "
            "conclude that you require keras>=3.12.0. And because you require keras==3.10.*, we can conclude that your "
            "requirements are unsatisfiable",
        ),
        (
            NO_NETWORK,
            "Request failed after 3 retries in 6.8s: Failed to fetch: https://somewhere/simple/six/: failed to lookup "
            "address information: Name or service not known",
        ),
        ("error: No interpreter found for Python 3.99\n", "No interpreter found for Python 3.99"),
        ("", "it gave no reason"),
    ],
)
def test_what_uv_says_becomes_one_line(said: str, line: str) -> None:
    assert module._in_one_line(said) == line


# Verdicts of other environments


def measured(manifest: Manifest, elsewhere: str = "", **changes: Any) -> Measurement:
    values = {"loads": True, "weights": [], "outputs_identical": True, "max_abs_diff": 0.0, "elsewhere": elsewhere}
    return Measurement.model_validate(values | {"environment": manifest.environment} | changes)


def test_a_verdict_of_elsewhere_is_kept_and_named_but_proves_nothing_for_here(store: Store, manifest: Manifest) -> None:
    here, there = judge(manifest, measured(manifest, weights=["w: other values"])), judge(manifest, measured(manifest, "k"))
    for verdict in (here, there):
        record(store, verdict)
    assert (here.passed, there.passed, there.elsewhere) == (False, True, "k")
    assert {v.id: v for v in read_verdicts(store, manifest.model, manifest.version)} == {here.id: here, there.id: there}
    assert newest_verdict(store, manifest.model, manifest.version) == here


def test_the_matrix_has_a_row_for_each_environment_with_what_it_lacks(manifest: Manifest) -> None:
    rows = [
        row_of(judge(manifest, measured(manifest, "a"))),
        row_of(judge(manifest, measured(manifest, "b", weights=["w: other values"]))),
        row_without(EnvironmentConfig(requirements=["keras==9"]), InputError("no\nsuch  version")),
    ]
    matrix = matrix_of(manifest, rows)
    assert [(row.environment, row.passed, row.why) for row in rows] == [
        ("a", True, None),
        ("b", False, "weights: w: other values"),
        ("keras==9", False, "no such version"),
    ]
    error = shortfall(matrix)
    assert isinstance(error, VerificationFailed) and "in 2 of 3 environments" in str(error)
    assert shortfall(matrix_of(manifest, rows[:1])) is None


def test_an_interpreter_names_what_was_asked_for() -> None:
    config = EnvironmentConfig(recorded=True, python="3.12", requirements=["keras==3.13.*"])
    assert config.name == "recorded, python 3.12, keras==3.13.*"
    assert Interpreter(name=config.name, python=Path("p"), versions={}).name == config.name


_BARE = """
import sys
for name in ("boto3", "botocore", "obstore", "prefect", "prefect_aws", "click", "rich", "fastapi", "sqlalchemy", "httpx"):
    sys.modules[name] = None  # as if it were not installed
import tasks.verification.measuring
"""


def test_the_process_that_measures_needs_hardly_any_of_our_dependencies() -> None:
    done = subprocess.run([sys.executable, "-c", _BARE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
