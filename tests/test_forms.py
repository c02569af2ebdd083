"""The forms of Prefect's UI: what may stay empty is one input, and the server takes what programs send."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools import validate

from flows.return_model import return_model
from flows.saved_model import saved_model
from tasks.data import DataConfig
from tasks.definitions import ModelConfig
from tasks.settings import StoreConfig
from tasks.training import TrainingConfig
from tasks.verification.elsewhere import EnvironmentConfig
from tasks.verification.returning import Rebuild


def schema_of(flow: Any) -> dict[str, Any]:
    return parameter_schema(flow.fn).model_dump_for_openapi()  # type: ignore[no-any-return]


def fields(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for definition in schema["definitions"].values():
        yield from ((f"{definition['title']}.{name}", field) for name, field in definition["properties"].items())


@pytest.mark.parametrize("flow", [saved_model, return_model])
def test_every_field_has_its_place_and_says_what_it_is(flow: Any) -> None:
    for name, field in fields(schema_of(flow)):
        assert "position" in field, name
        assert field["description"], name
        assert "`" not in field["description"], f"{name}: the form shows it as it is"


@pytest.mark.parametrize("flow", [saved_model, return_model])
def test_a_field_is_a_switch_only_between_two_named_ways(flow: Any) -> None:
    for name, field in fields(schema_of(flow)):
        assert all("title" in way for way in field.get("anyOf", [])), name


def test_the_server_takes_every_null_that_a_program_sends() -> None:
    run = {"data": DataConfig(), "model": ModelConfig(), "training": TrainingConfig(), "store": StoreConfig()}
    back = {"store": StoreConfig(), "model": Rebuild(), "environment": EnvironmentConfig()}

    sent = {name: config.model_dump(mode="json") for name, config in run.items()}
    assert validate(sent, schema_of(saved_model)) == []
    sent = {name: config.model_dump(mode="json") for name, config in back.items()}
    assert validate({"reference": "digits", **sent}, schema_of(return_model)) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"learning_rate": 0},
        {"early_stopping": 0},
        {"checkpoint_seconds": -1},
        {"compiler": "turbo"},
        {"strategy": "all"},
    ],
)
def test_the_server_refuses_what_is_out_of_bounds(wrong: dict[str, Any]) -> None:
    assert validate({"training": wrong}, schema_of(saved_model)) != []
