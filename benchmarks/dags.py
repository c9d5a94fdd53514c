"""Graphs as lists of nodes, each an op and the places of its parents, leaves first: a form that every peer can read."""

from __future__ import annotations

import math
import random
from typing import Any

__all__ = ["chain_dag", "layered_dag", "random_dag"]

Dag = dict[str, Any]

_LEAST, _GREATEST = 0.3, 1.5
"""Values lie between these, so that neither they nor their adjoints vanish, which would change what a step costs."""


def random_dag(nodes: int, leaves: int, seed: int = 0) -> Dag:
    """So many scalar additions, multiplications and tanh of so many parameters; all are live.

    Every node reads one that none has read before, and most read another, from anywhere. With the parameters at
    "first", values stay between 0.3 and 1.5, but for some of the few that are joined last. The loss is the square of
    what comes out plus the last parameter, which none else reads, so that SGD has somewhere to come to rest.
    """
    draw = random.Random(seed)
    values = [*(draw.uniform(0.5, 1.0) for _ in range(leaves - 1)), -0.5]
    first, unread = values.copy(), list(range(leaves - 1))
    listed: list[list[Any]] = []
    for left in range(nodes - 2, 0, -1):
        a = unread.pop(draw.randrange(len(unread)))
        must_join = len(unread) >= left
        b = draw.choice(unread if must_join else [*range(leaves - 1), *range(leaves, len(values))])
        op, value = _op(draw, values[a], values[b], unary=not must_join)
        listed.append([op, a] if op == "tanh" else [op, a, b])
        if op != "tanh" and b in unread:
            unread.remove(b)
        unread.append(len(values))
        values.append(value)
    listed += [["add", len(values) - 1, leaves - 1], ["multiply", len(values), len(values)]]
    parameters = [[f"w{place}", []] for place in range(leaves)]
    return {"feeds": [], "parameters": parameters, "nodes": listed, "first": first}


def _op(draw: random.Random, a: float, b: float, unary: bool) -> tuple[str, float]:
    """An op by lot, of those that leave the value where values should lie, and that value."""
    results = {"add": a + b, "multiply": a * b} | ({"tanh": math.tanh(a)} if unary else {})
    op = draw.choice([op for op, value in results.items() if _LEAST <= value <= _GREATEST] or list(results))
    return op, results[op]


def chain_dag(nodes: int, width: int = 16) -> Dag:
    """So many nodes one after another, on vectors: h <- tanh(h w + b), and the mean of the last."""
    listed: list[list[Any]] = []
    for place in range(nodes - 1):
        h = place + 2 if place else 0  # behind x, w and b
        listed.append([["multiply", h, 1], ["add", h, 2], ["tanh", h]][place % 3])
    listed.append(["mean", nodes + 1])
    return {"feeds": [["x", [width]]], "parameters": [["w", [width]], ["b", [width]]], "nodes": listed}


def layered_dag(nodes: int, width: int = 16, batch: int = 8, seed: int = 0) -> Dag:
    """An MLP at random, of about so many nodes: h <- tanh(h' W + h''), h' the layer before and h'' any before that.

    Each layer is three nodes and has a weight [width, width] of its own; the loss is the mean of the last.
    """
    draw = random.Random(seed)
    layers = max(1, (nodes - 1) // 3)
    heights = [0]  # x, the only feed
    listed: list[list[Any]] = []
    for layer in range(layers):
        place = 1 + layers + len(listed)
        listed += [["matmul", heights[-1], 1 + layer], ["add", place, draw.choice(heights)], ["tanh", place + 1]]
        heights.append(place + 2)
    listed.append(["mean", heights[-1]])
    weights = [[f"layer{layer}.weight", [width, width]] for layer in range(layers)]
    return {"feeds": [["x", [batch, width]]], "parameters": weights, "nodes": listed}
