"""What inspection finds before anything is loaded: each danger by itself, and nothing in a bundle of ours."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tensorflow as tf

from tasks.definitions.build import MLP, SUBCLASSED
from tasks.errors import UnsafeError
from tasks.safety import Finding, Inspection, inspect_bundle, refuse_dangerous
from tasks.serialization import FORMATS
from tasks.storage import Manifest
from tests import bundles, samples

DATA = samples.classes()


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Manifest]]:
    """A bundle in each format, of the built-in definitions."""
    subclassed, mlp = samples.trained(SUBCLASSED, DATA), samples.trained(MLP, DATA)
    made = {}
    for format_name in FORMATS:
        trained = subclassed if format_name == "saved-model" else mlp
        folder = tmp_path_factory.mktemp(format_name)
        made[format_name] = folder, bundles.written(*trained, DATA, format_name, folder)
    return made


class Copy:
    """A bundle to tamper with, whose manifest is in league: it declares whatever is there."""

    def __init__(self, original: tuple[Path, Manifest], folder: Path) -> None:
        self.folder = folder / "bundle"
        self.original = original[1]
        shutil.copytree(original[0], self.folder)

    @property
    def h5(self) -> h5py.File:
        return h5py.File(next((self.folder / "model").glob("*.h5")), "a")

    def manifest(self) -> Manifest:
        return self.original.model_copy(update={"files": bundles.entries(self.folder)})

    def findings(self) -> list[Finding]:
        return found(self.folder, self.manifest())

    def dangers(self) -> set[str]:
        return {f.kind for f in self.findings() if f.severity == "dangerous"}


def found(folder: Path, manifest: Manifest) -> list[Finding]:
    return list(inspect_bundle(folder, manifest).findings)


@pytest.fixture
def full(originals: dict[str, tuple[Path, Manifest]], tmp_path: Path) -> Copy:
    return Copy(originals["full-h5"], tmp_path)


@pytest.fixture
def weights(originals: dict[str, tuple[Path, Manifest]], tmp_path: Path) -> Copy:
    return Copy(originals["weights-h5"], tmp_path)


@pytest.mark.parametrize("format_name", FORMATS)
def test_there_is_nothing_to_find_in_a_built_in_bundle(originals: Any, format_name: str) -> None:
    assert found(*originals[format_name]) == []


# Files


def test_a_file_that_the_manifest_does_not_name_is_dangerous(weights: Copy) -> None:
    manifest = weights.manifest()
    (weights.folder / "model" / "extra.py").write_text("print()")
    places = [(f.severity, f.kind, f.where) for f in found(weights.folder, manifest)]
    assert ("dangerous", "undeclared", "model/extra.py") in places


def test_a_file_that_is_not_there_is_dangerous(weights: Copy) -> None:
    manifest = weights.manifest()
    (weights.folder / "state.npz").unlink()
    places = [(f.severity, f.kind, f.where) for f in found(weights.folder, manifest)]
    assert places == [("dangerous", "missing", "state.npz")]


def test_a_symbolic_link_is_dangerous_even_where_it_is_declared(weights: Copy) -> None:
    (weights.folder / "state.npz").rename(weights.folder.parent / "state.npz")
    (weights.folder / "state.npz").symlink_to(weights.folder.parent / "state.npz")
    assert weights.dangers() == {"link"}


# Keras configurations


def reconfigure(copy: Copy, change: dict[str, Any]) -> None:
    """Put a layer of another class into the stored architecture."""
    with copy.h5 as file:
        config = json.loads(file.attrs["model_config"])
        config["config"]["layers"][-1] |= change
        file.attrs["model_config"] = json.dumps(config)


def test_a_lambda_in_an_h5_configuration_is_dangerous(full: Copy) -> None:
    reconfigure(full, {"class_name": "Lambda"})
    assert full.dangers() == {"code"}


def test_a_model_with_a_lambda_is_dangerous_as_keras_itself_stores_it(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    manifest = bundles.written(*samples.trained("with_lambda", DATA), DATA, "full-h5", folder)
    assert "code" in {f.kind for f in found(folder, manifest) if f.severity == "dangerous"}


def test_a_class_of_a_foreign_module_is_dangerous(full: Copy) -> None:
    reconfigure(full, {"class_name": "Popen", "module": "subprocess"})
    assert full.dangers() == {"foreign class"}


def test_a_module_that_only_begins_like_keras_is_foreign(full: Copy) -> None:
    reconfigure(full, {"class_name": "Dense", "module": "keras_evil.layers"})
    assert full.dangers() == {"foreign class"}


@pytest.mark.parametrize(
    ("reference", "module"),
    [("their.models:net", "their.layers"), ("/home/me/models.py:net", "roundtrip_user_models")],
)
def test_a_class_of_the_definitions_own_package_is_only_noted_where_the_definition_is_trusted(
    full: Copy, reference: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    definition = full.original.definition.model_copy(update={"reference": reference})
    full.original = full.original.model_copy(update={"definition": definition})
    reconfigure(full, {"class_name": "Mine", "module": module})
    (refused,) = full.findings()
    assert (refused.severity, refused.kind) == ("dangerous", "untrusted class")
    assert inspect_bundle(full.folder, full.manifest()).says_nothing_of_the_version
    assert f"python -m flows trust '{reference}'" in refused.message
    (named,) = inspect_bundle(full.folder, full.manifest(), reference).findings
    monkeypatch.setenv("ROUNDTRIP_TRUST", reference)
    (allowed,) = full.findings()
    assert named.severity == allowed.severity == "note"


def test_a_class_of_the_projects_own_definitions_is_none_of_anybody_elses(full: Copy) -> None:
    reconfigure(full, {"class_name": "Mine", "module": MLP.rpartition(":")[0]})
    assert full.findings() == []


def test_the_rest_of_the_project_is_no_part_of_a_model(full: Copy) -> None:
    """Every model of a built-in definition has our package for its own."""
    reconfigure(full, {"class_name": "Store", "module": "tasks.storage.store"})
    assert full.dangers() == {"foreign class"}


def test_a_module_of_the_standard_library_is_nobodys_own(full: Copy) -> None:
    definition = full.original.definition.model_copy(update={"reference": "os:system"})
    full.original = full.original.model_copy(update={"definition": definition})
    reconfigure(full, {"class_name": "Popen", "module": "os"})
    assert full.dangers() == {"foreign class"}


def test_a_foreign_class_in_the_compile_configuration_is_dangerous(weights: Copy) -> None:
    compiled = {"loss": {"module": "os", "class_name": "system", "config": {}}}
    carried = weights.original.carried.model_copy(update={"compile": compiled})
    weights.original = weights.original.model_copy(update={"carried": carried})
    assert weights.dangers() == {"foreign class"}


def test_a_configuration_as_deep_as_its_writer_likes_is_malformed_not_a_crash(full: Copy) -> None:
    with full.h5 as file:
        file.attrs["model_config"] = "[" * 20_000
    assert full.dangers() == {"malformed"}


@pytest.mark.parametrize("value", ["{", np.arange(3), b"\xff\xfe"])
def test_a_configuration_that_is_no_json_is_malformed(full: Copy, value: Any) -> None:
    with full.h5 as file:
        file.attrs["model_config"] = value
    assert full.dangers() == {"malformed"}


# HDF5


def test_an_hdf5_external_link_is_dangerous(weights: Copy) -> None:
    with weights.h5 as file:
        file["layers/leak"] = h5py.ExternalLink("/etc/passwd", "/")
    assert weights.dangers() == {"link"}


def test_an_hdf5_soft_link_is_dangerous(weights: Copy) -> None:
    with weights.h5 as file:
        file["layers/leak"] = h5py.SoftLink("/layers")
    assert weights.dangers() == {"link"}


def test_an_hdf5_dataset_kept_in_another_file_is_dangerous(weights: Copy) -> None:
    with weights.h5 as file:
        file.create_dataset("leak", (4,), "u1", external=[("/etc/hostname", 0, 4)])
    assert weights.dangers() == {"link"}


def test_an_hdf5_virtual_dataset_is_dangerous(weights: Copy) -> None:
    layout = h5py.VirtualLayout((4,), "u1")
    layout[:] = h5py.VirtualSource("/etc/hostname", "x", (4,))
    with weights.h5 as file:
        file.create_virtual_dataset("leak", layout)
    assert weights.dangers() == {"link"}


@pytest.mark.timeout(60)
def test_an_hdf5_group_that_holds_itself_is_walked_once(weights: Copy) -> None:
    with weights.h5 as file:
        file["layers/again"] = file["layers"]
    assert weights.dangers() == set()


def test_an_hdf5_named_type_is_no_stumbling_block(weights: Copy) -> None:
    with weights.h5 as file:
        file["type"] = np.dtype("f8")
    assert weights.dangers() == set()


def test_a_file_that_only_calls_itself_hdf5_is_malformed(weights: Copy) -> None:
    next((weights.folder / "model").glob("*.h5")).write_bytes(os.urandom(100))
    assert weights.dangers() == {"malformed"}


# SavedModels


@pytest.mark.parametrize(
    ("deed", "operation", "what"),
    [
        (lambda: tf.io.read_file("/etc/hostname"), "ReadFile", "reads or writes files"),
        (lambda: tf.io.write_file("/tmp/roundtrip-hostile", "x"), "WriteFile", "reads or writes files"),
        (lambda: tf.py_function(os.getpid, [], tf.int64), "EagerPyFunc", "runs Python on the host"),
        (lambda: tf.numpy_function(os.getpid, [], tf.int64), "PyFunc", "runs Python on the host"),
        (lambda: tf.print("x", output_stream="file:///tmp/roundtrip-hostile"), "PrintV2", "reads or writes files"),
    ],
)
def test_an_operation_that_reaches_outside_the_model_is_dangerous(
    deed: Any, operation: str, what: str, tmp_path: Path
) -> None:
    save_a_module(deed, tmp_path / "model")
    manifest = bundles.bare_manifest("saved-model").model_copy(update={"files": bundles.entries(tmp_path)})

    findings = found(tmp_path, manifest)

    assert {(f.severity, f.kind) for f in findings} == {("dangerous", "operation")}
    assert {f.message for f in findings} == {f"the operation {operation} {what}"}


def save_a_module(deed: Any, folder: Path) -> None:
    """A SavedModel that does the deed deep in a function that its signature calls."""

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def inner() -> None:
        deed()

    @tf.function  # type: ignore[untyped-decorator]
    def serve(x: Any) -> Any:
        inner()
        return {"output": x}

    module = tf.Module()
    tf.saved_model.save(module, str(folder), signatures=serve.get_concrete_function(tf.TensorSpec((None, 8))))


def test_a_saved_model_that_is_none_is_malformed(originals: Any, tmp_path: Path) -> None:
    copy = Copy(originals["saved-model"], tmp_path)
    (copy.folder / "model" / "saved_model.pb").write_bytes(b"\xff" * 100)
    assert copy.dangers() == {"malformed"}


# The refusal


def test_what_is_dangerous_is_refused_with_each_place() -> None:
    danger = Finding(severity="dangerous", kind="code", where="model.h5: model_config", message="Lambda can run code")
    with pytest.raises(UnsafeError, match=r"digits@1 was refused.*\n  code: model.h5: model_config: Lambda can run code"):
        refuse_dangerous(Inspection(findings=(danger,)), "digits@1")


def test_what_is_only_noted_is_let_through() -> None:
    note = Finding(severity="note", kind="k", where="w", message="m")
    refuse_dangerous(Inspection(findings=(note,)), "digits@1")
