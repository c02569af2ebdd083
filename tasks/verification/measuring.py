"""The process in which a returned model is loaded and measured; `Loader` starts it and asks it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.children import quick_imports, serve

with quick_imports():
    import h5py  # noqa: F401  # inspection reads with it
    import tensorflow as tf

    from tasks.definitions import Definition
    from tasks.storage import Manifest
    from tasks.verification.measure import measure, measure_one_more_step


def main() -> None:
    """Measure what is asked for; the loader's side of the pipe."""
    tf.zeros(1)  # starts the runtime
    tf.get_logger().setLevel("ERROR")
    tf.config.experimental.enable_op_determinism()

    def handle(request: dict[str, Any], emit: Any) -> None:
        manifest = Manifest.model_validate(request["manifest"])
        definition = Definition.model_validate(request["definition"])
        folder = Path(request["folder"])
        measured, model = measure(folder, manifest, definition)
        measure_one_more_step(folder, manifest, model, measured)
        emit(measured.model_dump(mode="json"))

    serve(handle)
