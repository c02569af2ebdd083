"""Plain script 4: the same as rooms.py, by the flows, against a server that is up. Usage: flow.py train|return NAME."""

import sys

from flows.return_model import return_model
from flows.weights_h5 import weights_h5
from tasks.data import DataConfig
from tasks.storage import list_versions, open_store
from tasks.training import TrainingConfig

name = sys.argv[2]
if sys.argv[1] == "train":
    weights_h5(DataConfig(rows=200), training=TrainingConfig(epochs=1), name=name, rehearsal=False)
else:
    return_model(f"{name}@{list_versions(open_store(), name)[-1]}")
