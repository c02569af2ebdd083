"""The fingerprint of a definition: what it built, variable by variable, and the message when it builds something else."""

from __future__ import annotations

import difflib
import json
from typing import Any

from pydantic import BaseModel, Field

from tasks.errors import MismatchError


class VariableSpec(BaseModel):
    """One variable of a model."""

    model_config = {"frozen": True}

    path: str
    shape: tuple[int, ...]
    dtype: str

    def __str__(self) -> str:
        return f"{self.shape} {self.dtype}"


class Definition(BaseModel):
    """A builder, its arguments, and what it built when the model was defined.

    Attributes:
        reference: `module:callable` or `/absolute/file.py:callable`.
        arguments: Every argument of the builder, those taken from the data included.
        fingerprint: The variables in the order in which the model lists them.
        config: Keras' own architecture configuration where the model has one, else None. Shapes can't tell a `relu`
            from a `tanh`; this can.
    """

    model_config = {"frozen": True}

    reference: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    fingerprint: tuple[VariableSpec, ...] = ()
    config: str | None = None


def fingerprint(model: Any) -> tuple[VariableSpec, ...]:
    """Path, shape and dtype of every weight of a built Keras model."""
    return tuple(
        VariableSpec(path=v.path, shape=tuple(v.shape), dtype=str(v.dtype).removeprefix("float_")) for v in model.weights
    )


def architecture(model: Any) -> str | None:
    """The architecture's configuration as canonical JSON, or None where the model can't tell it (a plain subclass)."""
    import keras  # seconds

    try:
        return json.dumps(_lasting(keras.saving.serialize_keras_object(model)), sort_keys=True, default=str)
    except Exception:  # a user's get_config may raise anything; then there simply is no configuration to keep
        return None


def _lasting(config: Any) -> Any:
    # How a model or a layer in it is compiled or was built (on how many rows, say) is not its architecture.
    if isinstance(config, dict):
        return {k: _lasting(v) for k, v in config.items() if k not in {"compile_config", "build_config"}}
    return [_lasting(v) for v in config] if isinstance(config, list | tuple) else config


def check_fingerprint(stored: Definition, rebuilt: Definition) -> None:
    """Refuse a rebuilt model that is not the stored one.

    Args:
        stored: The definition in the manifest.
        rebuilt: What the definition builds here and now.

    Raises:
        MismatchError: Lists each variable that is missing, extra or different, and the arguments that changed.
    """
    lines = _variable_lines(stored.fingerprint, rebuilt.fingerprint)
    if not lines and stored.config and rebuilt.config and stored.config != rebuilt.config:
        lines = _config_lines(json.loads(stored.config), json.loads(rebuilt.config))
    if not lines:
        return
    shown = lines[:20] + ([f"… and {len(lines) - 20} more"] if len(lines) > 20 else [])  # noqa: PLR2004
    raise MismatchError(
        "the rebuilt model does not match the stored weights\n"
        + "\n".join(f"  {line}" for line in shown)
        + "\n"
        + _argument_advice(stored, rebuilt)
    )


def _variable_lines(stored: tuple[VariableSpec, ...], rebuilt: tuple[VariableSpec, ...]) -> list[str]:
    before, after = {v.path: v for v in stored}, {v.path: v for v in rebuilt}
    width = max((len(path) for path in before | after), default=0)
    lines = []
    for path, spec in before.items():
        if path not in after:
            near = difflib.get_close_matches(path, after.keys() - before.keys(), n=1)
            hint = f"   (nearest rebuilt: {near[0]} {after[near[0]]})" if near else ""
            lines.append(f"{path:<{width}}  stored {spec}   not rebuilt{hint}")
        elif after[path] != spec:
            lines.append(f"{path:<{width}}  stored {spec}   rebuilt {after[path]}")
    lines += [f"{path:<{width}}  not stored   rebuilt {spec}" for path, spec in after.items() if path not in before]
    if not lines and [v.path for v in stored] != [v.path for v in rebuilt]:
        lines.append("the same variables, in another order")
    return lines


def _config_lines(stored: Any, rebuilt: Any, place: str = "") -> list[str]:
    if isinstance(stored, dict) and isinstance(rebuilt, dict):
        keys = sorted(stored.keys() | rebuilt.keys())
        return [line for k in keys for line in _config_lines(stored.get(k), rebuilt.get(k), f"{place}.{k}".strip("."))]
    if isinstance(stored, list) and isinstance(rebuilt, list) and len(stored) == len(rebuilt):
        pairs = enumerate(zip(stored, rebuilt, strict=True))
        return [line for i, (a, b) in pairs for line in _config_lines(a, b, f"{place}[{i}]")]
    return [] if stored == rebuilt else [f"{place}  stored {stored!r:.80}   rebuilt {rebuilt!r:.80}"]


def _argument_advice(stored: Definition, rebuilt: Definition) -> str:
    names = sorted(stored.arguments.keys() | rebuilt.arguments.keys())
    changed = [n for n in names if stored.arguments.get(n) != rebuilt.arguments.get(n)]
    if stored.reference != rebuilt.reference:
        return f"It was stored from `{stored.reference}` and is now built by `{rebuilt.reference}`."
    if not changed:
        return (
            f"The definition `{stored.reference}` was changed since: same arguments, another model. "
            "Restore the code that it was stored from, or publish a new version."
        )
    was = ", ".join(f"{n}={stored.arguments.get(n)!r}" for n in changed)
    now = ", ".join(f"{n}={rebuilt.arguments.get(n)!r}" for n in changed)
    fix = " ".join(f"--model-arg {n}={stored.arguments[n]}" for n in changed if n in stored.arguments)
    return f"The definition `{stored.reference}` was stored with {was} and is now built with {now}." + (
        f"\nPass {fix}." if fix else ""
    )
