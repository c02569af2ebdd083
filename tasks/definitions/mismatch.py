"""What is said when a definition builds another model than the stored one: what differs, why probably, and what to do."""

from __future__ import annotations

import difflib
import json
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

from tasks.definitions.fingerprint import Definition, VariableSpec
from tasks.errors import MismatchError

_MOST_LINES = 20
_MOST_NAMES = 3

Specs = Sequence[VariableSpec]


def check_fingerprint(stored: Definition, rebuilt: Definition) -> None:
    """Refuse a rebuilt model that is not the stored one.

    Args:
        stored: The definition in the manifest.
        rebuilt: What the definition builds here and now.

    Raises:
        MismatchError: Lists each variable that is missing, extra or different, the arguments that changed, and where none
            did, which argument the code no longer follows.
    """
    lines = variable_lines(stored.fingerprint, rebuilt.fingerprint)
    if not lines and stored.config and rebuilt.config and stored.config != rebuilt.config:
        lines = list(_config_lines(json.loads(stored.config), json.loads(rebuilt.config)))
    if lines:
        now = dict(_values(rebuilt.arguments))
        known = [(value, now.get(name)) for name, value in _values(stored.arguments)]
        advice = [*causes(stored.fingerprint, rebuilt.fingerprint, stored.arguments, known), *_advice(stored, rebuilt)]
        raise MismatchError("\n".join(["the rebuilt model does not match the stored weights", *_shown(lines), *advice]))


def check_weights(stored: Specs, rebuilt: Specs, file: str) -> None:
    """Refuse a file of weights that is not of the rebuilt model.

    Args:
        stored: The variables in the file.
        rebuilt: The variables that the model would write into such a file.
        file: Its name.

    Raises:
        MismatchError: Lists each variable that is missing, extra or different.
    """
    lines = variable_lines(stored, rebuilt)
    if lines:
        advice = [
            *causes(stored, rebuilt, {}),
            "Build the model that these weights were saved from.",
        ]
        raise MismatchError("\n".join([f"the weights in {file} do not fit the rebuilt model", *_shown(lines), *advice]))


def variable_lines(stored: Specs, rebuilt: Specs) -> list[str]:
    """One aligned line for each variable that is missing, extra, or of another shape or dtype."""
    before, after = {v.path: v for v in stored}, {v.path: v for v in rebuilt}
    said: dict[str, str] = {}
    for path, spec in before.items():
        if path not in after:
            near = _nearest(spec, [after[p] for p in after if p not in before])
            said[path] = f"stored {spec}   not rebuilt" + (f"   (nearest rebuilt: {near.path} {near})" if near else "")
        elif after[path] != spec:
            said[path] = f"stored {spec}   rebuilt {after[path]}"
    said |= {path: f"not stored   rebuilt {spec}" for path, spec in after.items() if path not in before}
    if not said and [v.path for v in stored] != [v.path for v in rebuilt]:
        return ["the same variables, in another order"]
    width = max((len(path) for path in said), default=0)
    return [f"{path:<{width}}  {line}" for path, line in said.items()]


def causes(
    stored: Specs, rebuilt: Specs, arguments: Mapping[str, Any], known: Container[tuple[Any, Any]] = ()
) -> Iterator[str]:
    """A sentence for each thing that explains several lines: renamed layers, layers gone or new, sizes, number formats.

    Args:
        stored: The stored variables.
        rebuilt: The rebuilt ones.
        arguments: What the stored ones were built with; a size that is one of them is called by its name.
        known: Sizes before and now that are explained already, by an argument that changed.
    """
    before, after = {v.path: v for v in stored}, {v.path: v for v in rebuilt}
    alike = [(v.shape, v.dtype) for v in stored] == [(v.shape, v.dtype) for v in rebuilt]
    if alike and before.keys() != after.keys():
        pairs = {(_layer(a.path), _layer(b.path)) for a, b in zip(stored, rebuilt, strict=True)}
        renamed = sorted(f"{a} is now {b}" for a, b in pairs if a != b)
        if renamed:
            yield f"Every shape is the same and in the same order: layers have other names ({_some(renamed)})."
            return
    gone = _layers(before.keys() - after.keys()) - _layers(after)
    new = _layers(after.keys() - before.keys()) - _layers(before)
    if gone:
        yield f"Not built any more: {_some(sorted(gone))}."
    if new:
        yield f"Built now and not stored: {_some(sorted(new))}."
    common = [(before[path], after[path]) for path in before if path in after]
    for (old, now), paths in _resized(common).items():
        if (old, now) in known:
            continue
        names = [name for name, value in _values(arguments) if value == old]
        what = f"{' or '.join(names)} = {old}" if names else f"the size {old}"
        yield f"What was {what} is {now} in {_some(paths)}."
    dtypes = {(a.dtype, b.dtype) for a, b in common if a.dtype != b.dtype}
    for old_dtype, now_dtype in sorted(dtypes):
        yield f"What was {old_dtype} is {now_dtype}: look for a dtype policy, or a `dtype` that a layer is given."


