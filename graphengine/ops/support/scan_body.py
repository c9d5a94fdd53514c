"""The body of a scan, cut out of the graph in which one step was declared, or differentiated.

What is the same in every step is left out of it: that is computed once, in the graph around, and read by all steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graphengine.ir.graph import Graph
from graphengine.ir.leaf import Constant, Input
from graphengine.ir.node import Node, apply
from graphengine.ir.subgraph import cut, needed_nodes
from graphengine.ops.elementwise import Copy
from graphengine.ops.matmul import MatMul
from graphengine.ops.shape import Transpose

COPIED_ELEMENTS = 2**18
"""The size up to which a transposed matrix that each step multiplies by is copied once.

For rows of 32 by 256 such a product takes two thirds of the time. Copying larger ones takes longer than it saves.
"""


def cut_body(
    name: str, stepped: Sequence[Node], shared: Mapping[Node, Node], outer: Graph, outputs: Mapping[str, Node]
) -> tuple[Graph, list[Node]]:
    """The body that computes `outputs`, and the operands that all its steps read.

    `stepped` are its inputs that differ from step to step; `shared` gives others, with what they are in `outer`.
    """
    lifted = _lifted(next(iter(outputs.values())).graph, shared, outer)
    inside = needed_nodes(outputs.values(), [*stepped, *lifted])
    read = {*outputs.values(), *(parent for node in inside for parent in node.parents)}
    multiplied = {parent for node in inside if isinstance(node.op, MatMul) for parent in node.parents}
    given = [node for node in lifted if node in read]
    operands = [_compact(lifted[node]) if node in multiplied else lifted[node] for node in given]
    return cut(name, [*stepped, *given], outputs), operands


def _lifted(inner: Graph, shared: Mapping[Node, Node], outer: Graph) -> dict[Node, Node]:
    """What is the same in every step, in `outer`: what is `shared`, arrays, and what these alone give."""
    lifted = dict(shared)
    for node in inner.nodes:
        of_lifted = any(parent in lifted for parent in node.parents)
        is_array = isinstance(node.op, Constant) and node.ndim > 0
        if is_array or (of_lifted and all(parent in lifted or _is_bare(parent) for parent in node.parents)):
            with outer.declared_at(node.where):
                lifted[node] = outer.add(node.op, [_outside(parent, lifted, outer) for parent in node.parents])
    return lifted


def _is_bare(node: Node) -> bool:
    """Whether it is computed from nothing, as a scalar is, so that it is anywhere at no cost."""
    return not node.parents and not isinstance(node.op, Input)


def _outside(node: Node, lifted: Mapping[Node, Node], outer: Graph) -> Node:
    if node in lifted:
        return lifted[node]
    if isinstance(node.op, Constant):
        return outer.scalar(node.op.value.item(), node.dtype)
    return outer.add(node.op)


def _compact(node: Node) -> Node:
    """`node`, or where it is a small matrix seen transposed, its elements in the order in which they are read."""
    is_small = not node.type.names() and node.type.size <= COPIED_ELEMENTS
    return apply(Copy(), node) if isinstance(node.op, Transpose) and is_small else node
