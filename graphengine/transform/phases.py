"""The phases of a graph that is made of others: an output is computed by FORWARD, whatever it once was for."""

from __future__ import annotations

from collections.abc import Iterable

from graphengine.ir.graph import Graph
from graphengine.ir.node import Node, Phase


def settle_phases(graph: Graph, values: Iterable[Node]) -> None:
    """Let `values` and all that they are computed from be FORWARD, and no node be of a later phase than its readers.

    A gradient or a next value of one graph may be an output of another, or be read by a node of an earlier phase. A
    leaf is computed in no phase: what it bears says who declared it.
    """
    for node in values:
        _settle(node, Phase.FORWARD)
    for node in reversed(graph.nodes):
        for parent in node.parents:
            _settle(parent, node.phase)


def _settle(node: Node, phase: Phase) -> None:
    if node.phase > phase and not node.is_leaf:
        node.phase = phase
