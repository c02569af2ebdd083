"""Scenario `saved-model`: a subclassed model, trained by a custom `GradientTape` loop, stored as a SavedModel.

The published version is then brought back by the flow `return`, in another process.
"""

from prefect import flow

from tasks.data import DataConfig
from tasks.definitions import SubclassedConfig
from tasks.settings import StoreConfig
from tasks.steps import check_store, define, join, load_data, publish, serialize, train_with_custom_loop
from tasks.storage import VersionRef
from tasks.training import TrainingConfig


@flow(name="saved-model", flow_run_name="saved-model {name}")
def saved_model(
    data: DataConfig = DataConfig(),
    model: SubclassedConfig = SubclassedConfig(),
    training: TrainingConfig = TrainingConfig(),
    name: str = "saved-model",
    store: StoreConfig = StoreConfig(),
    rehearsal: bool = True,
) -> VersionRef | None:
    """Train by a custom loop and publish a SavedModel.

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
    check_store(store, "saved-model", rehearsal)
    dataset = load_data(data)
    definition, built = define(model, dataset, training.seed, "saved-model")
    trained = train_with_custom_loop(definition, built, dataset, training, name, store)
    bundle = serialize(trained, definition, dataset, "saved-model")
    return publish(bundle, name, training, store, rehearsal)
