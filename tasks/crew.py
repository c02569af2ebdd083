"""A crew: the children that threads of this process work with, so that one call ends them all.

A task runner of Prefect's waits for its threads, and they for their processes. Ctrl-C reaches the main thread alone, which
can then stop the crew.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tasks.children import Child, ChildDied
from tasks.errors import RoundtripError


class Stopped(RoundtripError):
    """The crew was stopped while it worked."""

    kind = "stopped"


class Crew:
    """Children that run one module, each at work for one thread."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._lock = threading.Lock()
        self._working: set[Child] = set()
        self._stopped = False

    @contextmanager
    def child(self, env: Mapping[str, str] | None = None) -> Iterator[Child]:
        """A fresh child, ended with the block.

        Args:
            env: Variables that it has beside this process' own.

        Raises:
            Stopped: Somebody called `stop`, before or meanwhile.
        """
        with self._lock:  # requests to the nursery must not mix
            if self._stopped:
                raise Stopped("It was stopped.")
            child = Child(self._module, env=env)
            _ = child.pid  # it is there now, and can be ended from any thread
            self._working.add(child)
        try:
            yield child
        except ChildDied as death:
            if self._stopped:
                raise Stopped("It was stopped.") from death
            raise
        finally:
            with self._lock:
                self._working.discard(child)
            child.end()

    def stop(self) -> None:
        """End every child, for good; who waits for one, or asks for another, is told so by `Stopped`."""
        with self._lock:
            self._stopped = True
            for child in self._working:
                child.kill()
