"""Prefect's process worker, whose runs of our flows are forked from the nursery that stands beside it."""

from __future__ import annotations

import json
import os
import shlex
import sys
import warnings
from typing import Any

from prefect.workers.process import ProcessJobConfiguration, ProcessWorker

from flows.production.parts import ROOT
from flows.worker_run import RUN_SETTINGS
from tasks import nursery

# Where it is set, Prefect has uv install what a run needs, which no nursery can have imported.
_INSTALLS = "PREFECT_RUNNER_AUTO_INSTALL_DEPENDENCIES"


class NurseryJobConfiguration(ProcessJobConfiguration):
    """A run of one of our flows, in our folder, has a command of ours. All others are Prefect's, in every respect."""

    def prepare_for_flow_run(self, flow_run: Any, deployment: Any = None, *args: Any, **kwargs: Any) -> None:
        """Fill in what a run needs to know."""
        ours = deployment is not None and str(deployment.entrypoint).startswith("flows.")
        here = self.working_dir is not None and self.working_dir.resolve() == ROOT
        if ours and here and self.command is None and nursery.is_wanted() and _INSTALLS not in {*os.environ, *self.env}:
            self.command = shlex.join((sys.executable, "-m", "flows.worker_run"))
            # A command is given the worker's own settings over those of the run.
            settings = {name: value for name, value in self.env.items() if name.startswith("PREFECT_")}
            self.env |= {RUN_SETTINGS: json.dumps(settings)}
        super().prepare_for_flow_run(flow_run, deployment, *args, **kwargs)


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # two of one type in this process: that is what we want

    class NurseryWorker(ProcessWorker):
        """A worker of the type `process`, for any pool of that type."""

        type = "process"
        job_configuration = NurseryJobConfiguration
