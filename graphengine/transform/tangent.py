"""Forward mode: directional derivatives, from a graph to the same graph with the nodes of its tangents."""

from __future__ import annotations

from collections.abc import Sequence

from graphengine.errors import DTypeError, GraphError, ShapeError
from graphengine.ir.composite import scaffold
from graphengine.ir.node import Node, check_single
from graphengine.ir.pullback import accumulate
from graphengine.ops.broadcast import full
from graphengine.transform.linear import tangents_of

__all__ = ["jvp"]


def jvp(outputs: Sequence[Node], wrt: Sequence[Node], tangents: Sequence[Node]) -> list[Node]:
    """Forward mode: y_dot = sum over x of `wrt` of dy/dx x_dot, for each y of `outputs`.

    tangents: one x_dot for each x, of its type; returns nodes of the types of `outputs`, zeros where no x influences y.
    They cost about one more forward pass. No op has a rule for this: reverse mode is applied twice.
    Raises ShapeError, DTypeError or GraphError for tangents that do not fit, DTypeError for nodes that hold no floats.
    Source: Townsend 2017.
    """
    if not outputs:
        return []
    graph = outputs[0].graph
    ys, xs, dots = ([graph.own(node) for node in nodes] for nodes in (outputs, wrt, tangents))
    check_floats([*ys, *xs])
    check_directions(xs, dots)
    given: dict[Node, Node] = {}
    with scaffold(graph) as keep:
        for x, x_dot in zip(xs, dots, strict=True):
            accumulate(given, x, x_dot)
        found = tangents_of(list(dict.fromkeys(ys)), given)
        keep.extend(found.values())
    return [found[y] if y in found else full(graph, 0.0, y.shape, y.dtype) for y in ys]


def check_floats(nodes: Sequence[Node]) -> None:
    """Raise DTypeError for a node that there is no derivative of or by."""
    for node in nodes:
        check_single("what a derivative is of or by", node)
        if not node.type.is_float:
            raise DTypeError(f"no derivative of or by {node!r}: it does not hold floats")


def check_directions(wrt: Sequence[Node], directions: Sequence[Node]) -> None:
    """Raise unless there is one direction for each of `wrt`, of its type."""
    if len(wrt) != len(directions):
        raise GraphError(f"{len(directions)} directions for the {len(wrt)} nodes of wrt; one is needed for each")
    for node, direction in zip(wrt, directions, strict=True):
        if node.type != direction.type:
            raise ShapeError(f"the direction for {node!r} is of another type: {direction!r}")
