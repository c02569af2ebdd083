"""One model, trained by several replicas, with the numbers of one device.

Every replica has all examples, sees the same order, and takes its part of each batch. A part counts as much as it has
examples, whether a batch can be divided or not; so what comes out differs from one device's result by rounding alone. Keras
would let all parts count alike, and so give the examples of a small part more weight.

The model that is trained is a *twin* of the ordinary one, built within the strategy's scope. In the end its state comes home
to the ordinary model, which is stored and knows nothing of replicas.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.data import Arrays, Dataset
from tasks.data.dataset import take
from tasks.definitions import Definition
from tasks.definitions.build import as_tensors, build, fixed_batch
from tasks.errors import InputError
from tasks.training.cluster import Group
from tasks.training.config import TrainingConfig
from tasks.training.step import build_optimizer, trained_state

# Keras applies them to each replica's gradient before it adds them up.
_BEFORE_THE_SUM = ("clipnorm", "clipvalue", "global_clipnorm", "gradient_accumulation_steps")
_SAME, _TINY = 1e-3, 1e-6  # relative, absolute; a loss that is put together otherwise is off by a factor


@dataclass(frozen=True, slots=True)
class Part:
    """One replica's part of a batch, within a compiled step.

    Attributes:
        rows: How many of the batch's examples are its own, a scalar; it may have none.
        of: How many the batch has, a scalar.
        weight: What the part's loss counts in the sum of all, a scalar.
    """

    rows: Any
    of: Any
    weight: Any

    def own(self, arrays: Any) -> Any:
        """What of its arrays is its own: nothing where it was lent an example."""
        import tensorflow as tf

        return tf.nest.map_structure(lambda a: a[: self.rows], arrays)

    def in_the_mean(self, loss: Any) -> Any:
        """Its loss as it goes into a mean by examples, so that the mean over all parts is the batch's loss."""
        import tensorflow as tf

        weight, of, rows = (tf.cast(n, loss.dtype) for n in (self.weight, self.of, tf.maximum(self.rows, 1)))
        return loss * weight * of / rows


