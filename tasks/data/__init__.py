"""What the model learns from: generated data, a `.npz` file, or the user's own callable.

First room of the journey. `load_dataset(config)` gives a checked, shuffled and split `Dataset`; everything after it relies
on the checks made here (as many labels as examples, no NaN, something to train on).
"""

from tasks.data.config import DataConfig
from tasks.data.dataset import Array, Arrays, Dataset, rows
from tasks.data.sources import load_dataset

__all__ = ["Array", "Arrays", "DataConfig", "Dataset", "load_dataset", "rows"]
