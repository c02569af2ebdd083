"""How many weights a Keras configuration declares, at least.

A layer of 2**28 units fits into a configuration of a few bytes, and Keras allocates it before it looks for its weights. So
each layer is counted with the least that it allocates, and the sum is held against what is stored. Widths are followed from
layer to layer: two layers of 30,000 units make a matrix of 900 million, whatever each of them says about its input.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

# Two weights to a byte (int4) is the least that Keras stores, and nobody is refused for a small model without weights.
_SPARE_WEIGHTS = 2**24
_WEIGHTS_A_BYTE = 4

_GATES = {"LSTM": 4, "LSTMCell": 4, "GRU": 3, "GRUCell": 3, "SimpleRNN": 1, "SimpleRNNCell": 1}
_CONVOLUTIONS = ("Conv", "SeparableConv", "DepthwiseConv")
_BY_FEATURE = {
    "BatchNormalization", "LayerNormalization", "GroupNormalization", "RMSNormalization", "PReLU", "Normalization",
}  # fmt: skip
# They give on what they get, as far as its last dimension goes.
_KEEPS_WIDTH = _BY_FEATURE | {
    "Dropout", "Activation", "ReLU", "LeakyReLU", "ELU", "Softmax", "GaussianNoise", "GaussianDropout", "AlphaDropout",
    "ActivityRegularization", "Masking", "SpatialDropout1D", "UnitNormalization",
}  # fmt: skip
_COUNTS = ("units", "filters", "output_dim", "key_dim", "value_dim", "intermediate_dim", "num_heads", "depth_multiplier")


def is_config_bomb(weights: int, stored: int) -> bool:
    """Whether a model declares more weights than can be stored in so many bytes."""
    return weights > _SPARE_WEIGHTS + _WEIGHTS_A_BYTE * stored


def declared_weights(config: Any) -> int:
    """The least number of weights that a configuration makes Keras allocate."""
    total, stack = 0, [config]
    counted: set[int] = set()
    while stack:
        node = stack.pop()
        if isinstance(node, list):
            stack += [child for child in node if isinstance(child, dict | list)]
            continue
        stack += [child for child in node.values() if isinstance(child, dict | list)] if isinstance(node, dict) else []
        layers = node.get("layers") if isinstance(node, dict) else None
        if isinstance(layers, list):
            for layer, width in _with_widths(layers):
                counted.add(id(layer))
                total += _weights(layer, width)
        elif isinstance(node, dict) and "class_name" in node and id(node) not in counted:
            counted.add(id(node))
            total += _weights(node, 1)
    return total


def _with_widths(layers: list[Any]) -> Iterator[tuple[dict[str, Any], int]]:
    """Each layer, with the width of what comes in where it can be told, else 1."""
    widths: dict[str, int] = {}
    last = 1
    for layer in layers:
        if not isinstance(layer, dict) or not isinstance(layer.get("config"), dict):
            continue
        config = layer["config"]
        inbound = _inbound(layer.get("inbound_nodes"))
        width = widths.get(inbound, 1) if inbound is not None else last
        yield layer, width
        last = _width(str(layer.get("class_name")), config, width)
        widths[str(layer.get("name") or config.get("name"))] = last


def _inbound(nodes: Any) -> str | None:
    """The name of the first layer that a layer of a functional model gets its input from; None in a sequential one."""
    if nodes is None:
        return None
    stack = [nodes]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            history = node.get("keras_history")
            if isinstance(history, list) and history:
                return str(history[0])
            stack += reversed(list(node.values()))
        elif isinstance(node, list):
            if node and isinstance(node[0], str):
                return node[0]
            stack += reversed(node)
    return ""


def _width(name: str, config: dict[str, Any], width: int) -> int:
    if name == "InputLayer":
        return _last(config.get("batch_shape") or config.get("batch_input_shape"))
    if name == "Flatten":
        return 1
    for key in ("units", "filters", "output_dim"):
        if _number(config.get(key)):
            return _number(config.get(key))
    return width if name in _KEEPS_WIDTH else 1


def _weights(layer: dict[str, Any], width: int) -> int:
    config = layer.get("config")
    if not isinstance(config, dict):
        return 0
    name = str(layer.get("class_name"))
    built = layer.get("build_config")
    shape = built.get("input_shape") if isinstance(built, dict) else None
    width = max(width, _last(shape), _last(config.get("batch_input_shape")))
    units = _number(config.get("units"))
    if name in _GATES:
        return _GATES[name] * units * (units + 1)
    if name == "Embedding":
        return _number(config.get("input_dim")) * max(1, _number(config.get("output_dim")))
    if name.startswith(_CONVOLUTIONS):
        return max(1, _number(config.get("filters"))) * _product(config.get("kernel_size"))
    if name in _BY_FEATURE or units:
        return max(1, units) * width
    return max((_number(config.get(key)) for key in _COUNTS), default=0)


def _number(value: Any) -> int:
    """A size, or 0 for what is none; Keras takes floats too."""
    return int(value) if isinstance(value, int | float) and math.isfinite(value) and value > 0 else 0


def _last(shape: Any) -> int:
    """The last dimension of a shape, at least 1. A shape may lie in a list by itself."""
    if isinstance(shape, list) and shape:
        return _last(shape[0]) if isinstance(shape[0], list) else max(1, _number(shape[-1]))
    return 1


def _product(sizes: Any) -> int:
    values = sizes if isinstance(sizes, list) else [sizes]
    return math.prod(max(1, _number(v)) for v in values)
