"""Scenario `full-h5`: a Keras model trained with `fit`, the whole of it stored in one HDF5 file.

It is brought back by `load_model`; nothing is rebuilt.
"""

from prefect import flow

from tasks.data import DataConfig
from tasks.definitions import ModelConfig
from tasks.settings import StoreConfig
from tasks.steps import check_store, define, join, load_data, publish, serialize, train_with_fit
from tasks.storage import VersionRef
from tasks.training import TrainingConfig


@flow(name="full-h5", flow_run_name="full-h5 {name}")
def full_h5(
    data: DataConfig = DataConfig(),
    model: ModelConfig = ModelConfig(),
    training: TrainingConfig = TrainingConfig(),
    name: str = "full-h5",
    store: StoreConfig = StoreConfig(),
    rehearsal: bool = True,
) -> VersionRef | None:
    """Train by `fit` and publish the whole model in one HDF5 file.

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
    check_store(store, "full-h5", rehearsal)
    dataset = load_data(data)
    definition, built = define(model, dataset, training.seed, "full-h5")
    trained = train_with_fit(definition, built, dataset, training, name, store)
    bundle = serialize(trained, definition, dataset, "full-h5")
    return publish(bundle, name, training, store, rehearsal)
