"""A model of a user's whose weights can't be looked at: whoever saves or loads them dies."""

from __future__ import annotations

import os
import signal
from typing import Any

import keras


class Deadly(keras.layers.Dense):  # type: ignore[misc]  # keras ships no types
    def save_own_variables(self, store: Any) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)


def deadly() -> keras.Model:
    return keras.Sequential([keras.Input((8,)), Deadly(3)])
