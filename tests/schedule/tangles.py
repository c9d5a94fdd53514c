"""Graphs that are hard on a memory plan: many values of one type, views of views, leaves that trade values."""

from __future__ import annotations

from hypothesis import strategies as st

import graphengine as ge
from graphengine.ir.graph import Graph
from graphengine.ir.init import Normal
from graphengine.ir.node import Node, Phase

SIDE = 3


@st.composite
def tangles(draw: st.DrawFn) -> tuple[Graph, list[Node], dict[Node, Node]]:
    """A graph, the nodes asked for, and next values of some of its leaves."""
    graph = ge.Graph("tangle", dtype="float64")
    leaves = [graph.state(f"s{i}", (SIDE, SIDE), init=Normal(std=0.5)) for i in range(draw(st.integers(1, 4)))]
    nodes: list[Node] = [graph.input("x", (SIDE, SIDE)), graph.constant("c", [[0.5] * SIDE] * SIDE), *leaves]
    size = draw(st.integers(1, 16))
    for place in range(size):
        phase = Phase.UPDATE if place > 0.7 * size else Phase.BACKWARD if place > 0.5 * size else Phase.FORWARD
        with graph.emitting(phase, nodes[0]):
            nodes.append(_grown(draw, nodes))
    picks = st.sampled_from(nodes)
    updates = {leaf: draw(picks) for leaf in leaves if draw(st.booleans())}
    results = draw(st.lists(picks, max_size=3, unique=True))
    return graph, results, updates


def _grown(draw: st.DrawFn, nodes: list[Node]) -> Node:
    """A node of the one shape that all of them have."""
    a, b = draw(st.sampled_from(nodes)), draw(st.sampled_from(nodes[-4:]))
    kind = draw(
        st.sampled_from(["add", "multiply", "negative", "matmul", "transpose", "reshape", "sum", "row", "copy"])
    )
    if kind == "negative":
        return -b
    if kind == "transpose":
        return b.T
    if kind == "reshape":
        return ge.reshape(ge.reshape(b, (SIDE * SIDE,)), (SIDE, SIDE))
    if kind == "sum":
        return ge.broadcast_to(ge.sum(b, axis=draw(st.integers(0, 1)), keepdims=True), (SIDE, SIDE))
    if kind == "row":
        return ge.sum(b, axis=0) * 0.25 + a
    if kind == "copy":
        return a * a
    return {"add": ge.add, "multiply": ge.multiply, "matmul": ge.matmul}[kind](a, b * 0.5)
