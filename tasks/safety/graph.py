"""TensorFlow graphs in protocol buffers: nodes, functions, who calls whom; only the fields that inspection asks for.

Field numbers are those of TensorFlow's `graph.proto`, `node_def.proto`, `function.proto` and `attr_value.proto`.
"""

from __future__ import annotations

import bisect
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from tasks.safety.findings import MalformedError
from tasks.safety.wire import Field, Wire

_NODE, _LIBRARY = 1, 2
_NAME, _OP, _INPUT, _ATTRIBUTE = 1, 2, 3, 5
_KEY, _VALUE = 1, 2
_TEXT, _TENSOR, _FILLED_IN = 2, 8, 9
_SIGNATURE, _FUNCTION_NODE = 1, 3
_TENSOR_SHAPE, _TENSOR_PACKED, _TENSOR_TEXT = 2, 4, 8
_ARGUMENT_LISTS = {5, 6}  # `number_attr` and `type_list_attr`


@dataclass(slots=True)
class NodeDef:
    """One operation of a graph; `start` and `stop` are its bytes."""

    name: str
    op: str
    start: int
    stop: int


@dataclass(slots=True)
class Body:
    """The main graph (without a name) or one function of the library, with the names of its arguments."""

    name: str
    start: int
    stop: int
    arguments: list[str] = field(default_factory=list)
    nodes: list[NodeDef] = field(default_factory=list)


class Graph:
    """A `GraphDef` with the functions of its library."""

    def __init__(self, wire: Wire, spans: list[tuple[int, int]]) -> None:
        self._wire, self.budget = wire, wire.budget
        self.main = Body("", -1, -1)
        self.functions: dict[str, Body] = {}
        # A message that stands there twice is one message: readers put them together.
        for start, stop in spans:
            for number, at, end in wire.fields(start, stop):
                if number == _NODE and end >= 0:
                    self.main.nodes.append(self._node(at, end))
                elif number == _LIBRARY:
                    self._library(at, end)
        self._order = sorted(self.functions.values(), key=lambda f: f.start)
        self._starts = [f.start for f in self._order]

    def bodies(self) -> Iterator[Body]:
        """The main graph and every function."""
        yield self.main
        yield from self.functions.values()

    def inputs(self, node: NodeDef) -> list[str]:
        """What a node gets its data from: names of nodes or arguments, without ports; control inputs are left out."""
        found = [self._wire.text(*span) for span in self._wire.messages(_INPUT, node.start, node.stop)]
        return [name.partition(":")[0] for name in found if not name.startswith("^")]

    def texts(self, node: NodeDef, attribute: str) -> list[str]:
        """The value of an attribute that is a text."""
        return [self._wire.text(at, end) for number, at, end in self._value(node, attribute) if number == _TEXT]

    def constant_texts(self, node: NodeDef) -> list[str]:
        """The texts that a constant holds.

        Raises:
            MalformedError: They are packed, which TensorFlow reads and does not write.
        """
        found = []
        for at, end in self._tensors(node):
            if any(True for _ in self._wire.messages(_TENSOR_PACKED, at, end)):
                raise MalformedError(f"the constant {node.name!r} holds packed texts")
            found += [self._wire.text(*span) for span in self._wire.messages(_TENSOR_TEXT, at, end)]
        return found

    def constant_size(self, node: NodeDef) -> tuple[int, int]:
        """How many elements a constant declares, and the bytes that it has for them."""
        elements = stored = 0
        for at, end in self._tensors(node):
            stored += end - at
            elements += sum(math.prod(self._wire.shape(*shape)) for shape in self._wire.messages(_TENSOR_SHAPE, at, end))
        return elements, stored

    def callers(self, function: Body) -> Iterator[tuple[Body, NodeDef | None]]:
        """Where a function's name stands: in a node of the main graph, or somewhere in another function."""
        # By its bytes, for a name can stand in any attribute. Its length stands before it and tells it from the longer name
        # that it begins; what follows is the writer's choice. A length that is written longer than it must be ends with 0.
        name = function.name.encode()
        pattern = re.compile(b"(?:" + re.escape(_length(len(name))) + b"|\\0)" + re.escape(name))
        for match in pattern.finditer(self._wire.data):
            self.budget.spend()
            inside = self._function_at(match.start())
            node = self._main_node_at(match.start()) if inside is None else None
            if inside is not None and inside is not function:
                yield inside, None
            elif node is not None:
                yield self.main, node

    def _function_at(self, at: int) -> Body | None:
        i = bisect.bisect_right(self._starts, at) - 1
        return self._order[i] if i >= 0 and at < self._order[i].stop else None

    def _main_node_at(self, at: int) -> NodeDef | None:
        nodes = self.main.nodes
        i = bisect.bisect_right(nodes, at, key=lambda n: n.start) - 1
        return nodes[i] if i >= 0 and at < nodes[i].stop else None

    def _library(self, start: int, stop: int) -> None:
        for at, end in self._wire.messages(1, start, stop):
            self.budget.spend()
            function = Body("", at, end)
            for number, a, e in self._wire.fields(at, end):
                if number == _SIGNATURE:
                    self._signature(function, a, e)
                elif number == _FUNCTION_NODE and e >= 0:
                    function.nodes.append(self._node(a, e))
            # Two functions of one name: both are looked at, under names of their own.
            self.functions[function.name if function.name not in self.functions else f"{function.name}@{at}"] = function

    def _signature(self, function: Body, start: int, stop: int) -> None:
        for number, at, end in self._wire.fields(start, stop):
            if end < 0:
                continue  # a number, which readers ignore where a text or a message belongs
            if number == 1:
                function.name = self._wire.text(at, end)
            elif number == 2:  # noqa: PLR2004  # an argument
                self.budget.spend()
                if any(field in _ARGUMENT_LISTS for field, _, _ in self._wire.fields(at, end)):
                    raise MalformedError("an argument that is a list: its function takes more values than can be counted")
                function.arguments.append(self._wire.last_text(1, at, end))

    def _node(self, start: int, stop: int) -> NodeDef:
        self.budget.spend()
        node = NodeDef("", "", start, stop)
        for number, at, end in self._wire.fields(start, stop):
            # Where a field stands twice, the last one counts; a number is none of these.
            if end < 0:
                continue
            if number == _NAME:
                node.name = self._wire.text(at, end)
            elif number == _OP:
                node.op = self._wire.text(at, end)
        return node

    def _value(self, node: NodeDef, attribute: str) -> Iterator[Field]:
        """The fields of the value of one attribute.

        Raises:
            MalformedError: Whoever calls the function fills it in, so that it can't be told here.
        """
        for at, end in self._wire.messages(_ATTRIBUTE, node.start, node.stop):
            if self._wire.last_text(_KEY, at, end) == attribute:
                for value in self._wire.messages(_VALUE, at, end):
                    for field in self._wire.fields(*value):
                        if field[0] == _FILLED_IN:
                            raise MalformedError(f"{node.name!r} leaves its {attribute} to whoever calls it")
                        yield field

    def _tensors(self, node: NodeDef) -> Iterator[tuple[int, int]]:
        return ((at, end) for number, at, end in self._value(node, "value") if number == _TENSOR and end >= 0)


def _length(size: int) -> bytes:
    """A length as it stands before a text."""
    written = bytearray()
    while size > 127:  # noqa: PLR2004
        written.append(size & 127 | 128)
        size >>= 7
    return bytes([*written, size])
