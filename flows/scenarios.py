"""The scenarios by name: one line each."""

from importlib import import_module
from typing import Any

# Names only, so that `--help` imports neither Prefect nor TensorFlow.
SCENARIOS = {
    "saved-model": "flows.saved_model:saved_model",
    "weights-h5": "flows.weights_h5:weights_h5",
    "full-h5": "flows.full_h5:full_h5",
    "keras-archive": "flows.keras_archive:keras_archive",
    "serving-export": "flows.serving_export:serving_export",
    "weights-sharded": "flows.weights_sharded:weights_sharded",
    "checkpoint": "flows.checkpoint:checkpoint",
    "onnx": "flows.onnx:onnx",
    "litert": "flows.litert:litert",
}

# What `python -m flows` runs where nothing is named.
MAIN_JOB = ("saved-model", "weights-h5", "full-h5")

# Set in the environment of a process that trains with others.
DISTRIBUTED = "ROUNDTRIP_DISTRIBUTED"


def module_of(scenario: str) -> str:
    """The module that has a scenario's flow."""
    return SCENARIOS[scenario].partition(":")[0]


def scenario_flow(name: str) -> Any:
    """The Prefect flow of a scenario."""
    return getattr(import_module(module_of(name)), SCENARIOS[name].partition(":")[2])
