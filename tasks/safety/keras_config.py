"""Keras configurations: JSON that names classes and functions, and what Keras makes of it when it loads.

Whatever is named must be on the list of Keras' own parts of models (`allowed_keras.json`, written by
`python -m tests.safety.allow_lists`) or belong to the definition that the model was built from.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.safety.files import TEXT, Context, File
from tasks.safety.findings import UNTRUSTED, Finding, MalformedError, dangerous, note, suspicious
from tasks.safety.keras_sizes import declared_weights, is_config_bomb

# They run code of the configuration's own, load other files, or call whatever function of TensorFlow it names.
_ACTIVE = {
    "Lambda", "__lambda__", "TFSMLayer", "TorchModuleWrapper", "FlaxLayer", "JaxLayer", "TFOpLambda", "TensorFlowOpLayer",
    "SlicingOpLambda", "get_file", "load_model", "LambdaCallback",
}  # fmt: skip
# Keras builds values of them, no objects.
_VALUES = {"__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__", "__tuple__",
           "__complex__", "TensorShape", "set"}  # fmt: skip
# Classes of the project's own definitions are nobody else's; the rest of the project is no part of any model.
_PROJECT, _BUILTIN_DEFINITIONS = "tasks", "tasks.definitions."
_BUILTIN = ("activations", "losses", "metrics", "regularizers", "initializers", "constraints", "optimizers")
# Arguments that Keras takes as names of files where they are strings.
_FILES = {"vocabulary", "idf_weights", "filepath", "fname", "origin", "cache_dir"}
_HOST_PATH = re.compile(r"/[^/ ]|~/|\.\./|[A-Za-z]:\\|\\\\|[a-z][a-z0-9+.-]*://")


def inspect(file: File, context: Context) -> Iterator[Finding | File]:
    """A configuration as Keras stores it, at any depth."""
    yield from walk(parsed(file, context), file, context)


def parsed(file: File, context: Context) -> Any:
    """The JSON document of a file, where it has the size of one.

    Raises:
        MalformedError: It is none, or too large, or too deep.
    """
    if len(file.data) > TEXT:
        raise MalformedError(f"{len(file.data):,} bytes of JSON, where real ones have a few thousand")
    raw = bytes(file.data)
    # What a hostile document costs in memory is its lists and objects.
    context.budget.spend(raw.count(b"{") + raw.count(b"["))
    try:
        return json.loads(raw)
    except RecursionError:
        raise MalformedError("its nesting has no end") from None


def walk(config: Any, file: File, context: Context) -> Iterator[Finding]:
    """Look at every object of a configuration, without recursion: its nesting is the writer's choice."""
    stack = [(config, "")]
    while stack:
        node, place = stack.pop()
        if isinstance(node, list):
            stack += [(child, f"{place}[{i}]") for i, child in enumerate(node) if isinstance(child, dict | list)]
        elif isinstance(node, dict):
            stack += [(child, f"{place}.{key}") for key, child in node.items() if isinstance(child, dict | list)]
            where = f"{file.name}{place[:200]}"
            if "class_name" in node:
                yield from _named(node, where, context)
            yield from _host_paths(node, where)
    weights = declared_weights(config)
    if is_config_bomb(weights, file.stored):
        yield dangerous("bomb", file.name, f"it declares {weights:,} weights, and {file.stored:,} bytes are stored")


def _named(node: dict[str, Any], where: str, context: Context) -> Iterator[Finding]:
    name, module, registered = node["class_name"], node.get("module"), node.get("registered_name")
    if not isinstance(name, str) or not isinstance(module, str | None) or not isinstance(registered, str | None):
        yield dangerous("malformed", where, "the name of a class or of its module is no text")
        return
    is_function = name == "function"
    if is_function:
        name = node.get("config")
    elif name == "__typespec__":
        name = node.get("spec_name")
    if not isinstance(name, str):
        yield dangerous("malformed", where, "a function without a name")
    elif name in _ACTIVE or name.rpartition(".")[2] in _ACTIVE:
        yield dangerous("code", where, f"{name} can run code or load other files")
    elif node["class_name"] not in _VALUES:
        yield from _lookup(_Name(name, module, registered, is_function), where, context)


@dataclass(frozen=True, slots=True)
class _Name:
    name: str
    module: str | None
    registered: str | None
    is_function: bool


def _lookup(named: _Name, where: str, context: Context) -> Iterator[Finding]:
    what = "function" if named.is_function else "class"
    is_registered = ">" in (named.registered or named.name)
    if not is_registered and _is_keras(named):
        return
    package = (named.module or "").partition(".")[0]
    own = package in context.own_packages
    if own and package == _PROJECT:
        if (named.module or "").startswith(_BUILTIN_DEFINITIONS):
            return
        own = False
    origin = f"the module {named.module!r}" if named.module else "no module of Keras"
    message = f"the {what} {named.registered or named.name} is of {origin}"
    keras = named.module is None or named.module == "builtins" or named.module.partition(".")[0] == "keras"
    if own and context.untrusted:
        yield dangerous(f"{UNTRUSTED}{what}", where, f"{message}, of the package of its definition. {context.untrusted}")
    elif own or (is_registered and keras and context.own_packages):
        yield note(f"foreign {what}", where, f"{message}: code of the model's definition")
    elif is_registered and keras:
        yield suspicious(f"foreign {what}", where, f"{message}: it comes back only where its author's code was imported")
    else:
        yield dangerous(f"foreign {what}", where, message)


def _is_keras(named: _Name) -> bool:
    """Whether a name is on the list. Without a module (older files) Keras looks among its own alone."""
    allowed = allow_list()
    if named.module is None:
        return named.name in (allowed.function_names if named.is_function else allowed.class_names)
    if named.module == "builtins":
        # A Python type (float, say), or a function that Keras knows by its mere name.
        paths = {f"keras.{place}.{named.name}" for place in _BUILTIN}
        return bool(paths & (allowed.functions | allowed.classes)) or named.name in allowed.function_names
    path = f"{named.module}.{named.name}"
    # Keras 2 wrote its internal modules without `src`, and optimizers and layers under older ones.
    return path in allowed.functions if named.is_function else path in allowed.classes or _older(named, allowed)


def _older(named: _Name, allowed: AllowList) -> bool:
    return (named.module or "").startswith("keras.") and named.name in allowed.public_names


def _host_paths(node: dict[str, Any], where: str) -> Iterator[Finding]:
    for key, value in node.items():
        if not isinstance(value, str) or not value:
            continue
        if key in _FILES:
            yield dangerous("host path", f"{where}.{key}", f"it names the file {value[:120]!r} of whoever loads it")
        elif _HOST_PATH.match(value):
            yield suspicious("host path", f"{where}.{key}", f"{value[:120]!r} looks like a file or an address")


@dataclass(frozen=True, slots=True)
class AllowList:
    """What a configuration may name, as `module.Name` and by the mere name."""

    classes: frozenset[str]
    functions: frozenset[str]
    class_names: frozenset[str]
    function_names: frozenset[str]
    public_names: frozenset[str]


@functools.cache
def allow_list() -> AllowList:
    """The list for the Keras that is pinned."""
    stored = json.loads((Path(__file__).parent / "allowed_keras.json").read_text())
    classes, functions = frozenset(stored["classes"]), frozenset(stored["functions"])
    return AllowList(
        classes,
        functions,
        frozenset(path.rpartition(".")[2] for path in classes),
        frozenset(path.rpartition(".")[2] for path in functions),
        frozenset(path.rpartition(".")[2] for path in classes if not path.startswith("keras.src.")),
    )
