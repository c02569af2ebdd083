"""The process in which a job at a desk runs its scenario flows: the one that trains, and never the one that verifies."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from tasks.children import quick_imports, serve
from tasks.errors import InputError


def _main() -> None:
    with quick_imports():
        import h5py  # noqa: F401  # Keras imports it when it saves
        import tensorflow as tf  # the long part of the start, beside the servers' own
        from prefect.exceptions import ParameterTypeError

        from flows.scenarios import MAIN_JOB, scenario_flow
        from tasks.steps import reporting_to

        for name in MAIN_JOB:
            scenario_flow(name)  # imported now; another one when it is asked for
    tf.get_logger().setLevel("ERROR")

    def handle(request: dict[str, Any], emit: Any) -> None:
        with reporting_to(lambda epoch: emit({"epoch": asdict(epoch)})):
            try:
                version = scenario_flow(request["scenario"])(**request["parameters"])
            except ParameterTypeError as error:
                raise InputError(str(error)) from None
        emit({"published": version.model_dump(mode="json")})

    serve(handle)


if __name__ == "__main__":
    _main()
