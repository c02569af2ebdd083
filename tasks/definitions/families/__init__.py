"""The families of Keras models: for each kind that is saved and loaded in its own way a small definition with its own data.

`FAMILIES` names them for `python -m flows fidelity`, by reference only: nothing here imports Keras. Each also runs as any
user's model does:

    python -m flows run weights-h5 --model tasks.definitions.families.plain:sequential \
        --data tasks.definitions.families.plain:classes
"""

from __future__ import annotations

from dataclasses import dataclass

_HERE = "tasks.definitions.families"


@dataclass(frozen=True, slots=True)
class Family:
    """One definition of the table, with what it learns from and how long.

    Attributes:
        name: What the table calls it.
        builder: Reference of the model.
        data: Reference of its data; small enough to train on in a second or two.
        heavy: Takes gigabytes; only on demand.
        batch_size: Examples a step.
    """

    name: str
    builder: str
    data: str
    heavy: bool = False
    batch_size: int = 32


def _family(module: str, name: str, data: str, *, heavy: bool = False, batch_size: int = 32) -> Family:
    place = f"{_HERE}.{module}:{name}"
    return Family(name.replace("_", "-"), place, f"{_HERE}.{data}", heavy, batch_size)


FAMILIES: dict[str, Family] = {
    f.name: f
    for f in (
        _family("plain", "sequential", "plain:classes"),
        _family("plain", "several_inputs", "plain:two_sided"),
        _family("plain", "shared_layers", "plain:two_sided_classes"),
        _family("plain", "nested", "plain:classes"),
        _family("subclasses", "with_config", "plain:classes"),
        _family("subclasses", "without_config", "plain:classes"),
        _family("custom", "registered", "plain:classes"),
        _family("custom", "unregistered", "plain:classes"),
        _family("objectives", "loss_parameters", "plain:measures"),
        _family("stateful", "norm_dropout", "plain:classes"),
        _family("stateful", "stateful_lstm", "stateful:sequences", batch_size=16),
        _family("preprocessing", "normalization", "plain:classes"),
        _family("preprocessing", "string_lookup", "preprocessing:words"),
        _family("preprocessing", "vectorized_text", "preprocessing:sentences"),
        _family("precision", "mixed_precision", "plain:classes"),
        _family("precision", "quantized_int8", "plain:classes"),
        _family("applications", "mobilenet_v3", "applications:images", batch_size=16),
        _family("applications", "efficientnet_v2", "applications:images", batch_size=16),
        _family("large", "gigabytes", "large:one_batch", heavy=True),
    )
}

__all__ = ["FAMILIES", "Family"]
