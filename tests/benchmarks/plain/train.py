"""Plain script 1: train with Keras, store, upload with boto3. Usage: train.py FORMAT HIDDEN ROWS EPOCHS."""

import sys
import tempfile
from pathlib import Path

import boto3
import keras
import numpy as np
import tensorflow as tf

form, hidden, rows, epochs = sys.argv[1], *map(int, sys.argv[2:])
rng = np.random.default_rng(0)
centres = rng.standard_normal((10, 784), dtype=np.float32)
y = rng.integers(0, 10, rows)
x = centres[y] + 6.2 * rng.standard_normal((rows, 784), dtype=np.float32)
held = rows // 5

model = keras.Sequential([keras.Input((784,)), keras.layers.Dense(hidden, activation="relu"), keras.layers.Dense(10)])
model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
model.fit(x[held:], y[held:], validation_data=(x[:held], y[:held]), epochs=epochs, batch_size=32, verbose=0)

folder = Path(tempfile.mkdtemp())
if form == "saved-model":
    tf.saved_model.save(model, folder / "model")
elif form == "weights-h5":
    model.save_weights(folder / "model.weights.h5")
else:
    model.save(folder / "model.h5")
s3 = boto3.client("s3")
for path in folder.rglob("*"):
    if path.is_file():
        s3.upload_file(str(path), "models", f"plain/{form}/{path.relative_to(folder)}")
