"""What the registry's commands print for people: tables of at most 80 columns, in which no version's id is ever broken."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from flows.show import err
from tasks.storage.upkeep.retention import age_text, rounded
from tasks.verification.report import human_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasks.storage import Done, Manifest, ModelSummary, Plan, Removal, Revision
    from tasks.verification import Verdict

_NEWEST = 10  # versions and revisions that `show` prints


def models(summaries: Iterable[ModelSummary], now: datetime) -> Table:
    """The table of `list`."""
    table = _table()
    table.add_column("model", overflow="fold")
    table.add_column("versions", justify="right")
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("age", justify="right", no_wrap=True)
    table.add_column("latest", no_wrap=True)
    for s in summaries:
        others = ", ".join(alias for alias in s.aliases if alias != "latest")
        age = age_text(rounded(now - s.published)) if s.published else ""
        name = Text.assemble(s.model, (f"\nalso {others}" if others else "", "dim"))
        table.add_row(name, str(s.versions), human_bytes(s.bytes), age, s.latest or "none verified yet")
    return table


def version_details(manifest: Manifest, uri: str, verdicts: list[Verdict], aliases: list[str]) -> Table:
    """What `show` says of a version."""
    table = Table(show_header=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    arguments = " ".join(f"{k}={v!r}" for k, v in manifest.definition.arguments.items())
    rows: list[tuple[str, str | Text]] = [
        ("version", f"{manifest.model}@{manifest.version}"),
        ("aliases", Text.assemble(", ".join(aliases) or "none", *_doubt(verdicts, aliases))),
        ("where", uri),
        ("created", _time(manifest.created)),
        ("format", manifest.format),
        ("definition", f"{manifest.definition.reference} {arguments}"),
        ("data", f"{manifest.data.source}  sha256 {manifest.data.sha256[:16]}…"),
        ("training", f"{manifest.training.loop}, {len(manifest.carried.epoch_seconds)} epochs"),
        ("metrics", "  ".join(f"{k} {v:.4f}" for k, v in manifest.training.metrics.items())),
        ("size", f"{human_bytes(manifest.bytes)} in {len(manifest.files)} files"),
        ("weights", f"{len(manifest.carried.weights)} variables"),
        ("environment", f"Python {manifest.environment.python}, TensorFlow {manifest.environment.tensorflow}, "
                        f"Keras {manifest.environment.keras}"),
        *((("flow run", manifest.flow_run_url or manifest.flow_run),) if manifest.flow_run else ()),
        *(("note", note) for note in manifest.training.notes),
        *(("verdict", f"{_time(v.at)}  {_passed(v)}") for v in verdicts),
    ]  # fmt: skip
    for row in rows:
        table.add_row(*row)
    return table


def _doubt(verdicts: Sequence[Verdict], aliases: Sequence[str]) -> list[tuple[str, str]]:
    """A word on aliases that point at a version which failed since it was promoted; they don't move by themselves."""
    here = [verdict for verdict in verdicts if verdict.binds]
    if not aliases or not here or here[-1].passed:
        return []
    return [("  but its last verification refused it; `rollback` moves an alias back", "bold red")]


def history(histories: Mapping[str, Sequence[Revision]]) -> Table:
    """Where each alias pointed, the newest first."""
    table = _table("Aliases")
    for name in ("alias", "since", "version", "why"):
        table.add_column(name, no_wrap=name != "why", overflow="fold")
    for alias, revisions in histories.items():
        for number, revision in enumerate(revisions):
            shown = revision.version or "nothing"
            table.add_row("" if number else alias, f"{revision.at:%Y-%m-%d}", shown, revision.reason)
    return table


def newest_versions(versions: Sequence[str], aliases: Mapping[str, str]) -> Table:
    """The newest versions of a model, the newest first."""
    title = f"{len(versions)} versions" if len(versions) <= _NEWEST else f"The newest {_NEWEST} of {len(versions)} versions"
    table = _table(title)
    table.add_column("version", no_wrap=True)
    table.add_column("published (UTC)", no_wrap=True)
    table.add_column("aliases", overflow="fold")
    from tasks.storage.layout import made_at

    for version in reversed(versions[-_NEWEST:]):
        here = ", ".join(alias for alias, target in aliases.items() if target == version)
        table.add_row(version, f"{made_at(version):%Y-%m-%d %H:%M}", here)
    return table


def plan(planned: Plan) -> Group:
    """What `gc` would remove, why, and what stays."""
    lines: list[Table | Text] = []
    if planned.removals:
        table = _table("To remove")
        table.add_column("what", no_wrap=True)
        table.add_column("which, and why", overflow="fold")
        table.add_column("objects", justify="right", no_wrap=True)
        table.add_column("bytes", justify="right", no_wrap=True)
        for removal in planned.removals:
            which = Text.assemble(_subject(removal), "\n", (removal.why, "dim"))
            table.add_row(removal.what, which, str(removal.objects), human_bytes(removal.bytes))
        lines.append(table)
    lines.append(Text(_total(planned)))
    kept = ", ".join(f"{count} ({reason})" for reason, count in planned.kept.items())
    lines.append(Text(f"Versions that stay: {kept or 'none'}."))
    if planned.publishing:
        lines.append(Text(f"Being published, so left alone: {', '.join(planned.publishing)}."))
    lines += [Text(f"{alias} points at a version that is not there.", style="bold red") for alias in planned.broken]
    return Group(*lines)


def done(results: Sequence[Done]) -> Group:
    """What `gc` did."""
    freed = [each for each in results if each.skipped is None]
    size = human_bytes(sum(each.bytes for each in freed))
    lines = [Text(f"Removed {len(freed)} of {len(results)}: {sum(each.objects for each in freed)} objects, {size}.")]
    lines += [Text(f"Left {each.removal.subject}: {each.skipped}", style="yellow") for each in results if each.skipped]
    return Group(*lines)


@contextmanager
def counted(what: str, total: int) -> Iterator[Callable[[object], None]]:
    """A bar on stderr, for as long as something long takes; the callable moves it by one."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
    )
    with Progress(*columns, console=err, disable=not err.is_terminal, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda _: bar.advance(task)


def now() -> datetime:
    """The time, for ages."""
    return datetime.now(UTC)


def _table(title: str | None = None) -> Table:
    return Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )


def _subject(removal: Removal) -> str:
    """What is to go; of a file's key, the version on a line of its own, so that it is not broken."""
    if removal.what != "upload":
        return removal.subject
    model, _, version, path = removal.subject.split("/", 3)
    return f"{model}@{version}\n{path}"


def _total(planned: Plan) -> str:
    if not planned.removals:
        return f"Nothing to remove in {planned.store}."
    return f"{len(planned.removals)} to remove, {human_bytes(planned.bytes)}."


def _time(at: datetime) -> str:
    return at.isoformat(timespec="seconds")


def _passed(verdict: Verdict) -> str:
    return "passed" if verdict.passed else f"refused: {'; '.join(verdict.reasons)}"
