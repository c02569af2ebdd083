"""Which parameters are best: every combination of a grid, each trained and published as a trial, one of them chosen.

Ninth room. `parse_grid` reads the axes, `look_ahead` finds out in a process that may import TensorFlow what would go wrong,
before anything trains; `Tries` has each combination trained in a process of its own; `best_of` chooses. What happens to the
others, whoever dies: `tasks.storage.trials`.
"""

from tasks.sweeps.goal import Goal, Target, best_of
from tasks.sweeps.grid import Combination, Grid, check_size, parse_grid
from tasks.sweeps.records import Ahead, ModelChoice, SweepPlan, Swept, Tried, shortfall
from tasks.sweeps.trying import Tries

__all__ = [
    "Ahead",
    "Combination",
    "Goal",
    "Grid",
    "ModelChoice",
    "SweepPlan",
    "Swept",
    "Target",
    "Tried",
    "Tries",
    "best_of",
    "check_size",
    "parse_grid",
    "shortfall",
]
