"""The flow `sweep`: train every combination of some parameters, and let the best become a version like any other.

Each combination is a run of its scenario's flow in a process of its own, and a trial in the store. The best by a metric is
told to the world as published, so that `return` proves it; the others are never `latest`, and `gc` removes them in time.
Combinations are fanned out by the flow's task runner; they hand back small records, so that any of Prefect's will do.
"""

from datetime import timedelta
from typing import Annotated, Any, Literal

from prefect import flow, unmapped
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from tasks.data import DataConfig
from tasks.settings import StoreConfig
from tasks.steps import accept_sweep, begin_sweep, keep_choice, look_ahead, summed_up, tries_of, try_combination
from tasks.storage.upkeep.retention import Age
from tasks.sweeps import Goal, ModelChoice, Swept
from tasks.training import TrainingConfig

_Scenario = Literal[
    "saved-model",
    "weights-h5",
    "full-h5",
    "keras-archive",
    "serving-export",
    "weights-sharded",
    "checkpoint",
    "onnx",
    "litert",
]


# Two at a time: what one of them waits for, its start and its transfers, the other one's training fills.
@flow(name="sweep", flow_run_name="sweep {name}", task_runner=ThreadPoolTaskRunner(max_workers=2))  # type: ignore[arg-type]
def sweep(
    grid: dict[str, list[Any]],
    scenario: _Scenario = "weights-h5",
    goal: Goal = Goal(),
    data: DataConfig = DataConfig(),
    model: ModelChoice = ModelChoice(),
    training: TrainingConfig = TrainingConfig(),
    name: str = "sweep",
    store: StoreConfig = StoreConfig(),
    rehearsal: bool = True,
    keep: Age = timedelta(days=7),
    at_most: Annotated[int, Field(ge=1)] = 64,
) -> Swept:
    """Try every combination and choose the best.

    Args:
        grid: Values to try, for each parameter of the training and argument of the model:
            {"learning_rate": [0.001, 0.01], "hidden": [32, 64]}.
        scenario: How each is trained and stored.
        goal: By what the best is chosen.
        data: What they learn from.
        model: What they are, where the grid says nothing.
        training: How they learn, where the grid says nothing.
        name: The model's name in the store.
        store: Where they are published.
        rehearsal: Whether each must have come back in a fresh process before it is published.
        keep: How long those that are not chosen stay before `gc` removes them; longer than the sweep takes.
        at_most: Refuse a grid with more combinations.

    Returns:
        What came of each combination, and which one was chosen. Where none could be, the run fails.
    """
    plan = begin_sweep(
        at_most, scenario=scenario, grid=grid, data=data, builds=model, training=training, model=name, store=store,
        rehearsal=rehearsal, keep_seconds=keep.total_seconds(),
    )  # fmt: skip
    combinations, target = look_ahead(plan, goal)
    runs = tries_of(combinations, try_combination.map(combinations, unmapped(plan)))
    return accept_sweep(keep_choice(summed_up(plan, target, runs)))
