"""`python -m flows fan-out`: many models at once, on the workers of a server."""

from __future__ import annotations

import json
from typing import IO, TYPE_CHECKING, Any

import click

from flows.commands.common import common, finish, quiet
from tasks.errors import InputError

if TYPE_CHECKING:
    from tasks.jobs import Became, Job


@click.command("fan-out")
@click.argument("jobs", type=click.File(), metavar="JOBS.json")
@click.option("--params", metavar="JSON", default="{}", help="Parameters of all runs; a job's own go before.")
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), default=60.0, show_default=True,
              help="How long all of it may take; what runs then goes on.")  # fmt: skip
@click.option("--proofs/--no-proofs", default=True, help="Whether to wait until each version is proved; by default it is.")
@common
def fan_out(jobs: IO[str], params: str, minutes: float, proofs: bool, as_json: bool, debug: bool) -> None:
    r"""Run many trainings at once, each by the deployment of its scenario, on whatever workers are free.

    JOBS.json (`-` for stdin) is a list: [{"scenario": "weights-h5", "name": "digits-a", "parameters": {"training":
    {"seed": 1}}}, ...]. This process trains nothing and waits: for the runs, and for the proofs that their versions start. A
    run that fails stops no other. Needs a server with workers: that of `up`, or the one that PREFECT_API_URL names.

    \b
    Examples:
      python -m flows fan-out jobs.json
      python -m flows fan-out jobs.json --params '{"training": {"epochs": 20}}' --json
    """
    quiet(debug)
    wanted, shared = _jobs(jobs), _object("--params", params)
    error, runs = _run(wanted, shared, proofs, minutes)
    from flows.show_runs import table

    finish({"runs": [run.model_dump(mode="json") for run in runs]}, as_json, error, lambda: table(runs))


def _jobs(file: IO[str]) -> list[Job]:
    from pydantic import TypeAdapter, ValidationError

    from tasks.jobs import Job

    try:
        found = TypeAdapter(list[Job]).validate_json(file.read())
    except ValidationError as error:
        first = error.errors()[0]
        place = "".join(f"[{part!r}]" for part in first["loc"])
        raise InputError(f'{file.name}{place}: {first["msg"]}. It is a list of {{"scenario": ..., "name": ...}}.') from None
    if not found:
        raise InputError(f"{file.name} names no job.")
    return found


def _object(option: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{option} is no JSON: {error}.") from None
    if not isinstance(value, dict):
        raise InputError(f'{option} takes an object: {{"training": {{"epochs": 20}}}}.')
    return value


def _run(jobs: list[Job], shared: dict[str, Any], proofs: bool, minutes: float) -> tuple[Any, list[Became]]:
    """Run the flow here; gives the error that it ended with, if any, and what became of each job."""
    from flows.server import PrefectServer, configured_url, local_production

    if configured_url() is None and local_production() is None:
        raise InputError("fan-out runs on workers, and no server is up that has any. Run `python -m flows up` first, or set "
                         "PREFECT_API_URL.")  # fmt: skip
    server = PrefectServer()
    server.wait_until_up()
    from flows.fan_out import fan_out as fan_out_flow
    from tasks.jobs import Became
    from tasks.steps import open_early, reporting_to

    open_early()  # where it is the embedded one, this process holds it too

    def tell(news: Any) -> None:
        if isinstance(news, Became):
            click.echo(str(news), err=True)

    with reporting_to(tell):
        state: Any = fan_out_flow(jobs, shared, proofs, minutes, return_state=True)
    result = state.result(raise_on_failure=False)
    if not isinstance(result, BaseException):
        return None, result
    runs: list[Became] | None = getattr(result, "outcome", None)
    if runs is None:
        raise result  # it never came to a table
    return result, runs