class Team:
    """The replicas of one training."""

    def __init__(self, group: Group, definition: Definition, dataset: Dataset, config: TrainingConfig) -> None:
        self.group = group
        self._definition, self._dataset, self._config = definition, dataset, config
        self._adds_up = False

    @property
    def notes(self) -> list[str]:
        """What the history should say."""
        size, replicas = self._config.batch_size, self.group.replicas
        shares = sorted({size * (i + 1) // replicas - size * i // replicas for i in range(replicas)})
        said = (
            f"trained by {replicas} replicas ({self.group.name}: {self.group.devices}), each of which took "
            f"{' or '.join(map(str, shares))} of a batch's {size} examples"
        )
        return [said, *(["replicas can't train under xla, and do under graph"] if self._config.compiler == "xla" else [])]

    def loss_tracker(self, model: Any) -> Any:
        """The metric that adds up the loss: Keras' own of the model, which `fit` reads, or one like it."""
        import keras

        with self.group.strategy.scope():
            return next((m for m in model.metrics if m.name == "loss"), None) or keras.metrics.Mean(name="loss")

    def twin(self, model: Any, compile_as: Callable[[Any], None]) -> Any:
        """The model once more, with a copy of every variable on every replica, and the same values.

        Args:
            model: Built and compiled.
            compile_as: Compiles a model that its builder did not.

        Raises:
            InputError: It can't be trained in parts.
        """
        self._check(model)
        few = slice(0, 2 * self.group.replicas + 1)
        x, y = take(self._dataset.x, few), take(self._dataset.y, few)
        build_optimizer(model)
        twin = build(self._definition, x, self._scope)
        with self.group.strategy.scope():
            compile_as(twin)
            build_optimizer(twin)
            # As Keras' `fit` does: loss and metrics make their variables now, not on each replica when they are first used.
            twin._symbolic_build(data_batch=(as_tensors(x), as_tensors(y)))
            for theirs, mine in zip(trained_state(twin), trained_state(model), strict=True):
                theirs.assign(np.asarray(mine))
        self._adds_up = self._loss_adds_up(model, twin, x, y)
        return twin

    def on_all(self, step: Callable[[Any, Any, Part], Any]) -> Callable[[Any, Any], Any]:
        """A step on a batch, taken by all replicas at once, each on its part; gives what the step gives on each."""
        import tensorflow as tf

        replicas = self.group.replicas

        def on_one(x: Any, y: Any) -> Any:
            count = tf.shape(tf.nest.flatten(x)[0])[0]
            number = tf.distribute.get_replica_context().replica_id_in_sync_group
            begin, end = count * number // replicas, count * (number + 1) // replicas
            own = end - begin
            share = tf.cast(own * replicas, tf.float32) / tf.cast(count, tf.float32)
            weight = tf.cast(own > 0, tf.float32) if self._adds_up else share
            # No layer likes an empty batch: who has no example of a short one is lent another's, which counts nothing.
            begin = tf.minimum(begin, count - 1)
            end = tf.maximum(end, begin + 1)
            x, y = tf.nest.map_structure(lambda a: a[begin:end], (x, y))
            return step(x, y, Part(own, count, weight))

        def everywhere(x: Any, y: Any) -> Any:
            return self.group.strategy.run(on_one, args=(x, y))

        return everywhere

    def check_job(self) -> None:
        """Compare with the other workers what is trained, and on what.

        Raises:
            InputError: They do something else.
        """
        self._compare("data", self._dataset.digest)
        self._compare("model", self._definition.model_dump_json(exclude={"reference"}))  # a path may be another elsewhere
        self._compare("options", self._config.model_dump_json(exclude={"checkpoint_seconds", "checkpoint_epochs", "resume"}))

    def check_start(self, first: int) -> None:
        """Compare with the other workers from which epoch on.

        Raises:
            InputError: They found another checkpoint, or none.
        """
        self._compare("checkpoint to go on from, which they find where all use the same store", str(first))

    def _compare(self, what: str, value: str) -> None:
        if self.group.cluster is None:
            return
        digest = int.from_bytes(hashlib.sha256(value.encode()).digest()[:4], "big") >> 1
        if len(set(self._from_all(digest))) > 1:
            raise InputError(f"The workers do not have the same {what}. Start all with the same command.")

    def bring_home(self, twin: Any, model: Any) -> None:
        """Give the ordinary model all that the twin has learned."""
        for mine, theirs in zip(trained_state(model), trained_state(twin), strict=True):
            mine.assign(np.asarray(theirs))

    def _check(self, model: Any) -> None:
        if fixed_batch(model):
            raise InputError(f"The model takes batches of {fixed_batch(model)} examples alone: none can be divided.")
        if type(model.optimizer).__name__ == "LossScaleOptimizer":
            raise InputError(
                "With a strategy, Keras' LossScaleOptimizer looks at the first replica's gradients alone: an overflow on "
                "another one would end in the weights. Train in mixed_bfloat16, or with the strategy none."
            )
        set_ = [name for name in _BEFORE_THE_SUM if getattr(model.optimizer, name, None)]
        if set_:
            raise InputError(
                f"With a strategy, Keras applies the optimizer's {', '.join(set_)} to each replica's part before it adds "
                "them up, which gives other weights than one device. Train without it, or with the strategy none."
            )
        if self._config.batch_size < self.group.replicas:
            raise InputError(
                f"A batch of {self._config.batch_size} examples is too small for {self.group.replicas} replicas."
            )

    @contextmanager
    def _scope(self) -> Iterator[None]:
        """Where the twin's variables come to be."""
        import tensorflow as tf

        with self.group.strategy.scope(), tf.variable_creator_scope(_averaged):
            yield

    def _loss_adds_up(self, model: Any, twin: Any, x: Arrays, y: Arrays) -> bool:
        """Whether the loss of a batch is the sum of its parts' and not their mean: measured, for it is anybody's code."""
        import tensorflow as tf

        x, y = as_tensors(x), as_tensors(y)

        def judge(x: Any, y: Any, part: Part) -> Any:
            loss = twin.compute_loss(x=x, y=y, y_pred=twin(x, training=False), training=False)
            return tf.stack([[tf.cast(loss, tf.float32), tf.cast(part.rows / part.of, tf.float32)]])

        whole = float(model.compute_loss(x=x, y=y, y_pred=model(x, training=False), training=False))
        losses, shares = np.transpose(self.group.strategy.gather(tf.function(self.on_all(judge))(x, y), axis=0))
        mean, total = float((losses * shares).sum()) * self.group.replicas, float(losses.sum())
        if not math.isfinite(whole) or math.isclose(mean, whole, rel_tol=_SAME, abs_tol=_TINY):
            return False  # one that is no number is reported by the training
        if math.isclose(total, whole, rel_tol=_SAME, abs_tol=_TINY):
            return True
        raise InputError(
            f"The loss of a batch is {whole:g}, and can't be put together from its parts, whose sum is {total:g} and whose "
            f"mean is {mean / self.group.replicas:g}. With a strategy, a compute_loss of your own has to divide by "
            "tf.distribute.get_strategy().num_replicas_in_sync, and a loss can't compare the examples of a batch."
        )

    def _from_all(self, number: int) -> list[int]:
        """What every replica's worker says, in their order."""
        import tensorflow as tf

        strategy = self.group.strategy
        said = strategy.run(lambda: tf.constant([number], tf.int32))
        return [int(n) for n in strategy.gather(said, axis=0)]


def _averaged(create: Callable[..., Any], **variable: Any) -> Any:
    """Create a variable; what no gradient touches, such as moving statistics, is to be the mean of all replicas' own.

    Keras 3.15 would let every replica have its own, and the first one's would be stored.
    """
    import tensorflow as tf

    none = tf.VariableAggregation.NONE
    if not variable.get("trainable") and variable.get("aggregation", none) == none and _is_floating(variable.get("dtype")):
        variable["aggregation"] = tf.VariableAggregation.MEAN
    return create(**variable)


def _is_floating(dtype: Any) -> bool:
    import tensorflow as tf

    return dtype is not None and bool(tf.as_dtype(dtype).is_floating)
