"""The process in which a job at a desk runs its scenario flows: the one that trains, and never the one that verifies."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

from tasks.children import quick_imports, serve
from tasks.errors import InputError

with quick_imports():
    import h5py  # noqa: F401  # Keras imports it when it saves
    import tensorflow as tf
    from prefect.context import SyncClientContext
    from prefect.exceptions import ParameterTypeError

    from flows.scenarios import DISTRIBUTED, MAIN_JOB, scenario_flow
    from tasks.steps import open_early, reporting_to
    from tasks.storage.transfer import Snapshot
    from tasks.training import Epoch, Follower

    for _name in MAIN_JOB:
        scenario_flow(_name)  # imported now; another one when it is asked for


def main() -> None:
    """Run the scenarios that are asked for; the trainer's side of the pipe."""
    if not os.environ.get(DISTRIBUTED):  # its devices are chosen by the flow then
        tf.zeros(1)  # starts the runtime, while the servers still start
    tf.get_logger().setLevel("ERROR")
    open_early()

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

        with reporting_to(tell):
            try:
                scenario_flow(request["scenario"])(**request["parameters"])
            except ParameterTypeError as error:
                raise InputError(str(error)) from None

    with SyncClientContext.get_or_create():  # one client for all flows, made while the server still starts
        serve(handle)
