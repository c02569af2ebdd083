"""The table 'trained under A, returned under B' for the terminal."""

from __future__ import annotations

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from tasks.verification.matrix import Matrix


def table(matrix: Matrix) -> Group:
    """One row for each environment, and below the table why some did not bring the model back."""
    was = matrix.trained
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("Python", "TensorFlow", "Keras", "NumPy"):
        grid.add_column(name, no_wrap=True)
    for name in ("loads", "same\nweights", "same\noutputs", "output\ndiffers"):
        grid.add_column(name, justify="right", no_wrap=True)
    for row in matrix.rows:
        difference = "-" if row.max_abs_diff is None else f"{row.max_abs_diff:.2g}"
        words = [_yes(v) for v in (row.loads, row.weights_equal, row.outputs_equal)]
        versions = (row.python, row.tensorflow, row.keras, row.numpy)
        grid.add_row(*(v or "-" for v in versions), *words, difference)
    trained = f"trained under Python {was.python}, TensorFlow {was.tensorflow}, Keras {was.keras}, NumPy {was.numpy}"
    head = Text.assemble((f"{matrix.model}@{matrix.version}", "bold"), f"  {matrix.format}\n{trained}; returned under")
    reasons = [Text.assemble((row.environment, "bold"), f": {row.why}") for row in matrix.rows if row.why]
    return Group(head, grid, *reasons)


def _yes(value: bool | None) -> Text:
    return {True: Text("yes", style="green"), False: Text("no", style="bold red"), None: Text("-", style="dim")}[value]
