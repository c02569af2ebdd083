"""Scenario `weights-sharded`: a Keras model trained with `fit`, its weights stored in shards, for models of gigabytes.

It is brought back by rebuilding the exact architecture from its definition and loading the shards.
"""

from prefect import flow

from tasks.data import DataConfig
from tasks.definitions import ModelConfig
from tasks.settings import StoreConfig
from tasks.steps import check_store, define, join, load_data, publish, serialize, train_with_fit
from tasks.storage import VersionRef
from tasks.training import TrainingConfig


@flow(name="weights-sharded", flow_run_name="weights-sharded {name}")
def weights_sharded(
    data: DataConfig = DataConfig(),
    model: ModelConfig = ModelConfig(),
    training: TrainingConfig = TrainingConfig(),
    name: str = "weights-sharded",
    store: StoreConfig = StoreConfig(),
    rehearsal: bool = True,
) -> VersionRef | None:
    """Train by `fit` and publish the weights in shards.

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
    check_store(store, "weights-sharded", rehearsal)
    dataset = load_data(data)
    definition, built = define(model, dataset, training.seed, "weights-sharded")
    trained = train_with_fit(definition, built, dataset, training, name, store)
    bundle = serialize(trained, definition, dataset, "weights-sharded")
    return publish(bundle, name, training, store, rehearsal)
