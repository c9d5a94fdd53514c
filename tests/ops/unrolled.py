"""A scan written out: the same body, called once for each step by a Python loop."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

import graphengine as ge
from graphengine.ir.graph import Graph
from graphengine.ir.node import Node
from tests.schedule.replay import prove_plan

Loop = Callable[..., tuple[Any, Any]]
Declare = Callable[[Graph, Loop], Node]


def unroll(
    body: Callable[[Any, Any], tuple[Any, Any]],
    carry: Any,
    xs: Any = None,
    *,
    length: int | None = None,
    reverse: bool = False,
    name: str | None = None,
) -> tuple[Any, Any]:
    """What `ge.scan` gives, of sequences whose length is a number."""
    assert name is None
    sequences = [xs] if isinstance(xs, Node) else list(xs or ())
    count = sequences[0].shape[0] if sequences else length
    if count == 0:
        return carry, None
    rows: list[Any] = [None] * count
    for t in reversed(range(count)) if reverse else range(count):
        step = None if xs is None else xs[t] if isinstance(xs, Node) else tuple(x[t] for x in xs)
        carry, rows[t] = body(carry, step)
    if rows[0] is None:
        return carry, None
    if isinstance(rows[0], Node):
        return carry, ge.stack(rows)
    return carry, tuple(ge.stack(column) for column in zip(*rows, strict=True))


def assert_same(declare: Declare, feeds: dict[str, np.ndarray], second_order: bool = True) -> None:
    """Hold a scan to its written-out form: value, gradients by all leaves, and gradients of a function of these."""
    results = []
    for loop in (ge.scan, unroll):
        graph = ge.Graph("loop", dtype="float64")
        loss = declare(graph, loop)
        leaves = [leaf for leaf in (*graph.inputs, *graph.parameters) if leaf.type.is_float]
        graph.output("loss", loss)
        if second_order:
            bars = ge.grad(loss, leaves)
            graph.output("second", sum((ge.sum(ge.sin(bar)) for bar in bars[1:]), ge.sum(ge.sin(bars[0]))))
        for output in graph.outputs:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ge.UnreachedParameterWarning)  # zeros are compared like any gradient
                exe = ge.compile(graph, loss=output, wrt=leaves, seed=3)
            results.append({"value": exe.forward(feeds, outputs=[output])[output], **exe.backward()})
            assert exe.audit().ok, exe.audit()
            prove_plan(exe, "gradient")
    half = len(results) // 2
    for scanned, written_out in zip(results[:half], results[half:], strict=True):
        assert scanned.keys() == written_out.keys()
        for name, value in scanned.items():
            np.testing.assert_allclose(value, written_out[name], rtol=1e-10, atol=1e-12, err_msg=name)
