"""A fresh process that measures one bundle and ends. Started early, it imports TensorFlow while others still work."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tasks.children import Child, ChildDied, quick_imports, serve
from tasks.definitions import Definition
from tasks.storage import Manifest
from tasks.verification.environment import current_environment
from tasks.verification.measure import Measurement


class Loader:
    """One use, one process: whoever measures a second bundle starts a second loader."""

    def __init__(self, *, debug: bool = False) -> None:
        self._child = Child("tasks.verification.loader", debug=debug)

    def measure(self, folder: Path, manifest: Manifest, definition: Definition) -> Measurement:
        """Have the process measure a bundle.

        Returns:
            What it measured. A crash in there (out of memory, a fault in native code) is a measurement too: it did not load.

        Raises:
            MismatchError: The definition builds another model.
        """
        request = {
            "folder": str(folder),
            "manifest": manifest.model_dump(mode="json"),
            "definition": definition.model_dump(mode="json"),
        }
        try:
            answer = self._child.ask(request)
        except ChildDied as death:
            return Measurement(loads=False, error=str(death), environment=current_environment())
        return Measurement.model_validate(answer)

    def end(self) -> None:
        """End the process, used or not."""
        self._child.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.end()


def _main() -> None:
    # Before the first request: the imports are most of what a fresh process costs.
    with quick_imports():
        import h5py  # noqa: F401  # inspection reads with it
        import tensorflow as tf

        from tasks.verification.measure import measure, measure_one_more_step

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


if __name__ == "__main__":
    _main()
