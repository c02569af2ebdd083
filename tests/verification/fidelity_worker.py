"""Stands in for `tasks.verification.fidelity.work`: plays what a builder's name says, without TensorFlow."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from tasks.children import serve
from tasks.serialization import PROMISES
from tasks.verification.fidelity.tasks import Goal, Measured, MeasureTask, TrainTask
from tests import bundles

ALL = dict.fromkeys(PROMISES, True)


def main() -> None:
    serve(lambda request, emit: {"train": train, "measure": measure}[request["do"]](request["task"], emit))


def train(request: dict[str, Any], emit: Any) -> None:
    task = TrainTask.model_validate(request)
    play = task.subject.builder
    attempts = Path(task.folder, "attempts")
    attempts.write_text(attempts.read_text() + "x" if attempts.exists() else "x")
    if play == "dies-training":
        die()
    emit({"trained": [attempts.read_text() if play == "never-the-same" else "same"]})
    for name in task.formats:
        emit({"saving": name})
        if play in {"dies-saving", "never-the-same"} and name == "weights-h5":
            die()
        if play == "refuses" and name == "weights-h5":
            emit({"refused": name, "why": "it can't be\x1b[1m saved\nso"})
            continue
        if play == "hangs":
            time.sleep(600)
        emit({"saved": name, "manifest": bundles.bare_manifest(name).model_dump(mode="json")})
        if play == "disturbs" and name == "weights-h5":
            emit({"disturbed": name, "lines": ["weight a: other values"]})
            return
    if play == "dies-going-on":
        die()
    weights = dict.fromkeys(task.compared, ())
    emit({"goal": Goal(curves={}, optimizer=(), weights=weights).model_dump(mode="json")})


def measure(request: dict[str, Any], emit: Any) -> None:
    task = MeasureTask.model_validate(request)
    play, name = task.subject.builder, task.manifest.format
    alone = Measured(survived=ALL | {"optimizer": False}, passed=True, lines=["can't go on"])
    emit({"alone": alone.model_dump(mode="json")})
    if play == "dies-returning" and name == "weights-h5":
        die()
    known = ALL if task.goal else {p: v for p, v in ALL.items() if p != "resume"}
    emit({"returned": Measured(survived=known, passed=True, lines=[]).model_dump(mode="json")})
    if play == "dies-resuming" and name == "weights-h5":
        die()
    if play == "loses-history":
        lost = Measured(survived=ALL | {"history": False}, passed=True, lines=[])
        emit({"returned": lost.model_dump(mode="json")})


def die() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)
