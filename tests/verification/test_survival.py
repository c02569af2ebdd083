"""What a returned model tells of what survived, alone and with Roundtrip."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tasks.data import DataConfig, load_dataset
from tasks.definitions import ModelConfig, define
from tasks.definitions.families import FAMILIES
from tasks.serialization import keras_model, restore, write_bundle
from tasks.serialization.bundle import load_alone
from tasks.training import TrainingConfig, train_with_fit
from tasks.training.run import be_deterministic
from tasks.verification.measure import measure, measure_alone, measure_one_more_step
from tasks.verification.survival import versions_named
from tests import bundles, samples


def of_a_family(name: str, format_name: str, folder: Path) -> Any:
    """A family's model, trained for an epoch, and its bundle."""
    family = FAMILIES[name]
    data = load_dataset(DataConfig(source=family.data))
    be_deterministic(0)
    definition, model = define(ModelConfig(builder=family.builder), data)
    config = TrainingConfig(epochs=1, batch_size=family.batch_size, compiler="graph")
    trained = train_with_fit(model, data, config)
    return trained, bundles.manifest_of(write_bundle(trained, definition, data, format_name, folder))


def test_the_format_alone_loses_what_the_bundle_gives_back(tmp_path: Path) -> None:
    trained, definition = samples.trained("dropout_and_normalization", samples.classes())
    manifest = bundles.written(trained, definition, samples.classes(), "full-h5", tmp_path)
    alone, _ = measure_alone(tmp_path, manifest, definition)
    returned, _ = measure(tmp_path, manifest, definition)
    lost = {p for p, kept in alone.survived.items() if not kept and returned.survived[p]}
    assert lost == {"state", "optimizer", "compile", "history"}
    assert {p for p, kept in returned.survived.items() if not kept} == set()


def test_a_vocabulary_that_the_format_drops_comes_back(tmp_path: Path) -> None:
    _, manifest = of_a_family("string-lookup", "full-h5", tmp_path)
    alone, _ = measure_alone(tmp_path, manifest, manifest.definition)
    returned, _ = measure(tmp_path, manifest, manifest.definition)
    assert "can't be called" in str(alone.error)
    assert (returned.loads, returned.outputs_identical, returned.survived["state"]) == (True, True, True)


def test_the_number_format_and_the_scaled_loss_come_back(tmp_path: Path) -> None:
    trained, manifest = of_a_family("mixed-precision", "full-h5", tmp_path)
    model, lost = restore(tmp_path, "full-h5", manifest.definition, manifest.carried)
    assert (lost, model.dtype_policy.name) == ([], "mixed_float16")
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert samples.bits(model) == samples.bits(trained.model)
    assert keras.config.dtype_policy().name == "float32"  # of this process, as before


def test_looking_at_a_scaled_optimizer_adds_nothing_to_it() -> None:
    model = samples.defined("tasks.definitions.families.precision:mixed_precision", samples.classes())[1]
    assert keras_model.optimizer_state(model).keys() == keras_model.optimizer_state(model).keys()
    assert len(keras_model.optimizer_state(model)) == len(model.optimizer.variables)


def test_restoring_leaves_the_manifest_as_it_was(tmp_path: Path) -> None:
    _, manifest = of_a_family("mixed-precision", "full-h5", tmp_path)
    before = manifest.model_dump_json()
    restore(tmp_path, "full-h5", manifest.definition, manifest.carried)
    assert manifest.model_dump_json() == before


def test_the_states_of_a_recurrent_layer_come_back_and_the_probe_leaves_them_alone(tmp_path: Path) -> None:
    trained, manifest = of_a_family("stateful-lstm", "weights-h5", tmp_path)
    states = [np.asarray(v) for v in keras_model.seed_variables(trained.model)]
    assert any(s.shape == (16, 6) and s.any() for s in states)
    measured, model = measure(tmp_path, manifest, manifest.definition)
    found = [np.asarray(v) for v in keras_model.seed_variables(model)]
    assert [s.tobytes() for s in found] == [s.tobytes() for s in states]
    assert measured.outputs_identical is True
    # The step that proves that it can be trained on is taken on the 16 rows that it takes, and no others.
    assert manifest.carried.one_step.rows == 16
    measure_one_more_step(tmp_path, manifest, model, measured)
    assert measured.resumed == []


def test_a_class_whose_arguments_keras_forgets_is_another_model_alone(tmp_path: Path) -> None:
    _, manifest = of_a_family("without-config", "keras-archive", tmp_path)
    alone, _ = measure_alone(tmp_path, manifest, manifest.definition)
    returned, _ = measure(tmp_path, manifest, manifest.definition)
    assert (alone.weights, alone.outputs_identical) == ([], False)  # FACTS S1: the same weights, another model
    assert (returned.weights, returned.outputs_identical) == ([], True)


def test_a_model_of_keras_own_layers_needs_no_source_alone(tmp_path: Path) -> None:
    _, manifest = of_a_family("sequential", "keras-archive", tmp_path)
    nowhere = manifest.definition.model_copy(update={"reference": "no.such.module:model"})
    load_alone(tmp_path, "keras-archive", nowhere, manifest.carried)


@pytest.mark.parametrize(("member", "found"), [("metadata.json", True), ("model.weights.h5", False)])
def test_a_version_is_looked_for_in_an_archives_own_text(member: str, found: bool, tmp_path: Path) -> None:
    manifest = bundles.bare_manifest("keras-archive")
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        archive.writestr(member, f'{{"keras_version": "{manifest.environment.keras}"}}')
    assert versions_named(tmp_path, manifest) is found


def test_a_version_is_looked_for_in_every_file(tmp_path: Path) -> None:
    manifest = bundles.bare_manifest("saved-model")
    (tmp_path / "empty").touch()
    assert versions_named(tmp_path, manifest) is False
    (tmp_path / "saved_model.pb").write_bytes(b"\x00\x01" + manifest.environment.tensorflow.encode())
    assert versions_named(tmp_path, manifest) is True
