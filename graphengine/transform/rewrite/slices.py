"""Sums of parts put back in their places, as the adjoint of an array is that many slices read."""

from __future__ import annotations

from graphengine.ir.graph import Graph
from graphengine.ops.elementwise import Add
from graphengine.ops.index import AddSlice, SliceAdjoint
from graphengine.transform.rewrite.numbers import both_ways
from graphengine.transform.rewrite.walk import Apply, Expression, Rules, Site, apply_rules


def add_slices(graph: Graph) -> bool:
    """Add a part where an array stands, with no array of zeros around it: n parts cost n parts."""
    return apply_rules(graph, _RULES)


def added_slice(y: Site) -> Expression | None:
    """x + slice_adjoint(part) = add_slice(x, part), where nothing else reads the array of zeros around the part."""
    for x, padded in both_ways(y):
        if isinstance(padded.op, SliceAdjoint) and y.once(padded) and x.type == y.type and y.type.is_float:
            return Apply.to(AddSlice(key=padded.op.key), x, padded.parents[0])
    return None


_RULES = Rules({Add: (added_slice,)})
