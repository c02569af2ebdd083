"""What a file is, by its name and by its content, and who looks into it. One line a type of file."""

from __future__ import annotations

import re

from tasks.safety import archive, arrays, checkpoint, hdf5, hdf5_file, keras_config, litert, onnx, plain, saved_model
from tasks.safety.files import File, Inspector

INSPECTORS: dict[str, Inspector] = {
    "zip": archive.inspect,
    "keras config": keras_config.inspect,
    "hdf5": hdf5.inspect,
    "npy": arrays.inspect,
    "saved model": saved_model.inspect,
    "keras metadata": saved_model.inspect_keras_metadata,
    "onnx": onnx.inspect,
    "litert": litert.inspect,
    "checkpoint index": checkpoint.inspect,
    "checkpoint state": checkpoint.inspect_state,
    "shards": checkpoint.inspect_shards,
    "json": plain.inspect_json,
    "html": plain.inspect_html,
    "text": plain.inspect,
    "tensors": plain.inspect_nothing,
}

_NAMES = {
    "saved_model.pb": "saved model",
    "keras_metadata.pb": "keras metadata",
    "checkpoint": "checkpoint state",
    "model.weights.json": "shards",
    "fingerprint.pb": "text",
    "saved_model_debug_info.pb": "text",
}
_ENDINGS = {
    ".keras": "zip", ".npz": "zip", ".h5": "hdf5", ".hdf5": "hdf5", ".npy": "npy", ".onnx": "onnx", ".tflite": "litert",
    ".index": "checkpoint index", ".json": "json", ".sig": "json", ".html": "html", ".txt": "text", ".md": "text",
    ".csv": "text", ".vocab": "text",
}  # fmt: skip
_TENSORS = re.compile(r".+\.data-\d{5}-of-\d{5}")
_MAGIC = {archive.MAGIC: "zip", archive.EMPTY: "zip", hdf5_file.MAGIC: "hdf5", arrays.MAGIC: "npy"}
# TensorFlow would read these, and nothing here does.
UNREAD = {"saved_model.pbtxt", "saved_model.cpb"}


def by_name(file: File) -> str | None:
    """What a file is called."""
    name = file.short_name
    if name in _NAMES:
        return _NAMES[name]
    if _TENSORS.fullmatch(name):
        return "tensors"
    return next((kind for ending, kind in _ENDINGS.items() if name.endswith(ending)), None)


def by_content(file: File) -> str | None:
    """What a file begins (or ends) as, for the types that can be told by it."""
    head = bytes(file.data[:8])
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return kind
    if head[4:8] == litert.MAGIC:
        return "litert"
    if bytes(file.data[-8:]) == checkpoint.MAGIC:
        return "checkpoint index"
    return None
