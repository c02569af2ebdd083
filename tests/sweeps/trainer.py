"""Stands in for `flows.trainer`: plays what an argument of the model says, without TensorFlow."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

from tasks.children import serve
from tasks.errors import InputError
from tasks.storage import VersionRef, layout


def main() -> None:
    serve(play)


def play(request: dict[str, Any], emit: Any) -> None:
    part = request["parameters"]["model"]["arguments"].get("play")
    Path(tempfile.gettempdir(), "rubbish").write_text("left behind")
    if "grid" in request:
        emit({"ahead": {"combinations": [], "metrics": ["val_loss"]}})
        return
    if part == "refuses":
        raise InputError("no such thing\nas that")
    if part == "hangs":
        time.sleep(600)
    if part == "dies":
        os.kill(os.getpid(), signal.SIGSEGV)
    version = layout.new_version()
    metrics = {"val_loss": request["parameters"]["training"]["learning_rate"]}
    ref = VersionRef(model="m", version=version, uri="s3://", bytes=1, format="weights-h5", metrics=metrics)
    emit({"epoch": {}})
    emit({"published": ref.model_dump(mode="json")})
    if part == "dies-late":
        os.kill(os.getpid(), signal.SIGSEGV)
