"""What survives: every definition in every format."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from prefect import task
from prefect.artifacts import (
    create_markdown_artifact,
    create_table_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture

from tasks.settings import StoreConfig
from tasks.steps.fanning import ended_if_interrupted, outcome
from tasks.steps.listening import tell
from tasks.steps.stores import is_bad_luck, opened
from tasks.storage import layout
from tasks.verification.environment import current_environment
from tasks.verification.fidelity import Bench, Cell, Limits, Subject, Table
from tasks.verification.fidelity.cells import failed
from tasks.verification.fidelity.document import table_html, table_markdown


@task(name="measure row", task_run_name="{subject.name}", cache_policy=NO_CACHE)
def measure_row(subject: Subject, formats: list[str], limits: Limits) -> list[Cell]:
    """Train one definition, save it in every format, and measure what comes back of each."""
    # A runner of threads keeps the context, and with it whoever listens.
    return Bench.of_this_process().row(subject, formats, limits, tell)


def rows_of(subjects: list[Subject], formats: list[str], futures: Sequence[PrefectFuture[list[Cell]]]) -> list[Cell]:
    """The cells of all rows in their order; where a whole worker died, its rows are cells that say so."""
    cells: list[Cell] = []
    with ended_if_interrupted(Bench.of_this_process):
        for subject, future in zip(subjects, futures, strict=True):
            row = outcome(future)
            if isinstance(row, Exception):
                row = [failed(subject, f, "crashed", f"the worker: {row}") for f in formats]
            for cell in row:  # other processes than this one could not tell
                tell(cell)
            cells += row
    return cells


@task(name="keep table", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=[1, 5], retry_jitter_factor=0.5,
      retry_condition_fn=is_bad_luck)  # fmt: skip
def keep_table(table_id: str, cells: list[Cell], workers: int, store: StoreConfig) -> Table:
    """Put the table into the store, as JSON, HTML and Markdown, and into Prefect as artifacts."""
    place = opened(store)
    took = (datetime.now(UTC) - layout.made_at(table_id)).total_seconds()
    table = Table(id=table_id, at=datetime.now(UTC), environment=current_environment(), cells=cells, seconds=took,
                  workers=workers)  # fmt: skip
    texts = {
        "table.json": table.model_dump_json(indent=1),
        "table.html": table_html(table),
        "table.md": table_markdown(table),
    }
    for name, text in texts.items():
        place.put_if_absent(layout.fidelity(table_id) + name, text.encode())
    create_markdown_artifact(
        texts["table.md"], key="fidelity-table", description=f"{table.kept} of {len(cells)} cells keep all"
    )
    rows = [{"definition": c.definition, "format": c.format, "kept": c.kept, "why": c.why or ""} for c in cells]
    create_table_artifact(rows, key="fidelity-cells", description=place.uri(layout.fidelity(table_id)))
    return table
