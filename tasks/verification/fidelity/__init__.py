"""What survives: definitions held against formats, each cell trained in one process and measured in another.

`Bench.row` takes one definition through every format and gives a `Cell` for each; a crash in there is a cell's result.
`Table` puts rows together. Every piece of work (`work`: train and save; measure one cell) is a process of its own, forked
from this process' nursery, with limits on its time and memory.
"""

from tasks.verification.fidelity.bench import Bench
from tasks.verification.fidelity.cells import Cell, Limits, Subject, Table

__all__ = ["Bench", "Cell", "Limits", "Subject", "Table"]
