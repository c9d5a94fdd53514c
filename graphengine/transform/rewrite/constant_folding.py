"""Constant folding: values that depend on constants alone are computed now, and not in every run.

Only small ones: a constant takes memory for good, where a value would have shared its buffer with others, and a
broadcast of one takes none. A product of constants, and what is cut out of them, may be small where they are not.
"""

from __future__ import annotations

import numpy as np

from graphengine.errors import ExecutionError
from graphengine.ir.copying import drop_unneeded
from graphengine.ir.graph import Graph
from graphengine.ir.leaf import Constant
from graphengine.ir.node import Node
from graphengine.ir.types import Array, TupleType
from graphengine.ops.broadcast import BroadcastTo
from graphengine.ops.convolution import Convolution
from graphengine.ops.pool import Pool
from graphengine.ops.scan import Scan
from graphengine.transform.rewrite.bodies import in_bodies

FOLDED_ELEMENTS = 4096
"""The size up to which a value becomes a constant."""


def fold_constants(graph: Graph) -> bool:
    """Constant folding: compute small values that depend on constants alone, in the bodies of scans too."""
    has_changed = in_bodies(graph, fold_constants)
    known: dict[Node, Array] = {}
    for node in graph.nodes:
        if isinstance(node.op, Constant):
            known[node] = node.op.value
        elif not node.is_leaf and all(parent in known for parent in node.parents) and _is_small(node):
            try:
                with np.errstate(all="ignore"):
                    known[node] = np.asarray(node.op.eval(np, *[known[parent] for parent in node.parents]))
            except ExecutionError:  # a label out of range, say, which the run is to refuse
                continue
    folded = [node for node in known if not node.is_leaf]
    if not folded:
        return has_changed
    read = {parent for node in graph.nodes if node not in known for parent in node.parents}
    read.update(graph.outputs.values(), graph.updates.values())
    for node in folded:
        if node in read:  # others were only on the way
            node.op, node.parents = Constant(value=known[node], dtype=node.dtype), ()
    drop_unneeded(graph)
    return True


def _is_small(node: Node) -> bool:
    if isinstance(node.type, TupleType) or isinstance(node.op, Scan) or node.dim_names():
        return False
    spreads = isinstance(node.op, BroadcastTo) and node.type.size > node.parents[0].type.size
    pads = isinstance(node.op, Convolution | Pool)  # images with their padding, which may be of any size
    return node.type.size <= FOLDED_ELEMENTS and not spreads and not pads
