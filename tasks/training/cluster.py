"""Who trains together: the replicas of this machine, or those of all machines that `TF_CONFIG` names.

A cluster is met before anything else uses TensorFlow in this process, for its runtime takes no other devices later.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from tasks.errors import InputError, UnreachableError

_EXAMPLE = (
    'For the first of two machines: TF_CONFIG=\'{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, '
    '"task": {"type": "worker", "index": 0}}\'; for the second the same with index 1.'
)
_HALVES = 2
# What TensorFlow raises on the others when one is gone, or when the one that keeps their list is.
_LOST = {"UnavailableError", "AbortedError", "CancelledError", "DeadlineExceededError", "FailedPreconditionError",
         "InternalError", "UnknownError"}  # fmt: skip


class WorkerLost(UnreachableError):
    """Another worker of this training died, was restarted or could not be reached; nothing was published."""

    kind = "worker-lost"


@dataclass(frozen=True, slots=True)
class Follower:
    """A worker that trained with the others and stores nothing: the chief does.

    Attributes:
        worker: Its number; the chief is 0.
        workers: How many there are.
        chief: Address of the chief, `host:port`.
    """

    worker: int
    workers: int
    chief: str

    def __str__(self) -> str:
        return f"worker {self.worker} of 0 to {self.workers - 1} is done; the chief, worker 0 at {self.chief}, publishes"


@dataclass(frozen=True, slots=True)
class Cluster:
    """All workers of a training by address, the chief first, and which of them this process is."""

    addresses: tuple[str, ...]
    worker: int


@dataclass(frozen=True, slots=True)
class Group:
    """All replicas that train together, as TensorFlow's strategy holds them.

    Attributes:
        strategy: A `tf.distribute.Strategy`.
        name: As in the training's configuration.
        devices: What the replicas of this process run on, in words.
        cluster: The workers; None where all replicas are in this process.
    """

    strategy: Any
    name: Literal["mirrored", "multi-worker"]
    devices: str
    cluster: Cluster | None = None

    @property
    def replicas(self) -> int:
        """How many there are, on all machines."""
        return int(self.strategy.num_replicas_in_sync)

    @property
    def follower(self) -> Follower | None:
        """This process, where it is not the one that stores the model."""
        if self.cluster is None or self.cluster.worker == 0:
            return None
        return Follower(self.cluster.worker, len(self.cluster.addresses), self.cluster.addresses[0])

    def lost(self, error: Exception) -> bool:
        """Whether an error tells that another worker is gone."""
        return _lost(self.cluster, error)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Say of what fails because another worker is gone that it is so.

        Raises:
            WorkerLost: It is.
        """
        with _watched(self.cluster):
            yield


@cache
def join(name: Literal["mirrored", "multi-worker"]) -> Group:
    """Meet all that train together; once a process, and before anything else uses TensorFlow in it.

    Raises:
        InputError: `TF_CONFIG` names no cluster, or TensorFlow is in use already.
        WorkerLost: The others did not come.
    """
    import tensorflow as tf  # seconds

    if name == "mirrored":
        gpus = tf.config.list_physical_devices("GPU")
        if not gpus:
            _halve_the_processor()
        devices = tf.config.list_logical_devices("GPU" if gpus else "CPU")
        words = f"{len(devices)} {'GPUs' if gpus else 'logical processors, for there is no GPU'}"
        # By name: without them TensorFlow would look into TF_CONFIG, which is not meant here.
        return Group(tf.distribute.MirroredStrategy([device.name for device in devices]), name, words)
    cluster = read_cluster(os.environ.get("TF_CONFIG", ""))
    with _watched(cluster):
        try:
            strategy = tf.distribute.MultiWorkerMirroredStrategy()
        except RuntimeError as error:
            raise InputError(
                f"A multi-worker training has to be the first thing that a process does with TensorFlow ({error}). "
                "Run it in a process of its own."
            ) from error
    return Group(strategy, name, f"{len(cluster.addresses)} workers", cluster)


def read_cluster(config: str) -> Cluster:
    """The cluster that a `TF_CONFIG` describes.

    Raises:
        InputError: It is empty, no JSON, names other jobs than `worker` and `chief`, or a task that is none of them.
    """
    if not config:
        raise InputError(f"The strategy multi-worker needs TF_CONFIG in the environment of each worker. {_EXAMPLE}")
    try:
        document = json.loads(config)
        jobs, task = dict(document["cluster"]), document["task"]
        kind, index = str(task["type"]), int(task["index"])
        chiefs, workers = [[str(a) for a in jobs.pop(job, [])] for job in ("chief", "worker")]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"TF_CONFIG can't be read ({type(error).__name__}: {error}): {config!r}. {_EXAMPLE}") from None
    if jobs:
        other = next(iter(jobs))
        raise InputError(f"TF_CONFIG names the job {other!r}; here all are workers, one of them the chief. {_EXAMPLE}")
    here = {"chief": chiefs, "worker": workers}.get(kind, [])
    if not 0 <= index < len(here):
        raise InputError(f"TF_CONFIG says that this is {kind} {index}, and lists {len(here)} of that kind. {_EXAMPLE}")
    return Cluster((*chiefs, *workers), index + (len(chiefs) if kind == "worker" else 0))


def _halve_the_processor() -> None:
    """Let a machine without GPU have two devices, so that what GPUs would do can be tried out."""
    import tensorflow as tf

    (cpu,) = tf.config.list_physical_devices("CPU")
    # Too late where TensorFlow is in use already; then there is one replica, and the history says so.
    with suppress(RuntimeError):
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * _HALVES)


@contextmanager
def _watched(cluster: Cluster | None) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if cluster is None or not _lost(cluster, error):
            raise
        others = ", ".join(f"{i} at {address}" for i, address in enumerate(cluster.addresses) if i != cluster.worker)
        raise WorkerLost(
            f"Worker {cluster.worker} of {len(cluster.addresses)} has lost another one ({others}): TensorFlow says "
            f"{type(error).__name__}. Nothing was published. Look into the log of the one that ended first, then start all "
            "again: they go on from the last checkpoint, if there was one."
        ) from error


def _lost(cluster: Cluster | None, error: Exception) -> bool:
    import tensorflow as tf

    alone = cluster is None or len(cluster.addresses) == 1
    return not alone and isinstance(error, tf.errors.OpError) and type(error).__name__ in _LOST
