"""Operations of a graph that open files: where does each file's name come from?

Every SavedModel reads its own variables and can write them, and a lookup table may read its vocabulary. That is fine as long
as the loader says which file: the name of a checkpoint comes in through a placeholder, that of a vocabulary is an asset of
the model's own. A name that the graph brings along, or that a caller could give, is not.
"""

from __future__ import annotations

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
_PLACEHOLDERS = {"Placeholder", "PlaceholderWithDefault"}


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
    for body in graph.bodies():
        opening = [node for node in body.nodes if node.op in NAMING]
        if not opening:
            continue
        arguments: set[str] = set()
        for node in opening:
            inputs = graph.inputs(node)
            named = {inputs[i] for i in NAMING[node.op] if i < len(inputs)}
            where = f"{name}:{body.name or 'graph'}/{node.name}"
            bad, through = _sources(graph, body, named, exposed)
            arguments |= through
            if bad or len(named) < len(NAMING[node.op]):
                message = f"{node.op} opens a file that the graph names itself ({bad or 'nothing'})"
                yield dangerous("operation", where, message)
        if arguments:
            yield from _callers(graph, body, arguments, exposed, f"{name}:{body.name}")


def _sources(graph: Graph, body: Body, named: set[str], exposed: Exposed) -> tuple[str, set[str]]:
    """What is wrong with where names come from (empty: nothing), and the function's arguments that they come through."""
    graph.budget.spend(len(body.nodes))
    nodes = {node.name: node for node in body.nodes}
    assigned = _assigned(graph, body)
    stack, seen = list(named), set(named)
    through: set[str] = set()
    while stack:
        current = stack.pop()
        node = nodes.get(current)
        if node is None:
            if current not in body.arguments:
                return f"the unknown {current!r}", through
            through.add(current)
        elif node.op == "Const" and current not in exposed.asset_tensors:
            paths = [path for path in graph.constant_texts(node) if leaves_its_folder(path)]
            if paths:
                return repr(paths[0][:120]), through
        elif node.op not in _PLACEHOLDERS:
            # The main graph keeps an asset's path in a variable: what counts is what was put into it.
            following = (assigned.get(current, set()) if node.op == "VarHandleOp" else set(graph.inputs(node))) - seen
            seen |= following
            stack += following
    only_constants = not through and not any(n in nodes and nodes[n].op in _PLACEHOLDERS for n in seen)
    is_asset = bool(seen & set(exposed.asset_tensors))
    return ("a constant" if only_constants and not is_asset else ""), through


def _assigned(graph: Graph, body: Body) -> dict[str, set[str]]:
    """What is put into each variable."""
    values: dict[str, set[str]] = {}
    for node in body.nodes:
        if node.op == "AssignVariableOp":
            variable, value = graph.inputs(node)
            values.setdefault(variable, set()).add(value)
    return values


def _callers(graph: Graph, body: Body, arguments: set[str], exposed: Exposed, where: str) -> Iterator[Finding]:
    """The names come in through arguments: so whoever calls must be the loader."""
    positions = [i for i, argument in enumerate(body.arguments) if argument in arguments]
    for inside, node in graph.callers(body):
        if node is None:
            yield dangerous("operation", where, f"it opens files, and the function {inside.name} says which")
            continue
        yield from _called(graph, inside, node, positions, exposed, where)
    bound = exposed.captures.get(body.name)
    if bound is not None:
        first = len(body.arguments) - len(bound)
        given = [i for i in positions if i < first or bound[i - first] not in exposed.assets]
        if given:
            yield dangerous("operation", where, "it opens files, and the model or whoever calls it says which")


def _called(
    graph: Graph, inside: Body, node: NodeDef, positions: list[int], exposed: Exposed, where: str
) -> Iterator[Finding]:
    inputs = graph.inputs(node)
    bad, _ = _sources(graph, inside, {inputs[i] for i in positions if i < len(inputs)}, exposed)
    if bad:
        yield dangerous("operation", where, f"it opens files, and the graph says which ({bad})")
