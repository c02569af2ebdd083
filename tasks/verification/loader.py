"""A fresh process that measures one bundle and ends."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from tasks.children import Child, ChildDied
from tasks.definitions import Definition
from tasks.errors import RoundtripError
from tasks.storage import Manifest
from tasks.verification.elsewhere import Interpreter
from tasks.verification.environment import current_environment
from tasks.verification.measure import Measurement

# What runs in that process; a nursery may have imported it before.
MODULE = "tasks.verification.measuring"


class Loader:
    """One use, one process: whoever measures a second bundle starts a second loader.

    By default the process runs in this environment; `elsewhere` names another.
    """

    def __init__(self, elsewhere: Interpreter | None = None, *, debug: bool = False) -> None:
        self._elsewhere = elsewhere
        self._child = Child(MODULE, python=elsewhere.python if elsewhere else None, debug=debug)

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
            return self._not_loaded(str(death))
        except RoundtripError as error:
            if self._elsewhere is None:
                raise
            return self._not_loaded(str(error))  # nothing that the user named is wrong: other versions build another model
        measured = Measurement.model_validate(answer)
        return measured.model_copy(update={"elsewhere": self._elsewhere.name}) if self._elsewhere else measured

    def _not_loaded(self, why: str) -> Measurement:
        here = current_environment()
        if self._elsewhere is None:
            return Measurement(loads=False, error=why, environment=here)
        there = here.model_copy(update=self._elsewhere.versions)
        return Measurement(loads=False, error=why, environment=there, elsewhere=self._elsewhere.name)

    def end(self) -> None:
        """End the process, used or not."""
        self._child.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.end()
