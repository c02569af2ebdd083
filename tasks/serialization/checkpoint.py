"""Format `checkpoint`: TensorFlow's checkpoint of model and optimizer, written by a `CheckpointManager`.

`tf.train.Checkpoint(model=m)` alone drops the layers that a Keras 3 model holds in a list or a dict, and `assert_consumed`
does not notice (FACTS S3). So every weight is in it a second time by its position, which costs a name and no bytes. Whoever
reads with plain TensorFlow finds `model`, `optimizer` and `weights`:
`tf.train.Checkpoint(model=m, weights=list(m.weights)).restore("model/ckpt-1")`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.data import Arrays
from tasks.data.dataset import Array
from tasks.serialization.arrays import keras_predict
from tasks.serialization.keras_model import weights
from tasks.serialization.protocol import Promise

# Named outright: the file `checkpoint` beside it names the newest one, and may name a file anywhere.
PREFIX = "ckpt-1"


class Checkpoint:
    """Model, optimizer and weights through `tf.train.Checkpoint`."""

    name = "checkpoint"
    version = 1
    promises: frozenset[Promise] = frozenset({"weights", "optimizer", "outputs"})
    needs_definition = True
    trainable = True
    output_tolerance = 0.0
    packages: tuple[str, ...] = ()

    def check(self, model: Any) -> None:
        """Any model can be stored."""

    def save(self, model: Any, folder: Path, sample: Arrays) -> list[str]:
        """Write the checkpoint."""
        del sample
        import tensorflow as tf  # seconds

        optimizer = {"optimizer": model.optimizer} if model.compiled else {}
        everything = tf.train.Checkpoint(model=model, weights=list(model.weights), **optimizer)
        tf.train.CheckpointManager(everything, str(folder), max_to_keep=1).save(checkpoint_number=1)
        dropped = _dropped(folder, [v.path for v in model.weights])
        names = ", ".join(dropped[:4]) + (f" and {len(dropped) - 4} more" if len(dropped) > 4 else "")  # noqa: PLR2004
        return [f"weights: Checkpoint(model=…) drops {names}, held in a list or a dict; kept by position"] if names else []

    def load(self, folder: Path, rebuilt: Any) -> Any:
        """Restore into the rebuilt architecture."""
        import tensorflow as tf

        status = tf.train.Checkpoint(model=rebuilt, weights=list(rebuilt.weights)).restore(str(folder / PREFIX))
        status.expect_partial()  # the optimizer comes back when the model is compiled
        return rebuilt

    def variables(self, model: Any) -> dict[str, Array]:
        """Weights by path."""
        return weights(model)

    def predict(self, model: Any, x: Arrays) -> Arrays:
        """`model.predict`."""
        return keras_predict(model, x)


def _dropped(folder: Path, paths: list[str]) -> list[str]:
    """The weights that are not below `model` in the checkpoint's graph of objects."""
    import tensorflow as tf
    from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

    graph = TrackableObjectGraph()
    graph.ParseFromString(tf.train.load_checkpoint(str(folder / PREFIX)).get_tensor("_CHECKPOINTABLE_OBJECT_GRAPH"))

    def children(node: int) -> dict[str, int]:
        return {child.local_name: child.node_id for child in graph.nodes[node].children}

    root = children(0)
    # Its optimizer knows all trainable variables, but is no way to them for who has only the model.
    below, left = {root.get("optimizer", -1)}, [root["model"]]
    while left:
        node = left.pop()
        if node not in below:
            below.add(node)
            left += children(node).values()
    return [paths[int(position)] for position, node in children(root["weights"]).items() if node not in below]
