"""The SavedModel as its users meet it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.definitions.build import SUBCLASSED
from tasks.errors import InputError
from tasks.serialization import restore, write_bundle
from tests import bundles, samples

DATA = samples.classes()


def returned(builder: str, data: Any, folder: Path) -> tuple[Any, Any]:
    """A trained model and what came back of it."""
    trained, definition = samples.trained(builder, data)
    bundle = write_bundle(trained, definition, data, "saved-model", folder)
    return trained.model, restore(folder, "saved-model", definition, bundle.carried)[0]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    return returned(SUBCLASSED, DATA, tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    return returned("two_in_two_out", samples.two_sided(), tmp_path_factory.mktemp("bundle"))


@pytest.mark.parametrize("rows", [1, 7, 300])
def test_it_is_callable_on_a_batch_of_any_size(pair: tuple[Any, Any], rows: int) -> None:
    live, served = pair
    x = np.random.default_rng(0).standard_normal((rows, 8)).astype(np.float32)
    np.testing.assert_allclose(served(x), live(x), atol=1e-6)


def test_its_signature_has_a_name_and_an_open_batch(pair: tuple[Any, Any]) -> None:
    signature = pair[1].signatures["serving_default"]
    inputs = {name: tuple(spec.shape) for name, spec in signature.structured_input_signature[1].items()}
    outputs = {name: tuple(spec.shape) for name, spec in signature.structured_outputs.items()}
    assert (inputs, outputs) == ({"x": (None, 8)}, {"output": (None, 3)})


def test_inputs_of_another_dtype_are_cast(pair: tuple[Any, Any]) -> None:
    x = np.arange(16).reshape(2, 8)
    np.testing.assert_array_equal(pair[1](x), pair[1](x.astype(np.float32)))


def test_dropout_is_off_when_it_is_served(tmp_path: Path) -> None:
    live, served = returned("dropout_and_normalization", DATA, tmp_path)
    np.testing.assert_allclose(served(DATA.x_val), live(DATA.x_val, training=False), atol=1e-6)


def test_inputs_and_outputs_keep_their_names(named: tuple[Any, Any]) -> None:
    live, served = named
    x: Any = samples.two_sided().x_val
    outputs = served(x)
    assert outputs.keys() == {"kind", "size"}
    np.testing.assert_allclose(outputs["size"], live(x)["size"], atol=1e-6)


def test_a_wrong_input_name_is_refused_with_the_right_ones(named: tuple[Any, Any]) -> None:
    with pytest.raises(InputError, match=r"This model takes \['left', 'right'\], not \['x'\]"):
        named[1]({"x": np.ones((1, 8), np.float32)})


def test_a_model_with_named_inputs_and_outputs_is_found_the_same_by_another_process(tmp_path: Path) -> None:
    from tasks.verification import judge

    data = samples.two_sided()
    manifest = bundles.written(*samples.trained("two_in_two_out", data), data, "saved-model", tmp_path)
    verdict = judge(manifest, bundles.another_process().measure(tmp_path, manifest, manifest.definition))
    assert (verdict.passed, verdict.reasons) == (True, [])


def test_a_model_that_cannot_be_traced_is_refused_with_a_way_out(tmp_path: Path) -> None:
    trained, definition = samples.trained("only_eager", DATA)
    with pytest.raises(InputError, match=r"OnlyEager can't be stored as saved-model: .*Use the scenario weights-h5"):
        write_bundle(trained, definition, DATA, "saved-model", tmp_path)
