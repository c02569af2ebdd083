"""Plain script 2: download with boto3, load, predict. Usage: load.py FORMAT HIDDEN."""

import sys
import tempfile
from pathlib import Path

import boto3
import keras
import numpy as np
import tensorflow as tf

form, hidden = sys.argv[1], int(sys.argv[2])
folder = Path(tempfile.mkdtemp())
s3 = boto3.client("s3")
for item in s3.list_objects_v2(Bucket="models", Prefix=f"plain/{form}/")["Contents"]:
    target = folder / item["Key"].removeprefix(f"plain/{form}/")
    target.parent.mkdir(parents=True, exist_ok=True)
    s3.download_file("models", item["Key"], str(target))

x = np.random.default_rng(1).standard_normal((256, 784), dtype=np.float32)
if form == "saved-model":
    served = tf.saved_model.load(folder / "model").signatures["serving_default"]
    outputs = np.concatenate([served(tf.constant(x[i : i + 32]))["output_0"].numpy() for i in range(0, 256, 32)])
elif form == "weights-h5":
    model = keras.Sequential([keras.Input((784,)), keras.layers.Dense(hidden, activation="relu"), keras.layers.Dense(10)])
    model.load_weights(folder / "model.weights.h5")
    outputs = model.predict(x, verbose=0)
else:
    model = keras.saving.load_model(folder / "model.h5", compile=False)
    outputs = model.predict(x, verbose=0)
assert outputs.shape == (256, 10)
