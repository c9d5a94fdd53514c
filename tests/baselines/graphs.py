"""Graphs whose gradients are computed in all ways."""

from __future__ import annotations

import graphengine as ge


def two_layers() -> ge.Graph:
    """exp(-(exp(x w + b) v)), summed, for x of 3 columns."""
    g = ge.Graph("two_layers", dtype="float64")
    x = g.input("x", ("batch", 3))
    h = ge.exp(x @ g.parameter("w", (3, 4)) + g.parameter("b", (4,)))
    g.output("loss", ge.sum(ge.exp(-(h @ g.parameter("v", (4, 2))))))
    return g


def ladder(rungs: int) -> ge.Graph:
    """v <- v * v + v, again and again: from every rung to the next there are two ways."""
    graph = ge.Graph("ladder", dtype="float64")
    value = graph.parameter("v", (), init=ge.init.Constant(1e-3))
    for _ in range(rungs):
        value = value * value + value
    graph.output("loss", value)
    return graph
