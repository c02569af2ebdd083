"""`logs`: what the parts of a local production say."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import click

from flows.commands.common import INTERRUPTED, common, print_json
from tasks.errors import NotFoundError

_PAUSE = 0.3


@click.command()
@click.argument("part", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written from now on, until Ctrl-C.")
@click.option("-n", "lines", type=click.IntRange(min=0), default=20, show_default=True, help="So many lines of each.")
@common
def logs(part: str | None, follow: bool, lines: int, as_json: bool, debug: bool) -> None:
    r"""The logs of what `up` started: supervisor, server, worker, store, ...; all of them without a PART.

    What a flow itself logs is with its run, in the UI; the worker's log has it too.

    \b
    Examples:
      python -m flows logs
      python -m flows logs worker --follow
      python -m flows logs server -n 200
    """
    del debug
    files = _files()
    if part:
        if part not in files:
            known = f"There are: {', '.join(files)}." if files else "Run `python -m flows up` first."
            raise NotFoundError(f"There is no log of {part!r}. {known}")
        files = {part: files[part]}
    if as_json:
        print_json({"logs": {name: _tail(path, lines) for name, path in files.items()}})
        return
    width = max(map(len, files), default=0) if len(files) > 1 else 0
    there = [(name, line) for name, path in files.items() for line in _tail(path, lines)]
    if lines and not (there or follow):
        click.echo("Nothing is logged yet.", err=True)
    try:
        for name, line in chain(there, _new_lines(files) if follow else ()):
            _say(name, line, width)
    except KeyboardInterrupt:  # how a follower ends it
        sys.exit(INTERRUPTED)


def _files() -> dict[str, Path]:
    from flows.production.plan import logs_folder
    from tasks.folders import data_folder

    files = {path.stem: path for path in sorted(logs_folder().glob("*.log"))}
    store = data_folder() / "store" / "server.log"
    return files | ({"store": store} if files and store.exists() else {})


def _tail(path: Path, lines: int) -> list[str]:
    return path.read_text(errors="replace").splitlines()[-lines:] if lines else []


def _new_lines(files: dict[str, Path]) -> Iterator[tuple[str, str]]:
    """Each line that is appended, also after a log was started anew."""
    places = {name: path.stat().st_size for name, path in files.items()}
    while True:
        time.sleep(_PAUSE)
        for name, path in files.items():
            size = path.stat().st_size if path.exists() else 0
            places[name] = min(places[name], size)
            if size == places[name]:
                continue
            with path.open("rb") as file:
                file.seek(places[name])
                whole = file.read().rpartition(b"\n")[0]
            if whole:
                places[name] += len(whole) + 1
                for line in whole.decode(errors="replace").splitlines():
                    yield name, line


def _say(name: str, line: str, width: int) -> None:
    click.echo(f"{name:<{width}}  {line}" if width else line)
