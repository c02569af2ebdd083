"""The records of a sweep: what is planned, what came of each combination, and what was chosen."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from tasks.data import DataConfig
from tasks.errors import RoundtripError, from_json
from tasks.forms import may_be_empty, place
from tasks.settings import StoreConfig
from tasks.storage import VersionRef
from tasks.sweeps.goal import Target
from tasks.sweeps.grid import Combination, Grid, trained_by
from tasks.training import TrainingConfig
from tasks.verification.fidelity.cells import one_line


class ModelChoice(BaseModel):
    """Which model a sweep builds; a form in Prefect's UI."""

    model_config = {"frozen": True}

    builder: str | None = Field(
        default=None,
        description="Reference of the builder: module:callable or path/to/file.py:callable. Empty: the scenario's own.",
        json_schema_extra=may_be_empty(0),
    )
    arguments: dict[str, Any] = Field(
        default_factory=dict, description="Arguments that all combinations have, as JSON.", json_schema_extra=place(1)
    )


class Ahead(BaseModel):
    """What is known before anything trains: the combinations, and which metrics their runs will have."""

    model_config = {"frozen": True}

    combinations: list[Combination]
    metrics: list[str]


class SweepPlan(BaseModel):
    """What is to be done with each combination.

    Attributes:
        id: Of the sweep.
        model: Name in the store.
        keep_seconds: So long stay those that are not chosen.
    """

    model_config = {"frozen": True}

    id: str
    scenario: str
    grid: Grid
    data: DataConfig
    builds: ModelChoice
    training: TrainingConfig
    model: str
    store: StoreConfig
    rehearsal: bool
    keep_seconds: float

    def parameters(self, combination: Combination | None = None) -> dict[str, Any]:
        """Parameters of the scenario's flow; without a combination those that all have in common."""
        one = combination or Combination(values={})
        # The builder only where one is named: each scenario has its own.
        model: dict[str, Any] = {"arguments": self.builds.arguments | one.arguments}
        if self.builds.builder:
            model["builder"] = self.builds.builder
        return {
            "data": self.data.model_dump(mode="json"),
            "model": model,
            "training": trained_by(self.training, one).model_dump(mode="json"),
            "name": self.model,
            "store": self.store.model_dump(mode="json"),
            "rehearsal": self.rehearsal,
        }


class Tried(BaseModel):
    """What came of a combination: a version, or an error in the form of `RoundtripError.to_json`."""

    model_config = {"frozen": True}

    combination: Combination
    version: VersionRef | None = None
    error: dict[str, Any] | None = None
    seconds: float = 0.0

    @property
    def why(self) -> str:
        """One line on what failed."""
        return one_line(str(self.error["message"])) if self.error else ""


class Swept(BaseModel):
    """A sweep that is over.

    Attributes:
        best: Index of the run that was chosen; None where none could be.
        seconds: Wall seconds from its first step to its choice.
    """

    model_config = {"frozen": True}

    plan: SweepPlan
    target: Target
    runs: list[Tried]
    best: int | None
    seconds: float

    @property
    def chosen(self) -> VersionRef | None:
        """The version that was chosen."""
        return None if self.best is None else self.runs[self.best].version


def failed(combination: Combination, error: RoundtripError, seconds: float = 0.0) -> Tried:
    """A combination of which nothing came."""
    return Tried(combination=combination, error=error.to_json(), seconds=round(seconds, 2))


def shortfall(swept: Swept) -> RoundtripError | None:
    """The error of a sweep in which nothing could be chosen; None where something was."""
    if swept.best is not None:
        return None
    errors = [run.error for run in swept.runs if run.error]
    lines = "".join(f"\n  {run.combination.label}: {run.why}" for run in swept.runs if run.error)
    if not errors:
        return RoundtripError(f"No run has a number for {swept.target.metric}, so none can be the best.")
    grave = max(errors, key=lambda error: error["exit_code"])
    count = f"None of {len(swept.runs)} combinations"
    return from_json({"kind": grave["kind"], "message": f"{count} came to a version that could be chosen.{lines}"})
