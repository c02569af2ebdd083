"""The flow `fidelity`: every definition in every format, and a table of what survives.

A row is a task: a definition is trained once, saved in every format, and measured in processes that did not train it. Rows
are fanned out by the flow's task runner; they hand back small records, so that any of Prefect's runners will do.
"""

from collections.abc import Sequence

from prefect import flow, unmapped

from tasks.definitions.families import FAMILIES
from tasks.serialization import FORMATS
from tasks.settings import StoreConfig
from tasks.steps import keep_table, measure_row, rows_of
from tasks.storage import layout
from tasks.verification.fidelity import Limits, Subject, Table

BUILT_IN = tuple(Subject.of(family) for family in FAMILIES.values() if not family.heavy)


@flow(name="fidelity")
def fidelity(
    subjects: Sequence[Subject] = BUILT_IN,
    formats: Sequence[str] = tuple(FORMATS),
    limits: Limits = Limits(),
    workers: int = 1,
    store: StoreConfig = StoreConfig(),
) -> Table:
    """Measure what survives.

    Args:
        subjects: The rows: definitions, each with its data.
        formats: The columns.
        limits: What one piece of work may take.
        workers: How many rows are measured side by side; for the record.
        store: Where the table is kept.

    Returns:
        The table, as it is in the store.
    """
    table_id = layout.new_version()
    futures = measure_row.map(list(subjects), unmapped(list(formats)), unmapped(limits))
    cells = rows_of(list(subjects), list(formats), futures)
    return keep_table(table_id, cells, workers, store)
