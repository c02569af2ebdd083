"""Every advisory, one by one, and what no advisory covers: found before anything that could be harmed is there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tasks.safety import inspect_path
from tests.safety import hostile
from tests.safety.hostile import SAMPLES, Sample


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES.keys())
def test_it_is_found(sample: Sample, tmp_path: Path) -> None:
    path = sample.build(tmp_path)
    assert sample.kind in {f.kind for f in inspect_path(path).refused}


@pytest.mark.parametrize(
    "build",
    [
        lambda folder: hostile.archive(folder / "model.keras", hostile.sequential(hostile.dense())),
        lambda folder: hostile.archive(folder / "model.keras", hostile.sequential(hostile.dense()), packed=True),
        lambda folder: hostile.h5(folder / "model.h5", hostile.sequential(hostile.dense())),
        lambda folder: hostile.saved_model(folder, [hostile.node("x", "NoOp"), hostile.text_constant("c", "/a text")]),
        lambda folder: hostile.onnx(folder / "model.onnx", hostile.proto(1, hostile.proto(4, "Relu"))),
    ],
)
def test_there_is_nothing_in_what_the_samples_are_made_of(build: Any, tmp_path: Path) -> None:
    assert inspect_path(build(tmp_path)).findings == ()


def test_nothing_that_a_model_could_harm_is_imported_to_find_it(tmp_path: Path) -> None:
    paths = []
    for number, sample in enumerate(SAMPLES.values()):
        folder = tmp_path / str(number)
        folder.mkdir()
        paths.append(str(sample.build(folder)))
    code = (
        "import json, sys\nfrom pathlib import Path\nfrom tasks.safety import inspect_path\n"
        "refused = [bool(inspect_path(Path(p)).refused) for p in json.load(sys.stdin)]\n"
        "print(json.dumps([refused, sorted({'tensorflow', 'keras', 'h5py', 'google.protobuf'} & set(sys.modules))]))"
    )
    command = [sys.executable, "-c", code]

    done = subprocess.run(command, input=json.dumps(paths), capture_output=True, text=True, check=True)

    refused, imported = json.loads(done.stdout)
    assert imported == []
    assert all(refused)
