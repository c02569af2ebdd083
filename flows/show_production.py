"""What `up`, `status` and `down` print for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from flows.production.checks import Answer
from flows.production.drain import Drained
from flows.production.plan import Plan, folder

_DETAIL = 58


def progress(name: str, answer: Answer, seconds: float) -> str:
    """One line for a part that is up."""
    return f"  {name:<12} up after {seconds:5.1f} s   {answer.detail}"


def addresses(plan: Plan, store: Mapping[str, Any]) -> str:
    """Where everything is, and how to log in."""
    lines = {
        "UI": f"{plan.ui}   log in with what `python -m flows status --login` prints",
        "API": plan.api,
        "store": store["url"] + (f" at {store['endpoint']}" if store.get("endpoint") else ""),
        "data, logs": str(folder()),
        "at a desk": "`python -m flows run ...` uses this server and this store by itself",
        "elsewhere": 'eval "$(python -m flows status --exports)" for `prefect` and other programs',
    }
    return "\n".join(f"  {name:<11} {text}" for name, text in lines.items())


def table(answers: Mapping[str, Answer], state: Mapping[str, Any]) -> Table:
    """One line a part; fits 80 columns."""
    lines = Table(box=box.SIMPLE, show_header=False, pad_edge=False)
    lines.add_column(no_wrap=True)
    lines.add_column(no_wrap=True)
    lines.add_column(overflow="fold", max_width=_DETAIL)
    for name, answer in answers.items():
        restarts = state.get(name, {}).get("restarts", 0)
        again = f", started again {restarts} times" if restarts > 1 else ", started again once" if restarts else ""
        lines.add_row(
            name, Text("up", style="green") if answer.up else Text("down", style="bold red"), answer.detail + again
        )
    return lines


def farewell(drained: Drained | None, killed: int, *, clean: bool) -> str:
    """What `down` did."""
    said = []
    if drained:
        said += [f"Waited for {name}: it ended." for name in drained.ended]
        said += [f"Cancelled {name}: it was still running." for name in drained.cancelled]
    if killed:
        said.append(f"Killed {killed} processes of runs whose worker was gone.")
    if not clean:
        said.append("Some parts did not end in time and were killed.")
    said.append("Down. Runs, models and logs stay; `python -m flows up` brings all of it back.")
    return "\n".join(said)
