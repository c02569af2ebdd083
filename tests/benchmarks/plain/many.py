"""Many models from one process, which imports once: for each number on stdin, publish and return until there are so many.

Real runs of the flows, one after the other, against a real server and store; only the worker and its imports are left out.
"""

import sys

from flows.return_model import return_model
from flows.weights_h5 import weights_h5
from tasks import nursery
from tasks.data import DataConfig
from tasks.training import TrainingConfig

nursery.prepare("tasks.verification.measuring")
done = 0
print(done, flush=True)
for line in sys.stdin:
    while done < int(line):
        name = f"model-{done:04}"
        ref = weights_h5(DataConfig(rows=200), training=TrainingConfig(epochs=1), name=name, rehearsal=False)
        return_model(f"{name}@{ref.version}")
        done += 1
    print(done, flush=True)
