"""Differentiation in forward mode: one pass for every parameter element, which carries a tangent beside each value."""

from __future__ import annotations

from graphengine.baselines.one_by_one import AlongOne
from graphengine.ir.graph import Graph
from graphengine.ir.node import Node
from graphengine.transform.tangent import jvp


class ForwardMode(AlongOne):
    """dL/dw as the tangent of L that w_dot = 1 gives (Wengert 1964).

    Only what depends on the parameter has a tangent, so that a pass costs a forward pass, and about as much again for
    what comes after the parameter. Its error is that of rounding alone.
    """

    def __init__(self, graph: Graph, loss: str, seed: int = 0) -> None:
        """`loss` is the name of a scalar output; parameters have their first values under `seed`."""
        super().__init__(graph, loss, _tangent, seed)


def _tangent(loss: Node, parameter: Node, direction: Node) -> Node:
    return jvp([loss], [parameter], [direction])[0]
