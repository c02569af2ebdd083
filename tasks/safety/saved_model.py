"""TensorFlow's SavedModel: every operation of its graph and of every function, at load as well as at call.

Field numbers are those of TensorFlow's `saved_model.proto`, `meta_graph.proto` and `saved_object_graph.proto`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks.safety.files import Context, File, is_bomb, leaves_its_folder
from tasks.safety.findings import Finding, MalformedError, dangerous, suspicious
from tasks.safety.graph import Graph, NodeDef
from tasks.safety.graph_files import Exposed, inspect_file_names
from tasks.safety.wire import Wire

_META_GRAPH = 2
_GRAPH, _ASSET, _OBJECTS = 2, 6, 7
_BOUND = 2  # of a `SavedConcreteFunction`
_IS_ASSET, _KINDS = 5, {4, 5, 6, 7, 8, 9, 10, 12}  # of a `SavedObject`
_KERAS_2_CONFIG = 5
_PRINTS = {"Print", "PrintV2"}


def inspect(file: File, context: Context) -> Iterator[Finding | File]:
    """Each graph of the SavedModel, and what can be called of it."""
    wire = Wire(file.data, context.budget)
    count = 0
    for start, stop in wire.messages(_META_GRAPH, 0, len(file.data)):
        count += 1
        spans = list(wire.messages(_GRAPH, start, stop))
        context.budget.spend(1 + len(spans))
        graph = Graph(wire, spans)
        yield from operations(graph, file)
        tensors = set()
        for at, end in wire.messages(_ASSET, start, stop):
            context.budget.spend()
            yield from _asset_path(file, context, wire.last_text(2, at, end))
            tensors |= {wire.last_text(1, *tensor).partition(":")[0] for tensor in wire.messages(1, at, end)}
        captures, assets = _objects(wire, start, stop)
        yield from inspect_file_names(graph, Exposed(captures, assets, tensors), file.name)
    if not count:
        raise MalformedError("a SavedModel without a graph")


def inspect_keras_metadata(file: File, context: Context) -> Iterator[Finding | File]:
    """`keras_metadata.pb`, by which Keras 2 rebuilt its layers: a configuration for each object."""
    wire = Wire(file.data, context.budget)
    for start, stop in wire.messages(1, 0, len(file.data)):
        for at, end in wire.messages(_KERAS_2_CONFIG, start, stop):
            if end > at:
                yield file.part("metadata", file.data[at:end], "keras config")


def operations(graph: Graph, file: File) -> Iterator[Finding]:
    """Every operation that is not on the list."""
    allowed = allow_list()
    for body in graph.bodies():
        for node in body.nodes:
            where = f"{file.name}:{body.name or 'graph'}/{node.name}"
            if node.op in allowed.operations:
                if node.op == "Const":
                    yield from _constant(graph, node, where, file)
            elif node.op in graph.functions and node.op not in allowed.reaches:
                continue  # a call, of a function whose own operations are looked at
            elif node.op in _PRINTS and not any(t.startswith("file:") for t in graph.texts(node, "output_stream")):
                yield suspicious("operation", where, f"{node.op} writes to the log")
            else:
                yield dangerous("operation", where, _message(node.op, allowed))


def _message(op: str, allowed: AllowList) -> str:
    deed = allowed.reaches.get(op)
    if op in _PRINTS:
        deed = "reads or writes files"
    return f"the operation {op} {deed}" if deed else f"the operation {op!r} is not one that models need"


def _constant(graph: Graph, node: NodeDef, where: str, file: File) -> Iterator[Finding]:
    elements, stored = graph.constant_size(node)
    if is_bomb(elements, max(stored, file.stored)):
        yield dangerous("bomb", where, f"a constant of {elements:,} elements in {stored:,} bytes")


def _asset_path(file: File, context: Context, path: str) -> Iterator[Finding]:
    if leaves_its_folder(path):
        yield dangerous("path", file.name, f"it names the asset {path!r}, outside of its folder")
    elif context.sizes and context.beside(file, f"assets/{path}") not in context.sizes:
        yield suspicious("missing", file.name, f"it names the asset {path!r}, which is not there")


def _objects(wire: Wire, start: int, stop: int) -> tuple[dict[str, list[int]], set[int]]:
    """What the object graph binds to which function, and which of its objects are assets."""
    captures: dict[str, list[int]] = {}
    assets: set[int] = set()
    count = 0
    for span in wire.messages(_OBJECTS, start, stop):
        for number, at, end in wire.fields(*span):
            if end < 0:
                continue  # a number in a message's place, which readers ignore: it must not count as an object
            if number == 1:
                wire.budget.spend()
                kinds = [kind for kind, _, stop in wire.fields(at, end) if kind in _KINDS and stop >= 0]
                if kinds and kinds[-1] == _IS_ASSET:  # of a `oneof` the last one counts
                    assets.add(count)
                count += 1
            elif number == 2:  # noqa: PLR2004  # an entry of the map `concrete_functions`
                wire.budget.spend()
                values = list(wire.messages(2, at, end))
                if len(values) > 1:
                    raise MalformedError("two values for one function: readers differ in whether they put them together")
                inner = [field for value in values for field in wire.fields(*value)]
                bound = [number for field, a, e in inner if field == _BOUND for number in wire.numbers(a, e)]
                captures[wire.last_text(1, at, end)] = bound
    return captures, assets


@dataclass(frozen=True, slots=True)
class AllowList:
    """Operations that a graph may hold, and what some of the others do."""

    operations: frozenset[str]
    reaches: dict[str, str]


@functools.cache
def allow_list() -> AllowList:
    """The list for the TensorFlow that is pinned."""
    stored = json.loads((Path(__file__).parent / "allowed_operations.json").read_text())
    reaches = {op: deed for deed, ops in stored["reaches"].items() for op in ops}
    return AllowList(frozenset(stored["allowed"]), reaches)
