"""What survived the way, promise by promise, as far as the returned model can tell.

A promise that is not in the answer says nothing: the model has nothing of the kind (no Dropout, no vocabulary: no `state`),
or the format does not let it be seen.
"""

from __future__ import annotations

import mmap
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.serialization import compare, format_named, keras_model, needs_definition, tensor_digests
from tasks.storage import Manifest

if TYPE_CHECKING:
    from tasks.verification.measure import Measurement


def survived(model: Any, manifest: Manifest, measured: Measurement) -> dict[str, bool]:
    """Hold a returned model against its manifest; weights and outputs were compared before, in `measured`."""
    format_, carried = format_named(manifest.format), manifest.carried
    found = {
        # Rebuilt by its own source is not survived.
        "architecture": not needs_definition(manifest.format, carried),
        **({} if measured.weights is None else {"weights": not measured.weights}),
        "history": bool(carried.curves) and getattr(getattr(model, "history", None), "curves", None) == carried.curves,
        "signature": _signature_kept(model, manifest),
        "versions": bool(manifest.environment.tensorflow and manifest.environment.keras),
        "outputs": bool(measured.outputs_identical),
    }
    if format_.trainable:
        return found | _of_a_keras_model(model, manifest)
    # A graph can't be asked for them. Statistics are among its weights, vocabularies and number formats act in its outputs.
    allowed = format_.output_tolerance * max(1.0, measured.max_abs_output or 0.0)
    near = measured.max_abs_diff is not None and measured.max_abs_diff <= allowed
    same = not measured.weights and (bool(measured.outputs_identical) or near)
    found |= {"state": same} if carried.state else {}
    found |= {"policy": same} if carried.policies else {}
    return found | {"optimizer": False, "compile": False}


def versions_named(folder: Path, manifest: Manifest) -> bool:
    """Whether some file of a format says by which version of Keras or TensorFlow it was written."""
    texts = manifest.environment.keras.encode(), manifest.environment.tensorflow.encode()
    return any(_mentions(path, texts) for path in sorted(folder.rglob("*")) if path.is_file())


def _of_a_keras_model(model: Any, manifest: Manifest) -> dict[str, bool]:
    carried = manifest.carried
    found = {"compile": carried.compile is not None and keras_model.compile_config(model) == carried.compile}
    if carried.state:
        found["state"] = not compare(carried.state, tensor_digests(keras_model.state(model)))
    if carried.policies:
        found["policy"] = keras_model.policies(model) == carried.policies
    if carried.optimizer:
        found["optimizer"] = not compare(carried.optimizer, tensor_digests(keras_model.optimizer_state(model)))
    return found


def _mentions(path: Path, texts: tuple[bytes, ...]) -> bool:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            # The weights are the large member, and another library's.
            members = [archive.read(name) for name in archive.namelist() if name.endswith(".json")]
        return any(text in member for text in texts for member in members)
    if path.stat().st_size == 0:
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return any(content.find(text) >= 0 for text in texts)


def _signature_kept(model: Any, manifest: Manifest) -> bool:
    """Whether the model names and shapes its inputs as the probe had them."""
    stored = {(s.name, s.shape) for s in manifest.carried.inputs}
    if hasattr(model, "signatures"):
        specs = model.signatures["serving_default"].structured_input_signature[1]
        return {(name, tuple(spec.shape)) for name, spec in specs.items()} == stored
    try:
        inputs = model.inputs or []
    except AttributeError:  # a subclassed model that was not called symbolically has none
        return False
    return {(i.name, tuple(i.shape)) for i in inputs} == stored
