"""Make a measured table the expected one: `python -m tests.e2e.fidelity_table TABLE.json`, on the pinned TensorFlow."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from tasks.verification.fidelity import Table
from tasks.verification.fidelity.document import table_markdown
from tests.e2e.commands import ROOT

SHOWN = ROOT / "tasks" / "verification" / "fidelity" / "TABLE.md"
README = ROOT / "README.md"
_BETWEEN = re.compile(r"(<!-- fidelity: [^\n]*-->)\n.*?\n(<!-- /fidelity -->)", re.DOTALL)
EXPECTED = Path(__file__).with_suffix(".json")


def expected() -> Table:
    """The table that the project shows."""
    return Table.model_validate_json(EXPECTED.read_text())


def summary(table: Table) -> str:
    """The part of the table that stands in the README: all but the reasons."""
    return table_markdown(table).partition("What is not kept, and why")[0].rstrip()


if __name__ == "__main__":
    table = Table.model_validate_json(Path(sys.argv[1]).read_text())
    EXPECTED.write_text(table.model_dump_json(indent=1) + "\n")
    SHOWN.write_text(table_markdown(table))
    README.write_text(_BETWEEN.sub(lambda marks: f"{marks[1]}\n{summary(table)}\n{marks[2]}", README.read_text()))
