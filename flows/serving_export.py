"""Scenario `serving-export`: a subclassed model, trained by a custom loop, exported for TensorFlow Serving.

The version's folder `model/` is what a model server is pointed at; it comes back as a graph that can be called.
"""

from prefect import flow

from tasks.data import DataConfig
from tasks.definitions import SubclassedConfig
from tasks.settings import StoreConfig
from tasks.steps import check_store, define, join, load_data, publish, serialize, train_with_custom_loop
from tasks.storage import VersionRef
from tasks.training import TrainingConfig


@flow(name="serving-export", flow_run_name="serving-export {name}")
def serving_export(
    data: DataConfig = DataConfig(),
    model: SubclassedConfig = SubclassedConfig(),
    training: TrainingConfig = TrainingConfig(),
    name: str = "serving-export",
    store: StoreConfig = StoreConfig(),
    rehearsal: bool = True,
) -> VersionRef | None:
    """Train by a custom loop and publish an inference graph in a numbered folder.

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
    check_store(store, "serving-export", rehearsal)
    dataset = load_data(data)
    definition, built = define(model, dataset, training.seed, "serving-export")
    trained = train_with_custom_loop(definition, built, dataset, training, name, store)
    bundle = serialize(trained, definition, dataset, "serving-export")
    return publish(bundle, name, training, store, rehearsal)
