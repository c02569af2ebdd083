"""The two HDF5 formats as their users meet them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.definitions.build import SUBCLASSED
from tasks.errors import InputError, MismatchError
from tasks.serialization import FORMATS, Bundle, restore, write_bundle
from tasks.verification import judge
from tests import bundles, samples

DATA = samples.classes()


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """`tests.user_models:dense(hidden=8, activation="relu")`, stored as weights."""
    trained, definition = samples.trained("dense", DATA)
    return write_bundle(trained, definition, DATA, "weights-h5", tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module", params=["weights-h5", "full-h5"])
def compiled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """A trained model, compiled by its author, and what came back of it."""
    folder = tmp_path_factory.mktemp("bundle")
    trained, definition = samples.trained("compiled", DATA)
    bundle = write_bundle(trained, definition, DATA, request.param, folder)
    return trained.model, restore(folder, request.param, definition, bundle.carried)[0]


def test_the_way_it_was_compiled_comes_back(compiled: tuple[Any, Any]) -> None:
    model = compiled[1]
    found = type(model.optimizer).__name__, float(model.optimizer.momentum), model.loss.get_config()["from_logits"]
    assert found == ("SGD", 0.9, True)


def test_fit_goes_on_where_training_ended(compiled: tuple[Any, Any]) -> None:
    for model in compiled:
        model.run_eagerly = True
        model.fit(DATA.x, DATA.y, batch_size=65, epochs=1, shuffle=False, verbose=0)

    trained, returned = compiled
    assert int(returned.optimizer.iterations) == 1 + 2
    assert samples.bits(returned) == samples.bits(trained)


def test_a_subclassed_model_is_refused_as_full_h5_with_a_way_out(tmp_path: Path) -> None:
    trained, definition = samples.trained(SUBCLASSED, DATA)
    with pytest.raises(InputError, match=r"with SubclassedClassifier can't be stored as full-h5.*weights-h5 or saved"):
        write_bundle(trained, definition, DATA, "full-h5", tmp_path)


def test_a_layer_of_the_users_own_is_refused_as_full_h5_by_name(tmp_path: Path) -> None:
    trained, definition = samples.trained("with_own_layer", DATA)
    with pytest.raises(InputError, match="A model with Doubled can't be stored as full-h5"):
        write_bundle(trained, definition, DATA, "full-h5", tmp_path)


def test_a_subclassed_model_is_rebuilt_from_its_definition(tmp_path: Path) -> None:
    trained, definition = samples.trained(SUBCLASSED, DATA)
    bundle = write_bundle(trained, definition, DATA, "weights-h5", tmp_path)
    model, _ = restore(tmp_path, "weights-h5", definition, bundle.carried)
    np.testing.assert_array_equal(model(DATA.x_val), trained.model(DATA.x_val))


@pytest.mark.parametrize(
    ("change", "advice"),
    [({"hidden": 4}, "--model-arg hidden=8"), ({"activation": "tanh"}, "--model-arg activation=relu")],
)
def test_weights_do_not_go_into_another_architecture(dense: Bundle, change: dict[str, Any], advice: str) -> None:
    stored = dense.definition
    other = stored.model_copy(update={"arguments": stored.arguments | change})
    with pytest.raises(MismatchError, match=advice):
        restore(dense.folder, "weights-h5", stored, dense.carried, other)


@pytest.mark.parametrize("builder", ["sequential_without_input", "only_eager", "two_in_two_out"])
def test_a_users_model_is_found_the_same_by_another_process(builder: str, tmp_path: Path) -> None:
    data = samples.two_sided() if builder == "two_in_two_out" else DATA
    trained, definition = samples.trained(builder, data)
    manifest = bundles.written(trained, definition, data, "weights-h5", tmp_path)
    verdict = judge(manifest, bundles.another_process().measure(tmp_path, manifest, manifest.definition))
    assert (verdict.passed, verdict.reasons) == (True, [])


@pytest.mark.parametrize("format_name", ["weights-h5", "weights-sharded"])
def test_a_file_of_other_weights_is_told_weight_by_weight(format_name: str, tmp_path: Path) -> None:
    trained, _ = samples.trained("dropout_and_normalization", DATA)
    format_ = FORMATS[format_name]
    format_.save(trained.model, tmp_path, DATA.x)
    _, other = samples.defined("dense", DATA)

    with pytest.raises(MismatchError) as refused:
        format_.load(tmp_path, other)

    assert str(refused.value).splitlines() == [
        f"the weights in model.weights.{'h5' if format_name == 'weights-h5' else 'json'} do not fit the rebuilt model",
        "  batch_normalization/0  stored (16,) float32   not rebuilt",
        "  batch_normalization/1  stored (16,) float32   not rebuilt",
        "  batch_normalization/2  stored (16,) float32   not rebuilt",
        "  batch_normalization/3  stored (16,) float32   not rebuilt",
        "  dense/0                stored (8, 16) float32   rebuilt (8, 8) float32",
        "  dense/1                stored (16,) float32   rebuilt (8,) float32",
        "  dense_1/0              stored (16, 3) float32   rebuilt (8, 3) float32",
        "Not built any more: batch_normalization.",
        "What was the size 16 is 8 in dense/0, dense/1, dense_1/0.",
        "Build the model that these weights were saved from.",
    ]
