"""What the doctor says about an installation, and how it shows what it found."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from flows.commands.doctor import table
from flows.installation import check_installation
from flows.prefect_health import check_prefect
from tasks.storage.guarantees.conformance import Check
from tests.flows.test_show import _printed


def test_one_line_a_check_with_its_advice_below() -> None:
    areas = [
        ("installation", [Check("Python", "ok", "3.11.7")]),
        (
            "store",
            [
                Check("put if absent", "problem", "it overwrote an object that it was asked to keep", "Use another server."),
                Check("damaged uploads are refused", "warning", "it does not check SHA-256", "The return finds it."),
            ],
        ),
    ]

    assert _printed(*table(areas)) == (
        """\
installation

 ok   Python   3.11.7

store

 problem   put if absent                 it overwrote an object that it was
                                         asked to keep
                                         Use another server.
 warning   damaged uploads are refused   it does not check SHA-256
                                         The return finds it.

1 ok, 1 warning, 1 problem"""
    )


def test_this_installation_is_as_it_should_be() -> None:
    found = {check.name: check for check in check_installation()}

    assert found["Python"].detail == sys.version.split()[0]
    assert found["packages"].status in {"ok", "warning"}, found["packages"]
    assert [check for check in found.values() if check.status == "problem"] == []


def test_a_sandbox_that_is_switched_off_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUNDTRIP_SANDBOX", "off")

    found = {check.name: check for check in check_installation()}

    assert found["sandbox"].status == "warning"
    assert "ROUNDTRIP_SANDBOX=off: neither is used" in found["sandbox"].detail


def test_a_needed_package_of_another_version_is_a_problem(tmp_path: Path) -> None:
    project = _project(tmp_path, needed="click<2", others="")

    found = {check.name: check for check in check_installation(project)}

    assert found["packages"].status == "problem"
    assert found["packages"].detail == f"click {version('click')}, not <2"


def test_a_package_that_is_missing_is_a_problem(tmp_path: Path) -> None:
    found = {check.name: check for check in check_installation(_project(tmp_path, needed="no-such-package>=1", others=""))}

    assert (found["packages"].status, found["packages"].detail) == ("problem", "no no-such-package")


def test_an_indirect_package_of_another_version_is_a_warning(tmp_path: Path) -> None:
    found = {check.name: check for check in check_installation(_project(tmp_path, needed="click", others="idna==1.0"))}

    assert found["packages"].status == "warning"
    assert "idna" in found["packages"].detail


def test_no_configured_server_is_no_problem() -> None:
    (check,) = check_prefect(write=True)

    assert (check.status, check.detail) == ("ok", "none configured: each job starts its own on 127.0.0.1")


def _project(folder: Path, *, needed: str, others: str) -> Path:
    file = folder / "pyproject.toml"
    constraints = f'["{others}"]' if others else "[]"
    file.write_text(f'[project]\ndependencies = ["{needed}"]\n[tool.uv]\nconstraint-dependencies = {constraints}\n')
    return file
