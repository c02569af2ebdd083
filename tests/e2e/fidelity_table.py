"""Make a measured table the expected one: `python -m tests.e2e.fidelity_table TABLE.json`, on the pinned TensorFlow."""

from __future__ import annotations

import sys
from pathlib import Path

from tasks.verification.fidelity import Table
from tasks.verification.fidelity.document import table_markdown
from tests.e2e.commands import ROOT

SHOWN = ROOT / "tasks" / "verification" / "fidelity" / "TABLE.md"
EXPECTED = Path(__file__).with_suffix(".json")


def expected() -> Table:
    """The table that the project shows."""
    return Table.model_validate_json(EXPECTED.read_text())


if __name__ == "__main__":
    table = Table.model_validate_json(Path(sys.argv[1]).read_text())
    EXPECTED.write_text(table.model_dump_json(indent=1) + "\n")
    SHOWN.write_text(table_markdown(table))
