"""What holds after every rewrite: the results are those asked for, and the graph is one."""

from __future__ import annotations

from collections.abc import Iterator

from graphengine.errors import GraphError
from graphengine.ir.graph import Graph
from graphengine.ir.leaf import Constant
from graphengine.ir.node import Node, Where
from graphengine.ops.scan import Scan


def check_rewrite(before: Graph, after: Graph) -> None:
    """Raise GraphError, with all that is wrong, unless `after` may stand for `before`."""
    faults = [*_faults_of_results(before, after), *_faults_of_leaves(before, after), *_faults_of_nodes(after)]
    if faults:
        raise GraphError("\n".join([f"a rewrite of graph {before.name!r} went wrong", *faults]))


def _faults_of_results(before: Graph, after: Graph) -> Iterator[str]:
    was, is_now = ({name: node.type for name, node in graph.outputs.items()} for graph in (before, after))
    if list(was.items()) != list(is_now.items()):
        yield f"outputs were {was} and are {is_now}"
    was, is_now = ({leaf.name: node.type for leaf, node in graph.updates.items()} for graph in (before, after))
    if was != is_now:
        yield f"updates were {was} and are {is_now}"
    for node in (*after.outputs.values(), *after.updates, *after.updates.values()):
        if node.graph is not after or after.nodes[node.index] is not node:
            yield f"{node!r} is a result, and no node of the graph"


def _faults_of_leaves(before: Graph, after: Graph) -> Iterator[str]:
    for node in after.nodes:
        if node.is_leaf and not isinstance(node.op, Constant):
            known = before[node.name].op if node.name in before else None
            if known != node.op:
                yield f"the leaf {node!r} was {known!r}"


def _faults_of_nodes(graph: Graph) -> Iterator[str]:
    for index, node in enumerate(graph.nodes):
        if node.graph is not graph or node.index != index or graph[node.name] is not node:
            yield f"{node!r} is not where it says that it is"
        if not isinstance(node.where, Where):
            yield f"{node!r} does not know where it was declared"
        yield from (f"{node!r} stands before {parent!r}" for parent in node.parents if parent.index >= index)
        yield from (fault for parent in node.parents if (fault := _fault_of_phases(node, parent)))
        inferred = node.op.infer(*(parent.type for parent in node.parents))
        if inferred != node.type:
            yield f"{node!r} should be {inferred}"
        if isinstance(node.op, Scan):
            yield from (f"in the body of {node.name}: {fault}" for fault in _faults_of_nodes(node.op.body))


def _fault_of_phases(node: Node, parent: Node) -> str:
    if parent.is_leaf or parent.phase <= node.phase:
        return ""
    return f"{node!r} is {node.phase.name} and reads {parent!r}, which is {parent.phase.name}"
