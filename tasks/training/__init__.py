"""How the model learns: a compiled custom loop and Keras `fit`, from one configuration and with the same guarantees.

Third room. Both loops take any Keras model, optimizer, loss, metrics and callbacks; both shuffle by the seed and the epoch
alone, so that a run can be repeated bit for bit; both stop at a loss that is no number; both keep their state now and then,
and go on from it, bit for bit, after they were killed; both train on one device or on many, with the same numbers. They
return a `Trained`. What is kept, and when, and how many machines train one model: README.md.
"""

from tasks.training.checkpoints import Checkpointing
from tasks.training.cluster import Follower, join
from tasks.training.config import TrainingConfig
from tasks.training.fit import train_with_fit
from tasks.training.loop import train_with_custom_loop
from tasks.training.run import Epoch, History, Trained

__all__ = [
    "Checkpointing",
    "Epoch",
    "Follower",
    "History",
    "Trained",
    "TrainingConfig",
    "join",
    "train_with_custom_loop",
    "train_with_fit",
]
