"""What must not be imported where: start-up is our users' time."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["tasks.storage", "tasks.verification", "flows.desk", "flows.show"])
def test_the_command_side_imports_no_tensorflow(module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'tensorflow', 'keras', 'prefect', 'h5py'}} & sys.modules.keys()))"

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert found.strip() == "[]"


def test_a_program_that_loads_a_model_needs_no_prefect() -> None:
    code = "import sys; from tasks import load_model; print('prefect' in sys.modules)"

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert found.strip() == "False"
