"""What is said when a definition builds another model than the stored one."""

from __future__ import annotations

import functools

import pytest

from tasks.definitions import Definition, ModelConfig, check_fingerprint, define
from tasks.definitions.build import MLP, SUBCLASSED
from tasks.errors import MismatchError
from tests import samples

DATA = samples.classes()


@functools.cache
def built(reference: str = MLP, **arguments: object) -> Definition:
    return define(ModelConfig(builder=reference, arguments=arguments), DATA)[0]


def message(stored: Definition, rebuilt: Definition) -> str:
    with pytest.raises(MismatchError) as refused:
        check_fingerprint(stored, rebuilt)
    return str(refused.value)


def test_the_same_definition_passes() -> None:
    check_fingerprint(built(), built())


def test_another_width_is_told_variable_by_variable() -> None:
    assert message(built(hidden=64), built(hidden=32)).splitlines() == [
        "the rebuilt model does not match the stored weights",
        "  dense/kernel    stored (8, 64) float32   rebuilt (8, 32) float32",
        "  dense/bias      stored (64,) float32   rebuilt (32,) float32",
        "  dense_1/kernel  stored (64, 3) float32   rebuilt (32, 3) float32",
        f"The definition `{MLP}` was stored with hidden=64 and is now built with hidden=32.",
        "Pass --model-arg hidden=64.",
    ]


@pytest.mark.parametrize("reference", [MLP, SUBCLASSED])
def test_another_activation_is_refused_though_every_shape_is_the_same(reference: str) -> None:
    text = message(built(reference, activation="relu"), built(reference, activation="tanh"))
    assert "stored 'relu'   rebuilt 'tanh'" in text


def test_a_missing_variable_names_the_nearest() -> None:
    stored = built()
    renamed = [v.model_copy(update={"path": v.path.replace("dense_1", "dense_one")}) for v in stored.fingerprint]
    text = message(stored, stored.model_copy(update={"fingerprint": tuple(renamed)}))
    assert "dense_1/kernel    stored (64, 3) float32   not rebuilt   (nearest rebuilt: dense_one/kernel" in text


def test_an_extra_variable_is_told() -> None:
    rebuilt = built()
    fewer = rebuilt.model_copy(update={"fingerprint": rebuilt.fingerprint[:-1]})
    assert "dense_1/bias    not stored   rebuilt (3,) float32" in message(fewer, rebuilt)


def test_another_order_of_the_same_variables_is_refused() -> None:
    stored = built()
    turned = stored.model_copy(update={"fingerprint": stored.fingerprint[::-1]})
    assert "the same variables, in another order" in message(stored, turned)


def test_changed_code_with_the_same_arguments_is_called_so() -> None:
    stored = built()
    changed = stored.model_copy(update={"fingerprint": stored.fingerprint[:-1]})
    assert f"The definition `{MLP}` was changed since" in message(changed, stored)


def test_another_reference_is_named() -> None:
    text = message(built(MLP), built(SUBCLASSED))
    assert f"It was stored from `{MLP}` and is now built by `{SUBCLASSED}`." in text


def test_a_long_list_is_cut() -> None:
    stored = built()
    many = tuple(stored.fingerprint[0].model_copy(update={"path": f"layer_{i}"}) for i in range(30))
    text = message(stored.model_copy(update={"fingerprint": many}), stored.model_copy(update={"fingerprint": ()}))
    assert "… and 10 more" in text


def test_how_a_model_was_compiled_is_no_part_of_its_architecture() -> None:
    from tasks.definitions.fingerprint import architecture

    _, model = define(ModelConfig(builder=MLP), DATA)
    before = architecture(model)
    model.compile("sgd", "mse")
    assert architecture(model) == before
