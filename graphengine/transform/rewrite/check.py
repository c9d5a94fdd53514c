"""What holds after every rewrite: the results are those asked for, and the graph is one."""

from __future__ import annotations

from collections.abc import Iterator

from graphengine.errors import GraphError
from graphengine.ir.graph import Graph
from graphengine.ir.leaf import Constant
from graphengine.ops.scan import Scan
from graphengine.where import Where


def check_rewrite(before: Graph, after: Graph) -> None:
    """Raise GraphError, with all that is wrong, unless `after` may replace `before`."""
    faults = list(_faults(before, after))
    if faults:
        raise GraphError("\n".join([f"a rewrite of graph {before.name!r} went wrong", *faults]))


def _faults(before: Graph, after: Graph) -> Iterator[str]:
    was, is_now = ([(name, node.type) for name, node in graph.outputs.items()] for graph in (before, after))
    if was != is_now:  # in their order, too
        yield f"outputs were {dict(was)} and are {dict(is_now)}"
    updated, is_updated = ({leaf.name: node.type for leaf, node in graph.updates.items()} for graph in (before, after))
    if updated != is_updated:
        yield f"updates were {updated} and are {is_updated}"
    for node in (*after.outputs.values(), *after.updates, *after.updates.values()):
        if node.graph is not after or after.nodes[node.index] is not node:
            yield f"{node!r} is a result, and no node of the graph"
    for node in after.nodes:
        if node.is_leaf and not isinstance(node.op, Constant):
            known = before[node.name].op if node.name in before else None
            if known != node.op:
                yield f"the leaf {node!r} was {known!r}"
    yield from _faults_of_nodes(after)


def _faults_of_nodes(graph: Graph) -> Iterator[str]:
    for index, node in enumerate(graph.nodes):
        if node.graph is not graph or node.index != index or graph[node.name] is not node:
            yield f"{node!r} is not where it says that it is"
        if not isinstance(node.where, Where):
            yield f"{node!r} does not know where it was declared"
        for parent in node.parents:
            if parent.index >= index:
                yield f"{node!r} stands before {parent!r}"
            if not parent.is_leaf and parent.phase > node.phase:
                yield f"{node!r} is {node.phase.name} and reads {parent!r}, which is {parent.phase.name}"
        inferred = node.op.infer(*(parent.type for parent in node.parents))
        if inferred != node.type:
            yield f"{node!r} should be {inferred}"
        if isinstance(node.op, Scan):
            yield from (f"in the body of {node.name}: {fault}" for fault in _faults_of_nodes(node.op.body))
