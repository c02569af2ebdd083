"""The housekeeping flow `gc`: find what nobody needs any more, and remove it where that was asked for.

Run it by a schedule with `delete`, from the UI first without. It is safe beside publishers, promotions and other runs.
"""

from prefect import flow

from tasks.settings import StoreConfig
from tasks.steps import find_garbage, remove_garbage
from tasks.storage import Done, Retention


@flow(name="gc")
def collect_garbage(
    retention: Retention = Retention(),
    models: list[str] | None = None,
    delete: bool = False,
    store: StoreConfig = StoreConfig(),
) -> list[Done]:
    """Find what no retention policy keeps and what dead publishers left; remove it where `delete` is set.

    Args:
        retention: Which versions stay. With nothing set all do, and only leftovers go.
        models: Patterns of models' names (`digits*`); empty for all.
        delete: Remove; else the plan is shown, as the artifact `gc`.
        store: Where.

    Returns:
        Each removal as it went; nothing where `delete` is not set.
    """
    planned = find_garbage(retention, models or [], store)
    return remove_garbage(planned, store) if delete else []
