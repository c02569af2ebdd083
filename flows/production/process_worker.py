"""Prefect's process worker, whose runs are forked from the nursery that stands beside it."""

from __future__ import annotations

import os
import shlex
import sys
import warnings
from typing import Any

from prefect.workers.process import ProcessJobConfiguration, ProcessWorker

# Where it is set, Prefect has uv install what a run needs, which no nursery can have imported.
_INSTALLS = "PREFECT_RUNNER_AUTO_INSTALL_DEPENDENCIES"


class NurseryJobConfiguration(ProcessJobConfiguration):
    """A run whose command is ours, where nobody gave it one."""

    def prepare_for_flow_run(self, *args: Any, **kwargs: Any) -> None:
        """Fill in what a run needs to know."""
        if self.command is None and _INSTALLS not in {*os.environ, *self.env}:
            self.command = shlex.join((sys.executable, "-m", "flows.worker_run"))
        super().prepare_for_flow_run(*args, **kwargs)


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # two of one type in this process: that is what we want

    class NurseryWorker(ProcessWorker):
        """A worker of the type `process`, for any pool of that type."""

        type = "process"
        job_configuration = NurseryJobConfiguration
