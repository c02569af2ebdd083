"""Scenario `checkpoint`: a subclassed model, trained by a custom loop, stored with its optimizer as a checkpoint.

It is brought back by rebuilding the exact architecture from its definition and restoring the checkpoint.
"""

from prefect import flow

from tasks.data import DataConfig
from tasks.definitions import SubclassedConfig
from tasks.settings import StoreConfig
from tasks.steps import check_store, define, join, load_data, publish, serialize, train_with_custom_loop
from tasks.storage import VersionRef
from tasks.training import TrainingConfig


@flow(name="checkpoint", flow_run_name="checkpoint {name}")
def checkpoint(
    data: DataConfig = DataConfig(),
    model: SubclassedConfig = SubclassedConfig(),
    training: TrainingConfig = TrainingConfig(),
    name: str = "checkpoint",
    store: StoreConfig = StoreConfig(),
    rehearsal: bool = True,
) -> VersionRef | None:
    """Train by a custom loop and publish a checkpoint.

    Args:
        data: What it learns from.
        model: What it is.
        training: How it learns.
        name: The model's name in the store.
        store: Where it is published.
        rehearsal: Whether it must have come back in a fresh process before it is published.

    Returns:
        The reference of the published version; None for a worker that is not the chief of its training.
    """
    join(training)
    check_store(store, "checkpoint", rehearsal)
    dataset = load_data(data)
    definition, built = define(model, dataset, training.seed, "checkpoint")
    trained = train_with_custom_loop(definition, built, dataset, training, name, store)
    bundle = serialize(trained, definition, dataset, "checkpoint")
    return publish(bundle, name, training, store, rehearsal)
