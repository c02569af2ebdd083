"""Operations of a graph that open files: where does each file's name come from?

Every SavedModel reads its own variables and can write them, and a lookup table may read its vocabulary. That is fine as long
as the loader says which file: the name of a checkpoint comes in through a placeholder, that of a vocabulary is an asset of
the model's own. A name that the graph brings along, or that a caller could give, is not; neither is one that the graph makes
of what was given: only what TensorFlow itself does to a name on its way is followed.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from tasks.safety.files import leaves_its_folder
from tasks.safety.findings import Finding, dangerous
from tasks.safety.graph import Body, Graph, NodeDef

# Which of their inputs are names of files. `ShardedFilename` only makes one.
NAMING: Mapping[str, tuple[int, ...]] = {
    "SaveV2": (0,),
    "RestoreV2": (0,),
    "MergeV2Checkpoints": (0, 1),
    "InitializeTableFromTextFileV2": (1,),
}
# Which of their inputs are what they hand on.
_HANDED_ON: Mapping[str, slice] = {
    "Identity": slice(1),
    "ReadVariableOp": slice(1),
    "ShardedFilename": slice(1),
    "Select": slice(1, None),
    "SelectV2": slice(1, None),
    "Pack": slice(None),
}
_PLACEHOLDERS = {"Placeholder", "PlaceholderWithDefault"}
_CALLS = {"PartitionedCall", "StatefulPartitionedCall"}
# What TensorFlow adds to a name (`_temp/part`). A dot or a slash never ends one, so that no two make a `..` between them.
_ENDING = re.compile(r"(?:[\w-]|[./](?=[\w-]))*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Exposed:
    """What of a graph can be called from Python, and with which captured values.

    Attributes:
        captures: For each function of the object graph, the objects that are bound to its last arguments.
        assets: Numbers of the objects that are assets.
        asset_tensors: Names of the main graph's nodes that hold an asset's path.
    """

    captures: Mapping[str, list[int]]
    assets: Collection[int]
    asset_tensors: Collection[str]


def inspect_file_names(graph: Graph, exposed: Exposed, name: str) -> Iterator[Finding]:
    """Follow the name of every file back to where it comes from."""
    main = _Texts(graph, graph.main, exposed.asset_tensors)
    for body in graph.bodies():
        opening = [node for node in body.nodes if node.op in NAMING]
        if not opening:
            continue
        texts = main if body is graph.main else _Texts(graph, body)
        for node in opening:
            inputs = graph.inputs(node)
            bad = texts.not_given([inputs[i] for i in NAMING[node.op] if i < len(inputs)])
            if bad or len(inputs) <= max(NAMING[node.op]):
                where = f"{name}:{body.name or 'graph'}/{node.name}"
                yield dangerous(
                    "operation", where, f"{node.op} opens a file that the graph names itself ({bad or 'nothing'})"
                )
        if texts.through:
            yield from _callers(graph, body, main, texts.through, exposed, f"{name}:{body.name}")


class _OwnText(Exception):
    """A text that nobody gave."""


class _Texts:
    """Where the texts of the main graph or of one function come from.

    Attributes:
        through: The function's arguments that names come in through.
    """

    def __init__(self, graph: Graph, body: Body, assets: Collection[str] = ()) -> None:
        graph.budget.spend(len(body.nodes))
        self._graph, self._body, self._assets = graph, body, assets
        self._nodes = {node.name: node for node in body.nodes}
        self._known: dict[str, bool | None] = {}
        self.through: set[str] = set()

    def not_given(self, names: list[str]) -> str:
        """The first text among these that the graph brings along; empty where the loader gives all of them."""
        try:
            return "" if all(self._is_given(name) for name in names) else "a constant"
        except _OwnText as own:
            return str(own)

    def _is_given(self, name: str) -> bool:
        """Whether the loader gives a text, and not the graph an ending."""
        if name not in self._known:
            self._known[name] = None
            node = self._nodes.get(name)
            self._known[name] = self._argument(name) if node is None else self._of(node)
        known = self._known[name]
        if known is None:
            raise _OwnText(f"{name!r}, which goes in circles")
        return known

    def _argument(self, name: str) -> bool:
        if name not in self._body.arguments:
            raise _OwnText(f"the unknown {name!r}")
        self.through.add(name)
        return True

    def _of(self, node: NodeDef) -> bool:
        inputs = self._graph.inputs(node)
        if node.op == "Const":
            self._require_ending(self._graph.constant_texts(node))
            return node.name in self._assets
        if node.op in _PLACEHOLDERS and self._body is self._graph.main:  # in a function it is no way in
            for default in inputs:
                self._is_given(default)
            return True
        if node.op == "StringJoin" and inputs:
            self._require_ending(self._graph.texts(node, "separator"))
            if any(self._is_given(name) for name in inputs[1:]):
                raise _OwnText(f"what {node.name!r} puts before a name")
            return self._is_given(inputs[0])
        # The main graph keeps an asset's path in a variable: what counts is what was put into it.
        is_variable = node.op == "VarHandleOp"
        names = self._assigned.get(node.name, []) if is_variable else inputs[_HANDED_ON.get(node.op, slice(0))]
        given = {self._is_given(name) for name in names}
        if len(given) != 1:
            raise _OwnText(f"a choice of {node.name!r}" if given else f"what {node.op} makes")
        return given.pop()

    @functools.cached_property
    def _assigned(self) -> dict[str, list[str]]:
        """What is put into each variable."""
        values: dict[str, list[str]] = {}
        for node in self._body.nodes:
            if node.op == "AssignVariableOp":
                variable, value = self._graph.inputs(node)
                values.setdefault(variable, []).append(value)
        return values

    @staticmethod
    def _require_ending(texts: list[str]) -> None:
        for text in texts:
            if leaves_its_folder(text) or not _ENDING.fullmatch(text):
                raise _OwnText(repr(text[:120]))


def _callers(graph: Graph, body: Body, main: _Texts, arguments: set[str], exposed: Exposed, where: str) -> Iterator[Finding]:
    """The names come in through arguments: so whoever calls must be the loader."""
    positions = [i for i, argument in enumerate(body.arguments) if argument in arguments]
    for inside, node in graph.callers(body):
        if node is None:
            yield dangerous("operation", where, f"it opens files, and the function {inside.name} says which")
            continue
        inputs = graph.inputs(node)
        # Others have inputs of their own before those that they hand on.
        bad = main.not_given([inputs[i] for i in positions]) if node.op in {*_CALLS, body.name} else f"through {node.op}"
        if bad:
            yield dangerous("operation", where, f"it opens files, and the graph says which ({bad})")
    bound = exposed.captures.get(body.name)
    if bound is not None:
        first = len(body.arguments) - len(bound)
        given = [i for i in positions if i < first or bound[i - first] not in exposed.assets]
        if given:
            yield dangerous("operation", where, "it opens files, and the model or whoever calls it says which")
