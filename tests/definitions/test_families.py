"""The families of models that the table of what survives has by itself."""

from __future__ import annotations

import pytest

from tasks.data import DataConfig, load_dataset
from tasks.data.dataset import each, take
from tasks.data.pipeline import in_batches
from tasks.definitions import ModelConfig, define
from tasks.definitions.build import fixed_batch
from tasks.definitions.families import FAMILIES
from tasks.errors import UnsafeError
from tasks.references import resolve
from tasks.safety import require_trusted
from tests import samples

SMALL = [name for name, f in FAMILIES.items() if not f.heavy and ".applications:" not in f.builder]


@pytest.mark.parametrize("name", SMALL)
def test_a_family_takes_its_own_data(name: str) -> None:
    data = load_dataset(DataConfig(source=FAMILIES[name].data))
    definition, model = define(ModelConfig(builder=FAMILIES[name].builder), data)
    assert definition.fingerprint
    size = fixed_batch(model) or 8
    outputs = model.predict(in_batches(take(data.x_val, slice(0, size)), size=size), verbose=0)
    assert {len(a) for a in each(outputs).values()} == {size}


@pytest.mark.parametrize("name", FAMILIES)
def test_every_reference_is_there_and_trusted_as_the_projects_own(name: str) -> None:
    for reference in (FAMILIES[name].builder, FAMILIES[name].data):
        assert callable(resolve(reference))
        require_trusted(reference)


@pytest.mark.parametrize("reference", ["tasks.definitions.build:build", "tasks.definitions.familiesx:a", "os:system"])
def test_other_code_of_the_project_is_not_trusted(reference: str) -> None:
    with pytest.raises(UnsafeError):
        require_trusted(reference)


def test_the_data_is_the_same_each_time() -> None:
    for source in {f.data for f in FAMILIES.values()}:
        assert load_dataset(DataConfig(source=source)).digest == load_dataset(DataConfig(source=source)).digest


def test_a_fixed_batch_is_filled_with_the_examples_there_are() -> None:
    data = load_dataset(DataConfig(source=FAMILIES["stateful-lstm"].data))
    _, model = define(ModelConfig(builder=FAMILIES["stateful-lstm"].builder), data)
    assert fixed_batch(model) == 16
    assert fixed_batch(samples.defined("dense", samples.classes())[1]) is None
