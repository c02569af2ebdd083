"""What is said when a definition builds another model than the stored one."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from tasks.definitions import Definition, ModelConfig, VariableSpec, check_fingerprint, define
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
    assert "dense_1/bias  not stored   rebuilt (3,) float32" in message(fewer, rebuilt)


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


# Snapshots of what users read

DEEP = {
    "conv2d/kernel": (3, 3, 1, 16),
    "conv2d/bias": (16,),
    "batch_normalization/gamma": (16,),
    "dense/kernel": (64, 10),
    "dense/bias": (10,),
}


def net(shapes: dict[str, tuple[int, ...]] = DEEP, dtype: str = "float32", **arguments: Any) -> Definition:
    """A definition that builds these variables."""
    fingerprint = tuple(VariableSpec(path=path, shape=shape, dtype=dtype) for path, shape in shapes.items())
    given = {"hidden": 64, "filters": [16, 32]} | arguments
    return Definition(reference="models.py:net", arguments=given, fingerprint=fingerprint)


def resized(before: int, now: int) -> dict[str, tuple[int, ...]]:
    return {path: tuple(now if n == before else n for n in shape) for path, shape in DEEP.items()}


HEAD = "the rebuilt model does not match the stored weights"
SAME_ARGUMENTS = [
    "The definition `models.py:net` was changed since: same arguments, another model.",
    "Restore the code that it was stored from, or publish a new version.",
]


def test_code_that_follows_an_argument_no_longer_is_found_by_the_size() -> None:
    assert message(net(), net(resized(64, 32))).splitlines() == [
        HEAD,
        "  dense/kernel  stored (64, 10) float32   rebuilt (32, 10) float32",
        "What was hidden = 64 is 32 in dense/kernel.",
        *SAME_ARGUMENTS,
    ]


def test_a_size_in_a_list_of_sizes_is_found_too() -> None:
    text = message(net(), net(resized(16, 8)))
    assert "What was filters[0] = 16 is 8 in conv2d/kernel, conv2d/bias, batch_normalization/gamma." in text


def test_a_size_that_is_no_argument_is_named_as_such() -> None:
    assert "What was the size 10 is 12 in dense/kernel, dense/bias." in message(net(), net(resized(10, 12)))


def test_an_argument_that_changed_explains_its_size_and_no_other() -> None:
    assert message(net(), net(resized(64, 32) | {"conv2d/bias": (8,)}, hidden=32)).splitlines() == [
        HEAD,
        "  conv2d/bias   stored (16,) float32   rebuilt (8,) float32",
        "  dense/kernel  stored (64, 10) float32   rebuilt (32, 10) float32",
        "What was filters[0] = 16 is 8 in conv2d/bias.",
        "The definition `models.py:net` was stored with hidden=64 and is now built with hidden=32.",
        "Pass --model-arg hidden=64.",
    ]


def test_renamed_layers_are_told_from_other_layers() -> None:
    renamed = {path.replace("dense/", "head/"): shape for path, shape in DEEP.items()}
    assert message(net(), net(renamed)).splitlines() == [
        HEAD,
        "  dense/kernel  stored (64, 10) float32   not rebuilt   (nearest rebuilt: head/kernel (64, 10) float32)",
        "  dense/bias    stored (10,) float32   not rebuilt   (nearest rebuilt: head/bias (10,) float32)",
        "  head/kernel   not stored   rebuilt (64, 10) float32",
        "  head/bias     not stored   rebuilt (10,) float32",
        "Every shape is the same and in the same order: layers have other names (dense is now head).",
        *SAME_ARGUMENTS,
    ]


def test_a_layer_that_is_gone_and_one_that_is_new_are_named() -> None:
    fewer = {path: shape for path, shape in DEEP.items() if "batch" not in path}
    assert "Not built any more: batch_normalization." in message(net(), net(fewer))
    assert "Built now and not stored: batch_normalization." in message(net(fewer), net())


def test_another_number_format_is_told_once() -> None:
    text = message(net(), net(dtype="float16"))
    assert "conv2d/bias                stored (16,) float32   rebuilt (16,) float16" in text
    assert "What was float32 is float16: look for a dtype policy" in text


def test_arguments_can_be_pasted_into_a_shell() -> None:
    text = message(net(), net(resized(16, 8), filters=[8, 32], name="x"))
    assert "was stored with filters=[16, 32], no name and is now built with filters=[8, 32], name='x'." in text
    assert text.endswith("Pass --model-arg filters='[16, 32]'.")


def test_a_changed_activation_is_found_in_its_layer() -> None:
    text = message(built(activation="relu"), built(activation="tanh"))
    assert "config.layers[dense].config.activation  stored 'relu'   rebuilt 'tanh'" in text
