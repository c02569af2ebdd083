"""Scenario `litert`: a Keras model trained with `fit`, exported to LiteRT. Needs the extra `litert`.

It is brought back in LiteRT's own interpreter, without TensorFlow.
"""

from prefect import flow

from tasks.data import DataConfig
from tasks.definitions import ModelConfig
from tasks.settings import StoreConfig
from tasks.steps import check_store, define, join, load_data, publish, serialize, train_with_fit
from tasks.storage import VersionRef
from tasks.training import TrainingConfig


@flow(name="litert", flow_run_name="litert {name}")
def litert(
    data: DataConfig = DataConfig(),
    model: ModelConfig = ModelConfig(),
    training: TrainingConfig = TrainingConfig(),
    name: str = "litert",
    store: StoreConfig = StoreConfig(),
    rehearsal: bool = True,
) -> VersionRef | None:
    """Train by `fit` and publish a LiteRT file.

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
    check_store(store, "litert", rehearsal)
    dataset = load_data(data)
    definition, built = define(model, dataset, training.seed, "litert")
    trained = train_with_fit(definition, built, dataset, training, name, store)
    bundle = serialize(trained, definition, dataset, "litert")
    return publish(bundle, name, training, store, rehearsal)
