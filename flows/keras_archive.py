"""Scenario `keras-archive`: a Keras model trained with `fit`, stored in Keras' own `.keras` archive with its optimizer.

It is brought back by `load_model`, compiled as it was.
"""

from prefect import flow

from tasks.data import DataConfig
from tasks.definitions import ModelConfig
from tasks.settings import StoreConfig
from tasks.steps import check_store, define, join, load_data, publish, serialize, train_with_fit
from tasks.storage import VersionRef
from tasks.training import TrainingConfig


@flow(name="keras-archive", flow_run_name="keras-archive {name}")
def keras_archive(
    data: DataConfig = DataConfig(),
    model: ModelConfig = ModelConfig(),
    training: TrainingConfig = TrainingConfig(),
    name: str = "keras-archive",
    store: StoreConfig = StoreConfig(),
    rehearsal: bool = True,
) -> VersionRef | None:
    """Train by `fit` and publish a `.keras` archive.

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
    check_store(store, "keras-archive", rehearsal)
    dataset = load_data(data)
    definition, built = define(model, dataset, training.seed, "keras-archive")
    trained = train_with_fit(definition, built, dataset, training, name, store)
    bundle = serialize(trained, definition, dataset, "keras-archive")
    return publish(bundle, name, training, store, rehearsal)
