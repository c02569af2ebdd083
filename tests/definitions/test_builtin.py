"""The built-in definitions."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.definitions import ModelConfig, define
from tasks.definitions.build import MLP, SUBCLASSED
from tests import samples


@pytest.mark.parametrize("builder", [MLP, SUBCLASSED])
def test_the_scale_of_the_inputs_does_not_matter(builder: str) -> None:
    data = samples.classes()
    _, model = define(ModelConfig(builder=builder), data)
    x = np.asarray(data.x)
    np.testing.assert_allclose(model(x * 255), model(x), atol=1e-3)


@pytest.mark.parametrize("builder", [MLP, SUBCLASSED])
def test_images_are_taken_as_they_are(builder: str) -> None:
    data = samples.classes(shape=(6, 6))
    _, model = define(ModelConfig(builder=builder), data)
    assert model(data.x).shape == (130, 3)


def test_the_subclassed_model_comes_back_from_its_configuration_with_its_own_arguments() -> None:
    import keras

    _, model = define(ModelConfig(builder=SUBCLASSED, arguments={"hidden": 5, "activation": "tanh"}), samples.classes())
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(model))
    assert (again.hidden.units, again.hidden.activation) == (5, keras.activations.tanh)
