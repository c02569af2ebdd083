"""Scenario `weights-h5`: a Keras model trained with `fit`, only its weights stored as HDF5.

It is brought back by rebuilding the exact architecture from its definition and loading the weights.
"""

from prefect import flow

from tasks.data import DataConfig
from tasks.definitions import ModelConfig
from tasks.settings import StoreConfig
from tasks.steps import check_store, define, join, load_data, publish, serialize, train_with_fit
from tasks.storage import VersionRef
from tasks.training import TrainingConfig


@flow(name="weights-h5", flow_run_name="weights-h5 {name}")
def weights_h5(
    data: DataConfig = DataConfig(),
    model: ModelConfig = ModelConfig(),
    training: TrainingConfig = TrainingConfig(),
    name: str = "weights-h5",
    store: StoreConfig = StoreConfig(),
    rehearsal: bool = True,
) -> VersionRef | None:
    """Train by `fit` and publish the weights.

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
    check_store(store, "weights-h5", rehearsal)
    dataset = load_data(data)
    definition, built = define(model, dataset, training.seed, "weights-h5")
    trained = train_with_fit(definition, built, dataset, training, name, store)
    bundle = serialize(trained, definition, dataset, "weights-h5")
    return publish(bundle, name, training, store, rehearsal)
