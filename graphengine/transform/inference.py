"""The graph of what is trained, rewritten for use: nothing in it draws, updates, or looks at the rest of the batch."""

from __future__ import annotations

from graphengine.ir.graph import Graph
from graphengine.ir.node import Node
from graphengine.ir.op import Op
from graphengine.ir.subgraph import needed_nodes
from graphengine.ops.activation import Identity
from graphengine.ops.batch_norm import BatchStatistic
from graphengine.ops.random import Dropout
from graphengine.ops.scan import Scan
from graphengine.transform.fold import fold_normalizations
from graphengine.transform.twin import add_copy, finish

__all__ = ["for_inference", "trains_otherwise"]


def for_inference(graph: Graph) -> Graph:
    """A graph of the same outputs as they are when nothing is being trained; `graph` stays as it is.

    Dropout is gone; batch normalization takes its running statistics instead of those of the batch, and is folded into
    a dense layer or a conv2d right before it (see `fold_normalizations`); updates, the training section and all that no
    output needs are left out, inputs too. Leaves, outputs and nodes keep their names, and errors quote the lines that
    declared them.
    """
    twin = Graph(graph.name, graph.dtype)
    copies: dict[Node, Node] = {}
    for node in needed_nodes(graph.outputs.values()):
        parents = [copies[parent] for parent in _still_read(node)]
        if isinstance(node.op, Dropout | BatchStatistic):
            (copies[node],) = parents
        else:
            copies[node] = add_copy(twin, node, _without_dropout(node.op), parents)
    return fold_normalizations(finish(twin, graph, copies))


def trains_otherwise(graph: Graph) -> bool:
    """Whether training computes the outputs of `graph` in another way than inference does."""
    return any(_is_training(node.op) for node in needed_nodes(graph.outputs.values()))


def _is_training(op: Op) -> bool:
    if isinstance(op, Scan):
        return any(_is_training(node.op) for node in op.body.nodes)
    return isinstance(op, Dropout | BatchStatistic)


def _still_read(node: Node) -> list[Node]:
    """The parents of `node` that it reads when nothing is being trained."""
    op = node.op
    if isinstance(op, Dropout):
        return [node.parents[0]]
    if isinstance(op, BatchStatistic):
        return [node.parents[1]]
    if isinstance(op, Scan):
        return [parent for parent, kept in zip(node.parents, _inputs_kept(op).values(), strict=True) if kept]
    return list(node.parents)


def _inputs_kept(scan: Scan) -> dict[Node, bool]:
    """For every input of the body whether it stays: of what all steps read, only what they still read."""
    read = {parent for node in scan.body.nodes for parent in _still_read(node)} | set(scan.body.outputs.values())
    stepped = scan.carries + scan.sequences
    return {node: place < stepped or node in read for place, node in enumerate(scan.body.inputs)}


def _without_dropout(op: Op) -> Op:
    """`op` itself, or a scan with an identity in the place of every dropout in its body.

    An identity takes no time either, and a scan's items are counted by the nodes of its body.
    """
    if not isinstance(op, Scan) or not _is_training(op):
        return op
    body = Graph(op.body.name, op.body.dtype)
    copies: dict[Node, Node] = {}
    kept = _inputs_kept(op)
    for node in op.body.nodes:
        if kept.get(node, True):
            new = Identity() if isinstance(node.op, Dropout) else _without_dropout(node.op)
            copies[node] = add_copy(body, node, new, [copies[parent] for parent in _still_read(node)])
    body.outputs = {name: copies[node] for name, node in op.body.outputs.items()}
    return op.model_copy(update={"body": body})
