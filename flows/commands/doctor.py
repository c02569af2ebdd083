"""`python -m flows doctor`: is everything there that Roundtrip needs, and if not, what to do."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from flows.commands.common import common, print_json, quiet
from tasks.errors import RoundtripError, UnreachableError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tasks.storage.guarantees.conformance import Check

Area = tuple[str, "list[Check]"]


@click.command()
@click.option("--no-write", is_flag=True, help="Write nothing, neither to the store nor to the Prefect server.")
@click.option("--thorough", is_flag=True, help="Also store 1,000 objects and a large file, for some seconds more.")
@common
def doctor(no_write: bool, thorough: bool, as_json: bool, debug: bool) -> None:
    r"""Check the installation, the Prefect server and the store: what they guarantee, and what to do where they don't.

    What it writes to the store it removes again; the same suite is run against each server that Roundtrip is tested on.
    Exits with 0 where everything that is needed holds (warnings are allowed), else with 4.

    \b
    Examples:
      python -m flows doctor
      ROUNDTRIP_STORE=s3://bucket/models AWS_PROFILE=reader python -m flows doctor --no-write
    """
    quiet(debug)
    from flows.installation import check_installation
    from flows.prefect_health import check_prefect

    examinations: dict[str, Callable[[], Iterable[Check]]] = {
        "installation": check_installation,
        "prefect": lambda: check_prefect(write=not no_write),
        "store": lambda: _check_store(write=not no_write, thorough=thorough),
    }
    # Beside one another, for most of the time is waiting.
    with ThreadPoolExecutor() as pool:
        areas: list[Area] = list(
            zip(examinations, pool.map(lambda examine: list(examine()), examinations.values()), strict=True)
        )
    if as_json:
        print_json({"checks": [{"area": name} | asdict(check) for name, checks in areas for check in checks]})
    else:
        from flows.show import out

        for part in table(areas):
            out.print(part)
    if any(check.status == "problem" for _, checks in areas for check in checks):
        sys.exit(UnreachableError.exit_code)


def _check_store(*, write: bool, thorough: bool) -> Iterable[Check]:
    from tasks.settings import StoreConfig
    from tasks.storage import open_store
    from tasks.storage.connection.client import default_access
    from tasks.storage.guarantees.conformance import Check
    from tasks.storage.guarantees.diagnosis import diagnose

    try:
        config = StoreConfig().completed()
        access = default_access() if config.location() else None
        return list(diagnose(open_store(config, access), config, access, write=write, thorough=thorough))
    except RoundtripError as error:
        return [Check("store", "problem", str(error))]


def table(areas: Iterable[Area]) -> Iterable[RenderableType]:
    """One line a check, its advice below it where something is to be done; fits 80 columns."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    style: dict[str, Any] = {"ok": "green", "warning": "yellow", "problem": "bold red"}
    counts = dict.fromkeys(style, 0)
    for area, checks in areas:
        lines = Table(
            title=area, title_justify="left", title_style="bold", box=box.SIMPLE, show_header=False, pad_edge=False
        )
        lines.add_column(no_wrap=True)
        lines.add_column(max_width=30)
        lines.add_column(overflow="fold")
        for check in checks:
            counts[check.status] += 1
            detail = Text(check.detail)
            if check.advice:
                detail.append(f"\n{check.advice}", style="dim")
            lines.add_row(Text(check.status, style=style[check.status]), check.name, detail)
        yield lines
    said = [f"{number} {status}" + ("s" if number != 1 and status != "ok" else "") for status, number in counts.items()]
    yield Text(", ".join(said), style=style["problem" if counts["problem"] else "warning" if counts["warning"] else "ok"])
