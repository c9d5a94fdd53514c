"""Parts of one array that a fused region reads, brought into blocks of their own by one copy.

The gates of a cell lie in the columns of one array. NumPy calls its loop once for each row of such a part, in every op
that reads one. To copy them all together takes about the time that a single op loses by that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from graphengine.ir.graph import Graph
from graphengine.ir.node import Node
from graphengine.ir.op import Array, Call

__all__ = ["as_blocks", "likely_parts"]

LONG_ROW = 256
"""From so many elements in a row on, its own call is no loss."""


def likely_parts(body: Graph, space: tuple[int, ...]) -> list[Node]:
    """The inputs of a region that may be such parts: several of one type that no op reads together with others.

    What an op reads beside another operand is as a rule a block already, a residual or a state.
    """
    beside = {parent for node in body.nodes if len(node.parents) > 1 for parent in node.parents}
    alone = [node for node in body.inputs if node.shape == space and node not in beside]
    found = [node for node in alone if node.dtype == alone[0].dtype]
    return found if len(found) > 1 and len(space) > 1 and space[-1] < LONG_ROW else []


def as_blocks(parts: Mapping[Node, Array], memory: Array) -> tuple[dict[Node, Array], Sequence[Call]]:
    """Blocks in `memory` that get the values of `parts`, and the call that copies them; none if they lie otherwise."""
    if any(array.flags.c_contiguous for array in parts.values()):
        return {}, ()
    places = {node: array.__array_interface__["data"][0] for node, array in parts.items()}
    nodes = sorted(parts, key=places.__getitem__)
    whole = _together([parts[node] for node in nodes], [places[node] for node in nodes])
    if whole is None:
        return {}, ()
    blocks = memory[: whole.nbytes].view(whole.dtype).reshape(whole.shape)
    return dict(zip(nodes, blocks, strict=True)), [(np.copyto, (blocks, whole))]


def _together(arrays: Sequence[Array], places: Sequence[int]) -> Array | None:
    """Arrays at equal distances in the memory of another one, as one view of that."""
    first, base, steps = arrays[0], arrays[0].base, {after - before for before, after in pairwise(places)}
    if len(steps) > 1 or not isinstance(base, np.ndarray) or not base.flags.c_contiguous:
        return None
    if any(array.base is not base or array.strides != first.strides for array in arrays):
        return None
    start = places[0] - base.__array_interface__["data"][0]
    return np.ndarray((len(arrays), *first.shape), first.dtype, base.data, start, (*steps, *first.strides))
