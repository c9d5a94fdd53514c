"""The graph of what is trained, rewritten for use: nothing in it draws, updates, or looks at the rest of the batch.

Derivatives in the graph become those of what it then computes: the adjoint of dropout is dropout, and that
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
from graphengine.ops.broadcast import BroadcastTo, Reshape, Sum
from graphengine.ops.elementwise import Divide, Multiply, Negative
from graphengine.ops.norm import BatchStatistic
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
        op, parents = _in_inference(node, zeros)
        return copies[parents[0]] if _draws_or_averages(node.op) else (op, parents)

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

    They are zero. `zero` are the nodes of it where an adjoint does not go.
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


def _in_inference(node: Node, zeros: Collection[Node]) -> tuple[Op, Sequence[Node]]:
    """The op of `node` when nothing is trained, and what it then reads, where `zeros` are adjoints of nothing."""
    op, parents = node.op, node.parents
    if isinstance(op, Dropout):
        return Identity(), parents[:1]
    if isinstance(op, BatchStatistic):
        return Identity(), parents[1:]
    if isinstance(op, Scan) and _is_training(op):
        return _scan_in_inference(op, parents)
    if node in zeros:  # only the zero of a product, as the other factor may be infinite
        zero = next(parent for parent in parents if parent in zeros)
        return BroadcastTo(shape=node.shape) if isinstance(op, Multiply | Divide) else op, [zero]
    return op, parents


def _scan_in_inference(op: Scan, operands: Sequence[Node]) -> tuple[Op, Sequence[Node]]:
    """The scan with an identity for every dropout and every batch statistic in its body, and its operands.

    An identity takes no time either, and a scan's items are counted by the nodes of its body. Of what all steps read,
    only that stays which they still read.
    """
    source, stepped = op.body, op.carries + op.sequences
    captured = zip(source.inputs[stepped:], operands[stepped:], strict=True)
    zero = {node for node, operand in captured if _is_zero(operand)}.union(filter(_is_zero, source.nodes))
    zeros = _adjoints_of_nothing(source.nodes, zero)
    found = {node: _in_inference(node, zeros) for node in source.nodes}
    read = {parent for _, parents in found.values() for parent in parents}.union(source.outputs.values())
    stays = {node: index < stepped or node in read for index, node in enumerate(source.inputs)}
    body = Graph(source.name, source.dtype)
    left = [node for node in source.nodes if stays.get(node, True)]
    copies = copy_nodes(left, body, replace=found.__getitem__, keep_phase=False)
    body.outputs = {name: copies[node] for name, node in source.outputs.items()}
    left_operands = [operand for operand, is_read in zip(operands, stays.values(), strict=True) if is_read]
    return op.model_copy(update={"body": body}), left_operands
