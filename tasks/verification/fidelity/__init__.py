"""What survives: definitions held against formats, each cell trained in one process and measured in another.

`Bench.row` takes one definition through every format and gives a `Cell` for each; a crash in there is a cell's result.
`Table` puts rows together. The processes: a `nursery` has imported TensorFlow and trained nothing; every piece of work is a
fork of it (`work`), with limits on its time and memory.
"""

from tasks.verification.fidelity.bench import Bench, bench_of_this_thread, end_benches
from tasks.verification.fidelity.cells import Cell, Limits, Subject, Table

__all__ = ["Bench", "Cell", "Limits", "Subject", "Table", "bench_of_this_thread", "end_benches"]
