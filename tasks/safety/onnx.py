"""ONNX models: operations outside of the standard, tensors in other files, shapes out of proportion.

ONNX' own operations compute and nothing else; what runs code or opens files comes in through other domains.
Field numbers are those of `onnx.proto`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from tasks.safety.files import Context, File, is_bomb, leaves_its_folder
from tasks.safety.findings import Finding, MalformedError, dangerous, suspicious
from tasks.safety.wire import Wire

_STANDARD = {"", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training"}
_RUNTIME = "com.microsoft"  # ONNX Runtime's own, built into it

_GRAPH, _TRAINING, _FUNCTION = 7, 20, 25
_NODES = {"graph": 1, "function": 7}
_INITIALIZER, _SPARSE = 5, 15
_OP, _ATTRIBUTE, _DOMAIN = 4, 5, 7
_TENSOR, _SUBGRAPH, _TENSORS, _SUBGRAPHS = 5, 6, 10, 11
_DIMS, _EXTERNAL = 1, 13


def inspect(file: File, context: Context) -> Iterator[Finding | File]:
    """Every node and every tensor, in the graph, its subgraphs and the model's functions."""
    wire = Wire(file.data, context.budget)
    whole = (0, len(file.data))
    graphs = [("graph", *span) for span in wire.messages(_GRAPH, *whole)]
    if not graphs:
        raise MalformedError("not an ONNX model: it has no graph")
    graphs += [("function", *span) for span in wire.messages(_FUNCTION, *whole)]
    for training in wire.messages(_TRAINING, *whole):
        graphs += [("graph", *span) for part in (1, 2) for span in wire.messages(part, *training)]
    own = {wire.last_text(10, *span) for span in wire.messages(_FUNCTION, *whole)}
    while graphs:
        context.budget.spend()
        kind, start, stop = graphs.pop()
        for number, at, end in wire.fields(start, stop):
            if end < 0:
                continue
            if number == _NODES[kind]:
                yield from _node(wire, at, end, file, context, own)
                graphs += [("graph", *span) for span in _subgraphs(wire, at, end)]
            elif number == _INITIALIZER and kind == "graph":
                yield from _tensor(wire, at, end, file, context)
            elif number == _SPARSE and kind == "graph":
                for part in (1, 2):
                    for span in wire.messages(part, at, end):
                        yield from _tensor(wire, *span, file, context)


def _node(wire: Wire, start: int, stop: int, file: File, context: Context, own: set[str]) -> Iterator[Finding]:
    context.budget.spend()
    op, domain = wire.last_text(_OP, start, stop), wire.last_text(_DOMAIN, start, stop)
    where = f"{file.name}:{wire.last_text(3, start, stop) or op}"
    if domain == _RUNTIME:
        yield suspicious("operation", where, f"{op} is of ONNX Runtime's own domain, which other runtimes do not have")
    elif domain not in _STANDARD | own:
        yield dangerous("operation", where, f"{op} is of the domain {domain!r}: code that the host must load for it")
    for attribute in wire.messages(_ATTRIBUTE, start, stop):
        for number, at, end in wire.fields(*attribute):
            if number in {_TENSOR, _TENSORS} and end >= 0:
                yield from _tensor(wire, at, end, file, context)


def _subgraphs(wire: Wire, start: int, stop: int) -> Iterator[tuple[int, int]]:
    for attribute in wire.messages(_ATTRIBUTE, start, stop):
        for number, at, end in wire.fields(*attribute):
            if number in {_SUBGRAPH, _SUBGRAPHS} and end >= 0:
                yield at, end


def _tensor(wire: Wire, start: int, stop: int, file: File, context: Context) -> Iterator[Finding]:
    context.budget.spend()
    dims: list[int] = []
    name, location = "", None
    for number, at, end in wire.fields(start, stop):
        if number == _DIMS:
            dims += wire.numbers(at, end)
        elif number == 8:  # noqa: PLR2004
            name = wire.text(at, end)
        elif number == _EXTERNAL and end >= 0 and wire.last_text(1, at, end) == "location":
            location = wire.last_text(2, at, end)
    where = f"{file.name}:{name}"
    if location is not None:
        yield from _external(location, where, file, context)
    elif is_bomb(math.prod(max(0, n) for n in dims), file.stored):
        yield dangerous("bomb", where, f"a tensor of shape {tuple(dims[:8])}, and {file.stored:,} bytes are stored")


def _external(location: str, where: str, file: File, context: Context) -> Iterator[Finding]:
    if leaves_its_folder(location):
        yield dangerous("path", where, f"its values are in {location!r}, outside of the model's folder")
    elif context.beside(file, location) not in context.sizes:
        yield dangerous("missing", where, f"its values are in {location!r}, which is not there")
