"""What a loop of this process trains: the model alone, or its twin together with all other replicas of a team."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from tasks.data import Dataset
from tasks.definitions import Definition
from tasks.errors import InputError
from tasks.training.checkpoints import Checkpointing
from tasks.training.cluster import Follower, Group, join
from tasks.training.config import TrainingConfig
from tasks.training.identity import Identity
from tasks.training.replicas import Team
from tasks.training.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Seat:
    """What a loop of this worker trains, and how it keeps its state; `team` is None where it trains alone."""

    model: Any
    config: TrainingConfig
    checkpointing: Checkpointing | None
    team: Team | None = None

    @property
    def follower(self) -> Follower | None:
        """This worker, where another one stores the model."""
        return self.team.group.follower if self.team else None


@contextmanager
def seated(
    model: Any,
    definition: Definition | None,
    dataset: Dataset,
    config: TrainingConfig,
    checkpointing: Checkpointing | None,
    compile_as: Callable[[Any], None],
) -> Iterator[Seat]:
    """Train a compiled model alone, or its twin together with all other replicas; in the end the model has what was learned.

    Raises:
        InputError: It can't be trained by several replicas, or there is no cluster.
        WorkerLost: Another worker is gone.
    """
    if config.strategy == "none":
        yield Seat(model, config, checkpointing)
        return
    if definition is None:
        raise InputError(f"The strategy {config.strategy} builds the model on every replica: give its definition.")
    team = Team(join(config.strategy), definition, dataset, config)
    with team.group.watched():
        team.check_job()
        twin = team.twin(model, compile_as)
        yield Seat(twin, *_here(team.group, config, checkpointing), team)
    team.bring_home(twin, model)


class _Reading:
    """A keeper in whose place the chief's writes."""

    def __init__(self, keeper: Any) -> None:
        self._keeper = keeper

    def newest(self, identity: Identity) -> Snapshot | None:
        found: Snapshot | None = self._keeper.newest(identity)
        return found

    def keep(self, identity: Identity, snapshot: Snapshot) -> None:
        del identity, snapshot

    def forget(self, run: str) -> None:
        del run


def _here(
    group: Group, config: TrainingConfig, checkpointing: Checkpointing | None
) -> tuple[TrainingConfig, Checkpointing | None]:
    """How this worker keeps the training's state: all read it, the chief alone writes."""
    if checkpointing is None:
        return config, None
    checkpointing = replace(checkpointing, arithmetic=f"{checkpointing.arithmetic}, {group.replicas} replicas")
    if group.follower is None:
        return config, checkpointing
    never = config.model_copy(update={"checkpoint_seconds": None, "checkpoint_epochs": None})
    return never, replace(checkpointing, keeper=_Reading(checkpointing.keeper))
