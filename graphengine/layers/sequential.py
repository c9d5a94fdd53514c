"""Layers one after another."""

from __future__ import annotations

from collections.abc import Callable

from graphengine.errors import GraphError
from graphengine.ir.node import Node


def sequential(x: Node, *layers: Callable[[Node], Node]) -> Node:
    """`x` through all `layers` in turn: functions of a node, such as `ge.relu` or `partial(ge.layers.dense, units=9)`.

    Returns the last node. Raises GraphError if a layer returns no node.
    """
    for place, layer in enumerate(layers):
        y = layer(x)
        if not isinstance(y, Node):
            raise GraphError(f"layer {place} of sequential, counted from 0, gives {y!r}, which is not a node")
        x = y
    return x
