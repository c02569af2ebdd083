"""`python -m tests.faults`: do all faults and print the table of outcomes; `--last` prints that of the last run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.faults.conftest import CACHED
from tests.faults.tally import from_json

if __name__ == "__main__":
    folder = Path(__file__).parent
    if sys.argv[1:] == ["--last"]:
        print(from_json(json.loads((folder.parents[1] / ".pytest_cache" / "v" / CACHED).read_text())).table())
    else:
        sys.exit(pytest.main([str(folder), "-q", "-n", "0", *sys.argv[1:]]))
