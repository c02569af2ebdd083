"""The process in which a returned model is loaded and measured; `Loader` starts it and asks it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks import nursery
from tasks.children import quick_imports, serve
from tasks.errors import InputError

with quick_imports():
    import h5py  # noqa: F401  # Keras imports it when it loads
    import tensorflow as tf

    from tasks.definitions import Definition
    from tasks.safety import is_own
    from tasks.safety.sandbox import Limits, confine, size_of
    from tasks.storage import Manifest
    from tasks.verification.environment import current_environment
    from tasks.verification.measure import measure, measure_one_more_step


def main() -> None:
    """Measure what is asked for, once; the loader's side of the pipe."""
    current_environment()  # asks git, which can't be started any more once a bundle is here

    def handle(request: dict[str, Any], emit: Any) -> None:
        manifest = Manifest.model_validate(request["manifest"])
        definition = Definition.model_validate(request["definition"])
        folder = Path(request["folder"])
        held = _confine(definition, folder, Path(request["scratch"]))
        # Only now: threads of TensorFlow's runtime that are there already would stay as free as they were.
        tf.zeros(1)
        tf.get_logger().setLevel("ERROR")
        tf.config.experimental.enable_op_determinism()
        try:
            measured, model = measure(folder, manifest, definition)
        except InputError as error:
            if "PermissionError" not in str(error):
                raise
            raise type(error)(
                f"{error} (A definition that is brought back runs in a sandbox: no network, no other programs, and only its "
                "own folder and the import path to read. tasks/safety/README.md)"
            ) from error
        measure_one_more_step(folder, manifest, model, measured)
        emit(measured.model_copy(update={"confined": held}).model_dump(mode="json"))

    serve(handle)


def _confine(definition: Definition, folder: Path, scratch: Path) -> list[str]:
    nursery.let_go()
    place = definition.reference.rpartition(":")[0]
    theirs = Path(place).parent if place.endswith(".py") else Path.cwd()
    return confine(Limits.of(size_of(folder)), folder, scratch, None if is_own(definition.reference) else theirs)