def _advice(stored: Definition, rebuilt: Definition) -> Iterator[str]:
    names = sorted(stored.arguments.keys() | rebuilt.arguments.keys())
    changed = [n for n in names if stored.arguments.get(n) != rebuilt.arguments.get(n)]
    if stored.reference != rebuilt.reference:
        yield f"It was stored from `{stored.reference}` and is now built by `{rebuilt.reference}`."
        yield f"Pass --model {stored.reference}, or return a version that `{rebuilt.reference}` was published as."
        return
    if not changed:
        yield f"The definition `{stored.reference}` was changed since: same arguments, another model."
        yield "Restore the code that it was stored from, or publish a new version."
        return
    was = ", ".join(f"{n}={stored.arguments[n]!r}" if n in stored.arguments else f"no {n}" for n in changed)
    now = ", ".join(f"{n}={rebuilt.arguments[n]!r}" if n in rebuilt.arguments else f"no {n}" for n in changed)
    yield f"The definition `{stored.reference}` was stored with {was} and is now built with {now}."
    fix = " ".join(f"--model-arg {n}={_typed(stored.arguments[n])}" for n in changed if n in stored.arguments)
    if fix:
        yield f"Pass {fix}."


def _config_lines(stored: Any, rebuilt: Any, place: str = "") -> Iterator[str]:
    if isinstance(stored, dict) and isinstance(rebuilt, dict):
        for key in sorted(stored.keys() | rebuilt.keys()):
            yield from _config_lines(stored.get(key), rebuilt.get(key), f"{place}.{key}".strip("."))
    elif isinstance(stored, list) and isinstance(rebuilt, list) and len(stored) == len(rebuilt):
        for i, (a, b) in enumerate(zip(stored, rebuilt, strict=True)):
            # Layers by their name: nobody counts them.
            name = a.get("config", {}).get("name") if isinstance(a, dict) and isinstance(a.get("config"), dict) else None
            yield from _config_lines(a, b, f"{place}[{name or i}]")
    elif stored != rebuilt:
        yield f"{place}  stored {stored!r:.80}   rebuilt {rebuilt!r:.80}"


def _shown(lines: Sequence[str]) -> list[str]:
    more = [f"… and {len(lines) - _MOST_LINES} more"] if len(lines) > _MOST_LINES else []
    return [f"  {line}" for line in [*lines[:_MOST_LINES], *more]]


def _nearest(spec: VariableSpec, others: Sequence[VariableSpec]) -> VariableSpec | None:
    """The one with the most similar name, those of the same shape first."""
    for candidates in ([o for o in others if o.shape == spec.shape], others):
        close = difflib.get_close_matches(spec.path, [o.path for o in candidates], n=1)
        if close:
            return next(o for o in candidates if o.path == close[0])
    return None


def _resized(pairs: Sequence[tuple[VariableSpec, VariableSpec]]) -> dict[tuple[int, int], list[str]]:
    """Which sizes became which others, and where."""
    found: dict[tuple[int, int], list[str]] = {}
    for a, b in pairs:
        if len(a.shape) == len(b.shape):
            for change in {(x, y) for x, y in zip(a.shape, b.shape, strict=True) if x != y}:
                found.setdefault(change, []).append(a.path)
    return found


def _values(arguments: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The arguments and, for lists, their items: `hidden`, `layers[0]`."""
    for name, value in arguments.items():
        if isinstance(value, list | tuple):
            yield from ((f"{name}[{i}]", item) for i, item in enumerate(value))
        elif not isinstance(value, bool):
            yield name, value


def _layer(path: str) -> str:
    return path.rpartition("/")[0]


def _layers(paths: Any) -> set[str]:
    return {_layer(path) for path in paths}


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more


def _typed(value: Any) -> str:
    """As it is typed on the command line, where values are JSON and bare words are words."""
    text = value if isinstance(value, str) else json.dumps(value)
    return f"'{text}'" if any(c in text for c in ' [{"') else text
