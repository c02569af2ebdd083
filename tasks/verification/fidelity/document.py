"""The table as Markdown, for the README and Prefect's UI, and as one HTML file without scripts or links."""

from __future__ import annotations

import html

from tasks.serialization import PROMISES, Promise
from tasks.verification.fidelity.cells import Cell, Table, count

REFUSED, CRASHED = "-", "✗"


def counts(table: Table, format_name: str, promise: Promise) -> str:
    """In how many definitions a promise survived in a format: `3→17` alone and with Roundtrip, `17` where both are alike."""
    cells = [c for c in table.of_format(format_name) if c.survives]
    if all(c.survives[promise] is None for c in cells):
        return ""
    with_us = sum(bool(c.survives[promise]) for c in cells)
    alone = sum(bool(c.alone.get(promise)) for c in cells)
    return str(with_us) if alone == with_us else f"{alone}→{with_us}"


def summary(cell: Cell) -> str:
    """How many promises a cell keeps, `5→9` alone and with Roundtrip; marked where one that should be is not kept."""
    if not cell.survives:
        return REFUSED if cell.status == "refused" else CRASHED
    alone, with_us = count(cell.alone)[0], count(cell.survives)[0]
    numbers = str(alone) if alone == with_us else f"{alone}→{with_us}"
    return numbers if cell.kept else f"{numbers}{CRASHED}"


def not_kept(table: Table) -> list[Cell]:
    """The cells that need an explanation: first those that lose something, then those that were refused."""
    return sorted((c for c in table.cells if not c.kept), key=lambda c: c.status == "refused")


def head(table: Table) -> str:
    """One sentence on the whole."""
    refused = sum(c.status == "refused" for c in table.cells)
    tried = len(table.cells) - refused
    where = table.environment
    return (
        f"{table.kept} of {tried} cells keep every promise; {refused} more were refused when saving, with the reason. "
        f"TensorFlow {where.tensorflow}, Keras {where.keras}."
    )


def table_markdown(table: Table) -> str:
    """What survives by promise and by definition, and why not."""
    formats = table.formats
    line = f"| {' | '.join(['', *formats])} |\n|{' --- |' * (len(formats) + 1)}\n"
    promises = "".join(f"| {' | '.join([p, *(counts(table, f, p) for f in formats)])} |\n" for p in PROMISES)
    matrix = "".join(f"| {' | '.join([d, *(summary(table.cell(d, f)) for f in formats)])} |\n" for d in table.definitions)
    why = "".join(f"- {c.definition}, {c.format}: {_escaped(c.why or '')}\n" for c in not_kept(table))
    return f"""{head(table)}

In how many of {len(table.definitions)} definitions each promise survives, by the format alone → with Roundtrip
(one number: the same):

{line}{promises}
How many promises each definition keeps, alone → with Roundtrip ({REFUSED} refused, {CRASHED} not all that should):

{line}{matrix}
What is not kept, and why:

{why}"""


def table_html(table: Table) -> str:
    """The same, with every promise of every cell."""
    formats = table.formats
    heads = "".join(f"<th>{html.escape(f)}</th>" for f in formats)
    promises = "".join(
        f"<tr><th>{p}</th>{''.join(f'<td>{counts(table, f, p)}</td>' for f in formats)}</tr>" for p in PROMISES
    )
    matrix = "".join(
        f"<tr><th>{html.escape(d)}</th>{''.join(_html_cell(table.cell(d, f)) for f in formats)}</tr>"
        for d in table.definitions
    )
    details = "".join(_html_details(c) for c in table.cells)
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>What survives</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; color: #1f2937 }}
table {{ border-collapse: collapse; width: 100%; margin: 1rem 0 }}
td, th {{ border-top: 1px solid #e5e7eb; padding: .3rem .5rem; text-align: center }}
tr > th:first-child {{ text-align: left; white-space: nowrap }} .details td {{ text-align: left; overflow-wrap: anywhere }}
.kept {{ background: #dcfce7 }} .lost, .crashed {{ background: #fee2e2 }}
.refused {{ color: #6b7280 }} .no {{ color: #dc2626 }}
</style>
<h1>What survives</h1>
<p>{html.escape(head(table))} Measured {table.at:%Y-%m-%d %H:%M} UTC in {table.seconds:.0f} s by {table.workers} at a time,
each cell in a process that did not train it.</p>
<h2>By promise</h2><p>In how many definitions, by the format alone → with Roundtrip.</p>
<table><tr><th></th>{heads}</tr>{promises}</table>
<h2>By definition</h2><p>How many promises, alone → with Roundtrip; {REFUSED} refused.</p>
<table><tr><th></th>{heads}</tr>{matrix}</table>
<h2>Every cell</h2>
<table class="details"><tr><th>cell</th><th>alone</th><th>with Roundtrip</th><th>why</th></tr>{details}</table>
</html>
"""


def _html_cell(cell: Cell) -> str:
    return f'<td class="{cell.status}" title="{html.escape(cell.why or "")}">{summary(cell)}</td>'


def _html_details(cell: Cell) -> str:
    whys = [*([cell.why] if cell.why else []), *([f"alone: {cell.alone_why}"] if cell.alone_why else [])]
    name = f"{html.escape(cell.definition)}<br>{html.escape(cell.format)}"
    return (
        f'<tr><th class="{cell.status}">{name}</th><td>{_marks(cell.alone)}</td><td>{_marks(cell.survives)}</td>'
        f"<td>{'<br>'.join(map(html.escape, whys))}</td></tr>"
    )


def _marks(survived: dict[str, bool | None]) -> str:
    known = {p: v for p, v in survived.items() if v is not None}
    return ", ".join(p if kept else f'<s class="no">{p}</s>' for p, kept in known.items())


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
