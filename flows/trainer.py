"""The process in which a job at a desk or a sweep runs scenario flows: one that trains, and never one that verifies."""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

from tasks.children import quick_imports, serve
from tasks.errors import InputError

with quick_imports():
    import h5py  # noqa: F401  # Keras imports it when it saves
    import tensorflow as tf
    from prefect import tags
    from prefect.exceptions import ParameterTypeError
    from prefect.utilities.callables import get_call_parameters

    from flows.engine import at_desk, one_client
    from flows.scenarios import DISTRIBUTED, scenario_flow
    from tasks.steps import as_trial, open_early, reporting_to
    from tasks.storage.transfer import Snapshot
    from tasks.storage.trials import Trial
    from tasks.sweeps.ahead import look_ahead
    from tasks.training import Epoch, Follower


def main() -> None:
    """Run the scenarios that are asked for; the trainer's side of the pipe."""
    if not os.environ.get(DISTRIBUTED):  # its devices are chosen by the flow then
        tf.zeros(1)  # starts the runtime, while the servers still start
    tf.get_logger().setLevel("ERROR")
    # The first flow waits for Prefect's server meanwhile.
    threading.Thread(target=open_early, daemon=True).start()

    def handle(request: dict[str, Any], emit: Any) -> None:
        def tell(news: Any) -> None:
            if isinstance(news, str):
                emit({"note": news})
            elif isinstance(news, Epoch):
                emit({"epoch": asdict(news)})
            elif isinstance(news, Follower):
                emit({"follower": asdict(news)})
            elif isinstance(news, Snapshot):
                emit({"transfer": asdict(news)})
            else:
                emit({"published": news.model_dump(mode="json")})

        with reporting_to(tell), _trial_of(request):
            flow, parameters = at_desk(scenario_flow(request["scenario"])), request["parameters"]
            try:
                if "grid" in request:
                    # As the flow would have them, with its own defaults.
                    given = flow.validate_parameters(get_call_parameters(flow.fn, (), parameters))
                    wanted = {name: given[name] for name in ("data", "model", "training")}
                    ahead = look_ahead(request["grid"], request["scenario"], **wanted)
                    emit({"ahead": ahead.model_dump(mode="json")})
                else:
                    flow(**parameters)
            except ParameterTypeError as error:
                raise InputError(str(error)) from None

    with one_client():
        serve(handle)


def _trial_of(request: dict[str, Any]) -> ExitStack:
    """What a combination of a sweep has around it; nothing for any other run."""
    around = ExitStack()
    if "trial" in request:
        trial = Trial.model_validate(request["trial"])
        around.enter_context(as_trial(trial))
        # By the first tag an automation knows whose runs it watches over; the other one leads to all of the sweep.
        around.enter_context(tags("roundtrip", f"sweep:{trial.sweep}"))
    return around
