"""What a process that runs flows says of Prefect's settings; for `test_engine.py`."""

from __future__ import annotations

import logging
import os


def main() -> None:
    from prefect import task
    from prefect.settings import get_current_settings

    import flows.engine  # noqa: F401  # reads them

    retries = task(lambda: None, name="some").retries
    level = logging.getLevelName(logging.getLogger("prefect").level)
    print(os.getppid(), get_current_settings().api.url, level, retries)
