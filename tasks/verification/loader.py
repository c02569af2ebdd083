"""A fresh, confined process that measures one bundle and ends."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import ValidationError

from tasks.children import Child, ChildDied
from tasks.definitions import Definition
from tasks.errors import RoundtripError
from tasks.safety.sandbox import Limits, size_of
from tasks.storage import Manifest
from tasks.verification.elsewhere import Interpreter
from tasks.verification.environment import current_environment
from tasks.verification.measure import Measurement

# What runs in that process; a nursery may have imported it before.
MODULE = "tasks.verification.measuring"


class Loader:
    """A fresh process for each measurement: the first is warm already, whoever measures a second bundle waits for the next.

    It is confined before it reads anything of the bundle (`tasks.safety.sandbox`), and does not outlive its deadline. By
    default it runs in this environment; `elsewhere` names another.
    """

    def __init__(self, elsewhere: Interpreter | None = None, *, debug: bool = False) -> None:
        self._elsewhere, self._debug = elsewhere, debug
        self._child, self._used = self._start(), False

    def _start(self) -> Child:
        return Child(MODULE, python=self._elsewhere.python if self._elsewhere else None, debug=self._debug)

    def measure(self, folder: Path, manifest: Manifest, definition: Definition) -> Measurement:
        """Have the process measure a bundle.

        Returns:
            What it measured. A crash in there (out of memory, a fault in native code) is a measurement too, and so is a load
            that never ends: it did not load.

        Raises:
            MismatchError: The definition builds another model.
        """
        if self._used:
            self._child.end()
            self._child = self._start()
        self._used = True
        limits = Limits.of(size_of(folder))
        late = threading.Event()

        def stop() -> None:
            late.set()
            self._child.kill()

        with tempfile.TemporaryDirectory(prefix="roundtrip-load-", ignore_cleanup_errors=True) as scratch:
            request = {
                "folder": str(folder),
                "scratch": scratch,
                "manifest": manifest.model_dump(mode="json"),
                "definition": definition.model_dump(mode="json"),
            }
            deadline = threading.Timer(limits.seconds, stop)
            deadline.start()
            try:
                measured = Measurement.model_validate(self._child.ask(request))
            except ValidationError:
                return self._not_loaded("The process answered with no measurement.")
            except ChildDied as death:
                late_by = f"It was still loading after {limits.seconds:.0f} s and was ended."
                return self._not_loaded(late_by if late.is_set() else str(death))
            except RoundtripError as error:
                if self._elsewhere is None:
                    raise
                return self._not_loaded(
                    str(error)
                )  # nothing that the user named is wrong: other versions build another model
            finally:
                deadline.cancel()
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
