"""Many runs at once: what each is asked for, what became of it, and what that means as a whole. Pure; others run them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, Field

from tasks.errors import RoundtripError, TrainingFailed, VerificationFailed
from tasks.forms import place

COMPLETED = "Completed"


class Job(BaseModel):
    """One run of a deployment that publishes a model."""

    model_config = {"frozen": True, "extra": "forbid"}

    scenario: str = Field(
        description="A scenario, whose deployment has its name; or any other deployment that publishes, as flow/deployment.",
        json_schema_extra=place(0),
    )
    name: str = Field(title="Model", description="The model's name in the store.", json_schema_extra=place(1))
    parameters: dict[str, Any] = Field(
        default_factory=dict,
        description="Of this run, as JSON; they go before those that all runs share.",
        json_schema_extra=place(2),
    )

    @property
    def deployment(self) -> str:
        """As Prefect names it: flow and deployment."""
        return self.scenario if "/" in self.scenario else f"{self.scenario}/{self.scenario}"

    def among(self, shared: dict[str, Any]) -> dict[str, Any]:
        """The parameters that all jobs share with this job's own over them, field by field of `training`, `data`, ..."""
        return _over(shared, self.parameters)


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    both = {n: _over(below[n], v) for n, v in above.items() if isinstance(v, dict) and isinstance(below.get(n), dict)}
    return below | above | both


class Became(BaseModel):
    """What became of a job so far.

    Attributes:
        flow_run: The run's id; None where it could not even be made.
        state: The run's, in Prefect's words; `Not started` where there is none.
        ended: Whether that is its last.
        version: What it published.
        proved: Whether the newest verdict on that version is a passed one; None where there is no verdict yet.
        seconds: From the moment at which a worker began it to its end.
        why: What Prefect says of a run that did not complete, in one line.
    """

    model_config = {"frozen": True}

    scenario: str
    model: str
    flow_run: str | None = None
    state: str = "Not started"
    ended: bool = False
    version: str | None = None
    proved: bool | None = None
    seconds: float | None = None
    why: str | None = None

    def __str__(self) -> str:
        """One line for a log or a terminal."""
        subject = f"{self.scenario} {self.model}" + (f"@{self.version}" if self.version else "")
        proof = {True: ", proved", False: ", refused", None: ""}[self.proved]
        return f"{subject}: {self.state}{proof}" + (f": {self.why}" if self.why else "")

    @property
    def published(self) -> bool:
        """Whether the run did what it was for."""
        return self.state == COMPLETED and self.version is not None


def shortfall(runs: Sequence[Became], proofs: bool) -> RoundtripError | None:
    """The error for the gravest of what went wrong; None where nothing did.

    Args:
        runs: What became of each.
        proofs: Whether each version should have a passed verdict by now.
    """
    lost = [run for run in runs if not run.published]
    unproved = [run for run in runs if proofs and run.published and not run.proved]
    if not lost and not unproved:
        return None
    refused = sum(run.proved is False for run in unproved)
    counts = f"Of {len(runs)} runs {len(runs) - len(lost)} published a version"
    counts += f"; {refused} were refused, {len(unproved) - refused} have no verdict yet." if proofs else "."
    lines = [f"\n  {run.scenario} {run.model}: {run.why or run.state}" for run in lost]
    lines += [f"\n  {run.scenario} {run.model}@{run.version}: {_verdict(run)}" for run in unproved]
    error = VerificationFailed if refused or not lost else TrainingFailed
    return error(counts + "".join(lines))


def _verdict(run: Became) -> str:
    return "refused; its verdict says why" if run.proved is False else "no verdict yet; does its event start `return`?"
