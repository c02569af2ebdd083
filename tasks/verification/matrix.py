"""The table 'trained under A, returned under B': one version, one row for each environment that it was returned in."""

from __future__ import annotations

from pydantic import BaseModel

from tasks.errors import RoundtripError, VerificationFailed
from tasks.storage import Environment, Manifest
from tasks.verification.elsewhere import EnvironmentConfig
from tasks.verification.verdict import Verdict


class Row(BaseModel):
    """How a version came back in one environment; None is what was not measured.

    Attributes:
        environment: What was asked for.
        python: Version there, as the others; None where the environment could not be built.
        passed: It came back as the model that was trained.
        why: In one line, where not.
    """

    model_config = {"frozen": True}

    environment: str
    python: str | None = None
    tensorflow: str | None = None
    keras: str | None = None
    numpy: str | None = None
    passed: bool = False
    loads: bool | None = None
    weights_equal: bool | None = None
    outputs_equal: bool | None = None
    max_abs_diff: float | None = None
    verdict: str | None = None
    why: str | None = None
    seconds: float = 0.0


class Matrix(BaseModel):
    """All rows of one version."""

    model_config = {"frozen": True}

    model: str
    version: str
    format: str
    trained: Environment
    rows: list[Row]


def row_of(verdict: Verdict) -> Row:
    """The row of an environment in which the version was measured."""
    assert verdict.environment is not None
    there = verdict.environment
    return Row(
        environment=verdict.elsewhere,
        python=there.python,
        tensorflow=there.tensorflow,
        keras=there.keras,
        numpy=there.numpy,
        passed=verdict.passed,
        loads=verdict.loads,
        weights_equal=verdict.weights_equal,
        outputs_equal=verdict.outputs_equal,
        max_abs_diff=verdict.max_abs_diff,
        verdict=verdict.id,
        why=_in_one_line("; ".join(verdict.reasons)) or None,
        seconds=verdict.seconds,
    )


def row_without(environment: EnvironmentConfig, error: RoundtripError) -> Row:
    """The row of an environment that could not be built."""
    return Row(environment=environment.name, why=_in_one_line(str(error)))


def matrix_of(manifest: Manifest, rows: list[Row]) -> Matrix:
    """The whole table."""
    return Matrix(
        model=manifest.model, version=manifest.version, format=manifest.format, trained=manifest.environment, rows=rows
    )


def shortfall(matrix: Matrix) -> RoundtripError | None:
    """The error for a table in which some row did not pass; None where all did."""
    failed = [row for row in matrix.rows if not row.passed]
    if not failed:
        return None
    return VerificationFailed(
        f"{matrix.model}@{matrix.version} did not come back as it was trained in {len(failed)} of {len(matrix.rows)} "
        "environments."
    )


def _in_one_line(text: str) -> str:
    return " ".join(text.split())[:400]
