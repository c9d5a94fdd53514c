"""A graph whose gradient is computed in all ways."""

from __future__ import annotations

import graphengine as ge


def two_layers() -> ge.Graph:
    """exp(-(exp(x w + b) v)), summed, for x of 3 columns."""
    g = ge.Graph("two_layers", dtype="float64")
    x = g.input("x", ("batch", 3))
    h = ge.exp(x @ g.parameter("w", (3, 4)) + g.parameter("b", (4,)))
    g.output("loss", ge.sum(ge.exp(-(h @ g.parameter("v", (4, 2))))))
    return g
