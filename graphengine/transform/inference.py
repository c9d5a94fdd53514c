"""The graph of what is trained, rewritten for use: nothing in it draws, updates, or looks at the rest of the batch.

Derivatives that stand in the graph become those of what it then computes: the adjoint of dropout is dropout, and that
of a batch statistic goes to the batch or to the running statistic, whichever is used.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from graphengine.ir.copying import copy_nodes
from graphengine.ir.graph import Graph
from graphengine.ir.leaf import Constant
from graphengine.ir.node import Node
from graphengine.ir.op import Op
from graphengine.ir.subgraph import needed_nodes
from graphengine.ops.activation import Identity
from graphengine.ops.batch_norm import BatchStatistic
from graphengine.ops.broadcast import BroadcastTo, Reshape, Sum
from graphengine.ops.elementwise import Divide, Multiply, Negative
from graphengine.ops.random import Dropout
from graphengine.ops.scan import Scan
from graphengine.transform.batch_norm_folding import fold_batch_norms
from graphengine.transform.extract import finish


def for_inference(graph: Graph) -> Graph:
    """The graph for inference: returns a copy with the same outputs as they are when nothing is trained.

    Dropout is removed. Batch normalization takes its running statistics, and is folded into a dense layer or conv2d
    before it. Updates, the training section and all that no output needs, inputs too, are left out. Leaves, outputs and
    nodes keep their names, and errors quote the lines that declared them. Raises nothing.
    """
    twin = Graph(graph.name, graph.dtype)
    copies: dict[Node, Node] = {}
    nodes = needed_nodes(graph.outputs.values())
    zeros = _adjoints_of_nothing(nodes, set(filter(_is_zero, nodes)))

    def replaced(node: Node) -> Node | tuple[Op, Sequence[Node]]:
        parents = _still_read(node, zeros)
        return copies[parents[0]] if _draws_or_averages(node.op) else (_in_inference(node, zeros), parents)

    copy_nodes(nodes, twin, copies, replace=replaced, keep_phase=False)
    return fold_batch_norms(finish(twin, graph, copies))


def trains_otherwise(graph: Graph) -> bool:
    """Whether training computes the outputs of `graph` in another way than inference does."""
    return any(_is_training(node.op) for node in needed_nodes(graph.outputs.values()))


def _is_training(op: Op) -> bool:
    if isinstance(op, Scan):
        return any(_is_training(node.op) for node in op.body.nodes)
    return _draws_or_averages(op)


def _draws_or_averages(op: Op) -> bool:
    return isinstance(op, Dropout | BatchStatistic)


def _adjoints_of_nothing(nodes: Collection[Node], zero: Collection[Node]) -> set[Node]:
    """Those of `nodes` that are adjoints of a batch statistic, which is no longer computed, or linear in one.

    They are zero. `zero` are the nodes that stand for it where an adjoint does not go.
    """
    found: set[Node] = set()
    for node in nodes:
        if isinstance(node.op, BatchStatistic):
            is_nothing = node.parents[1] in zero
        elif isinstance(node.op, Multiply):
            is_nothing = not found.isdisjoint(node.parents)
        else:
            is_nothing = isinstance(node.op, _LINEAR) and node.parents[0] in found
        if is_nothing:
            found.add(node)
    return found


_LINEAR = (BroadcastTo, Divide, Negative, Reshape, Sum)
"""With products: what lies between a batch statistic and the batch in an adjoint."""


def _is_zero(node: Node) -> bool:
    if isinstance(node.op, BroadcastTo):
        (node,) = node.parents
    return isinstance(node.op, Constant) and node.ndim == 0 and node.op.value == 0


def _still_read(node: Node, zeros: Collection[Node]) -> list[Node]:
    """The parents of `node` that it reads when nothing is being trained, where `zeros` are adjoints of nothing."""
    op = node.op
    if isinstance(op, Dropout):
        return [node.parents[0]]
    if isinstance(op, BatchStatistic):
        return [node.parents[1]]
    if isinstance(op, Scan):
        return [parent for parent, kept in zip(node.parents, _inputs_kept(node).values(), strict=True) if kept]
    if node in zeros:  # only the zero of a product, as the other factor may be infinite
        return [next(parent for parent in node.parents if parent in zeros)]
    return list(node.parents)


def _in_inference(node: Node, zeros: Collection[Node]) -> Op:
    """What is applied to what `node` still reads: its own op, or what spreads a zero, or a scan with another body."""
    if isinstance(node.op, Multiply | Divide) and node in zeros:
        return BroadcastTo(shape=node.shape)
    return _scan_in_inference(node) if isinstance(node.op, Scan) and _is_training(node.op) else node.op


def _inputs_kept(scan: Node) -> dict[Node, bool]:
    """For every input of the body whether it stays: of what all steps read, only what they still read."""
    assert isinstance(scan.op, Scan)
    body, zeros = scan.op.body, _zeros_in_body(scan)
    read = {parent for node in body.nodes for parent in _still_read(node, zeros)} | set(body.outputs.values())
    stepped = scan.op.carries + scan.op.sequences
    return {node: index < stepped or node in read for index, node in enumerate(body.inputs)}


def _zeros_in_body(scan: Node) -> set[Node]:
    """The adjoints of nothing in the body of a scan, which captures the zero that stands for them."""
    assert isinstance(scan.op, Scan)
    body, stepped = scan.op.body, scan.op.carries + scan.op.sequences
    captured = zip(body.inputs[stepped:], scan.parents[stepped:], strict=True)
    zero = {node for node, operand in captured if _is_zero(operand)}
    return _adjoints_of_nothing(body.nodes, zero.union(filter(_is_zero, body.nodes)))


def _scan_in_inference(scan: Node) -> Op:
    """The scan with an identity in the place of every dropout and every batch statistic in its body.

    An identity takes no time either, and a scan's items are counted by the nodes of its body.
    """
    assert isinstance(scan.op, Scan)
    source, zeros, kept = scan.op.body, _zeros_in_body(scan), _inputs_kept(scan)
    body = Graph(source.name, source.dtype)

    def replaced(node: Node) -> tuple[Op, Sequence[Node]]:
        op = Identity() if _draws_or_averages(node.op) else _in_inference(node, zeros)
        return op, _still_read(node, zeros)

    left = [node for node in source.nodes if kept.get(node, True)]
    copies = copy_nodes(left, body, replace=replaced, keep_phase=False)
    body.outputs = {name: copies[node] for name, node in source.outputs.items()}
    return scan.op.model_copy(update={"body": body})
