"""A version's folder is read by others, with no line of ours."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from tasks.serialization import FORMATS
from tests import bundles, samples

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

DATA = samples.classes()

# What each format's users write; `model` is the version's folder `model/`, `x` a batch.
READERS = {
    "saved-model": "tf.saved_model.load(model).signatures['serving_default'](x=tf.constant(x))['output'].numpy()",
    "full-h5": "keras.models.load_model(model + '/model.h5', compile=False).predict(x, verbose=0)",
    "keras-archive": "keras.models.load_model(model + '/model.keras').predict(x, verbose=0)",
    "serving-export": "keras.layers.TFSMLayer(model + '/1', call_endpoint='serve')(x).numpy()",
    "weights-h5": "filled(lambda m: m.load_weights(model + '/model.weights.h5')).predict(x, verbose=0)",
    "weights-sharded": "filled(lambda m: m.load_weights(model + '/model.weights.json')).predict(x, verbose=0)",
    "checkpoint": "filled(lambda m: tf.train.Checkpoint(model=m).restore(tf.train.latest_checkpoint(model))"
    ".expect_partial()).predict(x, verbose=0)",
    "onnx": "onnxruntime.InferenceSession(model + '/model.onnx').run(['output'], {'x': x})[0]",
    "litert": "Interpreter(model + '/model.tflite').get_signature_runner()(x=x)['output_0']",
}

PROGRAM = """
import json, sys
import keras, numpy as np, onnxruntime, tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

def filled(load):
    inputs = keras.Input((8,), name="x")
    hidden = keras.layers.Dense(8, activation="relu")(inputs)
    m = keras.Model(inputs, keras.layers.Dense(3)(hidden))
    load(m)
    return m

found = {}
for name, line in json.loads(sys.argv[1]).items():
    model, probe = f"{name}/model", np.load(f"{name}/probe.npz")
    x = probe["x"]
    found[name] = float(np.abs(eval(line) - probe["y"]).max())
ours = sorted(m for m in sys.modules if m.split(".")[0] in {"tasks", "flows", "prefect", "boto3"})
print(json.dumps({"differences": found, "ours": ours}))
"""


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model in every format: the folder of a version is named as its format."""
    folder = tmp_path_factory.mktemp("versions")
    trained, definition = samples.trained("dense", DATA)
    for name in FORMATS:
        bundles.written(trained, definition, DATA, name, folder / name)
    return folder


def run(folder: Path, *command: str) -> str:
    """Run a program that knows nothing of this project; what it printed."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"COLUMNS": "200"}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout


def test_every_format_is_read_by_its_own_tools(versions: Path) -> None:
    assert READERS.keys() == FORMATS.keys()

    found = json.loads(run(versions, sys.executable, "-c", PROGRAM, json.dumps(READERS)))

    assert found["ours"] == []
    assert {name for name, difference in found["differences"].items() if difference > 1e-5} == set()


@pytest.mark.parametrize(("name", "place"), [("saved-model", "model"), ("serving-export", "model/1")])
def test_saved_model_cli_shows_and_runs_it(name: str, place: str, versions: Path) -> None:
    cli = str(Path(sys.executable).with_name("saved_model_cli"))
    signature = ["--dir", f"{name}/{place}", "--tag_set", "serve", "--signature_def", "serving_default"]

    shown = run(versions, cli, "show", *signature)
    printed = run(versions, cli, "run", *signature, "--inputs", f"x={name}/probe.npz[x]")

    assert re.search(r"inputs\['x'\] tensor_info:\s+dtype: DT_FLOAT\s+shape: \(-1, 8\)", shown)
    numbers = np.array([float(n) for n in re.findall(r"-?\d+\.\d*(?:e-?\d+)?", printed[printed.index("[") :])])
    np.testing.assert_allclose(numbers[:3], np.load(versions / name / "probe.npz")["y"][0], atol=1e-5)


def test_mlflow_takes_a_version_over_in_one_line(versions: Path, tmp_path: Path) -> None:
    # In an environment of its own: its flavour for TensorFlow needs pandas, which Keras imports wherever it is.
    program = """
import sys
import keras, mlflow, mlflow.tensorflow, numpy as np
mlflow.tensorflow.save_model(keras.models.load_model("keras-archive/model/model.keras"), sys.argv[1])
probe = np.load("keras-archive/probe.npz")
np.testing.assert_array_equal(mlflow.pyfunc.load_model(sys.argv[1]).predict(probe["x"]), probe["y"])
"""
    pins = [f"{name}=={version(name)}" for name in ("tensorflow", "keras", "numpy")]
    packages = [*pins, "mlflow-skinny==3.17.2", "pandas==3.1.1"]
    environment = ["uv", "run", "--isolated", "--no-project", "--python", sys.executable]
    run(versions, *environment, *(f"--with={name}" for name in packages), "python", "-c", program, str(tmp_path / "mlflow"))
