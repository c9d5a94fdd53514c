"""Networks that come in all sizes, for what gradients cost as they grow."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np

import graphengine as ge
from benchmarks.worker.case import Array

__all__ = ["BATCH", "LAYERS", "by_units", "deep_mlp", "deep_mlp_feeds", "ladder"]

LAYERS = 4
"""Hidden layers of the network that grows in width."""

BATCH = 64
"""Examples in its batch."""


def deep_mlp(units: int) -> ge.Graph:
    """`units` inputs, four hidden layers of as many tanh units, and one output: 4 n^2 + 5 n + 1 parameters, float64."""
    return ge.zoo.mlp([units] * (LAYERS + 1) + [1], "tanh", "half_squared_error", name="deep_mlp", dtype="float64")


def by_units(units: int) -> ge.Graph:
    """The same network, unit by unit: each weight is a scalar parameter of its own, each unit a node over the batch."""
    graph = ge.Graph("by_units", "float64")
    x, y = graph.input("x", ("batch", units)), graph.input("y", ("batch", 1))
    h = [x[:, place] for place in range(units)]
    for layer, width in enumerate([units] * LAYERS + [1], 1):
        last = layer > LAYERS
        z = [_unit(h, f"layer{layer}.unit{place}") for place in range(width)]
        h = z if last else [ge.tanh(node) for node in z]
    graph.output("loss", ge.half_squared_error(ge.reshape(h[0], ("batch", 1)), y))
    return graph


def deep_mlp_feeds(units: int, batch: int = BATCH) -> dict[str, Array]:
    """A batch for both."""
    generator = np.random.default_rng(0)
    return {"x": generator.normal(size=(batch, units)), "y": generator.normal(size=(batch, 1))}


def ladder(rungs: int) -> ge.Graph:
    """v <- v * v + v, so many times: two ways from every rung to the next, and one parameter."""
    graph = ge.Graph("ladder", "float64")
    value = graph.parameter("v", (), init=ge.init.Constant(value=1e-3))
    for _ in range(rungs):
        value = value * value + value
    graph.output("loss", value)
    return graph


def _unit(h: Sequence[ge.Node], name: str) -> ge.Node:
    """Its weights times what comes in, plus its bias."""
    graph = h[0].graph
    products = [node * graph.parameter(f"{name}.weight{place}", ()) for place, node in enumerate(h)]
    return reduce(ge.add, products) + graph.parameter(f"{name}.bias", ())
